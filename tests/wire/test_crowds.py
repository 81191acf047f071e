"""At the limit of connections the idlest are closed, so that requests of others are served."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from threading import Semaphore

import pytest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tests.support.in_process import serving_app
from tests.support.wire import GET, POST, Wire

CONNECTIONS = 20
WORK, ASK = GET % b"/work", GET % b"/"


class WaitingApplication:
    """Responds at once, but to `/work` only when the test says so, and to a body when it is whole."""

    def __init__(self) -> None:
        self.at_work = Semaphore(0)
        self.finish = asyncio.Event()
        self.loop: asyncio.AbstractEventLoop

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise AssertionError("there is no lifespan")
        if scope["method"] == "POST":
            while (await receive()).get("more_body"):
                pass
        if scope["path"] == "/work":
            self.loop = asyncio.get_running_loop()
            self.at_work.release()
            await self.finish.wait()
        await Response(scope["path"])(scope, receive, send)

    def finish_work(self) -> None:
        self.loop.call_soon_threadsafe(self.finish.set)


@pytest.fixture
def app() -> WaitingApplication:
    return WaitingApplication()


@pytest.fixture
def port(app: WaitingApplication) -> Iterator[int]:
    """A server for few connections."""
    with serving_app(app, connections=CONNECTIONS) as server:
        yield server.port


@pytest.mark.parametrize(
    "silence",
    [b"", b"GET / HT", ASK, POST + b"Content-Length: 100\r\n\r\n{", ASK + POST + b"Content-Length: 100\r\n\r\n{"],
    ids=["nothing", "half a head", "after a response", "half a body", "half a body after a response"],
)
def test_idlest_connections_are_closed_and_every_request_is_served(port: int, silence: bytes) -> None:
    with ExitStack() as stack:
        crowd = []
        for _ in range(2 * CONNECTIONS):
            crowd.append(stack.enter_context(Wire(port)))
            crowd[-1].send(silence)
            if silence.startswith(ASK):
                assert crowd[-1].answer().status == 200
            other = stack.enter_context(Wire(port))
            other.send(ASK)
            assert other.answer().status == 200
        assert crowd[0].rest() == b""
        crowd[-1].send_if_open(b"")
        assert crowd[-1].is_silent_for(0.05)


def test_connections_at_work_go_on_whatever_others_do(app: WaitingApplication, port: int) -> None:
    with ExitStack() as stack:
        workers = [stack.enter_context(Wire(port)) for _ in range(CONNECTIONS // 2)]
        for worker in workers:
            worker.send(WORK)
            app.at_work.acquire()
        for _ in range(2 * CONNECTIONS):
            other = stack.enter_context(Wire(port))
            other.send(ASK)
            assert other.answer().status == 200
        app.finish_work()
        assert [worker.answer().status for worker in workers] == [200] * len(workers)


def test_connections_get_503_with_retry_after_when_all_others_are_at_work(app: WaitingApplication, port: int) -> None:
    with ExitStack() as stack:
        workers = [stack.enter_context(Wire(port)) for _ in range(CONNECTIONS - 1)]
        for worker in workers:
            worker.send(WORK)
            app.at_work.acquire()
        last = stack.enter_context(Wire(port))
        last.send(ASK)
        answer = last.answer()

        assert answer.status == 503
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.headers["Retry-After"].isdigit()
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Request-ID"].encode() in answer.body
        assert last.rest() == b""
        app.finish_work()
        assert [worker.answer().status for worker in workers] == [200] * len(workers)


def test_connection_without_a_request_stays_open_for_the_keep_alive(app: WaitingApplication) -> None:
    with serving_app(app, keep_alive=1) as server, Wire(server.port) as wire:
        wire.send(ASK)
        assert wire.answer().status == 200
        assert wire.rest() == b""  # long before a request would be too late
