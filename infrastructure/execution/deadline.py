"""Deadlines of requests and use cases: no wait takes more than what remains."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from math import inf
from typing import Final

from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet

MIN_WAIT: Final = 0.25
"""Seconds that each wait may take past the deadline: enough for a ROLLBACK and its response."""

_deadline: Final[ContextVar[float | None]] = ContextVar("deadline", default=None)
"""None outside of requests; infinite in a request before its first use case."""


def clear_deadline() -> None:
    """Begin a request without a deadline, whatever its connection served before."""
    _deadline.set(inf)


def start_deadline(seconds: float) -> None:
    """Set the deadline of a request at its first use case; later ones keep it."""
    if _deadline.get() in {None, inf}:
        _deadline.set(time.monotonic() + seconds)


@contextmanager
def use_case_deadline(seconds: float) -> Iterator[None]:
    """Bound a use case by the deadline of its request, which the first one starts.

    Outside of requests, as in a task that reads a queue, each use case has a deadline of its own.
    """
    is_in_request = _deadline.get() is not None
    start_deadline(seconds)
    try:
        yield
    finally:
        if not is_in_request:
            _deadline.set(None)


def is_expired() -> bool:
    """Tell whether the deadline has passed, so that nothing more should begin."""
    return _moment() <= time.monotonic()


def remaining(most: float) -> float:
    """Return the seconds a wait may take: up to `most`, at least `MIN_WAIT`."""
    return min(most, max(_moment() - time.monotonic(), MIN_WAIT))


def _moment() -> float:
    deadline = _deadline.get()
    return inf if deadline is None else deadline


class BoundedTimer:
    """Pauses a use case within its deadline; a greenlet releases the event loop."""

    def sleep(self, seconds: float) -> None:
        """Wait these seconds, or until the deadline."""
        if in_greenlet():
            await_only(asyncio.sleep(remaining(seconds)))
        else:
            time.sleep(remaining(seconds))
