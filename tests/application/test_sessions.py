"""Signing in, and knowing who is asking."""

from dataclasses import replace
from datetime import timedelta

import pytest

from domain.users import AccountInactive, Actor, InvalidCredentials, InvalidToken, Role
from tests.application.conftest import PASSWORD, World


def deactivate(world: World, actor: Actor) -> None:
    users = world.database.rows.users
    users[actor.id] = replace(users[actor.id], is_active=False)


def test_who_signs_in_is_known_by_the_token(world: World) -> None:
    ann = world.person()

    token = world.app.sign_in("ANN@example.com", PASSWORD).access_token

    assert world.app.authenticate(token) == ann


@pytest.mark.parametrize(
    ("email", "password"),
    [("ann@example.com", "wrong"), ("bob@example.com", PASSWORD), ("nonsense", PASSWORD), ("", "")],
)
def test_whatever_is_wrong_costs_one_verification_and_is_told_alike(world: World, email: str, password: str) -> None:
    world.person("ann")

    with pytest.raises(InvalidCredentials):
        world.app.sign_in(email, password)

    assert world.hasher.verifications == 1


def test_a_deactivated_account_is_told_so_only_for_the_right_password(world: World) -> None:
    deactivate(world, world.person())

    with pytest.raises(InvalidCredentials):
        world.app.sign_in("ann@example.com", "wrong")
    with pytest.raises(AccountInactive):
        world.app.sign_in("ann@example.com", PASSWORD)


def test_what_happens_to_an_account_holds_on_the_next_request(world: World) -> None:
    ann = world.person()
    token = world.app.sign_in("ann@example.com", PASSWORD).access_token
    users = world.database.rows.users

    users[ann.id] = replace(users[ann.id], role=Role.ADMIN)
    assert world.app.authenticate(token).is_admin

    deactivate(world, ann)
    with pytest.raises(InvalidToken):
        world.app.authenticate(token)

    del users[ann.id]
    with pytest.raises(InvalidToken):
        world.app.authenticate(token)


def test_a_token_ends(world: World) -> None:
    world.person()
    token = world.app.sign_in("ann@example.com", PASSWORD)

    world.clock.advance(timedelta(seconds=token.expires_in))

    with pytest.raises(InvalidToken):
        world.app.authenticate(token.access_token)
