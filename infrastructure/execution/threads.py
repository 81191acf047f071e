"""Worker threads for password hashing, and for whole use cases on SQLite."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from contextvars import copy_context
from functools import partial
from typing import Any, ParamSpec, TypeVar

from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet

from application.errors import Unavailable
from infrastructure.execution.deadline import remaining
from infrastructure.metrics import UNMEASURED, Span

P = ParamSpec("P")
T = TypeVar("T")


class WorkerThreads:
    """A few threads with a FIFO queue.

    A caller in a greenlet releases the event loop; any other caller blocks.
    """

    def __init__(
        self, threads: int, reason: str, seconds: float, running: Span = UNMEASURED, waiting: Span = UNMEASURED
    ) -> None:
        self._pool = ThreadPoolExecutor(threads)
        self._reason = reason
        self._seconds = seconds
        self._running = running
        self._waiting = waiting

    def call(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run work on a thread, and wait for its result.

        Raises:
            Unavailable: no thread became free in time.
        """
        if in_greenlet():
            return await_only(self.run(work, *args, **kwargs))
        job = self._submit(partial(work, *args, **kwargs))
        wait([job], remaining(self._seconds))
        if job.cancel():
            raise Unavailable(self._reason)
        return job.result()

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run work on a thread, and await its result.

        Raises:
            Unavailable: no thread became free in time.
        """
        job = self._submit(partial(work, *args, **kwargs))
        result = asyncio.wrap_future(job)
        try:
            await asyncio.wait([result], timeout=remaining(self._seconds))
            if not result.done() and job.cancel():
                raise Unavailable(self._reason)
            return await result
        except asyncio.CancelledError:
            result.cancel()
            raise

    def close(self) -> None:
        """End the threads once their work is done; what waits for one is dropped."""
        self._pool.shutdown(cancel_futures=True)

    def _submit(self, work: Callable[[], T]) -> "Future[T]":
        waits = ExitStack()
        waits.enter_context(self._waiting)
        job = self._pool.submit(copy_context().run, self._start, waits, work)
        job.add_done_callback(lambda _job: waits.close())  # a job that is cancelled never starts
        return job

    def _start(self, waits: ExitStack, work: Callable[[], Any]) -> Any:
        waits.close()
        with self._running:
            return work()
