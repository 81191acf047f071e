"""Natural batching, without a timer.

What arrives while a batch is at work makes the next one.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Final, Generic, TypeVar

from application.errors import Unavailable, only
from infrastructure.execution.deadline import remaining, use_case_deadline
from infrastructure.timeouts import Timeouts

Q = TypeVar("Q")
R = TypeVar("R")

TURNS: Final = 2
"""Turns of the event loop before a batch is sent, so that requests that were just read can join."""

REASON: Final = "the database does not respond; try again"


class Batches(Generic[Q, R]):
    """Items that are sent together, in order of arrival, for one event loop.

    A batch has at most `most` items, and at most `in_flight` batches are at work: one is executed while the results of
    the other are read. An item waits no longer than its own deadline, and does not make the others late; one that gave
    up is not sent. `idle` is called when no item waits or is at work.

    `send` returns a result or an error for each item. If it raises an error, one item may be the cause: each is sent
    again alone.
    """

    def __init__(
        self,
        send: Callable[[Sequence[Q]], Awaitable[Sequence[R | Exception]]],
        *,
        most: int,
        in_flight: int,
        timeouts: Timeouts,
        idle: Callable[[], object] = lambda: None,
    ) -> None:
        self._send = send
        self._most = most
        self._in_flight = in_flight
        self._timeouts = timeouts
        self._idle = idle
        self._waiting: deque[tuple[Q, asyncio.Future[R]]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._at_work = 0
        self._is_scheduled = False

    @property
    def is_idle(self) -> bool:
        """Whether no item waits or is at work."""
        return not (self._waiting or self._at_work)

    async def send(self, item: Q) -> R:
        """Send an item that is alone at once, as a part of its own request."""
        self._at_work += 1
        try:
            return only(await self._send([item]))
        finally:
            self._done()

    async def submit(self, item: Q) -> R:
        """Send an item with the next batch, and return its result or raise its error.

        Raises:
            Unavailable: there was no result in time.
        """
        loop = asyncio.get_running_loop()
        result: asyncio.Future[R] = loop.create_future()
        self._waiting.append((item, result))
        self._schedule()
        alarm = loop.call_later(remaining(self._timeouts.response), _refuse, result)
        try:
            return await result
        finally:
            alarm.cancel()

    def close(self) -> None:
        """Cancel the batches at work."""
        for task in self._tasks:
            task.cancel()

    def _schedule(self) -> None:
        if not self._is_scheduled and self._waiting and self._at_work < self._in_flight:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._turn, TURNS)

    def _turn(self, turns: int) -> None:
        if turns > 1:
            asyncio.get_running_loop().call_soon(self._turn, turns - 1)
            return
        self._is_scheduled = False
        batch = self._take()
        if batch:
            # In a context of its own: the deadline of the first item is not that of the batch.
            task = asyncio.get_running_loop().create_task(self._run(batch), context=Context())
            self._at_work += 1
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            self._schedule()
        elif self.is_idle:  # every item had given up
            self._idle()

    def _take(self) -> list[tuple[Q, "asyncio.Future[R]"]]:
        taken: list[tuple[Q, asyncio.Future[R]]] = []
        while self._waiting and len(taken) < self._most:
            item, result = self._waiting.popleft()
            if not result.done():
                taken.append((item, result))
        return taken

    async def _run(self, batch: Sequence[tuple[Q, "asyncio.Future[R]"]]) -> None:
        try:
            results = await self._results([item for item, _ in batch])
        except asyncio.CancelledError:
            results = [Unavailable("the server is stopping; try again")] * len(batch)
        finally:
            self._done()
        for (_, result), value in zip(batch, results, strict=True):
            if result.done():
                continue
            if isinstance(value, Exception):
                result.set_exception(value)
            else:
                result.set_result(value)

    async def _results(self, items: Sequence[Q]) -> Sequence[R | Exception]:
        with use_case_deadline(self._timeouts.request):
            try:
                return await self._send(items)
            except Exception as error:  # noqa: BLE001 - the item raises it
                if len(items) == 1:
                    return [error]
            return [result for (result,) in await asyncio.gather(*(self._results([item]) for item in items))]

    def _done(self) -> None:
        self._at_work -= 1
        self._schedule()
        if self.is_idle:
            self._idle()


def _refuse(result: "asyncio.Future[R]") -> None:
    if not result.done():
        result.set_exception(Unavailable(REASON))
