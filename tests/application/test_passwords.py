"""Checks of passwords: what a refusal's duration reveals."""

from dataclasses import replace

import pytest

from application.passwords import Limits
from domain.errors import DomainError, TooManyRequests
from domain.users import AccountInactive, Actor, InvalidCredentials
from tests.support.app import HOME, PASSWORD, World

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
    world.hasher.hashed = 0

    with pytest.raises(AccountInactive):
        world.sign_in()

    assert world.hasher.hashed == 0
