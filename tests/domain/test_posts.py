"""Rules for posts."""

from collections.abc import Container
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import Invalid
from domain.posts import (
    CONTENT_MAX,
    TITLE_MAX,
    NotYourPost,
    Post,
    PostChanges,
    PostNotFound,
    VersionMismatch,
    is_visible,
)
from domain.users import ANONYMOUS, Actor, Role
from domain.votes import Direction, Tally

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
OWNER, STRANGER, ADMIN = Actor(1), Actor(2), Actor(3, Role.ADMIN)


def written(title: str = "A title", content: str = "Some content", *, published: bool = True) -> Post:
    return Post.write(owner_id=OWNER.id, title=title, content=content, published=published, now=NOW)


def test_a_new_post_is_version_one_with_no_votes() -> None:
    post = written()

    assert (post.id, post.version, post.tally) == (0, 1, Tally(0, 0))
    assert (post.created_at, post.updated_at) == (NOW, NOW)


def test_a_title_is_trimmed_and_content_is_not() -> None:
    post = written("  A title\n", "  Some content\n")

    assert (post.title, post.content) == ("A title", "  Some content\n")


@pytest.mark.parametrize("title", ["a", "a" * TITLE_MAX, " " + "a" * TITLE_MAX + " ", "\U0001f98a" * TITLE_MAX])
def test_a_title_may_be_this(title: str) -> None:
    assert written(title).title == title.strip()


@pytest.mark.parametrize(
    ("title", "content", "field", "reason"),
    [
        ("", "x", "title", "string_too_short"),
        (" \t\u2003", "x", "title", "string_too_short"),
        ("a" * (TITLE_MAX + 1), "x", "title", "string_too_long"),
        ("a\0b", "x", "title", "text_unstorable"),
        ("a\ud800", "x", "title", "text_unstorable"),
        ("\u200b\u2800 \u3164", "x", "title", "string_too_short"),
        ("a\tb", "x", "title", "text_control"),
        ("a\x85b", "x", "title", "text_control"),
        ("a\u2028b", "x", "title", "text_control"),
        ("a\u2029b", "x", "title", "text_control"),
        ("a", "\ufeff\n\U000e0020", "content", "string_too_short"),
        ("a", "", "content", "string_too_short"),
        ("a", " \n", "content", "string_too_short"),
        ("a", "x" * (CONTENT_MAX + 1), "content", "string_too_long"),
        ("a", "\udfff", "content", "text_unstorable"),
    ],
)
def test_invalid_post_is_refused(title: str, content: str, field: str, reason: str) -> None:
    with pytest.raises(Invalid) as refusal:
        written(title, content)

    assert (refusal.value.field, refusal.value.reason) == (field, reason)


@pytest.mark.parametrize(("title", "content"), [("a\nb", "x"), ("\u200b", "x"), ("a", "\u2800")])
def test_stored_text_of_earlier_rules_stays(title: str, content: str) -> None:
    post = Post.restore(owner_id=OWNER.id, title=title, content=content, published=True, now=NOW)
    hidden = post.edited_by(OWNER, PostChanges(published=False), LATER)

    assert (hidden.title, hidden.content, hidden.published) == (title, content, False)


@pytest.mark.parametrize(
    ("title", "content", "field"),
    [("", "x", "title"), ("a", " ", "content"), ("a" * (TITLE_MAX + 1), "x", "title"), ("a", "\0", "content")],
)
def test_stored_text_obeys_the_rules_of_every_release(title: str, content: str, field: str) -> None:
    with pytest.raises(Invalid) as refusal:
        Post.restore(owner_id=OWNER.id, title=title, content=content, published=True, now=NOW)
    assert refusal.value.field == field


@pytest.mark.parametrize(
    ("published", "actor", "visible"),
    [
        (True, OWNER, True),
        (True, STRANGER, True),
        (True, ADMIN, True),
        (True, ANONYMOUS, True),
        (False, OWNER, True),
        (False, STRANGER, False),
        (False, ADMIN, True),
        (False, ANONYMOUS, False),
    ],
)
def test_who_may_see_a_post(published: bool, actor: Actor, visible: bool) -> None:
    assert written(published=published).is_visible_to(actor) is visible
    assert is_visible(published, OWNER.id, actor) is visible


def test_edit_changes_its_fields_and_counts_a_version() -> None:
    edited = written().edited_by(OWNER, PostChanges(title=" New "), LATER)

    assert (edited.title, edited.content, edited.published) == ("New", "Some content", True)
    assert (edited.version, edited.created_at, edited.updated_at) == (2, NOW, LATER)


def test_edit_with_equal_values_is_a_new_version() -> None:
    assert written().edited_by(OWNER, PostChanges(published=True), LATER).version == 2


def test_edit_without_fields_is_the_same_post() -> None:
    post = written()

    assert post.edited_by(OWNER, PostChanges(), LATER) is post


def test_an_edit_obeys_the_rules_of_a_new_post() -> None:
    with pytest.raises(Invalid):
        written().edited_by(OWNER, PostChanges(title=" "), LATER)
    with pytest.raises(Invalid):
        written().edited_by(OWNER, PostChanges(content=""), LATER)


