"""FIFO semaphores with a timeout, for one event loop."""

import asyncio
from collections import deque
from collections.abc import Hashable
from typing import Final

from application.errors import Unavailable
from infrastructure.execution.deadline import remaining
from infrastructure.metrics import UNMEASURED, Span


class Limiter:
    """A FIFO semaphore with a timeout, for one event loop."""

    def __init__(self, slots: int, reason: str, seconds: float, waiting: Span = UNMEASURED) -> None:
        self._free = slots
        self._reason = reason
        self._seconds = seconds
        self._waiting = waiting
        self._queue: deque[asyncio.Future[None]] = deque()

    def try_acquire(self) -> bool:
        """Acquire a slot if one is free, without waiting."""
        is_free = self._free > 0
        self._free -= is_free
        return is_free

    async def acquire(self) -> None:
        """Wait for a slot.

        Raises:
            Unavailable: none became free in time.
        """
        if self.try_acquire():
            return
        loop = asyncio.get_running_loop()
        slot: asyncio.Future[None] = loop.create_future()
        self._queue.append(slot)
        alarm = loop.call_later(remaining(self._seconds), self._refuse, slot)
        try:
            with self._waiting:
                await slot
        except asyncio.CancelledError:
            if slot.done() and not slot.cancelled() and slot.exception() is None:  # acquired, then cancelled
                self.release()
            raise
        finally:
            alarm.cancel()

    def release(self) -> None:
        """Pass a slot on to the longest waiter."""
        while self._queue:
            slot = self._queue.popleft()
            if not slot.done():
                slot.set_result(None)
                return
        self._free += 1

    def _refuse(self, slot: "asyncio.Future[None]") -> None:
        if not slot.done():
            slot.set_exception(Unavailable(self._reason))


class KeyedLimiter:
    """A limiter for each key, as long as the key is in use."""

    SLOTS: Final = 2
    """Transactions on one key at once: while one commits, the next one acquires its lock."""

    def __init__(self, reason: str, seconds: float, waiting: Span = UNMEASURED) -> None:
        self._reason = reason
        self._seconds = seconds
        self._waiting = waiting
        self._limiters: dict[Hashable, tuple[Limiter, int]] = {}

    async def acquire(self, key: Hashable) -> None:
        """Wait for a slot of this key.

        Raises:
            Unavailable: none became free in time.
        """
        new = Limiter(self.SLOTS, self._reason, self._seconds, self._waiting)
        limiter, users = self._limiters.get(key, (new, 0))
        self._limiters[key] = limiter, users + 1
        try:
            await limiter.acquire()
        except BaseException:
            self._forget(key)
            raise

    def release(self, key: Hashable) -> None:
        """Pass a slot of this key on to its longest waiter."""
        self._limiters[key][0].release()
        self._forget(key)

    def _forget(self, key: Hashable) -> None:
        limiter, users = self._limiters.pop(key)
        if users > 1:
            self._limiters[key] = limiter, users - 1
