"""Clients that do not read cost a bounded amount of memory, for a bounded time."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from queue import Queue
from typing import Any

import pytest
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from infrastructure.settings import Settings
from infrastructure.timeouts import Timeouts
from interfaces.http.unsent import ResponseLimit, UnsentBytes
from interfaces.server.protocol import RESPONSE_PIECE, SENT_MIN, DeadlineProtocol
from tests.support.in_process import QuietConfig, serving_app
from tests.support.wire import GET, Wire

MIB = 1_048_576
LARGE = bytes(range(256)) * (6 * MIB // 256)
SMALL = b"a small response"


class Application:
    """Responds with a large body, a stream of it, or a small body; it reports each response that ended."""

    def __init__(self) -> None:
        self.ended: Queue[str] = Queue()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise AssertionError("there is no lifespan")
        response: Response = {
            "/large": Response(LARGE),
            "/stream": StreamingResponse(self._parts()),
        }.get(scope["path"], Response(SMALL))
        try:
            await response(scope, receive, send)
        finally:
            self.ended.put(scope["path"])

    async def _parts(self) -> Any:
        yield LARGE[:MIB]
        yield LARGE + LARGE


@contextmanager
def unread(port: int, path: bytes) -> Iterator[Wire]:
    """Request something, and read nothing of the response."""
    with Wire(port, receive_buffer=4_096) as wire:
        wire.send(GET % path)
        yield wire


def test_client_that_does_not_read_is_cut_and_the_kernel_holds_little() -> None:
    app = Application()
    with serving_app(app, send=0.2) as server, unread(server.port, b"/large") as wire:
        assert app.ended.get() == "/large"
        received = wire.rest()
    assert len(received) < MIB < len(LARGE)


def test_client_that_reads_late_gets_all_of_a_large_response() -> None:
    app = Application()
    with serving_app(app) as server, unread(server.port, b"/large") as wire:
        wire.send(GET % b"/small")  # it waits behind the large one
        answer = wire.answer()
        assert answer.body == LARGE
        assert answer.headers["Content-Length"] == str(len(LARGE))
        assert wire.answer().body == SMALL


@pytest.fixture
def limited() -> Iterator[tuple[Application, int]]:
    """A server that holds 8 MiB of unsent responses."""
    app = Application()
    unsent = UnsentBytes(8 * MIB)
    with serving_app(ResponseLimit(app, unsent), unsent=unsent) as server:
        yield app, server.port


def test_large_response_is_503_while_others_wait_and_small_ones_are_served(limited: tuple[Application, int]) -> None:
    _, port = limited
    with Wire(port) as other, unread(port, b"/large") as slow:
        assert slow.line().startswith(b"HTTP/1.1 200")
        for path, status in ((b"/large", 503), (b"/small", 200), (b"/large", 503)):
            other.send(GET % path)
            answer = other.answer()
            assert answer.status == status, path
            assert ("Retry-After" in answer.headers) == (status == 503)

        slow.send(b"GET /small HTTP/1.0\r\n\r\n")
        assert LARGE in slow.rest()
        other.send(GET % b"/large")
        assert other.answer().body == LARGE


def test_stream_without_room_for_its_next_part_ends_with_its_connection(limited: tuple[Application, int]) -> None:
    app, port = limited
    with Wire(port) as wire:
        wire.send(GET % b"/stream")
        said = wire.rest()
    assert said.startswith(b"HTTP/1.1 200")
    assert len(said) > MIB
    assert not said.endswith(b"0\r\n\r\n")
    assert app.ended.get() == "/stream"


def test_cut_connections_leave_their_room_to_others() -> None:
    app = Application()
    unsent = UnsentBytes(8 * MIB)
    with serving_app(ResponseLimit(app, unsent), unsent=unsent, send=0.2) as server, ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(unread(server.port, b"/large"))
            assert app.ended.get() == "/large"
        other = stack.enter_context(Wire(server.port))
        other.send(GET % b"/large")
        assert other.answer().body == LARGE


# The deadline, with a loop whose time the tests advance.


class Timer:
    """A timer of the loop."""

    def __init__(self, at: float, callback: Callable[[], None]) -> None:
        self.at = at
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class ManualLoop:
    """The running loop, but its timers go off when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self._timers: list[Timer] = []

    def create_task(self, work: Any) -> Any:
        return asyncio.get_running_loop().create_task(work)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        self._timers.append(Timer(self.now + seconds, callback))
        return self._timers[-1]

    def advance(self, seconds: float) -> None:
        self.now += seconds
        for timer in [each for each in self._timers if each.at <= self.now]:
            self._timers.remove(timer)
            if timer.callback is not None:
                timer.callback()


class ManualTransport(asyncio.Transport):
    """A transport whose client takes as much as the test says."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__()
        self._connection = connection
        self.protocol: Any = None
        self.is_aborted = False
        self._waiting = 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._connection if name == "socket" else default

    def set_write_buffer_limits(self, high: int | None = None, _low: int | None = None) -> None:
        assert high == 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._waiting += len(data)
        self.protocol.pause_writing()

    def take(self, size: int) -> None:
        self._waiting -= min(size, self._waiting)
        if not self._waiting:
            self.protocol.resume_writing()

    def get_write_buffer_size(self) -> int:
        return self._waiting

    def is_closing(self) -> bool:
        return self.is_aborted

    def abort(self) -> None:
        self.is_aborted = True
        self.protocol.connection_lost(None)

    def close(self) -> None:
        """Wait for what is waiting."""


@asynccontextmanager
async def responding(loop: ManualLoop) -> AsyncIterator[ManualTransport]:
    """Let the protocol serve a large response to a client that takes nothing yet."""
    config = QuietConfig(Settings(), Timeouts(), lambda _drain, _unsent: Application(), host="", port=0, workers=1)
    with closing(socket.socket()) as connection:
        transport = ManualTransport(connection)
        transport.protocol = protocol = DeadlineProtocol(config, ServerState(), {}, loop)  # type: ignore[arg-type]
        protocol.connection_made(transport)
        protocol.data_received(GET % b"/large")
        await asyncio.sleep(0)
        assert RESPONSE_PIECE <= transport.get_write_buffer_size() < 2 * RESPONSE_PIECE
        yield transport


def test_client_that_takes_64_kib_in_15_s_is_served_on() -> None:
    async def scenario() -> None:
        loop = ManualLoop()
        async with responding(loop) as transport:
            for _ in range(RESPONSE_PIECE // SENT_MIN):
                transport.take(SENT_MIN)
                loop.advance(15)
                assert not transport.is_aborted

    asyncio.run(scenario())


def test_client_that_takes_less_than_64_kib_in_15_s_is_cut() -> None:
    async def scenario() -> None:
        loop = ManualLoop()
        async with responding(loop) as transport:
            transport.take(SENT_MIN)
            loop.advance(15)
            transport.take(SENT_MIN - 1)
            loop.advance(14)
            assert not transport.is_aborted
            loop.advance(1)
            assert transport.is_aborted

    asyncio.run(scenario())
