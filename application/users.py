"""Accounts: registering, and seeing people."""

from collections.abc import Sequence
from dataclasses import dataclass

from application.paging import Window
from application.ports import Clock, PasswordHasher, UnitOfWorkFactory, UserReader
from application.views import PublicUser, UserView
from domain.users import Actor, InvalidToken, Role, User, UserNotFound, require_password


@dataclass(frozen=True, slots=True)
class RegisterUser:
    """Open an account for anybody who asks. It is never an administrator's."""

    uow: UnitOfWorkFactory
    hasher: PasswordHasher
    clock: Clock

    def __call__(self, email: str, password: str, username: str | None) -> UserView:
        """Register.

        Raises:
            Invalid: the e-mail, the password or the username breaks a rule.
            EmailTaken: somebody has this e-mail.
            UsernameTaken: somebody has this username.
        """
        return _open_account(self.uow, self.hasher, self.clock, email, password, username, Role.USER)


@dataclass(frozen=True, slots=True)
class CreateAdmin:
    """Open an administrator's account: for operators at the command line, who need no rights but a shell."""

    uow: UnitOfWorkFactory
    hasher: PasswordHasher
    clock: Clock

    def __call__(self, email: str, password: str, username: str | None) -> UserView:
        """Create the account.

        Raises:
            Invalid: the e-mail, the password or the username breaks a rule.
            EmailTaken: somebody has this e-mail.
            UsernameTaken: somebody has this username.
        """
        return _open_account(self.uow, self.hasher, self.clock, email, password, username, Role.ADMIN)


def _open_account(
    uow: UnitOfWorkFactory,
    hasher: PasswordHasher,
    clock: Clock,
    email: str,
    password: str,
    username: str | None,
    role: Role,
) -> UserView:
    require_password(password)
    user = User.register(email=email, username=username, role=role, now=clock.now())
    user = user.with_password(hasher.hash(password))  # slow, so before the transaction
    with uow() as tx:
        user = tx.users.add(user)
    return UserView(user.id, user.username, user.created_at, user.email, user.role, user.is_active)


@dataclass(frozen=True, slots=True)
class SeeUser:
    """Show one account: all of it to its owner and to administrators, the public part to anybody."""

    users: UserReader

    def __call__(self, actor: Actor, user_id: int) -> UserView | PublicUser:
        """Look the account up.

        Raises:
            UserNotFound: there is none with this id.
        """
        user = self.users.get(user_id)
        return user if actor.is_admin or actor.id == user.id else user.public()


@dataclass(frozen=True, slots=True)
class SeeOwnAccount:
    """Show people their own account."""

    users: UserReader

    def __call__(self, actor: Actor) -> UserView:
        """Look the account up.

        Raises:
            InvalidToken: it was removed a moment ago.
        """
        try:
            return self.users.get(actor.id)
        except UserNotFound:
            raise InvalidToken from None


@dataclass(frozen=True, slots=True)
class ListUsers:
    """Show administrators all accounts."""

    users: UserReader

    def __call__(self, actor: Actor, search: str, window: Window) -> Sequence[UserView]:
        """List accounts by id, those whose e-mail or username holds `search`.

        Raises:
            AdminsOnly: the actor is no administrator.
        """
        actor.require_admin()
        return self.users.list(search, window)
