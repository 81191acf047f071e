"""A TCP proxy on loopback that a test can have refuse, cut, delay and swallow what passes through it."""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from math import inf
from types import TracebackType
from typing import Self

CHUNK_BYTES = 65_536
READY_FOR_QUERY = b"Z\x00\x00\x00\x05"
"""How PostgreSQL ends every answer."""


class Proxy:
    """Passes connections on to wherever `target` says at that moment; None is nowhere."""

    def __init__(self, target: Callable[[], int | None], answers: float = inf) -> None:
        """Make one that drops everything after this many responses of PostgreSQL; the first is the login."""
        self._target = target
        self._answers = answers
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self.delay_seconds = 0.0
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._flowing = threading.Event()
        self._flowing.set()
        self._accepting = threading.Thread(target=self._accept)

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join()
        self._flowing.set()
        self.cut()

    def reach(self) -> socket.socket:
        """Connect to the target.

        Raises:
            OSError: it is nowhere, or refuses.
        """
        port = self._target()
        if port is None:
            raise ConnectionRefusedError
        return socket.create_connection(("127.0.0.1", port))

    def cut(self) -> None:
        """Close every connection, at both ends."""
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            for end in pair:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def swallow(self) -> None:
        """Take everything from now on and pass nothing on, as a network does that has lost its way."""
        self._flowing.clear()

    def flow(self) -> None:
        """Pass everything on again, from now on without an end."""
        self._answers = inf
        self._flowing.set()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = self.reach()
            except OSError:
                near.close()
                continue
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._pairs.add((near, far))
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=(one, other, (near, far)), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket, pair: tuple[socket.socket, socket.socket]) -> None:
        with suppress(OSError):
            while data := one.recv(CHUNK_BYTES):
                if self.delay_seconds:
                    time.sleep(self.delay_seconds)
                self._flowing.wait()
                other.sendall(data)
                if one is pair[1]:
                    self._answers -= data.count(READY_FOR_QUERY)
                    if self._answers <= 0:
                        self.swallow()
        for end in pair:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        with self._lock:
            is_last = pair not in self._pairs
            self._pairs.discard(pair)
        if is_last:
            for end in pair:
                end.close()
