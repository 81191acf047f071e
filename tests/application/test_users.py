"""Registering, and seeing people."""

import pytest

from application.paging import Window
from application.views import PublicUser, UserView
from domain.errors import Invalid
from domain.users import ANONYMOUS, AdminsOnly, EmailTaken, InvalidToken, Role, UserNotFound
from tests.application.conftest import PASSWORD, World


def test_registering_opens_an_ordinary_account(world: World) -> None:
    user = world.app.register_user(" Ann@Example.com ", PASSWORD, "ann")

    assert user == UserView(1, "ann", world.clock.now(), "Ann@Example.com", Role.USER, is_active=True)


def test_the_password_is_stored_as_its_hash_alone(world: World) -> None:
    ann = world.person()

    assert world.database.rows.users[ann.id].password_hash == world.hasher.hash(PASSWORD)


@pytest.mark.parametrize(
    ("email", "password", "username"),
    [("nonsense", PASSWORD, None), ("ann@example.com", "short", None), ("ann@example.com", PASSWORD, "a b")],
)
def test_what_breaks_a_rule_opens_no_account(world: World, email: str, password: str, username: str | None) -> None:
    with pytest.raises(Invalid):
        world.app.register_user(email, password, username)

    assert not world.database.rows.users


def test_an_email_is_registered_once(world: World) -> None:
    world.person("ann")

    with pytest.raises(EmailTaken):
        world.app.register_user("ANN@example.com", PASSWORD, None)


def test_an_administrator_is_made_by_the_operator(world: World) -> None:
    user = world.app.create_admin("root@example.com", PASSWORD, None)

    assert user.role is Role.ADMIN


def test_people_see_of_others_what_is_public(world: World) -> None:
    ann, bob, root = world.person("ann"), world.person("bob"), world.admin()

    public = world.app.see_user(bob, ann.id)

    assert public == world.app.see_user(ANONYMOUS, ann.id) == PublicUser(ann.id, "ann", world.clock.now())
    for whole in (world.app.see_user(ann, ann.id), world.app.see_user(root, ann.id)):
        assert isinstance(whole, UserView)
        assert whole.email == "ann@example.com"


def test_nobody_sees_somebody_who_is_not_there(world: World) -> None:
    with pytest.raises(UserNotFound):
        world.app.see_user(ANONYMOUS, 7)


def test_people_see_their_own_account_while_it_is_there(world: World) -> None:
    ann = world.person()
    assert world.app.see_own_account(ann).email == "ann@example.com"

    with world.database.transaction() as tx:
        tx.users.remove(ann.id)

    with pytest.raises(InvalidToken):
        world.app.see_own_account(ann)


def test_only_administrators_list_accounts(world: World) -> None:
    ann, root = world.person(), world.admin()

    assert [user.username for user in world.app.list_users(root, "", Window())] == ["ann", "root"]
    with pytest.raises(AdminsOnly):
        world.app.list_users(ann, "", Window())
