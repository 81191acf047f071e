"""Ports of services: clock, hasher, tokens, throttle, meter, security log, health.

Adapters and fakes pass one suite, `tests/contracts`.
"""

from collections.abc import Container, Mapping, Sequence
from datetime import datetime
from typing import Final, Literal, Protocol

from application.views import Attempt, Claims, FreshRefreshToken, SecurityEvent, SignedToken, Verification
from domain.sessions import RefreshHashes
from domain.votes import Outcome


class Clock(Protocol):
    """The current time."""

    def now(self) -> datetime:
        """Return the current time in UTC, to the microsecond."""
        ...


class Timer(Protocol):
    """Pauses a use case that holds no connection and no hasher thread."""

    def sleep(self, seconds: float) -> None:
        """Wait these seconds."""
        ...


class PasswordHasher(Protocol):
    """Hashes passwords slowly against guessing; never called in a transaction."""

    def hash(self, password: str, client: str = "") -> str:
        """Hash a password, for a client.

        Raises:
            Unavailable: too many hashes are waiting.
        """
        ...

    def verify(
        self, password: str, password_hash: str | None, client: str = "", *, is_throttled: bool = False
    ) -> Verification:
        """Verify a password against a hash; None and what is no hash are wrong.

        Clients wait in rotation. One that is throttled comes after all others, with one password at a time.

        Raises:
            Unavailable: too many hashes are waiting.
        """
        ...

    def is_outdated(self, password_hash: str) -> bool:
        """Return whether the hash has other parameters than new hashes have."""
        ...

    def calibrate(self) -> None:
        """Learn what verifying against each kind of stored hash costs."""
        ...


class TokenCodec(Protocol):
    """Access tokens: proof of a sign-in that needs no storage."""

    def issue(self, claims: Claims, now: datetime) -> SignedToken:
        """Sign a token for a session."""
        ...

    def read(self, token: str, now: datetime) -> Claims:
        """Return the account and session of a token.

        Raises:
            InvalidToken: the token is forged, malformed or not valid now.
        """
        ...


class RefreshTokens(Protocol):
    """Refresh tokens: secrets for one use, of which storage holds only hashes."""

    def first(self) -> FreshRefreshToken:
        """Make the first token of a new session, with a new family."""
        ...

    def successors(self, token: str) -> Sequence[FreshRefreshToken]:
        """Make the next token in the family of a token, or list the candidates.

        The first is for a session to be refreshed now. Where a token always has the same successor, the others are
        those that a server with another key makes.

        Raises:
            InvalidToken: the token is malformed.
        """
        ...

    def hashes(self, token: str) -> RefreshHashes:
        """Hash a presented token.

        Raises:
            InvalidToken: the token is malformed.
        """
        ...


CommonPasswords = Container[str]
"""Passwords in wide use, matched in any case: `password in common_passwords`."""


class Throttle(Protocol):
    """Counts attempts exactly, also under concurrency.

    A limit of 0 is no limit: its attempts are not counted. A window that began in the future, before the clock was set
    back, is treated as one that begins now.
    """

    def count(self, attempts: Sequence[Attempt], now: datetime) -> Sequence[int]:
        """Count an attempt against each limit.

        Return for each the rest of its window in seconds if the attempt exceeds it, else 0.
        """
        ...

    def remaining(self, attempts: Sequence[Attempt], now: datetime) -> Sequence[int]:
        """Return for each reached limit the seconds left of its window, else 0."""
        ...

    def reset(self, attempts: Sequence[Attempt]) -> None:
        """Reset the counts of limits."""
        ...


Attempted = Literal["password", "registration"]
"""Attempts that a limit can refuse."""


class Meter(Protocol):
    """Counts events for operators that only use cases know."""

    def voted(self, outcome: Outcome) -> None:
        """Count a vote by its outcome."""
        ...

    def throttled(self, attempt: Attempted) -> None:
        """Count an attempt that exceeded a limit."""
        ...


class NoMeter:
    """Counts nothing."""

    def voted(self, outcome: Outcome) -> None:
        """Count nothing."""

    def throttled(self, attempt: Attempted) -> None:
        """Count nothing."""


NO_METER: Final = NoMeter()


class SecurityLog(Protocol):
    """Records who did what to which account.

    Use cases report after the commit, so that an event that is recorded has happened, and once, however often a
    transaction is run again.
    """

    def record(self, event: SecurityEvent) -> None:
        """Record an event."""
        ...


class Health(Protocol):
    """Whether Agora can serve requests."""

    def checks(self) -> Mapping[str, str]:
        """Return the state of each dependency by name: "ok" or what is wrong."""
        ...
