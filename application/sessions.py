"""Sessions: sign in, refresh, sign out, end; authentication of requests."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from application.audit import Audited
from application.passwords import CheckPassword, Guess
from application.ports.services import Clock, PasswordHasher, RefreshTokens, SecurityLog, TokenCodec
from application.ports.storage import UnitOfWork, UnitOfWorkFactory, UserReader
from application.views import Action, Bearer, Claims, SecurityEvent, SessionView, Tokens
from domain.errors import Invalid
from domain.sessions import SESSIONS_MAX, Session, SessionNotFound
from domain.users import (
    AccountInactive,
    Actor,
    DomainEncoder,
    InvalidCredentials,
    InvalidToken,
    User,
    UserNotFound,
    email_key,
)


@dataclass(frozen=True, slots=True)
class SignIn:
    """Open a session for an e-mail and a password.

    Only a right password reveals that an account is deactivated. A hash with outdated parameters is replaced, since
    only a sign-in has the password. Beyond `SESSIONS_MAX` sessions the idlest ends.
    """

    users: UserReader
    uow: UnitOfWorkFactory
    check: CheckPassword
    hasher: PasswordHasher
    tokens: TokenCodec
    refresh_tokens: RefreshTokens
    clock: Clock
    log: SecurityLog
    to_ascii: DomainEncoder

    def __call__(self, email: str, password: str, *, user_agent: str, address: str) -> Tokens:
        """Sign in.

        Raises:
            InvalidCredentials: no account has this e-mail, or the password is wrong.
            AccountInactive: the account is deactivated.
            TooManyRequests: too many passwords were wrong.
        """
        try:
            key = email_key(email, self.to_ascii)
            user = self.users.find_by_email(key)
        except Invalid:
            key, user = email.casefold(), None
        with Audited(self.log, None, user.id if user else None, (Action.SIGN_IN,)):
            return self._open_session(self.check(user, Guess(key, address), password), password, user_agent, address)

    def _open_session(self, user: User, password: str, user_agent: str, address: str) -> Tokens:
        password_hash = user.password_hash
        if self.hasher.is_outdated(password_hash):
            password_hash = self.hasher.hash(password, address)  # slow, so outside the transaction
        fresh, now = self.refresh_tokens.first(), self.clock.now()
        with self.uow() as tx:
            try:
                current = tx.users.lock(user.id)
            except UserNotFound:
                raise InvalidCredentials from None
            if current.password_hash != user.password_hash:  # changed after the check
                raise InvalidCredentials
            if not current.is_active:
                raise AccountInactive
            if password_hash != user.password_hash:
                tx.users.save(current.with_password(password_hash))
            tx.sessions.remove_ended(user.id, now)
            tx.sessions.remove_idlest(user.id, keep=SESSIONS_MAX - 1)
            session = tx.sessions.add(
                Session.open(user_id=user.id, user_agent=user_agent, refresh=fresh.hashes, now=now)
            )
        return _tokens(self.tokens, session, fresh.token, now)


@dataclass(frozen=True, slots=True)
class RefreshSession:
    """Exchange a refresh token for new tokens.

    A token that was used before has been copied: it ends its session, including the newest tokens. That commits
    although the call fails. Within `overlap` of its use it is exchanged for the same successor again, unless that was
    used.
    """

    uow: UnitOfWorkFactory
    tokens: TokenCodec
    refresh_tokens: RefreshTokens
    clock: Clock
    log: SecurityLog
    overlap: timedelta = timedelta()

    def __call__(self, refresh_token: str) -> Tokens:
        """Refresh.

        Raises:
            InvalidToken: the token is malformed, was used before, or its session has ended.
        """
        presented, successors = self.refresh_tokens.hashes(refresh_token), self.refresh_tokens.successors(refresh_token)
        now = self.clock.now()
        with self.uow() as tx:
            session = tx.sessions.lock_family(presented.family)
            fresh = next((each for each in successors if session and each.hashes == session.refresh), successors[0])
            rotated = session and session.rotated(presented, fresh.hashes, now, self.overlap)
            if rotated:
                tx.sessions.save(rotated)
            elif session:
                tx.sessions.remove(session.user_id, session.id)
        if not rotated:
            if session and now < session.ends_at:  # so the token was used before
                self.log.record(SecurityEvent(Action.REFRESH, "refused", None, session.user_id, InvalidToken.code))
            raise InvalidToken
        if rotated is session:
            self.log.record(SecurityEvent(Action.REFRESH, "success", None, rotated.user_id))
        return _tokens(self.tokens, rotated, fresh.token, now)


@dataclass(frozen=True, slots=True)
class SignOut:
    """End the session of the request, or all of the actor; tokens end at once."""

    uow: UnitOfWorkFactory
    log: SecurityLog

    def __call__(self, actor: Actor, *, everywhere: bool) -> None:
        """Sign out."""
        with Audited(self.log, actor, actor.id, (Action.SIGN_OUT,)), self.uow() as tx:
            if everywhere:
                tx.sessions.remove_all(actor.id)
            else:
                tx.sessions.remove(actor.id, actor.session_id)


@dataclass(frozen=True, slots=True)
class RevokeToken:
    """End the session of a token, which alone authorizes it.

    Any refresh token of the session does, a used one too: to refresh with it would end the session as well. What is
    no token of a session changes nothing (RFC 7009, section 2.2).
    """

    uow: UnitOfWorkFactory
    tokens: TokenCodec
    refresh_tokens: RefreshTokens
    clock: Clock
    log: SecurityLog

    def __call__(self, token: str) -> None:
        """Revoke an access token or a refresh token."""
        with suppress(InvalidToken):
            user_id = self._end_session(token)
            self.log.record(SecurityEvent(Action.SIGN_OUT, "success", None, user_id))

    def _end_session(self, token: str) -> int:
        with self.uow() as tx:
            claims = self._claims(tx, token)
            if not tx.sessions.remove(claims.user_id, claims.session_id):
                raise InvalidToken
        return claims.user_id

    def _claims(self, tx: UnitOfWork, token: str) -> Claims:
        try:
            family = self.refresh_tokens.hashes(token).family
        except InvalidToken:
            return self.tokens.read(token, self.clock.now())
        session = tx.sessions.lock_family(family)
        if session is None:
            raise InvalidToken
        return Claims(session.user_id, session.id)


@dataclass(frozen=True, slots=True)
class ListSessions:
    """List the actor's sessions."""

    users: UserReader
    clock: Clock

    def __call__(self, actor: Actor) -> Sequence[SessionView]:
        """List sessions, the latest used first."""
        return self.users.sessions(actor.id, self.clock.now())


