"""psycopg2's wait callback.

Every wait for PostgreSQL is bounded, and in a greenlet it releases the event loop. psycopg2 has one callback for the
whole process, and this module owns it.
"""

import asyncio
import select
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, Final

from psycopg2 import OperationalError
from psycopg2.extensions import POLL_OK, POLL_READ, connection, set_wait_callback
from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet

from infrastructure.execution.deadline import remaining
from infrastructure.timeouts import Timeouts


class ResponseTimeout(OperationalError):
    """PostgreSQL did not respond in time."""


class WatchedConnection(connection):
    """A connection whose socket the event loop watches for as long as it is open.

    Adding a watch is a system call.
    """

    is_open = False
    loop: asyncio.AbstractEventLoop | None = None
    response: "asyncio.Future[None] | None" = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().__init__(*args, **kwargs)
        except BaseException:
            self.close()  # psycopg2 leaves the socket to the collector, and the traceback keeps it from that
            raise
        self.is_open = True

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Add the socket to the loop."""
        self._watched = self.fileno()
        loop.add_reader(self._watched, self._readable)
        self.loop = loop

    def unwatch(self) -> None:
        """Remove the socket from the loop, before another one gets its number."""
        if self.loop is not None and not self.loop.is_closed():
            self.loop.remove_reader(self._watched)  # libpq may have closed it: `fileno` fails then
        self.loop = None

    def _readable(self) -> None:
        if self.response is None:
            self.unwatch()  # closed by the server while idle: readable for ever
        elif self.response.done():
            self.response = None  # what was read meanwhile
        else:
            self.response.set_result(None)


_callbacks: Final[list[Callable[[connection], None] | None]] = []
"""Callbacks of the blocks that run, None for an unbounded one; the latest is in use."""


def bounded_waits(timeouts: Timeouts) -> AbstractContextManager[None]:
    """Bound every wait for PostgreSQL in the block.

    Blocks may end in any order. Without any, psycopg2 waits by itself, unbounded.

    Raises:
        ResponseTimeout: from the driver, in the block: PostgreSQL did not respond in time.
    """
    return _installed(partial(_wait, timeouts))


def unbounded_waits() -> AbstractContextManager[None]:
    """Remove the callback in the block.

    COPY does not work with one, and bulk statements take their time.
    """
    return _installed(None)


@contextmanager
def _installed(callback: Callable[[connection], None] | None) -> Iterator[None]:
    _callbacks.append(callback)
    set_wait_callback(callback)
    try:
        yield
    finally:
        _callbacks.remove(callback)
        set_wait_callback(_callbacks[-1] if _callbacks else None)


async def resolve_hosts(names: Sequence[str], ports: Sequence[str], seconds: float) -> dict[str, str]:
    """Resolve host names beside the loop, as libpq parameters.

    The parameters hold all addresses in order, with their names and ports.

    Raises:
        OperationalError: no name resolves.
        ResponseTimeout: the resolver did not respond in time.
    """
    loop = asyncio.get_running_loop()
    found: list[tuple[str, str, str]] = []
    failure: Exception | None = None
    try:
        async with asyncio.timeout(remaining(seconds)):
            for name, port in zip(names, ports, strict=True):
                try:
                    infos = await loop.getaddrinfo(name, int(port), type=socket.SOCK_STREAM)
                except OSError as error:
                    failure = error
                else:
                    found += [(name, str(info[4][0]), port) for info in infos]
    except TimeoutError:
        if not found:
            raise ResponseTimeout("the resolver did not respond in time") from None
    if not found:
        raise OperationalError(f"could not translate host name to address: {failure}")
    return dict(zip(("host", "hostaddr", "port"), map(",".join, zip(*found, strict=True)), strict=True))


def _wait(timeouts: Timeouts, awaited: connection) -> None:
    """Wait until a connection has its response; psycopg2 calls this for every one.

    Raises:
        ResponseTimeout: it takes too long; psycopg2 closes the connection.
    """
    try:
        while (state := awaited.poll()) != POLL_OK:
            is_open = getattr(awaited, "is_open", True)
            seconds = remaining(timeouts.response if is_open else timeouts.connect)
            if isinstance(awaited, WatchedConnection) and in_greenlet():
                _wait_on_loop(awaited, state, seconds)
            else:
                _wait_on_thread(awaited, state, seconds)
    except BaseException:
        if isinstance(awaited, WatchedConnection):
            awaited.unwatch()
        raise


def _is_ready(awaited: connection, state: int, seconds: float) -> bool:
    poll = select.poll()  # takes any descriptor; select fails above 1,023
    poll.register(awaited, select.POLLIN if state == POLL_READ else select.POLLOUT)
    return bool(poll.poll(seconds * 1_000))


def _wait_on_thread(awaited: connection, state: int, seconds: float) -> None:
    if not _is_ready(awaited, state, seconds):
        raise ResponseTimeout("no response in time")


def _wait_on_loop(awaited: WatchedConnection, state: int, seconds: float) -> None:
    if _is_ready(awaited, state, 0):  # or reset: uvloop does not report that, and the wait would time out
        return
    loop = asyncio.get_running_loop()
    response: asyncio.Future[None] = loop.create_future()
    is_watched = awaited.is_open and state == POLL_READ
    if is_watched:
        awaited.response = response
        if awaited.loop is not loop:
            awaited.watch(loop)
    else:  # it connects, maybe over one socket after another, or sends more than the socket's buffer takes
        add, remove = (
            (loop.add_reader, loop.remove_reader) if state == POLL_READ else (loop.add_writer, loop.remove_writer)
        )
        file = awaited.fileno()
        add(file, _resolve, response)
    alarm = loop.call_later(seconds, _time_out, response)
    try:
        await_only(response)
    finally:
        alarm.cancel()
        if not is_watched:
            remove(file)


def _resolve(response: "asyncio.Future[None]") -> None:
    if not response.done():
        response.set_result(None)


def _time_out(response: "asyncio.Future[None]") -> None:
    if not response.done():
        response.set_exception(ResponseTimeout("no response in time"))
