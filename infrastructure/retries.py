"""Running a use case again whose transaction was undone because of others."""

import asyncio
from collections.abc import Callable
from random import uniform
from typing import Final, ParamSpec, TypeVar

from application.errors import TransactionAborted
from infrastructure.deadlines import is_over, start_deadline
from infrastructure.runners import Runner

P = ParamSpec("P")
T = TypeVar("T")

PAUSES_SECONDS: Final = (0.05, 0.1, 0.2)
"""The longest pause before each further try. It is any part of that, so that those who collided do not meet again."""


def _uncounted() -> None:
    """Count nothing."""


class RetryingRunner:
    """Run a use case; after `TransactionAborted`, run it again, three times at most, before the deadline.

    Between two tries it holds neither a connection nor a turn, and nobody up.
    """

    def __init__(self, runner: Runner, retried: Callable[[], None] = _uncounted) -> None:
        self._runner = runner
        self._retried = retried

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run one until nobody is in its way.

        Raises:
            Unavailable: somebody always was, or too many others are waiting.
        """
        start_deadline()
        for longest in PAUSES_SECONDS:
            try:
                return await self._runner.run(work, *args, **kwargs)
            except TransactionAborted:
                if is_over():
                    raise
                self._retried()
            await asyncio.sleep(uniform(0, longest))  # noqa: S311 - nobody gains by guessing it
        return await self._runner.run(work, *args, **kwargs)

    def start(self) -> None:
        """Get ready."""
        self._runner.start()

    def stop(self) -> None:
        """Let go of everything."""
        self._runner.stop()
