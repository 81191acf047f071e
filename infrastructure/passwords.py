"""Password hashing: Argon2id (RFC 9106), and bcrypt to verify legacy hashes."""

import os
import re
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import cached_property
from heapq import nlargest
from typing import Final

import bcrypt
import structlog
from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import InvalidHashError, VerificationError

from application.errors import Unavailable
from application.views import Verification
from infrastructure.execution.threads import ANY_TURN, Turn, WorkerThreads
from infrastructure.metrics import NO_METRICS, Metrics
from infrastructure.timeouts import DEFAULT_TIMEOUTS, Timeouts

LEGACY_MAX: Final = 72
"""Bytes of a password that bcrypt reads; the library that made legacy hashes cut off the rest silently."""

CORES: Final = os.cpu_count() or 1

MARGIN: Final = 1.5
"""Times the usual cost that a refusal takes: single hashes take longer."""

MEASUREMENTS: Final = 3
"""Verifications measured for each kind of hash at start, of which the shortest counts."""

RECENT: Final = 33
SLOWEST: Final = 3
"""Of the recent verifications, the third slowest against its measured cost scales the budget: the load of the machine.

A median would not do: the costliest hash runs longest, and is interrupted more often than most.
"""

_BCRYPT = re.compile(r"\$2[abxy]\$(0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{53}")
_KIND = re.compile(r"\$2[abxy]\$\d\d\$|\$argon2id?\$(?:v=\d+\$)?[a-z0-9=,]+\$")

log: Final = structlog.get_logger()


def none_stored() -> Iterable[str]:
    """Return no kinds of hash: the default for processes that refuse no sign-in."""
    return ()


def is_password_hash(text: str) -> bool:
    """Tell whether this is a hash that a password can be verified against."""
    try:
        return _BCRYPT.fullmatch(text) is not None or extract_parameters(text) is not None
    except InvalidHashError:
        return False


class Argon2PasswordHasher:
    """Hashes and verifies passwords on threads of its own, one for each core.

    A hash takes 19 MiB and a core for tens of milliseconds by design; without a bound, a burst of sign-ins would
    take the memory and the processor from every other request. Clients wait for a thread in rotation, and those that
    are throttled after all others, so that guesses do not delay sign-ins.

    Raises:
        Unavailable: no thread became free in time.
    """

    def __init__(
        self,
        memory_kib: int,
        time_cost: int,
        parallelism: int,
        threads: int = CORES,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        metrics: Metrics = NO_METRICS,
        stored_kinds: Callable[[], Iterable[str]] = none_stored,
        stopwatch: Callable[[], float] = time.monotonic,
        cpu_stopwatch: Callable[[], float] = time.process_time,
    ) -> None:
        self._argon2 = PasswordHasher(time_cost, memory_kib, parallelism)
        self._threads = WorkerThreads(
            threads,
            "too many passwords are being verified at once; try again",
            timeouts.acquire,
            metrics.hashes_running,
            metrics.hashes_waiting,
        )
        self._stored_kinds = stored_kinds
        self._stopwatch = stopwatch
        self._cpu_stopwatch = cpu_stopwatch
        self._costs: dict[str, float] = {}
        self._slowdowns: deque[float] = deque([1.0] * RECENT, maxlen=RECENT)

    def hash(self, password: str, client: str = "") -> str:
        """Hash a password, with a fresh salt."""
        return self._threads.call(Turn(client), self._argon2.hash, password)

    def calibrate(self) -> None:
        """Measure what each kind of stored hash costs, before the first refusal."""
        self._threads.call(ANY_TURN, getattr, self, "_dummy_hash")
        try:
            kinds = [kind for kind in self._stored_kinds() if _KIND.fullmatch(kind)]
        except Unavailable as error:
            log.warning("kinds of stored hashes are learned from sign-ins", reason=str(error))
            return
        for kind in kinds:
            for _ in range(MEASUREMENTS):
                self._threads.call(ANY_TURN, self._measure, kind, _specimen(kind))

    def verify(
        self, password: str, password_hash: str | None, client: str = "", *, is_throttled: bool = False
    ) -> Verification:
        """Verify a password; without a hash, against one of today's parameters."""
        return self._threads.call(Turn(client, is_throttled), self._timed, password, password_hash)

    def is_outdated(self, password_hash: str) -> bool:
        """Return whether the hash is legacy or has outdated parameters."""
        return password_hash.startswith("$2") or self._argon2.check_needs_rehash(password_hash)

    @cached_property
    def _dummy_hash(self) -> str:
        """Hash of today's parameters, made and measured when it is first needed."""
        made = self._argon2.hash(secrets.token_urlsafe())
        self._measure(_kind(made) or "", made)
        return made

    def _timed(self, password: str, password_hash: str | None) -> Verification:
        dummy_hash = self._dummy_hash
        started = self._stopwatch()
        is_right = self._verify(password, password_hash)
        seconds = self._stopwatch() - started
        if kind := _kind(password_hash or dummy_hash):
            self._slowdowns.append(seconds / self._costs.setdefault(kind, seconds))
        budget = MARGIN * max(self._costs.values()) * max(1.0, nlargest(SLOWEST, self._slowdowns)[-1])
        return Verification(is_right, -seconds % budget)  # past the budget: to its next multiple

    def _measure(self, kind: str, password_hash: str) -> None:
        started, cpu_started = self._stopwatch(), self._cpu_stopwatch()
        self._verify("", password_hash)
        seconds = min(self._stopwatch() - started, self._cpu_stopwatch() - cpu_started)  # lanes run side by side
        self._costs[kind] = min(seconds, self._costs.get(kind, seconds))

    def _verify(self, password: str, password_hash: str | None) -> bool:
        try:
            if password_hash is not None and password_hash.startswith("$2"):
                return bcrypt.checkpw(password.encode()[:LEGACY_MAX], password_hash.encode())
            self._argon2.verify(password_hash or self._dummy_hash, password)
        except (VerificationError, InvalidHashError, ValueError):  # the last: a broken bcrypt hash, or no text
            return False
        return password_hash is not None


def _kind(password_hash: str) -> str | None:
    """Return the part of a hash that determines its cost: algorithm and parameters."""
    found = _KIND.match(password_hash)
    return found[0] if found else None


def _specimen(kind: str) -> str:
    """Make a hash of a kind that no known password has."""
    return kind + "." * 53 if kind.startswith("$2") else f"{kind}{'A' * 22}${'A' * 43}"
