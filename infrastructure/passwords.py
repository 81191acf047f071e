"""Passwords, hashed with Argon2id (RFC 9106)."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from application.ports import Unavailable

MEMORY_KIB: Final = 19_456
TIME_COST: Final = 2
PARALLELISM: Final = 1
"""One of the equal choices of OWASP's Password Storage Cheat Sheet: m=19 MiB, t=2, p=1."""

WAIT_SECONDS: Final = 2.0
"""How long a caller waits for a turn. Longer would only pile up people who have given up."""


class Argon2PasswordHasher:
    """Hashes and verifies, at most as many at once as there are cores.

    A hash takes 19 MiB and a core for tens of milliseconds by design; without a bound, a burst of sign-ins would
    take the memory and the processor from every other request.
    """

    def __init__(self, at_once: int = os.cpu_count() or 1, wait_seconds: float = WAIT_SECONDS) -> None:
        self._argon2 = PasswordHasher(time_cost=TIME_COST, memory_cost=MEMORY_KIB, parallelism=PARALLELISM)
        self._turns = BoundedSemaphore(at_once)
        self._wait_seconds = wait_seconds
        self._nobodys_hash = self._argon2.hash(secrets.token_urlsafe())

    def hash(self, password: str) -> str:
        """Hash a password, with a fresh salt."""
        with self._turn():
            return self._argon2.hash(password)

    def verify(self, password: str, password_hash: str | None) -> bool:
        """Tell whether the hash is this password's; without one, pay for a verification all the same."""
        with self._turn():
            try:
                self._argon2.verify(password_hash or self._nobodys_hash, password)
            except (VerificationError, InvalidHashError, UnicodeEncodeError):  # the last: text that is neither
                return False
            return password_hash is not None

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._turns.acquire(timeout=self._wait_seconds):
            raise Unavailable("too many passwords are being checked at once")
        try:
            yield
        finally:
            self._turns.release()
