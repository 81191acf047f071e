"""Worker threads for password hashing, and for whole use cases on SQLite."""

import asyncio
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Any, Final, ParamSpec, TypeVar

from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet

from application.errors import Unavailable
from infrastructure.execution.deadline import remaining
from infrastructure.execution.fair_queue import FairQueue
from infrastructure.execution.limiter import current_client
from infrastructure.metrics import UNMEASURED, Span

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Turn:
    """The client that a thread serves; clients have threads in rotation."""

    client: Hashable = None
    is_last: bool = False
    """Whether the client has one thread at a time, after all others."""


ANY_TURN: Final = Turn()

LAST_WAITING: Final = 8
"""Callers of one client that block until all others had a thread: more would hold every thread of SQLite."""


@dataclass(slots=True)
class _Job:
    work: Callable[[], Any]
    turn: Turn
    result: "Future[Any]"


class WorkerThreads:
    """A few threads, for which clients wait in rotation, each in FIFO order.

    A client has at most its share of the threads; None, which is no client, may have all. A caller in a greenlet
    releases the event loop; any other caller blocks.
    """

    def __init__(
        self,
        threads: int,
        reason: str,
        seconds: float,
        running: Span = UNMEASURED,
        waiting: Span = UNMEASURED,
        share: int | None = None,
    ) -> None:
        self._pool = ThreadPoolExecutor(threads)
        self._reason = reason
        self._seconds = seconds
        self._running = running
        self._waiting = waiting
        self._lock = Lock()
        self._first: FairQueue[_Job] = FairQueue(threads if share is None else share)
        self._last: FairQueue[_Job] = FairQueue(1)

    def call(self, turn: Turn, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run work on a thread, and wait for its result.

        Raises:
            Unavailable: no thread became free in time.
        """
        if in_greenlet():
            return await_only(self._run(turn, partial(work, *args, **kwargs)))
        if turn.is_last and self._last.size(turn.client) >= LAST_WAITING:
            raise Unavailable(self._reason)
        job = self._submit(turn, partial(work, *args, **kwargs))
        wait([job], remaining(self._seconds))
        if job.cancel():
            raise Unavailable(self._reason)
        return job.result()

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run work on a thread, and await its result.

        Raises:
            Unavailable: no thread became free in time.
        """
        return await self._run(Turn(current_client.get()), partial(work, *args, **kwargs))

    def close(self) -> None:
        """End the threads once their work is done; what waits for one is dropped."""
        while job := self._next():
            job.result.cancel()
            self._done(job)
        self._pool.shutdown()

    async def _run(self, turn: Turn, work: Callable[[], T]) -> T:
        job = self._submit(turn, work)
        result = asyncio.wrap_future(job)
        try:
            await asyncio.wait([result], timeout=remaining(self._seconds))
            if not result.done() and job.cancel():
                raise Unavailable(self._reason)
            return await result
        except asyncio.CancelledError:
            result.cancel()
            raise

    def _submit(self, turn: Turn, work: Callable[[], T]) -> "Future[T]":
        waits = ExitStack()
        job = _Job(partial(copy_context().run, self._start, waits, work), turn, Future())
        with self._lock:
            waits.enter_context(self._waiting)
            self._queue(turn).put(turn.client, job)
        job.result.add_done_callback(lambda _result: waits.close())  # a job that is cancelled never starts
        self._pool.submit(self._work)
        return job.result

    def _work(self) -> None:
        """Run the next jobs; one may have waited for another of its client."""
        while job := self._next():
            if job.result.set_running_or_notify_cancel():
                try:
                    job.result.set_result(job.work())
                except BaseException as error:  # noqa: BLE001 - the caller raises it
                    job.result.set_exception(error)
            self._done(job)
            del job  # and the error, whose traceback refers to this frame

    def _next(self) -> _Job | None:
        with self._lock:
            found = self._first.get() or self._last.get()
        return found[1] if found else None

    def _done(self, job: _Job) -> None:
        with self._lock:
            self._queue(job.turn).done(job.turn.client)

    def _queue(self, turn: Turn) -> FairQueue[_Job]:
        return self._last if turn.is_last else self._first

    def _start(self, waits: ExitStack, work: Callable[[], Any]) -> Any:
        waits.close()
        with self._running:
            return work()
