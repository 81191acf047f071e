"""What use cases report to the security log, and when."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest

from application.errors import TransactionAborted
from application.ports.storage import UnitOfWork
from application.users import ChangePassword, EditUser
from application.views import SecurityEvent
from domain.errors import DomainError, Invalid, TooManyRequests
from domain.sessions import IDLE
from domain.users import (
    OPERATOR,
    AccountInactive,
    Actor,
    AdminsOnly,
    EmailTaken,
    InvalidCredentials,
    InvalidToken,
    LastAdmin,
    Role,
)
from tests.support.app import HOME, PASSWORD, REGISTRATIONS, World


def reported(world: World, work: Callable[[], object], error: type[DomainError] | None = None) -> list[SecurityEvent]:
    """Run a use case that fails as named, and tell the events that it reported."""
    before = len(world.log.events)
    if error is None:
        work()
    else:
        with pytest.raises(error):
            work()
    return world.log.events[before:]


def outcomes(events: list[SecurityEvent]) -> list[tuple[str, str, int | None, int | None, str | None]]:
    return [
        (event.action.value, event.outcome, event.actor.id if event.actor else None, event.subject, event.reason)
        for event in events
    ]


def test_sign_in_is_reported_with_its_account(world: World) -> None:
    ann = world.person()

    assert outcomes(reported(world, world.sign_in)) == [("sign-in", "success", None, ann.id, None)]


def test_refused_sign_in_is_reported_with_the_account_if_one_exists(world: World) -> None:
    ann = world.person()
    refused = "sign-in", "refused", None
    events = reported(world, lambda: world.sign_in(password="wrong"), InvalidCredentials)
    assert outcomes(events) == [(*refused, ann.id, "invalid-credentials")]
    events = reported(world, lambda: world.sign_in("bob"), InvalidCredentials)
    assert outcomes(events) == [(*refused, None, "invalid-credentials")]
    users = world.database.rows.users
    users[ann.id] = replace(users[ann.id], is_active=False)
    events = reported(world, world.sign_in, AccountInactive)
    assert outcomes(events) == [(*refused, ann.id, "account-inactive")]


def test_throttled_sign_in_and_registration_are_reported(world: World) -> None:
    ann = world.person()
    for _ in range(5):
        reported(world, lambda: world.sign_in(password="wrong"), InvalidCredentials)
    for number in range(REGISTRATIONS - 1):
        world.person(f"other{number}")

    assert outcomes(reported(world, world.sign_in, TooManyRequests)) == [
        ("sign-in", "throttled", None, ann.id, "rate-limited")
    ]
    assert outcomes(reported(world, lambda: world.person("bob"), TooManyRequests)) == [
        ("register", "throttled", None, None, "rate-limited")
    ]


def test_throttled_actor_is_reported(world: World) -> None:
    ann = world.person()

    def change() -> None:
        world.app.commands.change_password(ann, "wrong", "battery staple", address=HOME)

    for _ in range(5):
        reported(world, change, InvalidCredentials)

    assert outcomes(reported(world, change, TooManyRequests)) == [
        ("change-password", "throttled", ann.id, ann.id, "rate-limited")
    ]


def test_opened_accounts_are_reported_with_their_ids(world: World) -> None:
    assert outcomes(reported(world, world.person)) == [("register", "success", None, 1, None)]
    assert outcomes(reported(world, world.admin)) == [("create-admin", "success", 0, 2, None)]
    assert world.log.events[-1].actor == OPERATOR
    assert outcomes(reported(world, world.person, EmailTaken)) == [("register", "refused", None, None, "email-taken")]


def test_only_a_replayed_refresh_token_is_reported(world: World) -> None:
    ann, refresh = world.person(), world.app.commands.refresh_session
    first = world.sign_in().refresh_token

    assert reported(world, lambda: refresh(first)) == []
    assert outcomes(reported(world, lambda: refresh(first), InvalidToken)) == [
        ("refresh", "refused", None, ann.id, "invalid-token")
    ]
    assert reported(world, lambda: refresh(first), InvalidToken) == []
    ended = world.sign_in().refresh_token
    world.clock.advance(IDLE)
    assert reported(world, lambda: refresh(ended), InvalidToken) == []


def test_repeated_refresh_is_reported_as_a_success(world: World) -> None:
    ann = world.person()
    refresh = replace(world.app.commands.refresh_session, overlap=timedelta(seconds=10))
    first = world.sign_in().refresh_token

    assert reported(world, lambda: refresh(first)) == []
    assert outcomes(reported(world, lambda: refresh(first))) == [("refresh", "success", None, ann.id, None)]


def test_ends_of_sessions_are_reported(world: World) -> None:
    world.person()
    ann, commands = world.signed_in(), world.app.commands
    done = "success", ann.id, ann.id, None

    assert outcomes(reported(world, lambda: commands.sign_out(ann, everywhere=False))) == [("sign-out", *done)]
    ann = world.signed_in()
    assert outcomes(reported(world, lambda: commands.end_session(ann, ann.session_id))) == [("end-sessions", *done)]
    ends = reported(world, lambda: commands.end_sessions(OPERATOR, ann.id))
    assert outcomes(ends) == [("end-sessions", "success", 0, ann.id, None)]
    for kind in ("access_token", "refresh_token"):
        token = getattr(world.sign_in(), kind)
        revoked = reported(world, partial(commands.revoke_token, token))
        assert outcomes(revoked) == [("sign-out", "success", None, ann.id, None)]


def test_changes_of_the_own_account_are_reported(world: World) -> None:
    ann, commands = world.person(), world.app.commands
    done, refused = ("success", ann.id, ann.id, None), ("refused", ann.id, ann.id, "invalid-credentials")

    def edit(username: str | None, email: str | None, password: str | None = PASSWORD) -> list[SecurityEvent]:
        return reported(world, lambda: commands.edit_own_account(ann, username, email, password, address=HOME))

    assert edit(None, None) == []
    assert outcomes(edit("ann_2", None)) == [("change-username", *done)]
    assert outcomes(edit("ann_3", "ann3@example.com")) == [("change-email", *done), ("change-username", *done)]
    wrong = "a wrong password"
    for work, action in (
        (lambda: commands.edit_own_account(ann, None, "new@example.com", wrong, address=HOME), "change-email"),
        (lambda: commands.change_password(ann, wrong, "a new password", address=HOME), "change-password"),
        (lambda: commands.delete_own_account(ann, wrong, address=HOME), "delete-account"),
    ):
        assert outcomes(reported(world, work, InvalidCredentials)) == [(action, *refused)]
    change = reported(world, lambda: commands.change_password(ann, PASSWORD, "a new password", address=HOME))
    assert outcomes(change) == [("change-password", *done)]
    removal = reported(world, lambda: commands.delete_own_account(ann, "a new password", address=HOME))
    assert outcomes(removal) == [("delete-account", *done)]


def test_a_value_that_breaks_a_rule_is_not_reported(world: World) -> None:
    ann, commands = world.person(), world.app.commands

    assert reported(world, lambda: commands.change_password(ann, PASSWORD, "short", address=HOME), Invalid) == []


@pytest.mark.parametrize(
    ("role", "is_active", "actions"),
    [
        (Role.ADMIN, None, ["promote"]),
        (Role.USER, True, ["demote", "activate"]),
        (None, False, ["deactivate"]),
        (None, None, []),
    ],
)
def test_what_administrators_change_is_reported(
    world: World, role: Role | None, is_active: bool | None, actions: list[str]
) -> None:
    root, ann = world.admin(), world.person()

    events = reported(world, lambda: world.app.commands.edit_user(root, ann.id, role, is_active))

    assert outcomes(events) == [(action, "success", root.id, ann.id, None) for action in actions]


def test_refused_changes_by_administrators_are_reported_once(world: World) -> None:
    root, ann, edit_user = world.admin(), world.person(), world.app.commands.edit_user

    events = reported(world, lambda: edit_user(root, root.id, Role.USER, None), LastAdmin)
    assert outcomes(events) == [("demote", "refused", root.id, root.id, "last-admin")]
    events = reported(world, lambda: edit_user(ann, ann.id, Role.ADMIN, None), AdminsOnly)
    assert events == []  # the interface reports these, for all use cases


def test_transaction_that_is_run_again_is_reported_once_it_commits(world: World) -> None:
    ann = world.person()
    pending = [TransactionAborted("a conflict")] * 2

    @contextmanager
    def aborting() -> Iterator[UnitOfWork]:
        with world.database.transaction() as tx:
            yield tx
            if pending:
                raise pending.pop()

    change = world.app.commands.change_password
    edit = EditUser(aborting, world.log)
    changing = ChangePassword(change.users, aborting, change.check, change.hasher, change.common, world.log)
    for work in (
        lambda: edit(OPERATOR, ann.id, Role.ADMIN, None),
        lambda: changing(Actor(ann.id), PASSWORD, "a new password", address=HOME),
    ):
        before = len(world.log.events)
        with pytest.raises(TransactionAborted):
            work()
        assert len(world.log.events) == before
    pending.clear()
    assert outcomes(reported(world, work)) == [("change-password", "success", ann.id, ann.id, None)]
