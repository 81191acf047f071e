"""Cost of clients that do not read or do not ask: memory, and the time of others."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from http import HTTPStatus
from http.client import HTTPConnection
from itertools import islice
from pathlib import Path
from threading import Event, Thread
from typing import Final, Self

from benchmarks.peers import Running
from benchmarks.report import Bar, Finding

MIB: Final = 1_048_576
ASSET: Final = "/assets/swagger-ui-bundle.js"
LONG: Final = "\U0001f331" * 65_536
"""The longest content of a post: 256 KiB."""

POSTS: Final = 600
ON_ASSET, ON_PAGE, IDLE = 300, 40, 1_000
SMALL_BUFFER: Final = 4_096
"""Bytes that the kernel buffers on the clients' side, so that what is measured lies on the server's."""

SETTLED_SECONDS: Final = 3

KERNEL_BAR: Final = Bar(150, at_most=True)
UNREAD_BAR: Final = Bar(200, at_most=True)
EXPORT_BAR: Final = Bar(64, at_most=True)
DELAY_BAR: Final = Bar(100, at_most=True)
CUT_BAR: Final = Bar(32, at_most=True)
SERVED_BAR: Final = Bar(100)


def unread(running: Running) -> Iterator[Finding]:
    """Measure what clients cost that leave connections idle or do not read."""
    with _idle(running.port, IDLE):
        served = sum(_is_live(running.port) for _ in range(100))
        yield _finding(f"requests served beside {IDLE:,} idle connections", served, SERVED_BAR, " of 100")
    with ExitStack() as stack:
        before = _kernel_mib()
        began = time.monotonic()
        crowd = [stack.enter_context(_unread(running, ASSET)) for _ in range(ON_ASSET)]
        time.sleep(SETTLED_SECONDS)
        pinned = _kernel_mib() - before
        yield _finding(f"kernel memory of {ON_ASSET} clients that do not read an asset", pinned, KERNEL_BAR, " MiB")
        for client in crowd:
            _wait_for_end(client)
        seconds = time.monotonic() - began
        yield _finding(f"until {ON_ASSET} clients that do not read are cut", seconds, CUT_BAR, " s")
    for _ in range(POSTS):
        running.ask("POST", "/posts", {"title": "A long post", "content": LONG})
    growth = _Growth(running.process)
    with _Delays(running.port) as delays:
        size = _read(running, "/users/me/export")
    what = f"an export of {size // MIB} MiB"
    yield _finding(f"worker's memory for {what}", growth.mib(), EXPORT_BAR, " MiB")
    yield _finding(f"longest delay of /health/live beside {what}", delays.longest * 1_000, DELAY_BAR, " ms")
    growth = _Growth(running.process)
    with ExitStack() as stack:
        for _ in range(ON_PAGE):
            stack.enter_context(_unread(running, "/posts?limit=100")).recv(1)  # it was made
    yield _finding(f"worker's memory for {ON_PAGE} unread pages of 25 MiB", growth.mib(), UNREAD_BAR, " MiB")


def _finding(what: str, value: float, bar: Bar, unit: str) -> Finding:
    return Finding(what, "", "", value, bar, unit)


class _Growth:
    """The growth of a process's peak memory."""

    def __init__(self, process: int) -> None:
        self._process = Path(f"/proc/{process}")
        (self._process / "clear_refs").write_text("5")  # the peak begins at what there is
        self._before = self._status("VmRSS")

    def mib(self) -> float:
        """Tell it in MiB."""
        return (self._status("VmHWM") - self._before) / 1_024

    def _status(self, name: str) -> int:
        lines = (self._process / "status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith(name)).split()[1])


class _Delays:
    """Asks /health/live again and again, and keeps the longest time."""

    def __init__(self, port: int) -> None:
        self.longest = 0.0
        self._connection = HTTPConnection("127.0.0.1", port)
        self._end = Event()
        self._thread = Thread(target=self._ask)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._end.set()
        self._thread.join()
        self._connection.close()

    def _ask(self) -> None:
        while not self._end.wait(0.01):
            began = time.monotonic()
            self._connection.request("GET", "/health/live")
            self._connection.getresponse().read()
            self.longest = max(self.longest, time.monotonic() - began)


@contextmanager
def _idle(port: int, connections: int) -> Iterator[None]:
    with ExitStack() as stack:
        for _ in range(connections):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        yield


@contextmanager
def _unread(running: Running, target: str) -> Iterator[socket.socket]:
    """Request something, and read nothing."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        client.connect(("127.0.0.1", running.port))
        head = f"GET {target} HTTP/1.1\r\nHost: agora\r\nAuthorization: Bearer {_token(running)}\r\n\r\n"
        client.sendall(head.encode())
        yield client


def _wait_for_end(client: socket.socket) -> None:
    """Wait until the server has closed, without reading what it sent before."""
    try:
        while True:
            client.send(b"\r\n")
            time.sleep(0.05)
    except OSError:
        pass


def _is_live(port: int) -> bool:
    with closing(HTTPConnection("127.0.0.1", port)) as connection:
        try:
            connection.request("GET", "/health/live")
            status: int = connection.getresponse().status
        except OSError:
            return False
    return status == HTTPStatus.OK


def _read(running: Running, target: str) -> int:
    connection = HTTPConnection("127.0.0.1", running.port)
    connection.request("GET", target, headers={"Authorization": f"Bearer {_token(running)}"})
    response, size = connection.getresponse(), 0
    while part := response.read(MIB):
        size += len(part)
    connection.close()
    return size


def _token(running: Running) -> str:
    with running.tokens.open() as lines:
        return next(islice(lines, 1)).strip()


def _kernel_mib() -> float:
    """Tell the memory of all TCP sockets of the machine."""
    line = next(line for line in Path("/proc/net/sockstat").read_text().splitlines() if line.startswith("TCP"))
    return int(line.split()[-1]) * 4_096 / MIB
