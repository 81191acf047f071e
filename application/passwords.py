"""Checking passwords, and how often who may try."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256

from application.ports.services import NO_METER, Attempted, Clock, Meter, PasswordHasher, Throttle
from application.views import Attempt
from domain.errors import TooManyRequests
from domain.users import InvalidCredentials, User


@dataclass(frozen=True, slots=True)
class Limits:
    """Attempts allowed; 0 turns a limit off."""

    failures_per_account: int = 5
    failures_per_address: int = 30
    registrations_per_address: int = 1_000


ACCOUNT_WINDOW = timedelta(minutes=15)
ADDRESS_WINDOW = timedelta(minutes=5)
REGISTRATION_WINDOW = timedelta(hours=1)
REMEMBERED = timedelta(days=30)
"""How long an address counts as one where somebody has signed in before."""


@dataclass(frozen=True, slots=True)
class Guard:
    """Slows down whoever guesses passwords or registers in bulk, and nobody else.

    Failures are counted for an account from one address, so that a stranger elsewhere locks nobody out, and for an
    address, which does not concern people who have signed in from it before. What is decided after a password was
    checked is decided in one atomic step: of any number of guesses at once, no more than the limit are answered.
    """

    throttle: Throttle
    limits: Limits
    meter: Meter = NO_METER

    def registering(self, address: str, now: datetime) -> None:
        """Count a registration.

        Raises:
            TooManyRequests: there were too many from this address.
        """
        limit = self.limits.registrations_per_address
        with self._metered("registration"):
            self.throttle.count([_attempt("registration", limit, REGISTRATION_WINDOW, address)], now)

    def failed(self, email_key: str, address: str, now: datetime) -> None:
        """Count a wrong password.

        Raises:
            TooManyRequests: there were too many before it.
        """
        with self._metered("password"):
            self.throttle.count([self._of_account(email_key, address), self._of_address(address)], now)

    def succeeded(self, email_key: str, address: str, now: datetime) -> None:
        """Let somebody in who knew the password, and remember where they came from.

        Raises:
            TooManyRequests: there were too many wrong ones before it, so this may be a guess.
        """
        of_account = self._of_account(email_key, address)
        known = _attempt("known", 1, REMEMBERED, email_key, address)
        is_known = self._is_full(known, now)
        with self._metered("password"):
            self.throttle.require_open([of_account] if is_known else [of_account, self._of_address(address)], now)
        if not is_known:
            with suppress(TooManyRequests):  # known since a moment ago, by another sign-in of theirs
                self.throttle.count([known], now)
        self.throttle.forget(of_account)

    @contextmanager
    def _metered(self, attempt: Attempted) -> Iterator[None]:
        try:
            yield
        except TooManyRequests:
            self.meter.throttled(attempt)
            raise

    def _of_account(self, email_key: str, address: str) -> Attempt:
        return _attempt("account", self.limits.failures_per_account, ACCOUNT_WINDOW, email_key, address)

    def _of_address(self, address: str) -> Attempt:
        return _attempt("address", self.limits.failures_per_address, ADDRESS_WINDOW, address)

    def _is_full(self, attempt: Attempt, now: datetime) -> bool:
        try:
            self.throttle.require_open([attempt], now)
        except TooManyRequests:
            return True
        return False


@dataclass(frozen=True, slots=True)
class CheckPassword:
    """Tell whether somebody knows the password of an account, and slow down whoever guesses.

    Whatever is wrong, one verification is paid for, so that the time it took tells nothing.
    """

    hasher: PasswordHasher
    guard: Guard
    clock: Clock

    def __call__(self, user: User | None, email_key: str, password: str, address: str) -> None:
        """Check the password of an account, or of none.

        Raises:
            InvalidCredentials: it is not its password.
            TooManyRequests: there were too many wrong ones.
        """
        known = self.hasher.verify(password, user.password_hash if user else None)
        if not known:
            self.guard.failed(email_key, address, self.clock.now())
            raise InvalidCredentials
        self.guard.succeeded(email_key, address, self.clock.now())


def _attempt(kind: str, limit: int, window: timedelta, *whose: str) -> Attempt:
    # Hashed: what is counted is nobody's to read, and a bucket's name has one length.
    whose_hash = sha256("\0".join(whose).encode("utf-8", "surrogatepass")).hexdigest()
    return Attempt(f"{kind}:{whose_hash}", limit, window)