@dataclass(frozen=True, slots=True)
class EndSession:
    """End one of the actor's own sessions: a lost phone, a borrowed computer."""

    uow: UnitOfWorkFactory
    log: SecurityLog

    def __call__(self, actor: Actor, session_id: int) -> None:
        """End it.

        Raises:
            SessionNotFound: the actor has no such session.
        """
        with Audited(self.log, actor, actor.id, (Action.END_SESSIONS,)), self.uow() as tx:
            if not tx.sessions.remove(actor.id, session_id):
                raise SessionNotFound(session_id)


@dataclass(frozen=True, slots=True)
class EndSessions:
    """End all sessions of an account, for administrators after a token leaked."""

    uow: UnitOfWorkFactory
    log: SecurityLog

    def __call__(self, actor: Actor, user_id: int) -> None:
        """End every session of an account.

        Raises:
            AdminsOnly: the actor is no administrator.
            UserNotFound: no account has this id.
        """
        actor.require_admin()
        with Audited(self.log, actor, user_id, (Action.END_SESSIONS,)), self.uow() as tx:
            tx.users.lock(user_id)  # orders this before or after a concurrent sign-in
            tx.sessions.remove_all(user_id)


@dataclass(frozen=True, slots=True)
class Authenticate:
    """Identify the actor of a request, from account and session as they are now."""

    users: UserReader
    read_token: "ReadToken"

    def __call__(self, access_token: str) -> Actor:
        """Return the actor of an access token.

        Raises:
            InvalidToken: the token is invalid or expired, its session has ended, or its account is not active.
        """
        return self.users.find_actor(self.read_token(access_token))


@dataclass(frozen=True, slots=True)
class ReadToken:
    """Read an access token without storage, for use cases that check its bearer."""

    tokens: TokenCodec
    clock: Clock

    def __call__(self, access_token: str) -> Bearer:
        """Return the bearer of an access token.

        Raises:
            InvalidToken: the token is invalid or expired.
        """
        now = self.clock.now()
        claims = self.tokens.read(access_token, now)
        return Bearer(claims.user_id, claims.session_id, now)


def _tokens(codec: TokenCodec, session: Session, refresh_token: str, now: datetime) -> Tokens:
    access = codec.issue(Claims(session.user_id, session.id), now)
    left = int((session.ends_at - now).total_seconds())
    return Tokens(access.access_token, access.expires_in, refresh_token, left)
