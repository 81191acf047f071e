"""Contract of storages of accounts."""

from dataclasses import replace

import pytest

from application.paging import Window
from application.votes import CastVote, CastVotes
from domain.posts import PostNotFound
from domain.users import EmailTaken, Role, UsernameTaken, UserNotFound
from domain.votes import Direction
from infrastructure.domain_names import to_ascii
from tests.fakes.services import FrozenClock
from tests.support.backends import Backend
from tests.support.samples import NO_IDS, NOW, a_user, add_post, add_user


def test_what_is_added_is_read_back(backend: Backend) -> None:
    with backend.uow() as tx:
        added = tx.users.add(a_user("ann", role=Role.ADMIN))

    read = backend.users.get(added.id)

    assert (read.email, read.username, read.role, read.is_active) == ("ann@example.com", "ann", Role.ADMIN, True)
    assert read.created_at == NOW
    assert read.created_at.utcoffset() is not None


def test_user_ids_start_at_one_and_are_never_reused(backend: Backend) -> None:
    ids = []
    for name in ("ann", "bob", "cleo"):
        ann = add_user(backend.uow, name)
        ids.append(ann.id)
        with backend.uow() as tx:
            tx.users.remove(ann.id)

    assert ids == sorted(set(ids))
    assert min(ids) == 1


@pytest.mark.parametrize("email", ["ann@example.com", "ANN@EXAMPLE.COM", " Ann@Example.com "])
def test_an_email_belongs_to_one_account_whatever_its_case(backend: Backend, email: str) -> None:
    add_user(backend.uow, "ann")

    with pytest.raises(EmailTaken), backend.uow() as tx:
        tx.users.add(a_user("bob").with_email(email, to_ascii))


def test_a_username_belongs_to_one_account_whatever_its_case(backend: Backend) -> None:
    add_user(backend.uow, "ann")

    with pytest.raises(UsernameTaken), backend.uow() as tx:
        tx.users.add(replace(a_user("bob"), username="ANN"))


def test_any_number_of_accounts_may_have_no_username(backend: Backend) -> None:
    with backend.uow() as tx:
        tx.users.add(replace(a_user("ann"), username=None))
        tx.users.add(replace(a_user("bob"), username=None))

    assert [user.username for user in backend.users.list("", Window()).items] == [None, None]


def test_refused_account_leaves_no_rows(backend: Backend) -> None:
    add_user(backend.uow, "ann")

    with pytest.raises(EmailTaken), backend.uow() as tx:
        tx.users.add(a_user("bob"))
        tx.users.add(replace(a_user("ann"), username=None))

    assert [user.username for user in backend.users.list("", Window()).items] == ["ann"]


@pytest.mark.parametrize("user_id", NO_IDS)
def test_unknown_user_id_is_not_found(backend: Backend, user_id: int) -> None:
    with pytest.raises(UserNotFound):
        backend.users.get(user_id)
    assert backend.users.find(user_id) is None
    with pytest.raises(UserNotFound), backend.uow() as tx:
        tx.users.lock(user_id)


def test_accounts_are_listed_by_id_and_cut_into_pages(backend: Backend) -> None:
    for name in ("cleo", "ann", "bob"):
        add_user(backend.uow, name)

    assert [user.username for user in backend.users.list("", Window()).items] == ["cleo", "ann", "bob"]
    assert [user.username for user in backend.users.list("", Window(limit=1, skip=1)).items] == ["ann"]
    assert list(backend.users.list("", Window(limit=10, skip=3)).items) == []


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("ANN", ["ann"]),
        ("@example", ["ann", "B_b", None]),
        ("b_", ["B_b"]),
        ("%", []),
        ("n@e", ["ann"]),
        ("\\", []),
        ("OLIV", [None]),
        ("renam", ["B_b"]),
        ("comb", []),
        ("com\nb", []),
        ("\n", []),
    ],
)
def test_accounts_are_found_by_email_and_username(backend: Backend, search: str, found: list[str | None]) -> None:
    add_user(backend.uow, "ann")
    with backend.uow() as tx:
        tx.users.save(tx.users.add(a_user("B_b")).with_email("renamed@example.com", to_ascii))
        tx.users.add(replace(a_user("olivia"), username=None))

    assert [user.username for user in backend.users.list(search, Window()).items] == found


def test_an_account_is_found_whole_by_id_and_by_email_key(backend: Backend) -> None:
    with backend.uow() as tx:
        ann = tx.users.add(replace(a_user("ann", Role.ADMIN), is_active=False))

    assert backend.users.find(ann.id) == ann
    assert backend.users.find_by_email("ann@example.com") == ann
    assert backend.users.find_by_email("unknown@example.com") is None


def test_a_change_is_stored_whole(backend: Backend) -> None:
    ann = add_user(backend.uow, "ann")
    with backend.uow() as tx:
        changed = replace(
            tx.users.lock(ann.id).with_email("Anna@example.com", to_ascii),
            username="Anna",
            password_hash="another",
            role=Role.ADMIN,
            is_active=False,
        )
        tx.users.save(changed)

    assert backend.users.find_by_email("anna@example.com") == changed
    assert backend.users.find_by_email("ann@example.com") is None
    assert [user.id for user in backend.users.list("anna", Window()).items] == [ann.id]


def test_change_to_a_taken_email_or_username_is_refused(backend: Backend) -> None:
    ann, _ = add_user(backend.uow, "ann"), add_user(backend.uow, "bob")

    with pytest.raises(EmailTaken), backend.uow() as tx:
        tx.users.save(tx.users.lock(ann.id).with_email("BOB@example.com", to_ascii))
    with pytest.raises(UsernameTaken), backend.uow() as tx:
        tx.users.save(replace(tx.users.lock(ann.id), username="BOB"))
    with backend.uow() as tx:
        tx.users.save(replace(tx.users.lock(ann.id).with_email("ANN@example.com", to_ascii), username="ANN"))


def test_only_active_administrators_are_locked_as_such(backend: Backend) -> None:
    root = add_user(backend.uow, "root", Role.ADMIN)
    add_user(backend.uow, "ann")
    with backend.uow() as tx:
        tx.users.add(replace(a_user("former", Role.ADMIN), is_active=False))

    with backend.uow() as tx:
        assert [admin.id for admin in tx.users.lock_admins()] == [root.id]


def test_removing_an_account_takes_its_posts_and_votes_along(backend: Backend) -> None:
    ann, bob, cleo = (add_user(backend.uow, name) for name in ("ann", "bob", "cleo"))
    of_ann, liked, disliked = add_post(backend.uow, ann), add_post(backend.uow, bob), add_post(backend.uow, bob)
    cast = CastVote(CastVotes(backend.uow, FrozenClock()))
    cast(bob, of_ann.id, Direction.UP)
    for voter in (ann, cleo):
        cast(voter, liked.id, Direction.UP)
        cast(voter, disliked.id, Direction.DOWN)

    with backend.uow() as tx:
        locked = tx.users.lock(ann.id)
        assert tx.users.remove(ann.id) == locked

    with pytest.raises(UserNotFound):
        backend.users.get(ann.id)
    with pytest.raises(PostNotFound):
        backend.posts.get(bob, of_ann.id)
    assert backend.posts.get(bob, liked.id).upvotes == 1
    assert backend.posts.get(bob, disliked.id).downvotes == 1
    assert backend.dashboard.get(NOW).total.votes == 2


def test_removing_an_account_that_is_gone_is_no_error(backend: Backend) -> None:
    with backend.uow() as tx:
        assert tx.users.remove(4_711) is None
