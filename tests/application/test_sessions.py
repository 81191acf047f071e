"""Use cases of sessions, and limits on password guesses."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from application.passwords import Limits
from application.views import SessionView, Tokens, Verification
from domain.errors import TooManyRequests
from domain.sessions import IDLE, LIFETIME, SESSIONS_MAX, Session, SessionNotFound
from domain.users import (
    OPERATOR,
    AccountInactive,
    Actor,
    AdminsOnly,
    InvalidCredentials,
    InvalidToken,
    Role,
    UserNotFound,
)
from infrastructure.tokens import DerivedRefreshTokens
from tests.fakes.services import PlainHasher
from tests.support.app import ELSEWHERE, HOME, PASSWORD, REGISTRATIONS, World

A_SECOND = timedelta(seconds=1)


def deactivate(world: World, actor: Actor) -> None:
    users = world.database.rows.users
    users[actor.id] = replace(users[actor.id], is_active=False)


def guess(world: World, times: int, name: str = "ann", address: str = HOME) -> None:
    for _ in range(times):
        with pytest.raises(InvalidCredentials):
            world.sign_in(name, "wrong", address=address)


def test_access_token_identifies_its_account(world: World) -> None:
    ann = world.person("ann")

    tokens = world.sign_in("ANN")

    assert world.app.queries.authenticate(tokens.access_token) == replace(ann, session_id=1)
    assert tokens.refresh_expires_in == IDLE.total_seconds()


@pytest.mark.parametrize(
    ("email", "password"),
    [("ann@example.com", "wrong"), ("bob@example.com", PASSWORD), ("nonsense", PASSWORD), ("", "")],
)
def test_every_wrong_sign_in_costs_one_verification_and_one_error(world: World, email: str, password: str) -> None:
    world.person("ann")

    with pytest.raises(InvalidCredentials):
        world.app.commands.sign_in(email, password, user_agent="", address=HOME)

    assert world.hasher.verifications == 1


def test_deactivation_shows_only_with_the_right_password(world: World) -> None:
    deactivate(world, world.person())

    with pytest.raises(InvalidCredentials):
        world.sign_in(password="wrong")
    with pytest.raises(AccountInactive):
        world.sign_in()
    assert not world.database.rows.sessions


def test_sign_in_replaces_an_outdated_hash(world: World) -> None:
    ann = world.person()
    users = world.database.rows.users
    users[ann.id] = replace(users[ann.id], password_hash=f"first:{PASSWORD}")

    guess(world, 1)
    assert users[ann.id].password_hash == f"first:{PASSWORD}"
    world.sign_in()

    assert world.database.rows.users[ann.id].password_hash == f"plain:{PASSWORD}"
    assert world.sign_in()


def test_account_changes_apply_to_the_next_request(world: World) -> None:
    ann = world.person()
    token = world.sign_in().access_token
    users = world.database.rows.users

    users[ann.id] = replace(users[ann.id], role=Role.ADMIN)
    assert world.app.queries.authenticate(token).is_admin

    deactivate(world, ann)
    with pytest.raises(InvalidToken):
        world.app.queries.authenticate(token)

    del users[ann.id]
    with pytest.raises(InvalidToken):
        world.app.queries.authenticate(token)


def test_an_access_token_ends(world: World) -> None:
    world.person()
    tokens = world.sign_in()

    world.clock.advance(timedelta(seconds=tokens.expires_in))

    with pytest.raises(InvalidToken):
        world.app.queries.authenticate(tokens.access_token)


def test_refresh_token_is_valid_for_one_use(world: World) -> None:
    ann = world.person()
    first = world.sign_in()

    second = world.app.commands.refresh_session(first.refresh_token)

    assert second.refresh_token != first.refresh_token
    assert world.app.queries.authenticate(second.access_token).id == ann.id
    assert world.app.queries.authenticate(first.access_token).id == ann.id


def test_spent_refresh_token_ends_its_session_with_newest_tokens(world: World) -> None:
    world.person()
    first, other = world.sign_in(), world.sign_in()
    second = world.app.commands.refresh_session(first.refresh_token)

    with pytest.raises(InvalidToken):
        world.app.commands.refresh_session(first.refresh_token)

    for ended in (first, second):
        with pytest.raises(InvalidToken):
            world.app.commands.refresh_session(ended.refresh_token)
        with pytest.raises(InvalidToken):
            world.app.queries.authenticate(ended.access_token)
    assert world.app.commands.refresh_session(other.refresh_token)


OVERLAP = timedelta(seconds=10)


def test_refresh_is_repeated_within_the_overlap(world: World) -> None:
    ann = world.person()
    refresh = replace(world.app.commands.refresh_session, overlap=OVERLAP)
    first = world.sign_in()
    second = refresh(first.refresh_token)
    world.clock.advance(OVERLAP - A_SECOND)

    again = [refresh(first.refresh_token), refresh(first.refresh_token)]

    assert {tokens.refresh_token for tokens in again} == {second.refresh_token}
    assert {tokens.refresh_expires_in for tokens in again} == {second.refresh_expires_in - 9}
    for tokens in (second, *again):
        assert world.app.queries.authenticate(tokens.access_token).id == ann.id
    assert refresh(second.refresh_token).refresh_token != second.refresh_token


@pytest.mark.parametrize("is_used", [True, False])
def test_repeat_beyond_the_overlap_ends_the_session(world: World, is_used: bool) -> None:
    world.person()
    refresh = replace(world.app.commands.refresh_session, overlap=OVERLAP)
    first = world.sign_in()
    second = refresh(first.refresh_token)
    if is_used:
        refresh(second.refresh_token)
    else:
        world.clock.advance(OVERLAP)

    for token in (first, second):
        with pytest.raises(InvalidToken):
            refresh(token.refresh_token)
    with pytest.raises(InvalidToken):
        world.app.queries.authenticate(second.access_token)


def test_refresh_is_repeated_after_the_secret_key_was_replaced(world: World) -> None:
    world.person()
    strict, keys = world.app.commands.refresh_session, ["the old key", "the new key"]
    before = replace(strict, overlap=OVERLAP, refresh_tokens=DerivedRefreshTokens(keys))
    after = replace(before, refresh_tokens=DerivedRefreshTokens(keys[::-1]))
    without = replace(before, refresh_tokens=DerivedRefreshTokens(keys[1:]))
    first = before.refresh_tokens.first()
    world.database.rows.sessions[1] = Session.open(
        user_id=1, user_agent="", refresh=first.hashes, now=world.clock.now()
    ).with_id(1)
    second = before(first.token)

    assert after(first.token).refresh_token == second.refresh_token
    with pytest.raises(InvalidToken):
        without(first.token)


def test_unknown_refresh_token_ends_no_session(world: World) -> None:
    world.person()
    tokens = world.sign_in()

    for token in ("", "nonsense", "4711.1"):
        with pytest.raises(InvalidToken):
            world.app.commands.refresh_session(token)

    assert world.app.commands.refresh_session(tokens.refresh_token)


def test_a_session_that_is_not_used_ends(world: World) -> None:
    world.person()
    tokens = world.sign_in()

    world.clock.advance(IDLE - A_SECOND)
    tokens = world.app.commands.refresh_session(tokens.refresh_token)
    world.clock.advance(IDLE)

    with pytest.raises(InvalidToken):
        world.app.commands.refresh_session(tokens.refresh_token)


def test_a_session_ends_however_often_it_is_used(world: World) -> None:
    world.person()
    tokens = world.sign_in()
    days = timedelta(days=6)
    for _ in range(LIFETIME // days - 1):
        world.clock.advance(days)
        tokens = world.app.commands.refresh_session(tokens.refresh_token)
    world.clock.advance(days - A_SECOND)
    tokens = world.app.commands.refresh_session(tokens.refresh_token)
    assert tokens.refresh_expires_in == 1

    world.clock.advance(A_SECOND)

    with pytest.raises(InvalidToken):
        world.app.commands.refresh_session(tokens.refresh_token)
    with pytest.raises(InvalidToken):
        world.app.queries.authenticate(tokens.access_token)


def test_signing_out_ends_this_session_and_no_other(world: World) -> None:
    world.person()
    here, there = world.sign_in(), world.sign_in()

    world.app.commands.sign_out(world.app.queries.authenticate(here.access_token), everywhere=False)

    with pytest.raises(InvalidToken):
        world.app.queries.authenticate(here.access_token)
    with pytest.raises(InvalidToken):
        world.app.commands.refresh_session(here.refresh_token)
    assert world.app.queries.authenticate(there.access_token)


def test_signing_out_everywhere_ends_all_own_sessions(world: World) -> None:
    world.person("ann"), world.person("bob")
    here, there, bobs = world.sign_in(), world.sign_in(), world.sign_in("bob")

    world.app.commands.sign_out(world.app.queries.authenticate(here.access_token), everywhere=True)

    for ended in (here, there):
        with pytest.raises(InvalidToken):
            world.app.queries.authenticate(ended.access_token)
    assert world.app.queries.authenticate(bobs.access_token)


@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
def test_revoked_token_ends_its_session_and_no_other(world: World, kind: str) -> None:
    world.person()
    here, there = world.sign_in(), world.sign_in()

    world.app.commands.revoke_token(getattr(here, kind))

    with pytest.raises(InvalidToken):
        world.app.queries.authenticate(here.access_token)
    with pytest.raises(InvalidToken):
        world.app.commands.refresh_session(here.refresh_token)
    assert world.app.queries.authenticate(there.access_token)


def test_revoked_spent_refresh_token_ends_its_session(world: World) -> None:
    world.person()
    first = world.sign_in()
    second = world.app.commands.refresh_session(first.refresh_token)

    world.app.commands.revoke_token(first.refresh_token)

    with pytest.raises(InvalidToken):
        world.app.queries.authenticate(second.access_token)


def test_revoked_token_of_no_session_is_ignored(world: World) -> None:
    world.person()
    tokens = world.sign_in()
    ended = world.sign_in()
    world.app.commands.sign_out(world.app.queries.authenticate(ended.access_token), everywhere=False)
    world.clock.advance(timedelta(seconds=tokens.expires_in))
    before = len(world.log.events)

    for token in ("", "nonsense", "9.9", ended.refresh_token, ended.access_token, tokens.access_token):
        world.app.commands.revoke_token(token)

    assert len(world.log.events) == before
    assert world.app.commands.refresh_session(tokens.refresh_token)


def test_user_lists_the_own_sessions(world: World) -> None:
    world.person("ann"), world.person("bob")
    start = world.clock.now()
    first = world.sign_in()
    world.sign_in("bob")
    world.clock.advance(A_SECOND)
    second = world.app.queries.authenticate(world.sign_in().access_token)
    world.clock.advance(A_SECOND)
    world.app.commands.refresh_session(first.refresh_token)

    assert world.app.queries.list_sessions(second) == [
        SessionView(1, start, start + 2 * A_SECOND, "a browser"),
        SessionView(3, start + A_SECOND, start + A_SECOND, "a browser"),
    ]


def test_user_ends_an_own_session(world: World) -> None:
    world.person("ann"), world.person("bob")
    lost, here, bobs = world.sign_in(), world.signed_in(), world.signed_in("bob")

    world.app.commands.end_session(here, world.app.queries.authenticate(lost.access_token).session_id)

    with pytest.raises(InvalidToken):
        world.app.queries.authenticate(lost.access_token)
    for gone in (1, bobs.session_id, 4_711):
        with pytest.raises(SessionNotFound):
            world.app.commands.end_session(here, gone)


def test_administrators_end_all_sessions_of_an_account(world: World) -> None:
    ann, bob = world.person("ann"), world.person("bob")
    tokens = [world.sign_in("ann"), world.sign_in("ann")]
    other = world.sign_in("bob")

    world.app.commands.end_sessions(OPERATOR, ann.id)

    for token in tokens:
        with pytest.raises(InvalidToken):
            world.app.queries.authenticate(token.access_token)
    assert world.app.queries.authenticate(other.access_token).id == bob.id
    with pytest.raises(UserNotFound):
        world.app.commands.end_sessions(OPERATOR, 4_711)
    with pytest.raises(AdminsOnly):
        world.app.commands.end_sessions(ann, bob.id)


def test_sign_in_removes_ended_sessions(world: World) -> None:
    world.person()
    world.sign_in()
    world.clock.advance(IDLE)

    world.sign_in()

    assert list(world.database.rows.sessions) == [2]


def test_guessing_is_refused_until_the_window_ends(world: World) -> None:
    world.person()
    guess(world, 5)

    for password in ("wrong", PASSWORD):
        with pytest.raises(TooManyRequests) as refusal:
            world.sign_in(password=password)
        assert refusal.value.retry_after == 15 * 60
    world.clock.advance(timedelta(minutes=15))

    assert world.sign_in()


def test_failures_of_one_malformed_email_throttle_no_other(world: World) -> None:
    def attempt(email: str) -> None:
        world.app.commands.sign_in(email, "wrong", user_agent="", address=HOME)

    for email in ("nonsense", "NONSENSE", "Nonsense", "nonsensE", "nOnsense"):
        with pytest.raises(InvalidCredentials):
            attempt(email)

    with pytest.raises(TooManyRequests):
        attempt("nonsense")
    with pytest.raises(InvalidCredentials):
        attempt("more nonsense")


def test_meter_counts_throttled_attempts(world: World) -> None:
    for number in range(REGISTRATIONS):
        world.person(f"user{number}")
    with pytest.raises(TooManyRequests):
        world.person("ann")
    guess(world, Limits().failures_per_account, name="user1")
    for password in ("wrong", PASSWORD):
        with pytest.raises(TooManyRequests):
            world.sign_in("user1", password)
    world.sign_in("user2", address=ELSEWHERE)
    world.sign_in("user2", address=ELSEWHERE)

    assert world.meter.refusals == ["registration", "password", "password"]


def test_failures_at_another_address_lock_no_account(world: World) -> None:
    world.person()
    guess(world, Limits().failures_per_account, address=ELSEWHERE)

    assert world.sign_in(address=HOME)


def test_sign_in_resets_the_failures_of_the_account(world: World) -> None:
    world.person()
    for _ in range(3):
        guess(world, Limits().failures_per_account - 1)
        assert world.sign_in()


def test_an_address_that_guesses_at_many_accounts_is_stopped(world: World) -> None:
    world.person("ann"), world.person("bob")
    world.sign_in("bob")
    for number in range(30):
        guess(world, 1, name=f"user{number}")

    with pytest.raises(TooManyRequests):
        world.sign_in("unknown", "wrong")
    with pytest.raises(TooManyRequests):
        world.sign_in("ann")
    assert world.sign_in("bob"), "bob signed in from this address before"
    world.clock.advance(timedelta(minutes=5))
    assert world.sign_in("ann")


@pytest.mark.parametrize(("later", "is_known"), [(timedelta(days=30) - A_SECOND, True), (timedelta(days=30), False)])
def test_address_is_known_to_an_account_for_30_days(world: World, later: timedelta, is_known: bool) -> None:
    world.person()
    world.sign_in()
    world.clock.advance(later)
    for number in range(30):
        guess(world, 1, name=f"user{number}")

    if is_known:
        assert world.sign_in()
    else:
        with pytest.raises(TooManyRequests):
            world.sign_in()


def test_an_address_that_guesses_does_not_block_another(world: World) -> None:
    world.person()
    for number in range(30):
        guess(world, 1, name=f"user{number}")

    assert world.sign_in(address=ELSEWHERE)


def test_address_is_known_to_the_account_alone_that_used_it(world: World) -> None:
    world.person()
    world.sign_in()
    for number in range(30):
        guess(world, 1, name=f"user{number}", address=ELSEWHERE)

    with pytest.raises(TooManyRequests):
        world.sign_in(address=ELSEWHERE)


def test_throttled_attempt_costs_one_verification(world: World) -> None:
    world.person()
    guess(world, Limits().failures_per_account)
    before = world.hasher.verifications

    with pytest.raises(TooManyRequests):
        world.sign_in()

    assert world.hasher.verifications == before + 1


def signing_in_while(world: World, happening: Callable[[], object]) -> Tokens:
    """Sign in; call `happening` right after the password was verified."""

    class InterruptedHasher(PlainHasher):
        def verify(self, *arguments: Any, **options: Any) -> Verification:
            known = super().verify(*arguments, **options)
            happening()
            return known

    check = replace(world.app.commands.sign_in.check, hasher=InterruptedHasher())
    sign_in = replace(world.app.commands.sign_in, check=check)
    return sign_in("ann@example.com", PASSWORD, user_agent="", address=HOME)


def test_password_changed_during_sign_in_is_wrong(world: World) -> None:
    ann = world.person()
    users = world.database.rows.users

    with pytest.raises(InvalidCredentials):
        signing_in_while(world, lambda: users.update({ann.id: users[ann.id].with_password("plain:another")}))


def test_account_deactivated_during_sign_in_opens_no_session(world: World) -> None:
    ann = world.person()

    with pytest.raises(AccountInactive):
        signing_in_while(world, lambda: deactivate(world, ann))
    assert not world.database.rows.sessions


def test_account_removed_during_sign_in_is_unknown(world: World) -> None:
    ann = world.person()

    with pytest.raises(InvalidCredentials):
        signing_in_while(world, lambda: world.database.rows.users.pop(ann.id))


def test_limits_of_zero_count_nothing(world: World) -> None:
    world.person()
    check = world.app.commands.sign_in.check
    guard = replace(check.guard, limits=Limits(0, 0, 0, 0))
    sign_in = replace(world.app.commands.sign_in, check=replace(check, guard=guard))

    for _ in range(40):
        with pytest.raises(InvalidCredentials):
            sign_in("ann@example.com", "wrong", user_agent="", address=HOME)
    sign_in("ann@example.com", PASSWORD, user_agent="", address=HOME)

    assert world.meter.refusals == []


def test_sign_in_beyond_the_most_sessions_ends_the_idlest(world: World) -> None:
    world.person("ann")
    world.person("bob")
    bobs, first = world.sign_in("bob"), world.sign_in("ann")
    world.clock.advance(A_SECOND)
    second = world.sign_in("ann")
    world.clock.advance(A_SECOND)
    first = world.app.commands.refresh_session(first.refresh_token)  # so the second is the idlest
    for _ in range(SESSIONS_MAX - 2):
        world.sign_in("ann")
    assert world.app.queries.authenticate(second.access_token)

    world.sign_in("ann")

    assert len(world.database.rows.sessions) == SESSIONS_MAX + 1
    with pytest.raises(InvalidToken):
        world.app.queries.authenticate(second.access_token)
    assert world.app.queries.authenticate(first.access_token)
    assert world.app.queries.authenticate(bobs.access_token)
