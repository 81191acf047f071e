"""Contract of storages of posts."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from application.paging import NEWEST_FIRST, Window
from application.posts import DeletePost, EditPost
from application.views import PostFilter
from application.votes import CastVote, CastVotes
from domain.posts import PostChanges, PostNotFound
from domain.users import ANONYMOUS, Actor, InvalidToken, Role
from domain.votes import Direction
from tests.fakes.services import FrozenClock
from tests.support.backends import Backend
from tests.support.samples import NO_IDS, NOW, a_post, add, add_post, add_user, lock_context

ALL = PostFilter()
WHOLE = Window(100)


def titles(backend: Backend, reader: Actor, which: PostFilter = ALL, window: Window = WHOLE) -> list[str]:
    return [post.title for post in backend.posts.list(reader, which, NEWEST_FIRST, window).items]


def test_what_is_added_is_read_back(backend: Backend) -> None:
    ann = add_user(backend.uow, "ann")
    text = "\U0001f98a %_\\'\"; DROP TABLE posts; --\n\t\x7f"
    with backend.uow() as tx:
        added = add(tx, replace(a_post(ann), title=text, content=text * 2))

    read = backend.posts.get(ann, added.id)

    assert (read.title, read.content, read.published, read.version) == (text, text * 2, True, 1)
    assert (read.owner.id, read.owner.username, read.owner.created_at) == (ann.id, "ann", NOW)
    assert (read.upvotes, read.downvotes, read.my_vote) == (0, 0, 0)


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC),
        datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=5, minutes=30))),
        datetime(1970, 1, 1, tzinfo=UTC),
    ],
)
def test_moments_keep_their_microsecond_and_come_back_in_utc(backend: Backend, moment: datetime) -> None:
    ann = add_user(backend.uow, "ann")
    with backend.uow() as tx:
        added = add(tx, replace(a_post(ann), created_at=moment))

    read = backend.posts.get(ann, added.id).created_at

    assert read == moment
    if backend.name != "memory":  # which returns the same object
        assert read.utcoffset() == timedelta(0)


def test_post_ids_are_never_reused(backend: Backend) -> None:
    ann = add_user(backend.uow, "ann")
    first = add_post(backend.uow, ann)
    with backend.uow() as tx:
        tx.posts.lock(first.id)
        tx.posts.remove(first.id)

    assert add_post(backend.uow, ann).id > first.id


def test_post_of_a_missing_owner_is_refused(backend: Backend) -> None:
    with pytest.raises(InvalidToken), backend.uow() as tx:
        add(tx, a_post(Actor(4_711)))


@pytest.mark.parametrize("post_id", NO_IDS)
def test_unknown_post_id_is_not_found(backend: Backend, post_id: int) -> None:
    with pytest.raises(PostNotFound, match=str(post_id)):
        backend.posts.get(ANONYMOUS, post_id)
    with pytest.raises(PostNotFound, match=str(post_id)), backend.uow() as tx:
        tx.posts.lock(post_id)


def test_lock_returns_what_was_stored(backend: Backend) -> None:
    ann = add_user(backend.uow, "ann")
    added = add_post(backend.uow, ann)

    with backend.uow() as tx:
        assert tx.posts.lock(added.id) == added


def test_lock_finds_drafts_for_their_owner_and_administrators_only(backend: Backend) -> None:
    ann, bob = add_user(backend.uow, "ann"), add_user(backend.uow, "bob")
    root = add_user(backend.uow, "root", Role.ADMIN)
    draft = add_post(backend.uow, ann, published=False)

    for reader in (ann, root):
        with backend.uow() as tx:
            assert tx.posts.lock(draft.id, reader) == draft
            assert lock_context(tx, reader, draft.id).post_id == draft.id
    for stranger in (bob, ANONYMOUS):
        with pytest.raises(PostNotFound), backend.uow() as tx:
            tx.posts.lock(draft.id, stranger)
    with pytest.raises(PostNotFound), backend.uow() as tx:
        lock_context(tx, bob, draft.id)


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
def test_stranger_does_not_wait_for_the_lock_on_a_draft(backend: Backend) -> None:
    ann, bob = add_user(backend.uow, "ann"), add_user(backend.uow, "bob")
    draft = add_post(backend.uow, ann, published=False)

    with backend.uow() as editing:
        editing.posts.lock(draft.id, ann)
        with pytest.raises(PostNotFound):
            EditPost(backend.uow, FrozenClock())(bob, draft.id, PostChanges(content="Other"))
        with pytest.raises(PostNotFound):
            DeletePost(backend.uow)(bob, draft.id)
        with pytest.raises(PostNotFound):
            CastVote(CastVotes(backend.uow, FrozenClock()))(bob, draft.id, Direction.UP)


def test_an_edit_is_stored_and_leaves_the_tally_alone(backend: Backend) -> None:
    ann = add_user(backend.uow, "ann")
    post = add_post(backend.uow, ann)
    CastVote(CastVotes(backend.uow, FrozenClock()))(ann, post.id, Direction.UP)
    later = NOW + timedelta(hours=1)
    edit = PostChanges(title="ÄPFEL", content="Other content", published=False)

    with backend.uow() as tx:
        tx.posts.save(post.edited_by(ann, edit, later))

    read = backend.posts.get(ann, post.id)
    assert (read.title, read.content, read.published, read.version) == ("ÄPFEL", "Other content", False, 2)
    assert (read.created_at, read.updated_at) == (NOW, later)
    assert read.upvotes == 1
    assert titles(backend, ann, PostFilter(search="äpfel")) == ["ÄPFEL"]


def test_removing_a_post_takes_its_votes_along(backend: Backend) -> None:
    ann = add_user(backend.uow, "ann")
    post, other = add_post(backend.uow, ann), add_post(backend.uow, ann)
    for post_id in (post.id, other.id):
        CastVote(CastVotes(backend.uow, FrozenClock()))(ann, post_id, Direction.UP)

    with backend.uow() as tx:
        tx.posts.lock(post.id)
        tx.posts.remove(post.id)

    assert backend.dashboard.get(NOW).total.votes == 1
    assert [seen.id for seen in backend.posts.list(ann, ALL, NEWEST_FIRST, Window()).items] == [other.id]


def test_a_transaction_sees_its_own_changes(backend: Backend) -> None:
    ann = add_user(backend.uow, "ann")

    with backend.uow() as tx:
        post = add(tx, a_post(ann, "Mine"))
        assert tx.post_reader.get(ann, post.id).title == "Mine"


def test_readers_see_their_own_vote(backend: Backend) -> None:
    ann, bob = add_user(backend.uow, "ann"), add_user(backend.uow, "bob")
    post = add_post(backend.uow, ann)
    CastVote(CastVotes(backend.uow, FrozenClock()))(bob, post.id, Direction.DOWN)

    for reader, mine in ((ann, 0), (bob, -1), (ANONYMOUS, 0)):
        assert backend.posts.get(reader, post.id).my_vote == mine
        assert [seen.my_vote for seen in backend.posts.list(reader, ALL, NEWEST_FIRST, Window()).items] == [mine]


def test_drafts_are_seen_by_their_owner_and_admins_alone(backend: Backend) -> None:
    ann, bob = add_user(backend.uow, "ann"), add_user(backend.uow, "bob")
    admin = add_user(backend.uow, "root", Role.ADMIN)
    draft = add_post(backend.uow, ann, published=False)

    for reader in (ann, admin):
        assert backend.posts.get(reader, draft.id).id == draft.id
    for reader in (bob, ANONYMOUS):
        with pytest.raises(PostNotFound):
            backend.posts.get(reader, draft.id)


@pytest.mark.parametrize(
    ("who", "published", "seen"),
    [
        ("ann", None, ["bob's", "ann's draft", "ann's"]),
        ("ann", True, ["bob's", "ann's"]),
        ("ann", False, ["ann's draft"]),
        ("root", None, ["root's draft", "bob's", "ann's"]),
        ("root", True, ["bob's", "ann's"]),
        ("root", False, ["root's draft", "ann's draft"]),
        (None, None, ["bob's", "ann's"]),
        (None, True, ["bob's", "ann's"]),
        (None, False, []),
    ],
)
def test_list_shows_drafts_to_owner_and_administrators(
    backend: Backend, who: str | None, published: bool | None, seen: list[str]
) -> None:
    people = {name: add_user(backend.uow, name) for name in ("ann", "bob")}
    people["root"] = add_user(backend.uow, "root", Role.ADMIN)
    add_post(backend.uow, people["ann"], "ann's", minutes=0)
    add_post(backend.uow, people["ann"], "ann's draft", published=False, minutes=1)
    add_post(backend.uow, people["bob"], "bob's", minutes=2)
    add_post(backend.uow, people["root"], "root's draft", published=False, minutes=3)
    reader = people[who] if who else ANONYMOUS

    assert titles(backend, reader, PostFilter(published=published)) == seen


def test_a_list_is_newest_first_and_ties_go_by_id(backend: Backend) -> None:
    ann = add_user(backend.uow, "ann")
    for title, minutes in (("third", 1), ("last", 0), ("second", 1), ("first", 2)):
        add_post(backend.uow, ann, title, minutes=minutes)

    assert titles(backend, ann) == ["first", "second", "third", "last"]
    assert titles(backend, ann, window=Window(limit=2, skip=1)) == ["second", "third"]
    assert titles(backend, ann, window=Window(limit=2, skip=4)) == []


def test_a_list_of_one_owner_holds_no_other(backend: Backend) -> None:
    ann, bob = add_user(backend.uow, "ann"), add_user(backend.uow, "bob")
    add_post(backend.uow, ann, "ann's")
    add_post(backend.uow, bob, "bob's")
    add_post(backend.uow, bob, "bob's draft", published=False)

    assert titles(backend, ann, PostFilter(owner_id=bob.id)) == ["bob's"]
    assert titles(backend, ann, PostFilter(owner_id=2**63 - 1)) == []


@pytest.mark.parametrize(
    ("title", "search", "found"),
    [
        ("Hello World", "hello", True),
        ("Hello World", "O W", True),
        ("Hello World", "", True),
        ("Hello World", "h_llo", False),
        ("Hello World", "h%o", False),
        ("100% sure", "0% s", True),
        ("snake_case", "E_C", True),
        ("back\\slash", "\\", True),
        ("bang!", "g!", True),
        ("bang", "!", False),
        ("ÄPFEL", "äpfel", True),
        ("straße", "STRASSE", True),
        ("ПРИВЕТ", "привет", True),
        ("İstanbul", "İST", True),
        ("ΟΔΟΣ", "ΟΔΟΣ", True),
        ("it's", "'", True),
        ("fox \U0001f98a", "\U0001f98a", True),
    ],
)
def test_search_is_literal_and_ignores_case_as_unicode_has_it(
    backend: Backend, title: str, search: str, found: bool
) -> None:
    ann = add_user(backend.uow, "ann")
    add_post(backend.uow, ann, title)

    assert titles(backend, ann, PostFilter(search=search)) == ([title] if found else [])


def test_filters_are_combined(backend: Backend) -> None:
    ann, bob = add_user(backend.uow, "ann"), add_user(backend.uow, "bob")
    add_post(backend.uow, ann, "Apples", published=False)
    add_post(backend.uow, ann, "Apples")
    add_post(backend.uow, ann, "Pears")
    add_post(backend.uow, bob, "Apples")

    which = PostFilter(search="apple", published=False, owner_id=ann.id)
    assert titles(backend, ann, which) == ["Apples"]
    assert titles(backend, bob, which) == []
