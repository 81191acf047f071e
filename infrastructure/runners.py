"""Where use cases run while requests are served, so that the event loop is never held up by one that waits."""

import asyncio
import sys
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any, Final, ParamSpec, Protocol, TypeVar

from greenlet import GreenletExit, getcurrent, greenlet
from psycopg2.extensions import set_wait_callback

from application.errors import Unavailable
from infrastructure.database.waiting import wait
from infrastructure.deadlines import seconds_left
from infrastructure.metrics import UNMEASURED, Span

P = ParamSpec("P")
T = TypeVar("T")

WAIT_SECONDS: Final = 2.0
"""How long a request waits for its turn. Longer would only pile up people who have given up."""


class Runner(Protocol):
    """Runs use cases, a bounded number at once."""

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run one when it is its turn.

        Raises:
            Unavailable: too many others are waiting.
        """
        ...

    def start(self) -> None:
        """Get ready, in the event loop that will serve."""
        ...

    def stop(self) -> None:
        """Let go of everything."""
        ...


class _Turns:
    """So many at once, the others in the order in which they came, and nobody for ever."""

    def __init__(self, turns: int, reason: str, waiting: Span) -> None:
        self._free = turns
        self._reason = reason
        self._waiting = waiting
        self._queue: deque[asyncio.Future[None]] = deque()

    async def take(self) -> None:
        """Wait for a turn.

        Raises:
            Unavailable: it takes too long.
        """
        if self._free:
            self._free -= 1
            return
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._queue.append(turn)
        alarm = loop.call_later(seconds_left(WAIT_SECONDS), self._refuse, turn)
        try:
            with self._waiting:
                await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:  # given to somebody who is gone
                self.release()
            raise
        finally:
            alarm.cancel()

    def release(self) -> None:
        """Give a turn to who waited longest."""
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def _refuse(self, turn: "asyncio.Future[None]") -> None:
        if not turn.done():
            turn.set_exception(Unavailable(self._reason))


class ThreadRunner:
    """Runs use cases on threads of its own: those that hash passwords, and all where the database is SQLite."""

    def __init__(self, threads: int, reason: str, waiting: Span = UNMEASURED) -> None:
        self._threads = threads
        self._reason = reason
        self._waiting = waiting

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run one on a thread, when there is one free."""
        await self._turns.take()
        try:
            call = partial(copy_context().run, partial(work, *args, **kwargs))
            return await asyncio.get_running_loop().run_in_executor(self._pool, call)
        finally:
            self._turns.release()

    def start(self) -> None:
        """Get ready; a thread starts when it is first needed."""
        self._turns = _Turns(self._threads, self._reason, self._waiting)
        self._pool = ThreadPoolExecutor(self._threads)

    def stop(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)


class Queues:
    """Runs use cases that would only wait for each other in the database, such as votes on one post.

    Few of them run at once for each key, and the others wait in the order in which they came, while they hold neither
    a turn nor a connection that somebody else could use. Two: while one commits, the next one has its lock.
    """

    AT_ONCE: Final = 2

    def __init__(self, runner: Runner, reason: str, waiting: Span = UNMEASURED) -> None:
        self._runner = runner
        self._reason = reason
        self._waiting = waiting
        self._queues: dict[Hashable, tuple[_Turns, int]] = {}

    async def run(self, key: Hashable, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run one when it is its turn.

        Raises:
            Unavailable: too many others are waiting.
        """
        turns, users = self._queues.get(key) or (_Turns(self.AT_ONCE, self._reason, self._waiting), 0)
        self._queues[key] = turns, users + 1
        try:
            await turns.take()
            try:
                return await self._runner.run(work, *args, **kwargs)
            finally:
                turns.release()
        finally:
            turns, users = self._queues.pop(key)
            if users > 1:
                self._queues[key] = turns, users - 1


class _Outcome:
    """What became of a use case: what it returned, or what it raised."""

    __slots__ = ("error", "value")

    def __init__(self, value: Any, error: BaseException | None = None) -> None:
        self.value = value
        self.error = error


class _Host(greenlet):  # type: ignore[misc]  # it has no types
    """A greenlet in which one use case after another runs: making one takes memory from the system each time.

    SQLAlchemy's `await_only` works in it as in those of its own, which end with what they run.
    """

    __sqlalchemy_greenlet_provider__ = True

    def run(self, work: Callable[[], object]) -> None:
        """Run what is handed in, and hand out its outcome, for ever."""
        while True:
            try:
                outcome = _Outcome(work())
            except GreenletExit:  # nobody waits for it any more
                raise
            except BaseException as error:  # noqa: BLE001 - whoever waits for it raises it
                outcome = _Outcome(None, error)
            del work  # and what it holds on to
            work = self.parent.switch(outcome)


class LoopRunner:
    """Runs use cases on the event loop itself; they let go of it wherever they wait for PostgreSQL.

    Never more at once than there are connections: waiting for one would hold up everybody.
    """

    _started = 0

    def __init__(self, connections: int, reason: str, waiting: Span = UNMEASURED) -> None:
        self._connections = connections
        self._reason = reason
        self._waiting = waiting

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run one on the loop, when there is a connection free."""
        await self._turns.take()
        try:
            # In a task of its own: a greenlet keeps the C stack above it, and that of a request is deep.
            return await asyncio.get_running_loop().create_task(self._hosted(partial(work, *args, **kwargs)))
        finally:
            self._turns.release()

    async def _hosted(self, work: Callable[[], T]) -> T:
        host = self._idle.pop() if self._idle else _Host()
        host.gr_context = getcurrent().gr_context
        given = host.switch(work)
        while given.__class__ is not _Outcome:  # it waits for something
            try:
                answer = await given
            except BaseException:  # noqa: BLE001 - the use case gets it, cancellation included
                given = host.throw(*sys.exc_info())
            else:
                given = host.switch(answer)
        self._idle.append(host)
        found: T
        found, error = given.value, given.error
        given.value = given.error = None  # the host remembers its latest outcome
        if error is None:
            return found
        try:
            raise error
        finally:
            del error  # or the two would hold on to each other: its traceback begins here

    def start(self) -> None:
        """Have psycopg2 wait in our way, in the whole process."""
        self._turns = _Turns(self._connections, self._reason, self._waiting)
        self._idle: list[_Host] = []
        LoopRunner._started += 1
        set_wait_callback(wait)

    def stop(self) -> None:
        """Have psycopg2 wait in its own way again, when nobody serves any more."""
        LoopRunner._started -= 1
        if not LoopRunner._started:
            set_wait_callback(None)
