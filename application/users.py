"""Accounts: registering, seeing people, control over one's own account, and administrators' control over others'."""

from dataclasses import dataclass, replace

from application.paging import NEWEST_FIRST, Page, Window
from application.passwords import CheckPassword, Guard
from application.ports.services import Clock, CommonPasswords, PasswordHasher
from application.ports.storage import PostReader, UnitOfWork, UnitOfWorkFactory, UserReader, VoteReader
from application.views import AccountView, Export, PostFilter, PublicUser, UserView
from domain.errors import Invalid
from domain.users import (
    Actor,
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
    """Open an account for anybody who asks. It is never an administrator's."""

    uow: UnitOfWorkFactory
    hasher: PasswordHasher
    common: CommonPasswords
    guard: Guard
    clock: Clock

    def __call__(self, email: str, password: str, username: str | None, *, address: str) -> UserView:
        """Register.

        Raises:
            Invalid: the e-mail, the password or the username breaks a rule.
            EmailTaken: somebody has this e-mail.
            UsernameTaken: somebody has this username.
            TooManyRequests: there were too many registrations from this address.
        """
        now = self.clock.now()
        user = User.register(email=email, username=username, role=Role.USER, now=now)
        require_password(password, user, self.common)
        self.guard.registering(address, now)
        return _open_account(self.uow, self.hasher, user, password)


@dataclass(frozen=True, slots=True)
class CreateAdmin:
    """Open an administrator's account: for operators at the command line, who need no rights but a shell."""

    uow: UnitOfWorkFactory
    hasher: PasswordHasher
    common: CommonPasswords
    clock: Clock

    def __call__(self, email: str, password: str, username: str | None) -> UserView:
        """Create the account.

        Raises:
            Invalid: the e-mail, the password or the username breaks a rule.
            EmailTaken: somebody has this e-mail.
            UsernameTaken: somebody has this username.
        """
        user = User.register(email=email, username=username, role=Role.ADMIN, now=self.clock.now())
        require_password(password, user, self.common)
        return _open_account(self.uow, self.hasher, user, password)


def _open_account(uow: UnitOfWorkFactory, hasher: PasswordHasher, user: User, password: str) -> UserView:
    user = user.with_password(hasher.hash(password))  # slow, so before the transaction
    with uow() as tx:
        return _view(tx.users.add(user))


def _view(user: User) -> UserView:
    return UserView(user.id, user.username, user.created_at, user.email, user.role, user.is_active)


@dataclass(frozen=True, slots=True)
class GetUser:
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
class GetOwnAccount:
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

    def __call__(self, actor: Actor, search: str, window: Window) -> Page[UserView]:
        """List accounts by id, those whose e-mail or username holds `search`.

        Raises:
            AdminsOnly: the actor is no administrator.
        """
        actor.require_admin()
        return self.users.list(search, window)


@dataclass(frozen=True, slots=True)
class GetAccount:
    """Show administrators the account that they name by its id or its e-mail, with its sessions."""

    users: UserReader
    clock: Clock

    def __call__(self, actor: Actor, who: int | str) -> AccountView:
        """Look it up: a number is an id, a text an e-mail, however it is spelled.

        Raises:
            AdminsOnly: the actor is no administrator.
            Invalid: the text is no e-mail address.
            UserNotFound: there is no such account.
        """
        actor.require_admin()
        if isinstance(who, str):
            found = self.users.find_by_email(email_key(who))
            if found is None:
                raise UserNotFound(who)
            profile = _view(found)
        else:
            profile = self.users.get(who)
        return AccountView(profile, self.users.sessions(profile.id, self.clock.now()))


@dataclass(frozen=True, slots=True)
class EditOwnAccount:
    """Change one's own username or e-mail. Another e-mail takes the password: it is what one signs in with."""

    users: UserReader
    uow: UnitOfWorkFactory
    check: CheckPassword

    def __call__(
        self, actor: Actor, username: str | None, email: str | None, current_password: str | None, *, address: str
    ) -> UserView:
        """Change what is given; None leaves it as it is.

        Raises:
            Invalid: a value breaks a rule, or the e-mail comes without the password.
            InvalidCredentials: the password is wrong.
            EmailTaken: somebody has this e-mail.
            UsernameTaken: somebody has this username.
            TooManyRequests: there were too many wrong passwords.
        """
        confirmed = None
        if email is not None:
            if current_password is None:
                raise Invalid("current_password", "missing", "another e-mail takes your current password")
            confirmed = _confirm(self.users, self.check, actor, current_password, address)
        with self.uow() as tx:
            user = changed = _lock_own(tx, actor, confirmed)
            if username is not None:
                changed = changed.with_username(username)
            if email is not None:
                changed = changed.with_email(email)
            if changed != user:
                tx.users.save(changed)
        return _view(changed)


@dataclass(frozen=True, slots=True)
class ChangePassword:
    """Change one's own password. All other sessions end: whoever knew the old one is out."""

    users: UserReader
    uow: UnitOfWorkFactory
    check: CheckPassword
    hasher: PasswordHasher
    common: CommonPasswords

    def __call__(self, actor: Actor, current_password: str, new_password: str, *, address: str) -> None:
        """Change it.

        Raises:
            Invalid: the new password breaks a rule.
            InvalidCredentials: the current password is wrong.
            TooManyRequests: there were too many wrong passwords.
        """
        confirmed = _confirm(self.users, self.check, actor, current_password, address)
        require_password(new_password, confirmed, self.common, "new_password")
        password_hash = self.hasher.hash(new_password)  # slow, so before the transaction
        with self.uow() as tx:
            tx.users.save(_lock_own(tx, actor, confirmed).with_password(password_hash))
            tx.sessions.remove_all(actor.id, but=actor.session_id)


@dataclass(frozen=True, slots=True)
class DeleteOwnAccount:
    """Delete one's own account with its posts and votes; every tally stays true."""

    users: UserReader
    uow: UnitOfWorkFactory
    check: CheckPassword

    def __call__(self, actor: Actor, current_password: str, *, address: str) -> None:
        """Delete it.

        Raises:
            InvalidCredentials: the password is wrong.
            LastAdmin: nobody would be left to administer.
            TooManyRequests: there were too many wrong passwords.
        """
        confirmed = _confirm(self.users, self.check, actor, current_password, address)
        with self.uow() as tx:
            if actor.is_admin and [admin.id for admin in tx.users.lock_admins()] == [actor.id]:
                raise LastAdmin
            _lock_own(tx, actor, confirmed)
            tx.users.remove(actor.id)


@dataclass(frozen=True, slots=True)
class EditUser:
    """Let administrators give and take the role, and deactivate accounts, which ends all their sessions for good.

    One active administrator is always left, also when two demote each other at once.
    """

    uow: UnitOfWorkFactory

    def __call__(self, actor: Actor, user_id: int, role: Role | None, is_active: bool | None) -> UserView:
        """Change what is given; None leaves it as it is.

        Raises:
            AdminsOnly: the actor is no administrator.
            UserNotFound: there is no such account.
            LastAdmin: nobody would be left to administer.
        """
        actor.require_admin()
        with self.uow() as tx:
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


@dataclass(frozen=True, slots=True)
class ExportOwnData:
    """Hand people everything that they have made: their profile, posts and votes."""

    users: UserReader
    posts: PostReader
    votes: VoteReader

    def __call__(self, actor: Actor) -> Export:
        """Collect it.

        Raises:
            InvalidToken: the account was removed a moment ago.
        """
        return Export(
            GetOwnAccount(self.users)(actor),
            self.posts.list(actor, PostFilter(owner_id=actor.id), NEWEST_FIRST, None).items,
            self.votes.list(actor, None, None).items,
        )


def _confirm(users: UserReader, check: CheckPassword, actor: Actor, password: str, address: str) -> User:
    user = users.find(actor.id)
    if user is None:
        raise InvalidToken
    check(user, user.email_key, password, address)
    return user


def _lock_own(tx: UnitOfWork, actor: Actor, confirmed: User | None) -> User:
    """Lock the actor's account, and see that the password that was confirmed is still its password."""
    try:
        user = tx.users.lock(actor.id)
    except UserNotFound:
        raise InvalidToken from None
    if confirmed is not None and user.password_hash != confirmed.password_hash:
        raise InvalidCredentials
    return user
