"""Use cases of posts."""

from datetime import timedelta

import pytest

from application.paging import NEWEST_FIRST, Order, PageCursor, SortBy, Window
from application.views import PostFilter
from domain.errors import Invalid
from domain.posts import KeyReused, NotYourPost, PostChanges, PostNotFound, VersionMismatch
from domain.users import ANONYMOUS
from domain.votes import Direction
from tests.support.app import World


def test_what_is_written_can_be_read(world: World) -> None:
    ann, bob = world.person("ann"), world.person("bob")

    written = world.app.commands.write_post(ann, " A title ", "Some content", True)

    assert written.title == "A title"
    assert written.owner.username == "ann"
    assert written.created_at == written.updated_at == world.clock.now()
    assert world.app.queries.get_post(bob, written.id) == written
    assert world.app.queries.list_posts(bob, PostFilter(), NEWEST_FIRST, Window()).items == [written]


def test_invalid_post_is_not_written(world: World) -> None:
    with pytest.raises(Invalid):
        world.app.commands.write_post(world.person(), " ", "Some content", True)

    assert not world.database.rows.posts


def test_a_post_is_written_once_under_a_key(world: World) -> None:
    ann, bob = world.person("ann"), world.person("bob")
    written, _ = world.app.commands.write_post_once(ann, " A title ", "Some content", True, "key")
    assert written.created_at == world.clock.now()
    world.app.commands.edit_post(ann, written.id, PostChanges(title="Another"))
    world.clock.advance(timedelta(hours=23))

    assert world.app.commands.write_post_once(ann, "A title", "Some content", True, "key") == (written, True)
    assert len(world.database.rows.posts) == 1
    for writer, key in ((ann, "another key"), (bob, "key")):
        assert not world.app.commands.write_post_once(writer, "A title", "Some content", True, key)[1]


def test_key_is_valid_for_a_day(world: World) -> None:
    ann = world.person()
    first, _ = world.app.commands.write_post_once(ann, "A title", "Some content", True, "key")
    world.clock.advance(timedelta(hours=24))

    second, is_replayed = world.app.commands.write_post_once(ann, "Another", "Some content", True, "key")

    assert (second.id != first.id, is_replayed) == (True, False)


@pytest.mark.parametrize("other", [("B", "C", True), ("T", "B", True), ("T", "C", False)])
def test_a_key_stands_for_one_post(world: World, other: tuple[str, str, bool]) -> None:
    ann = world.person()
    world.app.commands.write_post_once(ann, "T", "C", True, "key")

    with pytest.raises(KeyReused):
        world.app.commands.write_post_once(ann, *other, "key")

    assert len(world.database.rows.posts) == 1


def test_draft_is_visible_to_its_owner_only(world: World) -> None:
    ann, bob = world.person("ann"), world.person("bob")
    draft = world.app.commands.write_post(ann, "A title", "Some content", False)

    assert world.app.queries.get_post(ann, draft.id) == draft
    for reader in (bob, ANONYMOUS):
        with pytest.raises(PostNotFound):
            world.app.queries.get_post(reader, draft.id)
        assert world.app.queries.list_posts(reader, PostFilter(), NEWEST_FIRST, Window()).items == []


def test_an_edit_is_seen_with_its_votes(world: World) -> None:
    ann = world.person()
    post = world.app.commands.write_post(ann, "A title", "Some content", True)
    world.app.commands.cast_vote(ann, post.id, Direction.UP)
    world.clock.advance(timedelta(hours=1))

    edited = world.app.commands.edit_post(ann, post.id, PostChanges(title="Another"))

    assert (edited.title, edited.version, edited.updated_at) == ("Another", 2, world.clock.now())
    assert (edited.upvotes, edited.my_vote) == (1, 1)
    assert world.app.queries.get_post(ann, post.id) == edited


def test_edit_without_fields_changes_nothing(world: World) -> None:
    ann = world.person()
    post = world.app.commands.write_post(ann, "A title", "Some content", True)
    world.clock.advance(timedelta(hours=1))

    assert world.app.commands.edit_post(ann, post.id, PostChanges()) == post


def test_a_refused_edit_leaves_the_post_as_it_was(world: World) -> None:
    ann, bob = world.person("ann"), world.person("bob")
    post = world.app.commands.write_post(ann, "A title", "Some content", True)

    with pytest.raises(NotYourPost):
        world.app.commands.edit_post(bob, post.id, PostChanges(title="Mine now"))

    assert world.app.queries.get_post(ann, post.id) == post


