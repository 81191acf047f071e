"""Semaphores with a timeout, for one event loop."""

import asyncio
from collections.abc import Hashable
from contextvars import ContextVar
from typing import Final

from application.errors import Unavailable
from infrastructure.execution.deadline import remaining
from infrastructure.execution.fair_queue import FairQueue
from infrastructure.metrics import UNMEASURED, Span

current_client: Final[ContextVar[Hashable]] = ContextVar("client", default=None)
"""The account or address that a request serves; None while that is unknown, and for what serves all."""


class Limiter:
    """A semaphore with a timeout, for one event loop; clients wait in rotation.

    A client has at most its share of the slots, so that some are free for others. None, which is no client, may have
    all.
    """

    def __init__(
        self, slots: int, reason: str, seconds: float, waiting: Span = UNMEASURED, share: int | None = None
    ) -> None:
        self._free = slots
        self._reason = reason
        self._seconds = seconds
        self._waiting = waiting
        self._queue: FairQueue[asyncio.Future[None]] = FairQueue(slots if share is None else share)

    def try_acquire(self, client: Hashable = None) -> bool:
        """Acquire a slot if one is free, without waiting."""
        if self._free == 0 or not self._queue.serve(client):
            return False
        self._free -= 1
        return True

    async def acquire(self, client: Hashable = None) -> None:
        """Wait for a slot.

        Raises:
            Unavailable: none became free in time.
        """
        if self.try_acquire(client):
            return
        loop = asyncio.get_running_loop()
        slot: asyncio.Future[None] = loop.create_future()
        self._queue.put(client, slot)
        alarm = loop.call_later(remaining(self._seconds), self._refuse, slot)
        try:
            with self._waiting:
                await slot
        except asyncio.CancelledError:
            if slot.done() and not slot.cancelled() and slot.exception() is None:  # acquired, then cancelled
                self.release(client)
            raise
        finally:
            alarm.cancel()

    def release(self, client: Hashable = None) -> None:
        """Pass a slot on to the first waiter of the client whose turn it is."""
        self._queue.done(client)
        while (found := self._queue.get()) is not None:
            waiter, slot = found
            if not slot.done():
                slot.set_result(None)
                return
            self._queue.done(waiter)
        self._free += 1

    def _refuse(self, slot: "asyncio.Future[None]") -> None:
        if not slot.done():
            slot.set_exception(Unavailable(self._reason))
