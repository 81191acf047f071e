"""Retries of use cases whose transaction was aborted."""

import asyncio
from collections.abc import Callable
from random import uniform
from typing import ParamSpec, TypeVar

from application.errors import TransactionAborted
from infrastructure.execution.deadline import is_expired, use_case_deadline
from infrastructure.execution.greenlets import Executor
from infrastructure.timeouts import DEFAULT_TIMEOUTS, Timeouts

P = ParamSpec("P")
T = TypeVar("T")


class RetryingExecutor:
    """Retries use cases whose transaction was aborted.

    The whole use case runs again, a few times, within the deadline.

    While backing off it holds no connection and no slot.
    """

    def __init__(
        self, executor: Executor, timeouts: Timeouts = DEFAULT_TIMEOUTS, retried: Callable[[], None] = lambda: None
    ) -> None:
        self._executor = executor
        self._timeouts = timeouts
        self._retried = retried

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run one until its transaction is not aborted.

        Raises:
            Unavailable: every attempt was aborted, or a resource did not become free in time.
        """
        with use_case_deadline(self._timeouts.request):
            for longest in self._timeouts.retry_pauses:
                try:
                    return await self._executor.run(work, *args, **kwargs)
                except TransactionAborted:
                    if is_expired():
                        raise
                    self._retried()
                await asyncio.sleep(uniform(0, longest))  # noqa: S311 - full jitter, no secret
            return await self._executor.run(work, *args, **kwargs)

    def close(self) -> None:
        """Release what running takes."""
        self._executor.close()