def test_deleted_post_takes_its_votes_along(world: World) -> None:
    ann, root = world.person(), world.admin()
    posts = [world.app.commands.write_post(ann, "A title", "Some content", True) for _ in range(2)]
    world.app.commands.cast_vote(ann, posts[0].id, Direction.UP)

    world.app.commands.delete_post(ann, posts[0].id)
    world.app.commands.delete_post(root, posts[1].id)

    assert not world.database.rows.posts
    assert not world.database.rows.votes


def test_stranger_deletes_no_post(world: World) -> None:
    ann, bob = world.person("ann"), world.person("bob")
    post = world.app.commands.write_post(ann, "A title", "Some content", True)

    with pytest.raises(NotYourPost):
        world.app.commands.delete_post(bob, post.id)
    with pytest.raises(PostNotFound):
        world.app.commands.delete_post(bob, post.id + 1)

    assert world.app.queries.get_post(ann, post.id) == post


def test_list_is_ordered_and_continues_after_its_cursor(world: World) -> None:
    ann, bob = world.person("ann"), world.person("bob")
    first, second, third = (world.app.commands.write_post(ann, title, "Some content", True).id for title in "abc")
    world.app.commands.cast_vote(ann, second, Direction.UP)
    world.app.commands.cast_vote(bob, first, Direction.DOWN)
    best_first = Order(SortBy.VOTES)

    page = world.app.queries.list_posts(bob, PostFilter(), best_first, Window(limit=2))
    rest = world.app.queries.list_posts(bob, PostFilter(), best_first, Window(limit=2, after=page.last))

    assert [post.id for post in page.items] == [second, third]
    assert page.last == PageCursor(0, third)
    assert [(post.id, post.my_vote) for post in rest.items] == [(first, -1)]
    assert rest.last is None


def test_list_matches_its_filter(world: World) -> None:
    ann, bob = world.person("ann"), world.person("bob")
    start = world.clock.now()
    for author, title in ((ann, "apples"), (ann, "pears"), (bob, "apples")):
        world.app.commands.write_post(author, title, "Some content", True)
        world.clock.advance(timedelta(hours=1))

    def found(which: PostFilter) -> list[int]:
        return [post.id for post in world.app.queries.list_posts(bob, which, NEWEST_FIRST, Window()).items]

    assert found(PostFilter(search="APPLE")) == [3, 1]
    assert found(PostFilter(search="APPLE", owner_id=ann.id)) == [1]
    assert found(PostFilter(since=start + timedelta(hours=1))) == [3, 2]
    assert found(PostFilter(since=start, until=start + timedelta(hours=1))) == [1]


def test_edit_of_a_known_version_applies_once(world: World) -> None:
    ann = world.person()
    post = world.app.commands.write_post(ann, "A title", "Some content", True)
    world.app.commands.cast_vote(ann, post.id, Direction.UP)

    edited = world.app.commands.edit_post(ann, post.id, PostChanges(title="Another"), {post.version})
    for changes in (PostChanges(title="Lost"), PostChanges()):
        with pytest.raises(VersionMismatch):
            world.app.commands.edit_post(ann, post.id, changes, {post.version})

    assert (edited.title, edited.version) == ("Another", 2)
    assert world.app.queries.get_post(ann, post.id) == edited
    assert world.app.commands.edit_post(ann, post.id, PostChanges(), {1, 2}) == edited


def test_only_a_version_that_is_known_is_deleted(world: World) -> None:
    ann, root = world.person(), world.admin()
    posts = [world.app.commands.write_post(ann, "A title", "Some content", True) for _ in range(2)]
    for post in posts:
        world.app.commands.edit_post(ann, post.id, PostChanges(content="Other content"))

    for actor, post in zip((ann, root), posts, strict=True):
        with pytest.raises(VersionMismatch):
            world.app.commands.delete_post(actor, post.id, {1})
        assert world.app.queries.get_post(ann, post.id).version == 2
        world.app.commands.delete_post(actor, post.id, {2})

    assert not world.database.rows.posts


def test_version_mismatch_shows_only_with_the_right_to_edit(world: World) -> None:
    ann, bob, root = world.person("ann"), world.person("bob"), world.admin()
    shown, draft = (
        world.app.commands.write_post(ann, "A title", "Some content", published) for published in (True, False)
    )

    for post, actor, refusal in ((draft, bob, PostNotFound), (shown, bob, NotYourPost), (draft, root, NotYourPost)):
        for versions in ({1}, {2}):
            with pytest.raises(refusal):
                world.app.commands.edit_post(actor, post.id, PostChanges(title="Mine now"), versions)
    for post, refusal in ((draft, PostNotFound), (shown, NotYourPost)):
        for versions in ({1}, {2}):
            with pytest.raises(refusal):
                world.app.commands.delete_post(bob, post.id, versions)
    with pytest.raises(VersionMismatch):
        world.app.commands.edit_post(root, draft.id, PostChanges(published=True), {2})
