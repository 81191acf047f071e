"""Password hashing: Argon2id (RFC 9106), and bcrypt to verify legacy hashes."""

import os
import re
import secrets
from typing import Final

import bcrypt
from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import InvalidHashError, VerificationError

from infrastructure.execution.threads import WorkerThreads
from infrastructure.metrics import UNMEASURED, Span
from infrastructure.timeouts import DEFAULT_TIMEOUTS, Timeouts

LEGACY_MAX: Final = 72
"""Bytes of a password that bcrypt reads; the library that made legacy hashes cut off the rest silently."""

CORES: Final = os.cpu_count() or 1

_BCRYPT = re.compile(r"\$2[abxy]\$(0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{53}")


def is_password_hash(text: str) -> bool:
    """Tell whether this is a hash that a password can be verified against."""
    try:
        return _BCRYPT.fullmatch(text) is not None or extract_parameters(text) is not None
    except InvalidHashError:
        return False


class Argon2PasswordHasher:
    """Hashes and verifies passwords on threads of its own, one for each core.

    A hash takes 19 MiB and a core for tens of milliseconds by design; without a bound, a burst of sign-ins would
    take the memory and the processor from every other request.

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
        running: Span = UNMEASURED,
        waiting: Span = UNMEASURED,
    ) -> None:
        self._argon2 = PasswordHasher(time_cost, memory_kib, parallelism)
        self._threads = WorkerThreads(
            threads, "too many passwords are being verified at once; try again", timeouts.acquire, running, waiting
        )
        self._dummy_hash = self._argon2.hash(secrets.token_urlsafe())

    def hash(self, password: str) -> str:
        """Hash a password, with a fresh salt."""
        return self._threads.call(self._argon2.hash, password)

    def verify(self, password: str, password_hash: str | None) -> bool:
        """Verify a password; without a hash, spend the same time and return False."""
        return self._threads.call(self._verify, password, password_hash)

    def is_outdated(self, password_hash: str) -> bool:
        """Return whether the hash is legacy or has outdated parameters."""
        return password_hash.startswith("$2") or self._argon2.check_needs_rehash(password_hash)

    def _verify(self, password: str, password_hash: str | None) -> bool:
        try:
            if password_hash is not None and password_hash.startswith("$2"):
                return bcrypt.checkpw(password.encode()[:LEGACY_MAX], password_hash.encode())
            self._argon2.verify(password_hash or self._dummy_hash, password)
        except (VerificationError, InvalidHashError, ValueError):  # the last: a broken bcrypt hash, or no text
            return False
        return password_hash is not None
