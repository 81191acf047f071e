"""Checks of passwords: what a refusal's duration reveals, and limits on guesses."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from ipaddress import IPv6Network

import pytest

from application.passwords import Guard, Guess, Limits
from application.views import Attempt
from domain.errors import DomainError, TooManyRequests
from domain.users import AccountInactive, Actor, InvalidCredentials
from tests.fakes.services import MemoryThrottle
from tests.support.app import ELSEWHERE, HOME, PASSWORD, REGISTRATIONS, World

COSTLIEST = 3.0
"""Seconds that verifying an outdated hash takes longer than a current one, in the fake."""


def change(world: World, actor: Actor, **fields: object) -> None:
    users = world.database.rows.users
    users[actor.id] = replace(users[actor.id], **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(("stored", "padding"), [(f"plain:{PASSWORD}", COSTLIEST), (f"first:{PASSWORD}", 0.0)])
@pytest.mark.parametrize("kind", ["wrong", "inactive", "throttled", "throttled and right"])
def test_refusal_takes_as_long_as_for_the_costliest_hash(world: World, kind: str, stored: str, padding: float) -> None:
    change(world, world.person(), password_hash=stored, is_active=kind != "inactive")
    if kind.startswith("throttled"):
        for _ in range(Limits().failures_per_account):
            with pytest.raises(InvalidCredentials):
                world.sign_in(password="wrong")
    world.timer.slept.clear()

    with pytest.raises(DomainError) as refusal:
        world.sign_in(password=PASSWORD if kind in {"inactive", "throttled and right"} else "wrong")

    kinds: dict[str, type[DomainError]] = {"wrong": InvalidCredentials, "inactive": AccountInactive}
    assert refusal.type is kinds.get(kind, TooManyRequests)
    assert world.timer.slept == [padding]


@pytest.mark.parametrize("email", ["unknown@example.com", "no e-mail"])
def test_unknown_account_takes_as_long_as_the_costliest_hash(world: World, email: str) -> None:
    with pytest.raises(InvalidCredentials):
        world.app.commands.sign_in(email, PASSWORD, user_agent="", address=HOME)

    assert world.timer.slept == [COSTLIEST]


@pytest.mark.parametrize("stored", [f"plain:{PASSWORD}", f"first:{PASSWORD}"])
def test_accepted_sign_in_is_not_delayed(world: World, stored: str) -> None:
    change(world, world.person(), password_hash=stored)

    assert world.sign_in()

    assert world.timer.slept == []


def test_inactive_account_has_no_hash_replaced(world: World) -> None:
    ann = world.person()
    change(world, ann, password_hash=f"first:{PASSWORD}", is_active=False)
    world.hasher.turns.clear()

    with pytest.raises(AccountInactive):
        world.sign_in()

    assert world.hasher.turns == [(HOME, False)]


# Networks, new addresses, sessions.

NEW_ADDRESSES = Limits().failures_from_new_addresses


def subnet(number: int, prefix: int) -> str:
    """Give the first /64 of the IPv6 network with this number, of those with this prefix."""
    return str(IPv6Network((0x20010DB8 << 96 | number << (128 - prefix), 64)))


@pytest.mark.parametrize(("prefix", "limit"), [(56, 60), (48, 240)])
def test_wider_ipv6_networks_have_limits_of_their_own(world: World, prefix: int, limit: int) -> None:
    world.person()
    inner = {56: 64, 48: 56}[prefix]
    for number in range(limit):
        with pytest.raises(InvalidCredentials):
            world.sign_in(f"user{number}", "wrong", address=subnet(number % 2 ** (inner - prefix), inner))

    for password in ("wrong", PASSWORD):
        with pytest.raises(TooManyRequests) as refusal:
            world.sign_in(password=password, address=subnet(2 ** (inner - prefix) - 1, inner))
        assert refusal.value.retry_after == 5 * 60
    assert world.sign_in(address=subnet(1, prefix)), "the next network of that size is another client's"


def test_registrations_of_wider_ipv6_networks_are_limited(world: World) -> None:
    for number in range(2 * REGISTRATIONS):
        world.app.commands.register_user(f"user{number}@example.com", PASSWORD, None, address=subnet(number % 256, 64))

    with pytest.raises(TooManyRequests):
        world.app.commands.register_user("ann@example.com", PASSWORD, None, address=subnet(0, 64))
    assert world.app.commands.register_user("ann@example.com", PASSWORD, None, address=subnet(256, 64))


def test_account_is_guarded_against_guesses_from_many_new_addresses(world: World) -> None:
    world.person()
    world.sign_in(address=HOME)
    for number in range(NEW_ADDRESSES):
        with pytest.raises(InvalidCredentials):
            world.sign_in(password="wrong", address=f"198.51.100.{number}")

    for password in ("wrong", PASSWORD):
        with pytest.raises(TooManyRequests) as refusal:
            world.sign_in(password=password, address="203.0.113.1")
        assert refusal.value.retry_after == 3600
    assert world.sign_in(address=HOME), "the address is known to the account"
    world.clock.advance(timedelta(hours=1))
    assert world.sign_in(address="203.0.113.1")


def test_failures_at_a_known_address_are_no_strangers_guesses(world: World) -> None:
    world.person()
    for _ in range(NEW_ADDRESSES):
        world.sign_in(address=HOME)
        with pytest.raises(InvalidCredentials):
            world.sign_in(password="wrong", address=HOME)

    assert world.sign_in(address="203.0.113.1")


def test_unknown_account_is_limited_over_all_addresses_alike(world: World) -> None:
    for number in range(NEW_ADDRESSES):
        with pytest.raises(InvalidCredentials):
            world.sign_in(password="wrong", address=f"198.51.100.{number}")

    with pytest.raises(TooManyRequests):
        world.sign_in(password="wrong", address="203.0.113.1")


def test_session_confirms_a_password_no_oftener_from_many_addresses(world: World) -> None:
    world.person()
    stolen, own = world.signed_in(), world.signed_in()
    for number in range(Limits().failures_per_account):
        with pytest.raises(InvalidCredentials):
            world.app.commands.change_password(stolen, "wrong", "a new password", address=f"198.51.100.{number}")

    with pytest.raises(TooManyRequests):
        world.app.commands.change_password(stolen, PASSWORD, "a new password", address="203.0.113.1")
    world.app.commands.change_password(own, PASSWORD, "a new password", address=HOME)


def test_right_password_resets_the_failures_of_the_session(world: World) -> None:
    world.person()
    ann = world.signed_in()
    for number in range(3):
        for again in range(Limits().failures_per_account - 1):
            with pytest.raises(InvalidCredentials):
                world.app.commands.edit_own_account(
                    ann, None, "anna@example.com", "wrong", address=f"198.51.{number}.{again}"
                )
        world.app.commands.edit_own_account(ann, None, f"ann{number}@example.com", PASSWORD, address=HOME)


def test_new_email_counts_like_a_registration(world: World) -> None:
    world.person()
    ann = world.signed_in()
    edit = partial(world.app.commands.edit_own_account, ann, address=ELSEWHERE)
    for number in range(REGISTRATIONS):
        edit(None, f"ann{number}@example.com", PASSWORD)

    with pytest.raises(TooManyRequests):
        edit(None, "taken@example.com", PASSWORD)
    assert edit("ann_2", None, None).username == "ann_2"
    assert world.meter.refusals == ["registration"]
    assert world.database.rows.users[ann.id].email == f"ann{REGISTRATIONS - 1}@example.com"


class CountingThrottle(MemoryThrottle):
    """Counts how often it is written to."""

    writes = 0

    def count(self, attempts: Sequence[Attempt], now: datetime) -> Sequence[int]:
        self.writes += 1
        return super().count(attempts, now)


def test_only_the_first_sign_in_makes_an_address_known(world: World) -> None:
    throttle = CountingThrottle()
    guard, guess = Guard(throttle, Limits()), Guess("ann@example.com", HOME)

    for _ in range(3):
        guard.judge(guess, world.clock.now(), is_right=True)

    assert throttle.writes == 1


# Turns at the hasher.


def test_each_hash_waits_in_the_rotation_of_its_client(world: World) -> None:
    ann = world.person()
    world.app.commands.change_password(ann, PASSWORD, "battery staple", address=ELSEWHERE)
    change(world, ann, password_hash=f"first:{PASSWORD}")
    world.sign_in(address=ELSEWHERE)

    assert world.hasher.turns == [(HOME, False), *[(ELSEWHERE, False)] * 4]


def test_guesses_beyond_a_limit_are_checked_after_all_others(world: World) -> None:
    world.person("ann"), world.person("bob")
    for _ in range(Limits().failures_per_account):
        with pytest.raises(InvalidCredentials):
            world.sign_in(password="wrong", address=ELSEWHERE)
    world.hasher.turns.clear()

    for password in ("wrong", PASSWORD):
        with pytest.raises(TooManyRequests):
            world.sign_in(password=password, address=ELSEWHERE)
    world.sign_in(address=HOME)
    world.sign_in("bob", address=ELSEWHERE)

    assert world.hasher.turns == [(ELSEWHERE, True), (ELSEWHERE, True), (HOME, False), (ELSEWHERE, False)]


def test_account_known_at_a_throttled_address_does_not_wait(world: World) -> None:
    world.person()
    world.sign_in(address=ELSEWHERE)
    for number in range(Limits().failures_per_address):
        with pytest.raises(InvalidCredentials):
            world.sign_in(f"user{number}", "wrong", address=ELSEWHERE)
    world.hasher.turns.clear()

    world.sign_in(address=ELSEWHERE)
    with pytest.raises(TooManyRequests):
        world.sign_in("unknown", "wrong", address=ELSEWHERE)

    assert world.hasher.turns == [(ELSEWHERE, False), (ELSEWHERE, True)]
