"""Use cases of accounts."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from application.paging import Window
from application.views import Action, PublicUser, SecurityEvent, UserView, Verification
from domain.errors import Invalid, TooManyRequests
from domain.posts import PostNotFound
from domain.users import (
    ANONYMOUS,
    OPERATOR,
    AccountInactive,
    Actor,
    AdminsOnly,
    EmailTaken,
    InvalidCredentials,
    InvalidToken,
    LastAdmin,
    Role,
    UsernameTaken,
    UserNotFound,
)
from domain.votes import Direction
from tests.fakes.services import PlainHasher
from tests.support.app import ELSEWHERE, HOME, PASSWORD, REGISTRATIONS, World


def test_registering_opens_an_ordinary_account(world: World) -> None:
    user = world.app.commands.register_user(" Ann@Example.com ", PASSWORD, "ann", address=HOME)

    assert user == UserView(1, "ann", world.clock.now(), "Ann@Example.com", Role.USER, is_active=True)


def test_the_password_is_stored_as_its_hash_alone(world: World) -> None:
    ann = world.person()

    assert world.database.rows.users[ann.id].password_hash == world.hasher.hash(PASSWORD)


@pytest.mark.parametrize(
    ("email", "password", "username"),
    [
        ("nonsense", PASSWORD, None),
        ("ann@example.com", "short", None),
        ("ann@example.com", "password1", None),
        ("ann@example.com", "ANN@example.com", None),
        ("ann@example.com", "ann_of_aix", "Ann_of_Aix"),
        ("ann@example.com", PASSWORD, "a b"),
    ],
)
def test_invalid_registration_opens_no_account(world: World, email: str, password: str, username: str | None) -> None:
    with pytest.raises(Invalid):
        world.app.commands.register_user(email, password, username, address=HOME)

    assert not world.database.rows.users


def test_an_email_is_registered_once(world: World) -> None:
    world.person("ann")

    with pytest.raises(EmailTaken):
        world.app.commands.register_user("ANN@example.com", PASSWORD, None, address=HOME)


def test_operator_creates_an_administrator(world: World) -> None:
    user = world.app.commands.create_admin("root@example.com", PASSWORD, None)

    assert user.role is Role.ADMIN
    with pytest.raises(Invalid):
        world.app.commands.create_admin("other@example.com", "short", None)


def test_other_users_see_the_public_part_of_an_account(world: World) -> None:
    ann, bob, root = world.person("ann"), world.person("bob"), world.admin()

    public = world.app.queries.get_user(bob, ann.id)

    assert public == world.app.queries.get_user(ANONYMOUS, ann.id) == PublicUser(ann.id, "ann", world.clock.now())
    for whole in (world.app.queries.get_user(ann, ann.id), world.app.queries.get_user(root, ann.id)):
        assert isinstance(whole, UserView)
        assert whole.email == "ann@example.com"


def test_missing_account_is_not_found(world: World) -> None:
    with pytest.raises(UserNotFound):
        world.app.queries.get_user(ANONYMOUS, 7)


def test_user_reads_the_own_account_while_it_exists(world: World) -> None:
    ann = world.person()
    assert world.app.queries.get_own_account(ann).email == "ann@example.com"

    with world.database.transaction() as tx:
        tx.users.remove(ann.id)

    with pytest.raises(InvalidToken):
        world.app.queries.get_own_account(ann)


def test_only_administrators_list_accounts(world: World) -> None:
    ann, root = world.person(), world.admin()

    assert [user.username for user in world.app.queries.list_users(root, "", Window()).items] == ["ann", "root"]
    with pytest.raises(AdminsOnly):
        world.app.queries.list_users(ann, "", Window())


def test_bulk_registration_is_limited_per_address(world: World) -> None:
    for number in range(REGISTRATIONS):
        world.person(f"user{number}")

    with pytest.raises(TooManyRequests) as refusal:
        world.person("one_too_many")
    assert refusal.value.retry_after == 60 * 60
    world.app.commands.register_user("elsewhere@example.com", PASSWORD, None, address=ELSEWHERE)
    world.clock.advance(timedelta(hours=1))
    world.person("later")


def test_new_username_needs_no_password(world: World) -> None:
    ann, _ = world.person("ann"), world.person("bob")

    assert world.app.commands.edit_own_account(ann, "Anna", None, None, address=HOME).username == "Anna"
    assert world.app.commands.edit_own_account(ann, "ANNA", None, None, address=HOME).username == "ANNA"
    with pytest.raises(UsernameTaken):
        world.app.commands.edit_own_account(ann, "BOB", None, None, address=HOME)
    with pytest.raises(Invalid):
        world.app.commands.edit_own_account(ann, "a b", None, None, address=HOME)


def test_reserved_username_is_refused_like_a_taken_one(world: World) -> None:
    ann = world.person("ann")

    for name in ("admin", "SYSTEM"):
        with pytest.raises(UsernameTaken):
            world.app.commands.register_user("bob@example.com", PASSWORD, name, address=HOME)
        with pytest.raises(UsernameTaken):
            world.app.commands.edit_own_account(ann, name, None, None, address=HOME)
    with pytest.raises(Invalid):  # what breaks a rule is reported first
        world.app.commands.register_user("bob@example.com", "short", "admin", address=HOME)
    with pytest.raises(Invalid):
        world.app.commands.edit_own_account(ann, "admin", "no address", PASSWORD, address=HOME)


def test_username_that_was_reserved_later_stays(world: World) -> None:
    root = world.admin("root")  # an operator may choose it

    assert world.app.commands.edit_own_account(root, "root", None, None, address=HOME).username == "root"
    assert world.app.commands.edit_own_account(root, "Root", "r@example.com", PASSWORD, address=HOME).username == "Root"


def test_new_email_needs_the_password(world: World) -> None:
    ann, _ = world.person("ann"), world.person("bob")

    with pytest.raises(Invalid) as refusal:
        world.app.commands.edit_own_account(ann, None, "anna@example.com", None, address=HOME)
    assert refusal.value.field == "current_password"
    with pytest.raises(InvalidCredentials):
        world.app.commands.edit_own_account(ann, None, "anna@example.com", "wrong", address=HOME)
    with pytest.raises(EmailTaken):
        world.app.commands.edit_own_account(ann, None, "BOB@example.com", PASSWORD, address=HOME)

    assert (
        world.app.commands.edit_own_account(ann, None, "anna@example.com", PASSWORD, address=HOME).email
        == "anna@example.com"
    )
    assert world.sign_in("anna")


def test_account_edit_without_fields_changes_nothing(world: World) -> None:
    ann = world.person()

    assert world.app.commands.edit_own_account(
        ann, None, None, None, address=HOME
    ) == world.app.queries.get_own_account(ann)


def test_a_new_password_ends_all_other_sessions(world: World) -> None:
    world.person()
    here, there = world.sign_in(), world.sign_in()
    ann = world.app.queries.authenticate(here.access_token)

    world.app.commands.change_password(ann, PASSWORD, "battery staple", address=HOME)

    assert world.app.queries.authenticate(here.access_token) == ann
    with pytest.raises(InvalidToken):
        world.app.queries.authenticate(there.access_token)
    with pytest.raises(InvalidToken):
        world.app.commands.refresh_session(there.refresh_token)
    with pytest.raises(InvalidCredentials):
        world.sign_in()
    assert world.sign_in(password="battery staple")


def test_new_password_needs_the_old_one_and_obeys_the_rules(world: World) -> None:
    world.person()
    ann = world.signed_in()

    with pytest.raises(InvalidCredentials):
        world.app.commands.change_password(ann, "wrong", "battery staple", address=HOME)
    for weak in ("short", "password1", "ann@example.com"):
        with pytest.raises(Invalid) as refusal:
            world.app.commands.change_password(ann, PASSWORD, weak, address=HOME)
        assert refusal.value.field == "new_password"
    assert world.sign_in()


def test_deleted_account_takes_posts_votes_and_sessions_along(world: World) -> None:
    ann, bob = world.person("ann"), world.person("bob")
    tokens = world.sign_in("ann")
    own = world.app.commands.write_post(ann, "A title", "Some content", True)
    other = world.app.commands.write_post(bob, "A title", "Some content", True)
    world.app.commands.cast_vote(ann, other.id, Direction.UP)

    with pytest.raises(InvalidCredentials):
        world.app.commands.delete_own_account(ann, "wrong", address=HOME)
    world.app.commands.delete_own_account(ann, PASSWORD, address=HOME)

    for token in (lambda: world.app.queries.authenticate(tokens.access_token), lambda: world.sign_in("ann")):
        with pytest.raises((InvalidToken, InvalidCredentials)):
            token()
    with pytest.raises(PostNotFound):
        world.app.queries.get_post(bob, own.id)
    assert world.app.queries.get_post(bob, other.id).upvotes == 0


def test_last_administrator_cannot_leave(world: World) -> None:
    root, other = world.admin("root"), world.admin("other")

    world.app.commands.delete_own_account(other, PASSWORD, address=HOME)

    with pytest.raises(LastAdmin):
        world.app.commands.delete_own_account(root, PASSWORD, address=HOME)
    for role, is_active in ((Role.USER, None), (None, False)):
        with pytest.raises(LastAdmin):
            world.app.commands.edit_user(root, root.id, role, is_active)
    assert world.app.commands.edit_user(root, root.id, Role.ADMIN, True).role is Role.ADMIN


def test_administrators_grant_and_revoke_the_role(world: World) -> None:
    root, ann = world.admin(), world.person()

    assert world.app.commands.edit_user(root, ann.id, Role.ADMIN, None).role is Role.ADMIN
    assert world.app.commands.edit_user(root, root.id, Role.USER, None).role is Role.USER
    with pytest.raises(AdminsOnly):
        world.app.commands.edit_user(ann, root.id, Role.USER, None)
    with pytest.raises(UserNotFound):
        world.app.commands.edit_user(root, 4_711, Role.USER, None)


def test_operator_reads_any_account_by_id_or_email(world: World) -> None:
    ann = world.person()
    world.sign_in()

    account = world.app.queries.get_account(OPERATOR, "Ann@EXAMPLE.com")

    assert account == world.app.queries.get_account(OPERATOR, ann.id)
    assert account.profile == world.app.queries.get_own_account(ann)
    assert list(account.sessions) == list(world.app.queries.list_sessions(ann))
    assert [session.user_agent for session in account.sessions] == ["a browser"]
    for unknown in (4_711, 0, "unknown@example.com"):
        with pytest.raises(UserNotFound, match=str(unknown)):
            world.app.queries.get_account(OPERATOR, unknown)
    with pytest.raises(Invalid):
        world.app.queries.get_account(OPERATOR, "ann")
    with pytest.raises(AdminsOnly):
        world.app.queries.get_account(ann, ann.id)


def test_actor_of_an_account_has_its_present_role(world: World) -> None:
    root, ann = world.admin(), world.person()

    assert world.app.queries.get_actor(ann.id) == Actor(ann.id)
    world.app.commands.edit_user(root, ann.id, Role.ADMIN, None)
    assert world.app.queries.get_actor(ann.id) == Actor(ann.id, Role.ADMIN)
    world.app.commands.edit_user(root, ann.id, None, False)
    with pytest.raises(AccountInactive):
        world.app.queries.get_actor(ann.id)
    with pytest.raises(UserNotFound):
        world.app.queries.get_actor(4_711)


def test_deactivation_ends_every_session_for_good(world: World) -> None:
    root, ann = world.admin(), world.person()
    tokens = world.sign_in()

    world.app.commands.edit_user(root, ann.id, None, False)
    world.app.commands.edit_user(root, ann.id, None, True)

    with pytest.raises(InvalidToken):
        world.app.queries.authenticate(tokens.access_token)
    with pytest.raises(InvalidToken):
        world.app.commands.refresh_session(tokens.refresh_token)
    assert world.sign_in()


def test_deactivating_an_inactive_account_ends_a_late_session(world: World) -> None:
    root, ann = world.admin(), world.person()
    world.sign_in()
    late = dict(world.database.rows.sessions)
    world.app.commands.edit_user(root, ann.id, None, False)
    world.database.rows.sessions.update(late)

    world.app.commands.edit_user(root, ann.id, None, False)

    assert world.database.rows.sessions == {}


def test_promotion_keeps_sessions_and_reactivation_the_role(world: World) -> None:
    root, ann = world.admin(), world.person()
    tokens = world.sign_in()

    world.app.commands.edit_user(root, ann.id, Role.ADMIN, None)
    assert world.app.queries.authenticate(tokens.access_token).is_admin
    world.app.commands.edit_user(root, ann.id, None, False)

    assert world.app.commands.edit_user(root, ann.id, None, True).role == Role.ADMIN


def test_change_of_a_removed_account_is_refused(world: World) -> None:
    ann = world.person()
    del world.database.rows.users[ann.id]

    with pytest.raises(InvalidToken):
        world.app.commands.edit_own_account(ann, "anna", None, None, address=HOME)
    with pytest.raises(InvalidToken):
        world.app.commands.change_password(ann, PASSWORD, "battery staple", address=HOME)


def test_password_changed_after_its_check_confirms_nothing(world: World) -> None:
    ann = world.person()
    before = world.database.rows.users[ann.id]

    class Changing(PlainHasher):
        """The password changes right after it was verified."""

        def verify(self, *arguments: Any, **options: Any) -> Verification:
            is_right = super().verify(*arguments, **options)
            world.database.rows.users[ann.id] = before.with_password("plain:another")
            return is_right

    commands = world.app.commands
    check = replace(commands.delete_own_account.check, hasher=Changing())
    with pytest.raises(InvalidCredentials):
        replace(commands.delete_own_account, check=check)(ann, PASSWORD, address=HOME)
    world.database.rows.users[ann.id] = before
    with pytest.raises(InvalidCredentials):
        replace(commands.change_password, check=check)(ann, PASSWORD, "battery staple", address=HOME)
    world.database.rows.users[ann.id] = before
    with pytest.raises(InvalidCredentials):
        replace(commands.edit_own_account, check=check)(ann, None, "anna@example.com", PASSWORD, address=HOME)
    assert world.database.rows.users[ann.id].email == before.email


def test_set_password_ends_all_sessions_of_the_account_alone(world: World) -> None:
    ann, bob = world.person("ann"), world.person("bob")
    world.sign_in("ann")
    world.sign_in("bob")

    world.app.commands.set_password(OPERATOR, ann.id, "a new password")

    assert [session.user_id for session in world.database.rows.sessions.values()] == [bob.id]
    assert world.database.rows.users[ann.id].password_hash == world.hasher.hash("a new password")
    assert world.log.events[-1] == SecurityEvent(Action.SET_PASSWORD, "success", OPERATOR, ann.id)


def test_set_password_follows_the_rules(world: World) -> None:
    ann = world.person("ann")
    set_password = world.app.commands.set_password

    with pytest.raises(Invalid):
        set_password(OPERATOR, ann.id, "ann@example.com")
    with pytest.raises(UserNotFound):
        set_password(OPERATOR, 7, "a new password")
    with pytest.raises(AdminsOnly):
        set_password(ann, ann.id, "a new password")
    assert world.database.rows.users[ann.id].password_hash == world.hasher.hash(PASSWORD)
