"""HTTP byte by byte: what no client library would send, and exactly what comes back."""

import socket
import struct
from collections.abc import Callable
from contextlib import AbstractContextManager
from http.client import HTTPMessage, parse_headers
from types import TracebackType
from typing import Self

from sqlalchemy import URL

from tests.support.servers import Server, serving

PATIENCE_SECONDS = 30

GET = b"GET %s HTTP/1.1\r\nHost: agora\r\n\r\n"
POST = b"POST /users HTTP/1.1\r\nHost: agora\r\nContent-Type: application/json\r\n"
LIVE = GET % b"/health/live"


class Answer:
    """One answer, as it came."""

    def __init__(self, status: int, headers: HTTPMessage, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class Wire:
    """A connection to the server."""

    def __init__(self, port: int, *, host: str = "127.0.0.1", receive_buffer: int = 0) -> None:
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self._socket.settimeout(PATIENCE_SECONDS)
        if receive_buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.connect((host, port))
        self._stream = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stream.close()
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def reset(self) -> None:
        """Close at once, with whatever is on its way lost."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._stream.close()
        self._socket.close()

    def send_if_open(self, data: bytes) -> bool:
        """Send; tell whether the server had not closed."""
        try:
            self.send(data)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def line(self) -> bytes:
        return self._stream.readline()

    def answer(self, *, to_head: bool = False) -> Answer:
        """Read one answer, and not a byte more."""
        version, _, status = self._stream.readline().partition(b" ")
        assert version == b"HTTP/1.1", "the connection was closed"
        headers = parse_headers(self._stream)
        bodiless = to_head or int(status[:3]) in {204, 304}
        return Answer(int(status[:3]), headers, b"" if bodiless else self._stream.read(int(headers["Content-Length"])))

    def rest(self) -> bytes:
        """Read on until the server closes."""
        parts = []
        try:
            while part := self._stream.read1():
                parts.append(part)
        except ConnectionResetError:  # it closed before it had read all that we sent
            pass
        return b"".join(parts)

    def is_silent_for(self, seconds: float) -> bool:
        """Wait; tell whether nothing happened: no answer, and no end."""
        self._socket.settimeout(seconds)
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            return True
        except ConnectionResetError:
            pass
        finally:
            self._socket.settimeout(PATIENCE_SECONDS)
        return False

    def flood(self, start: bytes, more: bytes, most: int) -> int:
        """Send a start, then the same again and again until the server closes; give the bytes that it let us send."""
        sent = 0
        is_open = self.send_if_open(start)
        while is_open and sent < most:
            is_open = self.send_if_open(more)
            sent += len(more)
        return sent

    def press(self, data: bytes, seconds: float) -> int:
        """Send the same again and again until the server takes no more for a while; give the bytes that it took."""
        sent = 0
        self._socket.settimeout(seconds)
        try:
            while True:
                sent += self._socket.send(data[sent % len(data) :])
        except TimeoutError:
            return sent
        finally:
            self._socket.settimeout(PATIENCE_SECONDS)


def talk(port: int, data: bytes) -> bytes:
    """Send, and give all that comes back until the server closes."""
    with Wire(port) as wire:
        wire.send(data)
        return wire.rest()


KEY = "0123456789abcdef" * 4


def quick(
    url: URL,
    workers: int = 1,
    *,
    key: str = KEY,
    previous_key: str = "",
    prepare: Callable[[], None] | None = None,
) -> AbstractContextManager[Server]:
    """Run a server with these keys."""
    return serving(
        url,
        workers,
        prepare=prepare,
        SECRET_KEY=key,
        SECRET_KEY_PREVIOUS=previous_key,
    )
