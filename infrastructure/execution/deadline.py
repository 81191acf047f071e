"""Deadline of a request: each wait takes at most the seconds that remain."""

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
"""Seconds that each wait may take past the deadline: enough to roll back and to hear of it."""

_deadline: Final[ContextVar[float]] = ContextVar("deadline", default=inf)


def clear_deadline() -> None:
    """Begin a request without a deadline, whatever its connection served before."""
    _deadline.set(inf)


def start_deadline(seconds: float) -> None:
    """Set the deadline of a request at its first use case; later ones keep it."""
    if _deadline.get() == inf:
        _deadline.set(time.monotonic() + seconds)


def is_expired() -> bool:
    """Tell whether the deadline has passed, so that nothing more should begin."""
    return _deadline.get() <= time.monotonic()


def remaining(most: float) -> float:
    """Return the seconds a wait may take: up to `most`, at least `MIN_WAIT`."""
    return min(most, max(_deadline.get() - time.monotonic(), MIN_WAIT))


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Bound all waits in the block together by these seconds, and by the deadline."""
    before = _deadline.set(min(_deadline.get(), time.monotonic() + seconds))
    try:
        yield
    finally:
        _deadline.reset(before)


class BoundedTimer:
    """Pauses a use case within its deadline; a greenlet releases the event loop."""

    def sleep(self, seconds: float) -> None:
        """Wait these seconds, or until the deadline."""
        if in_greenlet():
            await_only(asyncio.sleep(remaining(seconds)))
        else:
            time.sleep(remaining(seconds))
