"""How psycopg2 waits for PostgreSQL while requests are served: never without an end, and not on a thread.

A use case is plain code that calls and returns. Run in a greenlet, it can let go of the event loop wherever it waits
for the database, so that one thread serves every request and nobody pays for handing work to another thread.
"""

import asyncio
import select
import socket
from collections.abc import Sequence
from typing import Any, Final

from psycopg2 import Error, InterfaceError, OperationalError
from psycopg2.extensions import POLL_OK, POLL_READ, connection
from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet

from infrastructure.deadlines import seconds_left

CONNECT_SECONDS: Final = 3
ANSWER_SECONDS: Final = 5.5
"""How long an answer may take: a little more than the server itself gives a statement. One that is frozen, or beyond a
network that swallows everything, does not keep to its own limits."""


class Overdue(OperationalError):
    """The database did not answer in time."""


def is_lost(error: Error) -> bool:
    """Tell whether an error of the driver's is that the connection broke. A slow server may still be at work."""
    if error.pgcode is None:
        return isinstance(error, OperationalError | InterfaceError) and not isinstance(error, Overdue)
    return error.pgcode in FAREWELLS


FAREWELLS: Final = frozenset({"57P01", "57P02", "57P03", "57P05", "25P03"})
"""What a server says before it closes a connection: ADMIN SHUTDOWN, CRASH SHUTDOWN, CANNOT CONNECT NOW, IDLE SESSION
TIMEOUT, IDLE IN TRANSACTION SESSION TIMEOUT."""


async def addresses(names: Sequence[str], ports: Sequence[str]) -> dict[str, str]:
    """Look hosts up, and tell libpq the addresses of all that were found, in their order, with their names and ports.

    Raises:
        OperationalError: none was found.
        Overdue: the resolver does not answer in time.
    """
    loop = asyncio.get_running_loop()
    found: list[tuple[str, str, str]] = []
    failure: Exception | None = None
    try:
        async with asyncio.timeout(seconds_left(CONNECT_SECONDS)):
            for name, port in zip(names, ports, strict=True):
                try:
                    infos = await loop.getaddrinfo(name, int(port), type=socket.SOCK_STREAM)
                except OSError as error:
                    failure = error
                else:
                    found += [(name, str(info[4][0]), port) for info in infos]
    except TimeoutError:
        if not found:
            raise Overdue("the resolver did not answer in time") from None
    if not found:
        raise OperationalError(f"could not translate host name to address: {failure}")
    return dict(zip(("host", "hostaddr", "port"), map(",".join, zip(*found, strict=True)), strict=True))


class WaitingConnection(connection):
    """A connection whose socket the event loop watches for as long as it lives: turning that on and off costs more."""

    is_open = False
    loop: asyncio.AbstractEventLoop | None = None
    answer: "asyncio.Future[None] | None" = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.is_open = True

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have the loop tell when something arrives."""
        self._watched = self.fileno()
        loop.add_reader(self._watched, self._arrived)
        self.loop = loop

    def unwatch(self) -> None:
        """Have the loop forget the connection, before another socket is given the number of this one."""
        if self.loop is not None and not self.loop.is_closed():
            self.loop.remove_reader(self._watched)  # libpq may have closed it: then `fileno` does not tell any more
        self.loop = None

    def _arrived(self) -> None:
        if self.answer is None:
            self.unwatch()  # it was lost while nobody waited, of which the loop would tell without an end
        elif self.answer.done():
            self.answer = None  # what was read meanwhile
        else:
            self.answer.set_result(None)


def wait(awaited: connection) -> None:
    """Wait until a connection has its answer. psycopg2 calls this for every connection of the process.

    Raises:
        Overdue: it takes too long; psycopg2 closes the connection.
    """
    try:
        while (state := awaited.poll()) != POLL_OK:
            seconds = seconds_left(ANSWER_SECONDS if getattr(awaited, "is_open", True) else CONNECT_SECONDS)
            if isinstance(awaited, WaitingConnection) and in_greenlet():
                _wait_on_loop(awaited, state, seconds)
            else:
                _wait_on_thread(awaited, state, seconds)
    except BaseException:
        if isinstance(awaited, WaitingConnection):
            awaited.unwatch()
        raise


def _wait_on_thread(awaited: connection, state: int, seconds: float) -> None:
    if not _is_ready(awaited, state, seconds):
        raise Overdue("no answer in time")


def _is_ready(awaited: connection, state: int, seconds: float) -> bool:
    poll = select.poll()  # which takes any number of a socket, unlike select
    poll.register(awaited, select.POLLIN if state == POLL_READ else select.POLLOUT)
    return bool(poll.poll(seconds * 1_000))


def _wait_on_loop(awaited: WaitingConnection, state: int, seconds: float) -> None:
    if _is_ready(awaited, state, 0):  # or lost: a socket that was reset is no news to uvloop, and nobody would be told
        return
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[None] = loop.create_future()
    is_watched = awaited.is_open and state == POLL_READ
    if is_watched:
        awaited.answer = answer
        if awaited.loop is not loop:
            awaited.watch(loop)
    else:  # it connects, maybe over one socket after another, or has more to send than the system takes at once
        add, remove = (
            (loop.add_reader, loop.remove_reader) if state == POLL_READ else (loop.add_writer, loop.remove_writer)
        )
        file = awaited.fileno()
        add(file, _resolve, answer)
    alarm = loop.call_later(seconds, _overdue, answer)
    try:
        await_only(answer)
    finally:
        alarm.cancel()
        if not is_watched:
            remove(file)


def _resolve(answer: "asyncio.Future[None]") -> None:
    if not answer.done():
        answer.set_result(None)


def _overdue(answer: "asyncio.Future[None]") -> None:
    if not answer.done():
        answer.set_exception(Overdue("no answer in time"))
