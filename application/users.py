"""Accounts: register, read, change and delete the own one, administer."""

from collections.abc import Container, Mapping
from dataclasses import dataclass, replace

from application.audit import Audited
from application.paging import Page, Window
from application.passwords import CheckPassword, Guard, Guess
from application.ports.services import Clock, CommonPasswords, PasswordHasher, SecurityLog
from application.ports.storage import UnitOfWork, UnitOfWorkFactory, UserReader
from application.views import AccountView, Action, PublicUser, UserView
from domain.errors import Invalid
from domain.users import (
    OPERATOR,
    AccountInactive,
    Actor,
    DomainEncoder,
    InvalidCredentials,
    InvalidToken,
    LastAdmin,
    Role,
    User,
    UserNotFound,
    email_key,
    require_password,
)


@dataclass(frozen=True, slots=True)
class RegisterUser:
    """Open an account for anyone. It is never an administrator's."""

    uow: UnitOfWorkFactory
    hasher: PasswordHasher
    common: CommonPasswords
    guard: Guard
    clock: Clock
    reserved_usernames: Container[str]
    log: SecurityLog
    to_ascii: DomainEncoder

    def __call__(self, email: str, password: str, username: str | None, *, address: str) -> UserView:
        """Register.

        Raises:
            Invalid: the e-mail, the password or the username breaks a rule.
            EmailTaken: another account has this e-mail.
            UsernameTaken: another account has this username, or it is reserved.
            TooManyRequests: the address exceeds its limit of registrations.
        """
        now = self.clock.now()
        user = User.register(email=email, username=username, role=Role.USER, now=now, to_ascii=self.to_ascii)
        require_password(password, user, self.common)
        with Audited(self.log, None, None, (Action.REGISTER,)) as registration:
            self.guard.registering(address, now)
            user.require_unreserved(self.reserved_usernames)
            user = user.with_password(self.hasher.hash(password, address))  # slow, so outside the transaction
            view = _open_account(self.uow, user)
            registration.subject = view.id
            return view


@dataclass(frozen=True, slots=True)
class CreateAdmin:
    """Open an administrator's account: for operators at the command line.

    They may give it a reserved username.
    """

    uow: UnitOfWorkFactory
    hasher: PasswordHasher
    common: CommonPasswords
    clock: Clock
    log: SecurityLog
    to_ascii: DomainEncoder

    def __call__(self, email: str, password: str, username: str | None) -> UserView:
        """Create the account.

        Raises:
            Invalid: the e-mail, the password or the username breaks a rule.
            EmailTaken: another account has this e-mail.
            UsernameTaken: another account has this username.
        """
        now = self.clock.now()
        user = User.register(email=email, username=username, role=Role.ADMIN, now=now, to_ascii=self.to_ascii)
        require_password(password, user, self.common)
        with Audited(self.log, OPERATOR, None, (Action.CREATE_ADMIN,)) as creation:
            user = user.with_password(self.hasher.hash(password))  # slow, so outside the transaction
            view = _open_account(self.uow, user)
            creation.subject = view.id
            return view


def _open_account(uow: UnitOfWorkFactory, user: User) -> UserView:
    with uow() as tx:
        return _view(tx.users.add(user))


def _view(user: User) -> UserView:
    return UserView(user.id, user.username, user.created_at, user.email, user.role, user.is_active)


@dataclass(frozen=True, slots=True)
class GetUser:
    """Return one account: its public part, or all to its owner and administrators."""

    users: UserReader

    def __call__(self, actor: Actor, user_id: int) -> UserView | PublicUser:
        """Return the account.

        Raises:
            UserNotFound: no account has this id.
        """
        user = self.users.get(user_id)
        return user if actor.is_admin or actor.id == user.id else user.public()


@dataclass(frozen=True, slots=True)
class GetOwnAccount:
    """Return the actor's own account."""

    users: UserReader

    def __call__(self, actor: Actor) -> UserView:
        """Return the account.

        Raises:
            InvalidToken: the account was just removed.
        """
        try:
            return self.users.get(actor.id)
        except UserNotFound:
            raise InvalidToken from None


@dataclass(frozen=True, slots=True)
class ListUsers:
    """List all accounts, for administrators."""

    users: UserReader

    def __call__(self, actor: Actor, search: str, window: Window) -> Page[UserView]:
        """List accounts by id whose e-mail or username contains `search`.

        Raises:
            AdminsOnly: the actor is no administrator.
        """
        actor.require_admin()
        return self.users.list(search, window)


