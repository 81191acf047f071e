"""Contract of storages of sessions."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from application.views import Bearer, SessionView
from domain.sessions import IDLE, RefreshHashes, Session
from domain.users import Actor, InvalidToken, Role
from tests.support.backends import Backend
from tests.support.samples import NO_IDS, NOW, a_user, add_user

A_DAY = timedelta(days=1)


def add_session(backend: Backend, owner: Actor, family: str = "family") -> Session:
    refresh = RefreshHashes(family, "secret")
    with backend.uow() as tx:
        return tx.sessions.add(Session.open(user_id=owner.id, user_agent="a browser", refresh=refresh, now=NOW))


def families(backend: Backend, *among: str) -> list[str]:
    with backend.uow() as tx:
        return [family for family in among if tx.sessions.lock_family(family)]


def test_a_session_is_found_by_its_family(backend: Backend) -> None:
    session = add_session(backend, add_user(backend.uow))

    with backend.uow() as tx:
        assert tx.sessions.lock_family("family") == session
        assert tx.sessions.lock_family("another") is None


def test_a_rotation_is_stored(backend: Backend) -> None:
    ann = add_user(backend.uow)
    session = add_session(backend, ann)
    rotated = replace(
        session, refresh=RefreshHashes("family", "next"), created_at=NOW - A_DAY, last_used_at=NOW + A_DAY
    )

    with backend.uow() as tx:
        tx.sessions.lock_family("family")
        tx.sessions.save(rotated)

    with backend.uow() as tx:
        assert tx.sessions.lock_family("family") == rotated
    assert actor(backend, ann.id, session.id, NOW + IDLE) is not None
    assert actor(backend, ann.id, session.id, NOW + IDLE + A_DAY) is None


def actor(backend: Backend, user_id: int, session_id: int, at: datetime) -> Actor | None:
    """Check a bearer, and return who it is."""
    try:
        return backend.users.find_actor(Bearer(user_id, session_id, at))
    except InvalidToken:
        return None


def test_session_of_a_missing_account_is_refused(backend: Backend) -> None:
    with pytest.raises(InvalidToken):
        add_session(backend, Actor(4_711))


def test_session_ids_are_never_reused(backend: Backend) -> None:
    ann = add_user(backend.uow)
    first = add_session(backend, ann)
    with backend.uow() as tx:
        assert tx.sessions.remove(ann.id, first.id)

    assert add_session(backend, ann).id > first.id


def test_one_own_session_is_removed(backend: Backend) -> None:
    ann, bob = add_user(backend.uow, "ann"), add_user(backend.uow, "bob")
    first, _, bobs = (add_session(backend, owner, name) for owner, name in ((ann, "1"), (ann, "2"), (bob, "3")))

    with backend.uow() as tx:
        assert not tx.sessions.remove(ann.id, bobs.id)
        assert tx.sessions.remove(ann.id, first.id)
        assert not tx.sessions.remove(ann.id, first.id)

    assert families(backend, "1", "2", "3") == ["2", "3"]


@pytest.mark.parametrize("session_id", NO_IDS)
def test_unknown_session_id_ends_no_session(backend: Backend, session_id: int) -> None:
    ann = add_user(backend.uow)
    add_session(backend, ann)

    with backend.uow() as tx:
        assert not tx.sessions.remove(ann.id, session_id)

    assert actor(backend, ann.id, session_id, NOW) is None
    assert actor(backend, session_id, 1, NOW) is None
    assert families(backend, "family") == ["family"]


def test_remove_all_keeps_the_excepted_session(backend: Backend) -> None:
    ann, bob = add_user(backend.uow, "ann"), add_user(backend.uow, "bob")
    sessions = [add_session(backend, owner, name) for owner, name in ((ann, "1"), (ann, "2"), (bob, "3"))]

    with backend.uow() as tx:
        tx.sessions.remove_all(ann.id, but=sessions[1].id)
    assert families(backend, "1", "2", "3") == ["2", "3"]

    with backend.uow() as tx:
        tx.sessions.remove_all(ann.id)
    assert families(backend, "1", "2", "3") == ["3"]


def test_ended_sessions_are_removed(backend: Backend) -> None:
    ann = add_user(backend.uow)
    add_session(backend, ann)

    with backend.uow() as tx:
        tx.sessions.remove_ended(ann.id, NOW + IDLE - timedelta(microseconds=1))
    assert families(backend, "family") == ["family"]

    with backend.uow() as tx:
        tx.sessions.remove_ended(ann.id, NOW + IDLE)
    assert families(backend, "family") == []


def test_idlest_sessions_of_one_account_are_removed(backend: Backend) -> None:
    ann, bob = add_user(backend.uow, "ann"), add_user(backend.uow, "bob")

    def sessions(user_id: int) -> list[str]:
        return [session.user_agent for session in backend.users.sessions(user_id, NOW)]

    with backend.uow() as tx:
        for user_id, name, used in ((bob.id, "bob", 0), (ann.id, "b", 2), (ann.id, "a", 1), (ann.id, "c", 2)):
            refresh = RefreshHashes(f"{user_id} {name}", "secret")
            session = Session.open(user_id=user_id, user_agent=name, refresh=refresh, now=NOW)
            tx.sessions.add(replace(session, last_used_at=NOW + timedelta(seconds=used)))
    for keep, left in ((3, ["c", "b", "a"]), (2, ["c", "b"]), (1, ["c"]), (0, [])):
        with backend.uow() as tx:
            tx.sessions.remove_idlest(ann.id, keep=keep)
        assert sessions(ann.id) == left
    assert sessions(bob.id) == ["bob"]


def test_removed_account_takes_its_sessions_along(backend: Backend) -> None:
    ann = add_user(backend.uow)
    session = add_session(backend, ann)

    with backend.uow() as tx:
        tx.users.remove(ann.id)

    assert families(backend, "family") == []
    assert actor(backend, ann.id, session.id, NOW) is None


def test_an_actor_is_found_by_account_and_session_together(backend: Backend) -> None:
    root, bob = add_user(backend.uow, "root", Role.ADMIN), add_user(backend.uow, "bob")
    session, bobs = add_session(backend, root, "1"), add_session(backend, bob, "2")

    assert actor(backend, root.id, session.id, NOW) == Actor(root.id, Role.ADMIN, session.id)
    assert actor(backend, root.id, bobs.id, NOW) is None
    assert actor(backend, root.id, session.id, NOW + IDLE) is None


def test_a_deactivated_account_is_no_actor(backend: Backend) -> None:
    with backend.uow() as tx:
        user = tx.users.add(replace(a_user("ann"), is_active=False))
    session = add_session(backend, Actor(user.id))

    assert actor(backend, user.id, session.id, NOW) is None


def test_sessions_are_listed_latest_used_first(backend: Backend) -> None:
    ann, bob = add_user(backend.uow, "ann"), add_user(backend.uow, "bob")
    first, second, _ = (add_session(backend, owner, name) for owner, name in ((ann, "1"), (ann, "2"), (bob, "3")))

    assert [view.id for view in backend.users.sessions(ann.id, NOW)] == [second.id, first.id]
    with backend.uow() as tx:
        tx.sessions.save(replace(first, last_used_at=NOW + A_DAY))
    assert list(backend.users.sessions(ann.id, NOW + IDLE)) == [SessionView(first.id, NOW, NOW + A_DAY, "a browser")]
