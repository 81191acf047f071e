"""Passwords, hashed with Argon2id (RFC 9106). Legacy bcrypt hashes are accepted, and made anew at the next sign-in."""

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore
from typing import Final

import bcrypt
from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import InvalidHashError, VerificationError

from application.errors import Unavailable
from infrastructure.metrics import UNMEASURED, Span

LEGACY_MAX: Final = 72
"""Bytes of a password that bcrypt looks at; what made legacy hashes cut the rest off without a word."""

CORES: Final = os.cpu_count() or 1

WAIT_SECONDS: Final = 2.0
"""How long a caller waits for a turn. Longer would only pile up people who have given up."""


_BCRYPT = re.compile(r"\$2[abxy]\$(0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{53}")


def is_password_hash(text: str) -> bool:
    """Tell whether this is a hash that a password can be verified against; whose, nobody knows."""
    try:
        return _BCRYPT.fullmatch(text) is not None or extract_parameters(text) is not None
    except InvalidHashError:
        return False


class Argon2PasswordHasher:
    """Hashes and verifies, at most as many at once as there are cores.

    A hash takes 19 MiB and a core for tens of milliseconds by design; without a bound, a burst of sign-ins would
    take the memory and the processor from every other request.
    """

    def __init__(
        self,
        memory_kib: int,
        time_cost: int,
        parallelism: int,
        at_once: int = CORES,
        wait_seconds: float = WAIT_SECONDS,
        running: Span = UNMEASURED,
        waiting: Span = UNMEASURED,
    ) -> None:
        self._argon2 = PasswordHasher(time_cost, memory_kib, parallelism)
        self._turns = BoundedSemaphore(at_once)
        self._wait_seconds = wait_seconds
        self._running = running
        self._waiting = waiting
        self._nobodys_hash = self._argon2.hash(secrets.token_urlsafe())

    def hash(self, password: str) -> str:
        """Hash a password, with a fresh salt."""
        with self._turn():
            return self._argon2.hash(password)

    def verify(self, password: str, password_hash: str | None) -> bool:
        """Tell whether the hash is this password's; without one, pay for a verification all the same."""
        with self._turn():
            try:
                if password_hash is not None and password_hash.startswith("$2"):
                    return bcrypt.checkpw(password.encode()[:LEGACY_MAX], password_hash.encode())
                self._argon2.verify(password_hash or self._nobodys_hash, password)
            except (VerificationError, InvalidHashError, ValueError):  # the last: a broken bcrypt hash, or no text
                return False
            return password_hash is not None

    def is_outdated(self, password_hash: str) -> bool:
        """Tell whether the hash is a legacy one, or was made with other parameters than today's."""
        return password_hash.startswith("$2") or self._argon2.check_needs_rehash(password_hash)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        with self._waiting:
            has_turn = self._turns.acquire(timeout=self._wait_seconds)
        if not has_turn:
            raise Unavailable("too many passwords are being checked at once")
        try:
            with self._running:
                yield
        finally:
            self._turns.release()