@dataclass(frozen=True, slots=True)
class GetAccount:
    """Return an account and its sessions, for administrators."""

    users: UserReader
    clock: Clock
    to_ascii: DomainEncoder

    def __call__(self, actor: Actor, user: int | str) -> AccountView:
        """Return the account with this id, or with this e-mail in any spelling.

        Raises:
            AdminsOnly: the actor is no administrator.
            Invalid: the text is no e-mail address.
            UserNotFound: no such account exists.
        """
        actor.require_admin()
        if isinstance(user, str):
            if (found := self.users.find_by_email(email_key(user, self.to_ascii))) is None:
                raise UserNotFound(user)
            profile = _view(found)
        else:
            profile = self.users.get(user)
        return AccountView(profile, self.users.sessions(profile.id, self.clock.now()))


@dataclass(frozen=True, slots=True)
class GetActor:
    """Return the actor of an account.

    For interfaces that trust their source, like a queue: it names the account, and no token proves it.
    """

    users: UserReader

    def __call__(self, user_id: int) -> Actor:
        """Return the actor with the role that the account has now.

        Raises:
            UserNotFound: the account does not exist.
            AccountInactive: the account is deactivated.
        """
        if (user := self.users.find(user_id)) is None:
            raise UserNotFound(user_id)
        if not user.is_active:
            raise AccountInactive
        return Actor(user.id, user.role)


@dataclass(frozen=True, slots=True)
class EditOwnAccount:
    """Change the actor's own username or e-mail; a new e-mail needs the password.

    An account whose username was reserved later keeps it.
    """

    users: UserReader
    uow: UnitOfWorkFactory
    check: CheckPassword
    guard: Guard
    clock: Clock
    reserved_usernames: Container[str]
    log: SecurityLog
    to_ascii: DomainEncoder

    def __call__(
        self, actor: Actor, username: str | None, email: str | None, current_password: str | None, *, address: str
    ) -> UserView:
        """Change the given fields; None leaves a field unchanged.

        Raises:
            Invalid: a value breaks a rule, or the e-mail is given without the password.
            InvalidCredentials: the password is wrong.
            EmailTaken: another account has this e-mail.
            UsernameTaken: another account has this username, or it is reserved.
            TooManyRequests: too many passwords were wrong, or the address exceeds its limit of registrations.
        """
        actions = _named({Action.CHANGE_EMAIL: email is not None, Action.CHANGE_USERNAME: username is not None})
        with Audited(self.log, actor, actor.id, actions):
            confirmed = None
            if email is not None:
                if current_password is None:
                    raise Invalid("current_password", "missing", "a new e-mail needs your current password")
                confirmed = _confirm(self.users, self.check, actor, current_password, address)
                self.guard.registering(address, self.clock.now())  # a taken e-mail shows here too
            with self.uow() as tx:
                user = changed = _lock_own(tx, actor, confirmed)
                if username is not None:
                    changed = changed.with_username(username)
                if email is not None:
                    changed = changed.with_email(email, self.to_ascii)
                if changed.username_key != user.username_key:
                    changed.require_unreserved(self.reserved_usernames)
                if changed != user:
                    tx.users.save(changed)
        return _view(changed)


@dataclass(frozen=True, slots=True)
class ChangePassword:
    """Change the actor's own password. All other sessions end."""

    users: UserReader
    uow: UnitOfWorkFactory
    check: CheckPassword
    hasher: PasswordHasher
    common: CommonPasswords
    log: SecurityLog

    def __call__(self, actor: Actor, current_password: str, new_password: str, *, address: str) -> None:
        """Change the password.

        Raises:
            Invalid: the new password breaks a rule.
            InvalidCredentials: the current password is wrong.
            TooManyRequests: too many passwords were wrong.
        """
        with Audited(self.log, actor, actor.id, (Action.CHANGE_PASSWORD,)):
            confirmed = _confirm(self.users, self.check, actor, current_password, address)
            require_password(new_password, confirmed, self.common, "new_password")
            password_hash = self.hasher.hash(new_password, address)  # slow, so outside the transaction
            with self.uow() as tx:
                tx.users.save(_lock_own(tx, actor, confirmed).with_password(password_hash))
                tx.sessions.remove_all(actor.id, but=actor.session_id)