SHOW, RETITLE, BOTH, NOTHING = (
    PostChanges(published=False),
    PostChanges(title="New"),
    PostChanges(title="New", published=False),
    PostChanges(),
)


@pytest.mark.parametrize(
    ("published", "actor", "changes", "refusal"),
    [
        (True, STRANGER, RETITLE, NotYourPost),
        (True, STRANGER, NOTHING, NotYourPost),
        (False, STRANGER, RETITLE, PostNotFound),
        (False, STRANGER, NOTHING, PostNotFound),
        (True, ADMIN, RETITLE, NotYourPost),
        (False, ADMIN, RETITLE, NotYourPost),
        (True, ADMIN, BOTH, NotYourPost),
        (True, ADMIN, PostChanges(content="New", published=True), NotYourPost),
        (True, ADMIN, NOTHING, NotYourPost),
    ],
)
def test_who_may_not_edit_a_post(published: bool, actor: Actor, changes: PostChanges, refusal: type[Exception]) -> None:
    with pytest.raises(refusal):
        written(published=published).edited_by(actor, changes, LATER)


def test_administrators_show_and_hide_any_post() -> None:
    hidden = written().edited_by(ADMIN, SHOW, LATER)

    assert (hidden.published, hidden.version) == (False, 2)


@pytest.mark.parametrize(("published", "refusal"), [(True, NotYourPost), (False, PostNotFound)])
def test_a_stranger_may_not_remove_a_post(published: bool, refusal: type[Exception]) -> None:
    with pytest.raises(refusal):
        written(published=published).require_removable_by(STRANGER)


@pytest.mark.parametrize("actor", [OWNER, ADMIN])
def test_owners_and_administrators_may_remove_a_post(actor: Actor) -> None:
    written(published=False).require_removable_by(actor)


@given(st.lists(st.tuples(st.integers(1, 5), st.sampled_from(Direction))))
def test_tally_updated_per_vote_equals_a_recount(votes: list[tuple[int, Direction]]) -> None:
    tally, latest = Tally(), dict.fromkeys(range(1, 6), Direction.NONE)
    for voter, direction in votes:
        tally = tally.after(latest[voter], direction)
        latest[voter] = direction

    counted = list(latest.values())
    assert tally == Tally(counted.count(Direction.UP), counted.count(Direction.DOWN))
    assert tally.votes == sum(counted)


# Versions.

THIRD = replace(written(), version=3)
KNOWN: list[Container[int] | None] = [None, {3}, {1, 3, 5}, range(1, 10)]
OUTDATED: list[Container[int]] = [{2}, {4}, frozenset(), {1, 2, 4}, {-3, 0, 30, 33}]


@pytest.mark.parametrize("versions", KNOWN)
def test_change_with_the_current_version_succeeds(versions: Container[int] | None) -> None:
    assert THIRD.edited_by(OWNER, RETITLE, LATER, versions).version == 4
    assert THIRD.edited_by(OWNER, NOTHING, LATER, versions) is THIRD
    assert THIRD.edited_by(ADMIN, SHOW, LATER, versions).version == 4
    for actor in (OWNER, ADMIN):
        THIRD.require_removable_by(actor, versions)


@pytest.mark.parametrize("versions", OUTDATED)
def test_change_with_an_outdated_version_is_refused(versions: Container[int]) -> None:
    for actor, changes in ((OWNER, RETITLE), (OWNER, NOTHING), (ADMIN, SHOW)):
        with pytest.raises(VersionMismatch):
            THIRD.edited_by(actor, changes, LATER, versions)
    for actor in (OWNER, ADMIN):
        with pytest.raises(VersionMismatch):
            THIRD.require_removable_by(actor, versions)


def test_votes_make_no_version_and_block_no_edit() -> None:
    voted = replace(THIRD, tally=Tally(9, 4))

    assert voted.edited_by(OWNER, RETITLE, LATER, {3}).tally == Tally(9, 4)


@pytest.mark.parametrize(
    ("published", "actor", "versions", "refusal"),
    [
        (False, STRANGER, {3}, PostNotFound),
        (False, STRANGER, {2}, PostNotFound),
        (True, STRANGER, {3}, NotYourPost),
        (True, STRANGER, {2}, NotYourPost),
        (True, OWNER, {2}, VersionMismatch),
    ],
)
def test_visibility_is_checked_first_then_rights_then_version(
    published: bool, actor: Actor, versions: Container[int], refusal: type[Exception]
) -> None:
    post = replace(THIRD, published=published)

    for changes in (RETITLE, SHOW, NOTHING):
        with pytest.raises(refusal):
            post.edited_by(actor, changes, LATER, versions)
    with pytest.raises(refusal):
        post.require_removable_by(actor, versions)


def test_right_of_an_administrator_is_checked_before_the_version() -> None:
    for changes in (RETITLE, BOTH, NOTHING):
        with pytest.raises(NotYourPost):
            THIRD.edited_by(ADMIN, changes, LATER, {2})
