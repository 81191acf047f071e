"""How long a request may wait, for everything together: each wait takes what those before it have left."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from math import inf
from typing import Final

REQUEST_SECONDS: Final = 5.5
"""From a request's first use case on: a little more than PostgreSQL gives a statement."""

LAST_SECONDS: Final = 0.25
"""What each wait may take all the same: whoever is late still says that nothing is to be kept, and hears that."""

_deadline: Final[ContextVar[float]] = ContextVar("deadline", default=inf)


def forget_deadline() -> None:
    """Begin a request: it has no deadline yet, whichever request its connection served before."""
    _deadline.set(inf)


def start_deadline() -> None:
    """Begin a request's first use case; at its later ones nothing happens."""
    if _deadline.get() == inf:
        _deadline.set(time.monotonic() + REQUEST_SECONDS)


def is_over() -> bool:
    """Tell whether nothing new should be begun."""
    return _deadline.get() <= time.monotonic()


def seconds_left(most: float) -> float:
    """Tell how many seconds a wait may take that would take so many at most on its own."""
    return min(most, max(_deadline.get() - time.monotonic(), LAST_SECONDS))


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Have everything in the block take no longer than so many seconds together, nor past the deadline there is."""
    before = _deadline.set(min(_deadline.get(), time.monotonic() + seconds))
    try:
        yield
    finally:
        _deadline.reset(before)
