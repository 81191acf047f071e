"""Password checks, and limits on attempts to guess one."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256

from application.ports.services import NO_METER, Attempted, Clock, Meter, PasswordHasher, Throttle, Timer
from application.views import Attempt
from domain.errors import DomainError, TooManyRequests
from domain.users import AccountInactive, InvalidCredentials, User


@dataclass(frozen=True, slots=True)
class Limits:
    """Attempts allowed per window; 0 turns a limit off."""

    failures_per_account: int = 5
    failures_per_address: int = 30
    registrations_per_address: int = 1_000


ACCOUNT_WINDOW = timedelta(minutes=15)
ADDRESS_WINDOW = timedelta(minutes=5)
REGISTRATION_WINDOW = timedelta(hours=1)
KNOWN_ADDRESS_WINDOW = timedelta(days=30)
"""After a sign-in, how long failures of others at its address do not count."""


@dataclass(frozen=True, slots=True)
class Guard:
    """Limits password guesses and bulk registrations without locking out owners.

    Failures are counted per account and address, so that a stranger at another address locks no account, and per
    address; an account that signed in from the address before is exempt from the second limit. Each decision is taken
    after the password was checked and in one atomic step: of any number of concurrent guesses, the limit is served.
    """

    throttle: Throttle
    limits: Limits
    meter: Meter = NO_METER

    def registering(self, address: str, now: datetime) -> None:
        """Count a registration.

        Raises:
            TooManyRequests: the address exceeds its limit.
        """
        limit = self.limits.registrations_per_address
        self._require_open(
            self.throttle.count([_attempt("registration", limit, REGISTRATION_WINDOW, address)], now), "registration"
        )

    def failed(self, email_key: str, address: str, now: datetime) -> None:
        """Count a wrong password.

        Raises:
            TooManyRequests: the account or the address exceeds its limit.
        """
        attempts = [self._of_account(email_key, address), self._of_address(address)]
        self._require_open(self.throttle.count(attempts, now), "password")

    def succeeded(self, email_key: str, address: str, now: datetime) -> None:
        """Admit a right password, and remember the address as known to the account.

        Raises:
            TooManyRequests: a limit was reached before, so this may be a guess.
        """
        of_account, of_address = self._of_account(email_key, address), self._of_address(address)
        known = _attempt("known", min(1, of_address.limit), KNOWN_ADDRESS_WINDOW, email_key, address)
        is_known = bool(self.throttle.remaining([known], now))
        limits = [of_account] if is_known else [of_account, of_address]
        self._require_open(self.throttle.remaining(limits, now), "password")
        if not is_known:
            self.throttle.count([known], now)
        self.throttle.reset(of_account)

    def _require_open(self, remaining: int, attempt: Attempted) -> None:
        if remaining:
            self.meter.throttled(attempt)
            raise TooManyRequests(remaining)

    def _of_account(self, email_key: str, address: str) -> Attempt:
        return _attempt("account", self.limits.failures_per_account, ACCOUNT_WINDOW, email_key, address)

    def _of_address(self, address: str) -> Attempt:
        return _attempt("address", self.limits.failures_per_address, ADDRESS_WINDOW, address)


@dataclass(frozen=True, slots=True)
class CheckPassword:
    """Checks the password of an account, and limits guesses.

    Every refusal takes as long as one of the costliest kind of hash, so that its duration reveals nothing about the
    account. Success is not delayed.
    """

    hasher: PasswordHasher
    guard: Guard
    clock: Clock
    timer: Timer

    def __call__(self, user: User | None, email_key: str, password: str, address: str) -> User:
        """Return the account if the password is right; None is an unknown e-mail.

        Raises:
            InvalidCredentials: the password is wrong, or there is no account.
            AccountInactive: the account is deactivated.
            TooManyRequests: too many passwords were wrong.
        """
        verification = self.hasher.verify(password, user.password_hash if user else None)
        try:
            if user is None or not verification.is_right:
                self.guard.failed(email_key, address, self.clock.now())
                raise InvalidCredentials
            self.guard.succeeded(email_key, address, self.clock.now())
            if not user.is_active:
                raise AccountInactive
        except DomainError:
            self.timer.sleep(verification.padding)
            raise
        return user


def _attempt(kind: str, limit: int, window: timedelta, *subject: str) -> Attempt:
    # Hashed: storage holds no e-mail or address in clear, and every bucket's name has one length.
    digest = sha256("\0".join(subject).encode("utf-8", "surrogatepass")).hexdigest()
    return Attempt(f"{kind}:{digest}", limit, window)
