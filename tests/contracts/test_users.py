"""What every storage of accounts promises."""

from dataclasses import replace

import pytest

from application.paging import Window
from application.votes import CastVote
from domain.posts import PostNotFound
from domain.users import Actor, EmailTaken, Role, UsernameTaken, UserNotFound
from domain.votes import Direction
from tests.backends import Backend
from tests.fakes import FrozenClock
from tests.samples import NOW, a_user, add_post, add_user

BEYOND_64_BITS = 2**63
NO_IDS = [0, -1, 4_711, BEYOND_64_BITS, 10**40]


def test_what_is_added_is_read_back(backend: Backend) -> None:
    with backend.uow() as tx:
        added = tx.users.add(a_user("ann", role=Role.ADMIN))

    read = backend.users.get(added.id)

    assert (read.email, read.username, read.role, read.is_active) == ("ann@example.com", "ann", Role.ADMIN, True)
    assert read.created_at == NOW
    assert read.created_at.utcoffset() is not None


def test_ids_start_at_one_and_are_never_given_twice(backend: Backend) -> None:
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
        tx.users.add(replace(a_user("bob"), email=email))


def test_a_username_belongs_to_one_account_whatever_its_case(backend: Backend) -> None:
    add_user(backend.uow, "ann")

    with pytest.raises(UsernameTaken), backend.uow() as tx:
        tx.users.add(replace(a_user("bob"), username="ANN"))


def test_any_number_of_accounts_may_have_no_username(backend: Backend) -> None:
    with backend.uow() as tx:
        tx.users.add(replace(a_user("ann"), username=None))
        tx.users.add(replace(a_user("bob"), username=None))

    assert [user.username for user in backend.users.list("", Window())] == [None, None]


def test_a_refused_account_leaves_nothing_behind(backend: Backend) -> None:
    add_user(backend.uow, "ann")

    with pytest.raises(EmailTaken), backend.uow() as tx:
        tx.users.add(a_user("bob"))
        tx.users.add(replace(a_user("ann"), username=None))

    assert [user.username for user in backend.users.list("", Window())] == ["ann"]


@pytest.mark.parametrize("user_id", NO_IDS)
def test_an_id_that_names_nobody_is_not_found(backend: Backend, user_id: int) -> None:
    with pytest.raises(UserNotFound):
        backend.users.get(user_id)
    assert backend.users.find_actor(user_id) is None


def test_accounts_are_listed_by_id_and_cut_into_pages(backend: Backend) -> None:
    for name in ("cleo", "ann", "bob"):
        add_user(backend.uow, name)

    assert [user.username for user in backend.users.list("", Window())] == ["cleo", "ann", "bob"]
    assert [user.username for user in backend.users.list("", Window(limit=1, skip=1))] == ["ann"]
    assert list(backend.users.list("", Window(limit=10, skip=3))) == []


@pytest.mark.parametrize(
    ("search", "found"),
    [("ANN", ["ann"]), ("@example", ["ann", "B_b"]), ("b_", ["B_b"]), ("%", []), ("n@e", ["ann"]), ("\\", [])],
)
def test_accounts_are_found_by_email_and_username(backend: Backend, search: str, found: list[str]) -> None:
    add_user(backend.uow, "ann")
    add_user(backend.uow, "B_b")

    assert [user.username for user in backend.users.list(search, Window())] == found


def test_an_actor_is_found_with_their_role(backend: Backend) -> None:
    admin = add_user(backend.uow, "root", Role.ADMIN)

    assert backend.users.find_actor(admin.id) == Actor(admin.id, Role.ADMIN)


def test_a_deactivated_account_is_no_actor_but_can_be_seen(backend: Backend) -> None:
    with backend.uow() as tx:
        user = tx.users.add(replace(a_user("ann"), is_active=False))

    assert backend.users.find_actor(user.id) is None
    assert backend.users.get(user.id).is_active is False


def test_an_account_is_found_by_its_email_key(backend: Backend) -> None:
    ann = add_user(backend.uow, "ann")

    account = backend.users.find_account("ann@example.com")

    assert account is not None
    assert (account.id, account.password_hash, account.is_active) == (ann.id, "a hash", True)
    assert backend.users.find_account("nobody@example.com") is None


def test_removing_an_account_takes_its_posts_and_votes_along(backend: Backend) -> None:
    ann, bob, cleo = (add_user(backend.uow, name) for name in ("ann", "bob", "cleo"))
    of_ann, liked, disliked = add_post(backend.uow, ann), add_post(backend.uow, bob), add_post(backend.uow, bob)
    cast = CastVote(backend.uow, FrozenClock())
    cast(bob, of_ann.id, Direction.UP)
    for voter in (ann, cleo):
        cast(voter, liked.id, Direction.UP)
        cast(voter, disliked.id, Direction.DOWN)

    with backend.uow() as tx:
        tx.users.remove(ann.id)

    with pytest.raises(UserNotFound):
        backend.users.get(ann.id)
    with pytest.raises(PostNotFound):
        backend.posts.get(bob, of_ann.id)
    assert backend.posts.get(bob, liked.id).upvotes == 1
    assert backend.posts.get(bob, disliked.id).downvotes == 1
    assert backend.dashboard.get(NOW).total.votes == 2


def test_removing_an_account_that_is_gone_is_no_error(backend: Backend) -> None:
    with backend.uow() as tx:
        tx.users.remove(4_711)
