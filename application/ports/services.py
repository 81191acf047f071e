"""Ports of services: clock, password hasher, tokens, throttle, meter and health.

Adapters in `infrastructure` and fakes in `tests` pass the same suite in `tests/contracts`.
"""

from collections.abc import Container, Mapping, Sequence
from datetime import datetime
from typing import Final, Literal, Protocol

from application.views import Attempt, Claims, FreshRefreshToken, SignedToken
from domain.sessions import RefreshHashes
from domain.votes import Outcome


class Clock(Protocol):
    """The time."""

    def now(self) -> datetime:
        """Tell the present moment in UTC, to the microsecond."""
        ...


class PasswordHasher(Protocol):
    """Turns passwords into hashes that are slow to guess. Never call it inside a transaction."""

    def hash(self, password: str) -> str:
        """Hash a password.

        Raises:
            Unavailable: too many others are waiting for the same.
        """
        ...

    def verify(self, password: str, password_hash: str | None) -> bool:
        """Tell whether the hash is this password's; None takes as long as any other and is always False.

        Raises:
            Unavailable: too many others are waiting for the same.
        """
        ...

    def is_outdated(self, password_hash: str) -> bool:
        """Tell whether the hash was made in another way than hashes are made today."""
        ...


class TokenCodec(Protocol):
    """Access tokens: proof of a sign-in that needs no storage."""

    def issue(self, claims: Claims, now: datetime) -> SignedToken:
        """Sign a token for a session."""
        ...

    def read(self, token: str, now: datetime) -> Claims:
        """Tell which account and session a token speaks for.

        Raises:
            InvalidToken: it is not ours, not whole, or no longer valid.
        """
        ...


class RefreshTokens(Protocol):
    """Refresh tokens: secrets that nobody can guess, each good for one use. Storage sees only their hashes."""

    def first(self) -> FreshRefreshToken:
        """Make the first token of a new session, with a family of its own."""
        ...

    def next(self, token: str) -> FreshRefreshToken:
        """Make the token that follows another one in its family.

        Raises:
            InvalidToken: the other one has not the form of a refresh token.
        """
        ...

    def hashes(self, token: str) -> RefreshHashes:
        """Hash a token that was shown.

        Raises:
            InvalidToken: it has not the form of a refresh token.
        """
        ...


CommonPasswords = Container[str]
"""The passwords that everybody uses, whatever their case: `password in common_passwords`."""


class Throttle(Protocol):
    """Counts attempts, exactly, whoever else is counting at the same time. A limit of 0 is no limit."""

    def count(self, tried: Sequence[Attempt], now: datetime) -> None:
        """Count one attempt against each of several limits.

        Raises:
            TooManyRequests: that was one more than a limit allows.
        """
        ...

    def require_open(self, tried: Sequence[Attempt], now: datetime) -> None:
        """Let those pass who may try again.

        Raises:
            TooManyRequests: a limit is reached.
        """
        ...

    def forget(self, attempt: Attempt) -> None:
        """Forget what was counted against a limit."""
        ...


Attempted = Literal["password", "registration"]
"""What can be refused because there were too many attempts."""


class Meter(Protocol):
    """Counts for operators what nobody but a use case knows."""

    def voted(self, outcome: Outcome) -> None:
        """Count a vote that was cast, by what it did."""
        ...

    def throttled(self, attempt: Attempted) -> None:
        """Count an attempt that was refused because there were too many."""
        ...


class NoMeter:
    """Counts nothing: nobody looks."""

    def voted(self, outcome: Outcome) -> None:
        """Count nothing."""

    def throttled(self, attempt: Attempted) -> None:
        """Count nothing."""


NO_METER: Final = NoMeter()


class Health(Protocol):
    """Whether Agora can do its work."""

    def checks(self) -> Mapping[str, str]:
        """Name each thing that Agora stands on, with "ok" or what is wrong with it; raises nothing."""
        ...