@dataclass(frozen=True, slots=True)
class SetPassword:
    """Set a lost password, for operators. All sessions of the account end."""

    users: UserReader
    uow: UnitOfWorkFactory
    hasher: PasswordHasher
    common: CommonPasswords
    log: SecurityLog

    def __call__(self, actor: Actor, user_id: int, password: str) -> None:
        """Set the password.

        Raises:
            AdminsOnly: the actor is no administrator.
            UserNotFound: no account has this id.
            Invalid: the password breaks a rule.
        """
        actor.require_admin()
        if (user := self.users.find(user_id)) is None:
            raise UserNotFound(user_id)
        require_password(password, user, self.common)
        password_hash = self.hasher.hash(password)  # slow, so outside the transaction
        with Audited(self.log, actor, user_id, (Action.SET_PASSWORD,)), self.uow() as tx:
            tx.users.save(tx.users.lock(user_id).with_password(password_hash))
            tx.sessions.remove_all(user_id)


@dataclass(frozen=True, slots=True)
class DeleteOwnAccount:
    """Delete the actor's own account with its posts and votes."""

    users: UserReader
    uow: UnitOfWorkFactory
    check: CheckPassword
    log: SecurityLog

    def __call__(self, actor: Actor, current_password: str, *, address: str) -> None:
        """Delete the account.

        Raises:
            InvalidCredentials: the password is wrong.
            LastAdmin: no active administrator would remain.
            TooManyRequests: too many passwords were wrong.
        """
        with Audited(self.log, actor, actor.id, (Action.DELETE_ACCOUNT,)):
            confirmed = _confirm(self.users, self.check, actor, current_password, address)
            with self.uow() as tx:
                if actor.is_admin and [admin.id for admin in tx.users.lock_admins()] == [actor.id]:
                    raise LastAdmin
                removed = tx.users.remove(actor.id)  # posts are locked before the account; a refusal rolls back
                if removed is None:
                    raise InvalidToken
                if removed.password_hash != confirmed.password_hash:
                    raise InvalidCredentials


@dataclass(frozen=True, slots=True)
class EditUser:
    """Change the role of an account or deactivate it, for administrators.

    Deactivation removes all its sessions. One active administrator always remains, also if two demote each other
    concurrently.
    """

    uow: UnitOfWorkFactory
    log: SecurityLog

    def __call__(self, actor: Actor, user_id: int, role: Role | None, is_active: bool | None) -> UserView:
        """Change the given fields; None leaves a field unchanged.

        Raises:
            AdminsOnly: the actor is no administrator.
            UserNotFound: no such account exists.
            LastAdmin: no active administrator would remain.
        """
        actor.require_admin()
        actions = _named(
            {
                Action.PROMOTE: role is Role.ADMIN,
                Action.DEMOTE: role is Role.USER,
                Action.ACTIVATE: is_active is True,
                Action.DEACTIVATE: is_active is False,
            }
        )
        with Audited(self.log, actor, user_id, actions), self.uow() as tx:
            admins = tx.users.lock_admins()
            user = tx.users.lock(user_id)
            changed = replace(
                user,
                role=user.role if role is None else role,
                is_active=user.is_active if is_active is None else is_active,
            )
            if user.is_active_admin and not changed.is_active_admin and len(admins) == 1:
                raise LastAdmin
            if changed != user:
                tx.users.save(changed)
            if not changed.is_active:
                tx.sessions.remove_all(user_id)
        return _view(changed)


def _named(requested: Mapping[Action, bool]) -> tuple[Action, ...]:
    return tuple(action for action, is_requested in requested.items() if is_requested)


def _confirm(users: UserReader, check: CheckPassword, actor: Actor, password: str, address: str) -> User:
    if (user := users.find(actor.id)) is None:
        raise InvalidToken
    return check(user, Guess(user.email_key, address, actor.session_id), password)


def _lock_own(tx: UnitOfWork, actor: Actor, confirmed: User | None) -> User:
    """Lock the actor's account; require that its password is still the confirmed one."""
    try:
        user = tx.users.lock(actor.id)
    except UserNotFound:
        raise InvalidToken from None
    if confirmed is not None and user.password_hash != confirmed.password_hash:
        raise InvalidCredentials
    return user
