"""Writing, reading, editing, removing."""

from datetime import timedelta

import pytest

from application.paging import NEWEST_FIRST, Window
from application.views import PostFilter
from domain.errors import Invalid
from domain.posts import NotYourPost, PostChanges, PostNotFound
from domain.users import ANONYMOUS
from domain.votes import Direction
from tests.application.conftest import World


def test_what_is_written_can_be_read(world: World) -> None:
    ann, bob = world.person("ann"), world.person("bob")

    written = world.app.write_post(ann, " A title ", "Some content", True)

    assert written.title == "A title"
    assert written.owner.username == "ann"
    assert written.created_at == written.updated_at == world.clock.now()
    assert world.app.read_post(bob, written.id) == written
    assert world.app.list_posts(bob, PostFilter(), NEWEST_FIRST, Window()).items == [written]


def test_what_breaks_a_rule_is_not_written(world: World) -> None:
    with pytest.raises(Invalid):
        world.app.write_post(world.person(), " ", "Some content", True)

    assert not world.database.rows.posts


def test_a_draft_is_nobody_elses_business(world: World) -> None:
    ann, bob = world.person("ann"), world.person("bob")
    draft = world.app.write_post(ann, "A title", "Some content", False)

    assert world.app.read_post(ann, draft.id) == draft
    for reader in (bob, ANONYMOUS):
        with pytest.raises(PostNotFound):
            world.app.read_post(reader, draft.id)
        assert world.app.list_posts(reader, PostFilter(), NEWEST_FIRST, Window()).items == []


def test_an_edit_is_seen_with_its_votes(world: World) -> None:
    ann = world.person()
    post = world.app.write_post(ann, "A title", "Some content", True)
    world.app.cast_vote(ann, post.id, Direction.UP)
    world.clock.advance(timedelta(hours=1))

    edited = world.app.edit_post(ann, post.id, PostChanges(title="Another"))

    assert (edited.title, edited.version, edited.updated_at) == ("Another", 2, world.clock.now())
    assert (edited.upvotes, edited.my_vote) == (1, 1)
    assert world.app.read_post(ann, post.id) == edited


def test_an_edit_that_names_nothing_changes_nothing(world: World) -> None:
    ann = world.person()
    post = world.app.write_post(ann, "A title", "Some content", True)
    world.clock.advance(timedelta(hours=1))

    assert world.app.edit_post(ann, post.id, PostChanges()) == post


def test_a_refused_edit_leaves_the_post_as_it_was(world: World) -> None:
    ann, bob = world.person("ann"), world.person("bob")
    post = world.app.write_post(ann, "A title", "Some content", True)

    with pytest.raises(NotYourPost):
        world.app.edit_post(bob, post.id, PostChanges(title="Mine now"))

    assert world.app.read_post(ann, post.id) == post


def test_a_deleted_post_is_gone_with_its_votes(world: World) -> None:
    ann, root = world.person(), world.admin()
    posts = [world.app.write_post(ann, "A title", "Some content", True) for _ in range(2)]
    world.app.cast_vote(ann, posts[0].id, Direction.UP)

    world.app.delete_post(ann, posts[0].id)
    world.app.delete_post(root, posts[1].id)

    assert not world.database.rows.posts
    assert not world.database.rows.votes


def test_a_stranger_deletes_nothing(world: World) -> None:
    ann, bob = world.person("ann"), world.person("bob")
    post = world.app.write_post(ann, "A title", "Some content", True)

    with pytest.raises(NotYourPost):
        world.app.delete_post(bob, post.id)
    with pytest.raises(PostNotFound):
        world.app.delete_post(bob, post.id + 1)

    assert world.app.read_post(ann, post.id) == post
