"""Signing in and out, staying signed in, and knowing who is asking."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from application.passwords import CheckPassword
from application.ports.services import Clock, PasswordHasher, RefreshTokens, TokenCodec
from application.ports.storage import UnitOfWorkFactory, UserReader
from application.views import Claims, SessionView, Tokens
from domain.errors import Invalid
from domain.sessions import Session, SessionNotFound
from domain.users import AccountInactive, Actor, InvalidCredentials, InvalidToken, UserNotFound, email_key


@dataclass(frozen=True, slots=True)
class SignIn:
    """Exchange an e-mail and a password for a session with its tokens.

    That an account is deactivated is told only to somebody who knows its password. A hash that was made with other
    parameters than today's is made anew while the password is at hand.
    """

    users: UserReader
    uow: UnitOfWorkFactory
    check: CheckPassword
    hasher: PasswordHasher
    tokens: TokenCodec
    refresh_tokens: RefreshTokens
    clock: Clock

    def __call__(self, email: str, password: str, *, user_agent: str, address: str) -> Tokens:
        """Sign in.

        Raises:
            InvalidCredentials: no account has this e-mail, or the password is not its.
            AccountInactive: the account has been deactivated.
            TooManyRequests: there were too many wrong passwords.
        """
        try:
            key = email_key(email)
            user = self.users.find_by_email(key)
        except Invalid:
            key, user = email.casefold(), None
        self.check(user, key, password, address)
        if user is None:  # no password is nobody's, so this is never reached
            raise InvalidCredentials
        password_hash = user.password_hash
        if self.hasher.is_outdated(password_hash):
            password_hash = self.hasher.hash(password)  # slow, so before the transaction
        fresh, now = self.refresh_tokens.first(), self.clock.now()
        with self.uow() as tx:
            try:
                current = tx.users.lock(user.id)
            except UserNotFound:
                raise InvalidCredentials from None
            if current.password_hash != user.password_hash:  # changed since it was checked
                raise InvalidCredentials
            if not current.is_active:
                raise AccountInactive
            if password_hash != user.password_hash:
                tx.users.save(current.with_password(password_hash))
            tx.sessions.remove_ended(user.id, now)
            session = tx.sessions.add(
                Session.open(user_id=user.id, user_agent=user_agent, refresh=fresh.hashes, now=now)
            )
        return _tokens(self.tokens, session, fresh.token, now)


@dataclass(frozen=True, slots=True)
class RefreshSession:
    """Exchange a refresh token for fresh tokens.

    One that was spent before ends its session, the newest tokens included, and that stays true although the call
    fails: somebody holds a copy.
    """

    uow: UnitOfWorkFactory
    tokens: TokenCodec
    refresh_tokens: RefreshTokens
    clock: Clock

    def __call__(self, refresh_token: str) -> Tokens:
        """Refresh.

        Raises:
            InvalidToken: the token is not one, was spent before, or its session has ended.
        """
        shown, fresh = self.refresh_tokens.hashes(refresh_token), self.refresh_tokens.next(refresh_token)
        now = self.clock.now()
        with self.uow() as tx:
            session = tx.sessions.lock_family(shown.family)
            rotated = session and session.rotated(shown, fresh.hashes, now)
            if rotated:
                tx.sessions.save(rotated)
            elif session:
                tx.sessions.remove(session.user_id, session.id)
        if not rotated:
            raise InvalidToken
        return _tokens(self.tokens, rotated, fresh.token, now)


@dataclass(frozen=True, slots=True)
class SignOut:
    """End the session that somebody is using, or all of theirs. Its tokens stop working at once."""

    uow: UnitOfWorkFactory

    def __call__(self, actor: Actor, *, everywhere: bool) -> None:
        """Sign out."""
        with self.uow() as tx:
            if everywhere:
                tx.sessions.remove_all(actor.id)
            else:
                tx.sessions.remove(actor.id, actor.session_id)


@dataclass(frozen=True, slots=True)
class ListSessions:
    """Show people where they are signed in."""

    users: UserReader
    clock: Clock

    def __call__(self, actor: Actor) -> Sequence[SessionView]:
        """List sessions, the latest used first."""
        return self.users.sessions(actor.id, self.clock.now())


@dataclass(frozen=True, slots=True)
class EndSession:
    """End one of somebody's own sessions: a lost phone, a borrowed computer."""

    uow: UnitOfWorkFactory

    def __call__(self, actor: Actor, session_id: int) -> None:
        """End it.

        Raises:
            SessionNotFound: the actor has no such session.
        """
        with self.uow() as tx:
            if not tx.sessions.remove(actor.id, session_id):
                raise SessionNotFound(session_id)


@dataclass(frozen=True, slots=True)
class EndSessions:
    """Let administrators sign somebody out everywhere: a stolen laptop, a leaked token."""

    uow: UnitOfWorkFactory

    def __call__(self, actor: Actor, user_id: int) -> None:
        """End every session of an account.

        Raises:
            AdminsOnly: the actor is no administrator.
            UserNotFound: there is no such account.
        """
        actor.require_admin()
        with self.uow() as tx:
            tx.users.lock(user_id)  # somebody who is just signing in comes before this or after it
            tx.sessions.remove_all(user_id)


@dataclass(frozen=True, slots=True)
class Authenticate:
    """Tell who is asking. Account and session are looked up each time: what happens to them holds at once."""

    users: UserReader
    tokens: TokenCodec
    clock: Clock

    def __call__(self, access_token: str) -> Actor:
        """Identify the caller.

        Raises:
            InvalidToken: the token is bad or expired, or its session or account is gone, ended or deactivated.
        """
        now = self.clock.now()
        actor = self.users.find_actor(self.tokens.read(access_token, now), now)
        if actor is None:
            raise InvalidToken
        return actor


def _tokens(codec: TokenCodec, session: Session, refresh_token: str, now: datetime) -> Tokens:
    access = codec.issue(Claims(session.user_id, session.id), now)
    left = int((session.ends_at - now).total_seconds())
    return Tokens(access.access_token, access.expires_in, refresh_token, left)
