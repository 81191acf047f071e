"""The server around any ASGI application, on a real socket, in a thread of the tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

from infrastructure.settings import Settings
from infrastructure.timeouts import Timeouts
from interfaces.http.drain import Drain
from interfaces.http.unsent import UnsentBytes
from interfaces.server.config import Config
from interfaces.server.worker import Server


class QuietConfig(Config):
    """The configuration of a server that leaves the tests' log as it is."""

    def configure_logging(self) -> None:
        """Leave it."""


class AnnouncedServer(Server):
    """A server that announces its start."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.has_started = Event()

    async def startup(self, sockets: Any = None) -> None:
        """Start, and say so."""
        try:
            await super().startup(sockets)
        finally:
            self.has_started.set()

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self.servers[0].sockets[0].getsockname()[1]
        return port


def configure(
    app: Any, *, host: str, port: int = 0, workers: int = 1, keep_alive: int = 5, **seconds: Any
) -> QuietConfig:
    """Configure a server of an application."""
    timeouts = Timeouts(**{"graceful_shutdown": 1, "last_read_pause": 0.0} | seconds)

    def build(_drain: Drain, _unsent: UnsentBytes) -> Any:
        return app

    settings = Settings(drain_seconds=0, keep_alive_seconds=keep_alive)
    return QuietConfig(settings, timeouts, build, host=host, port=port, workers=workers)


@contextmanager
def serving_app(
    app: Any,
    *,
    unsent: UnsentBytes | None = None,
    connections: int = 1_000,
    keep_alive: int = 5,
    host: str = "127.0.0.1",
    **seconds: Any,
) -> Iterator[AnnouncedServer]:
    """Serve an application, with these timeouts, until the block ends."""
    config = configure(app, host=host, keep_alive=keep_alive, **seconds)
    config.unsent = unsent or config.unsent
    config.limit_concurrency = connections
    server = AnnouncedServer(config)
    thread = Thread(target=server.run)
    thread.start()
    server.has_started.wait()
    try:
        yield server
    finally:
        server.should_exit = True
        thread.join()
