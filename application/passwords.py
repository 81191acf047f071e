"""Password checks, and limits on attempts to guess one."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from ipaddress import IPv6Network
from typing import Final

from application.ports.services import NO_METER, Attempted, Clock, Meter, PasswordHasher, Throttle, Timer
from application.views import Attempt
from domain.errors import DomainError, TooManyRequests
from domain.users import AccountInactive, InvalidCredentials, User


@dataclass(frozen=True, slots=True)
class Limits:
    """Attempts allowed per window; 0 turns a limit off."""

    failures_per_account: int = 5
    failures_per_address: int = 30
    failures_from_new_addresses: int = 100
    registrations_per_address: int = 1_000


ACCOUNT_WINDOW: Final = timedelta(minutes=15)
ADDRESS_WINDOW: Final = timedelta(minutes=5)
NEW_ADDRESSES_WINDOW: Final = timedelta(hours=1)
REGISTRATION_WINDOW: Final = timedelta(hours=1)
KNOWN_ADDRESS_WINDOW: Final = timedelta(days=30)
"""After a sign-in, how long failures of others at its address do not count."""

WIDER_NETWORKS: Final = {56: 2, 48: 8}
"""Prefixes of IPv6 networks that one client may own, and how many times the limit of an address each has."""


@dataclass(frozen=True, slots=True)
class Guess:
    """Where a password is tried: account, address, and session if there is one."""

    email_key: str
    address: str
    session_id: int = 0
    """The session that confirms a password; 0 at a sign-in."""


@dataclass(frozen=True, slots=True)
class _Read:
    """Limits of a guess, how many apply, and the seconds until none is reached."""

    is_known: bool
    counted: Sequence[Attempt]
    applying: int
    closed: int


@dataclass(frozen=True, slots=True)
class Guard:
    """Limits password guesses and bulk registrations without locking out owners.

    Failures are counted per account and address, so that a stranger at another address locks no account, per session
    that confirms a password, per address with its wider IPv6 networks, and per account over all addresses that are new
    to it. An account that signed in from the address before is exempt from the last two. Each decision is taken after
    the password was checked: of any number of concurrent guesses, the limit is served.
    """

    throttle: Throttle
    limits: Limits
    meter: Meter = NO_METER

    def registering(self, address: str, now: datetime) -> None:
        """Count a registration, or a change of e-mail, which reveals as much.

        Raises:
            TooManyRequests: the address exceeds its limit.
        """
        limit = self.limits.registrations_per_address
        attempts = _of_networks("registration", limit, REGISTRATION_WINDOW, address)
        self._require_open(max(self.throttle.count(attempts, now)), "registration")

    def is_throttling(self, guess: Guess, now: datetime) -> bool:
        """Return whether a right password would be refused; its check may wait."""
        return bool(self._read(guess, now).closed)

    def judge(self, guess: Guess, now: datetime, *, is_right: bool) -> None:
        """Admit a right password; count a wrong one, and a right one beyond a limit.

        Beyond a limit both take the same statements, so that the duration does not tell them apart.

        Raises:
            TooManyRequests: a limit was reached before, so this may be a guess.
        """
        read = self._read(guess, now)
        if is_right and not read.closed:
            if not read.is_known:
                self.throttle.count([self._known(guess)], now)
            self.throttle.reset(self._own(guess))
            return
        counted = self.throttle.count(read.counted, now)
        self._require_open(max(counted[: read.applying]) or (read.closed if is_right else 0), "password")

    def _read(self, guess: Guess, now: datetime) -> _Read:
        own, limits = self._own(guess), self.limits
        networks = _of_networks("address", limits.failures_per_address, ADDRESS_WINDOW, guess.address)
        strangers = _attempt("strangers", limits.failures_from_new_addresses, NEW_ADDRESSES_WINDOW, guess.email_key)
        known, *seconds = self.throttle.remaining([self._known(guess), *own, *networks, strangers], now)
        applying = len(own) if known else len(seconds)
        return _Read(bool(known), [*own, *networks, *([] if known else [strangers])], applying, max(seconds[:applying]))

    def _require_open(self, remaining: int, attempt: Attempted) -> None:
        if remaining:
            self.meter.throttled(attempt)
            raise TooManyRequests(remaining)

    def _own(self, guess: Guess) -> list[Attempt]:
        limit, session = self.limits.failures_per_account, str(guess.session_id)
        of_account = _attempt("account", limit, ACCOUNT_WINDOW, guess.email_key, guess.address)
        return [of_account, *([_attempt("session", limit, ACCOUNT_WINDOW, session)] if guess.session_id else [])]

    def _known(self, guess: Guess) -> Attempt:
        limit = max(self.limits.failures_per_address, self.limits.failures_from_new_addresses)
        return _attempt("known", min(1, limit), KNOWN_ADDRESS_WINDOW, guess.email_key, guess.address)


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

    def __call__(self, user: User | None, guess: Guess, password: str) -> User:
        """Return the account if the password is right; None is an unknown e-mail.

        Raises:
            InvalidCredentials: the password is wrong, or there is no account.
            AccountInactive: the account is deactivated.
            TooManyRequests: too many passwords were wrong.
        """
        is_throttled = self.guard.is_throttling(guess, self.clock.now())
        verification = self.hasher.verify(
            password, user.password_hash if user else None, guess.address, is_throttled=is_throttled
        )
        try:
            self.guard.judge(guess, self.clock.now(), is_right=verification.is_right)
            if user is None or not verification.is_right:
                raise InvalidCredentials
            if not user.is_active:
                raise AccountInactive
        except DomainError:
            self.timer.sleep(verification.padding)
            raise
        return user


def _of_networks(kind: str, limit: int, window: timedelta, address: str) -> list[Attempt]:
    """Limit an address, and of IPv6 the networks around it."""
    attempts = [_attempt(kind, limit, window, address)]
    if ":" in address:
        network = IPv6Network(address)
        for prefix, times in WIDER_NETWORKS.items():
            attempts.append(_attempt(kind, times * limit, window, str(network.supernet(new_prefix=prefix))))
    return attempts


def _attempt(kind: str, limit: int, window: timedelta, *subject: str) -> Attempt:
    # Hashed: storage holds no e-mail or address in clear, and every bucket's name has one length.
    digest = sha256("\0".join(subject).encode("utf-8", "surrogatepass")).hexdigest()
    return Attempt(f"{kind}:{digest}", limit, window)
