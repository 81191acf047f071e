"""The configuration of uvicorn, shared by all processes of the server."""

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from logging import getLogger
from socket import AF_INET6, IPPROTO_IPV6, IPV6_V6ONLY, SO_REUSEADDR, SOL_SOCKET, socket
from typing import Any, Final

import uvicorn

from infrastructure.logs import configure_logs
from infrastructure.settings import Settings
from infrastructure.timeouts import Timeouts
from interfaces.failures import exit_with_error
from interfaces.http.drain import Drain
from interfaces.http.unsent import UnsentBytes

CLIENTS_MAX: Final = 1_000
"""Open connections per worker, at which the idlest is closed; if all are at work, further ones get 503."""


class Config(uvicorn.Config):
    """uvicorn's configuration with Agora's settings; it is pickled into each worker."""

    def __init__(
        self,
        settings: Settings,
        timeouts: Timeouts,
        build_api: Callable[[Drain, UnsentBytes], Any],
        *,
        host: str,
        port: int,
        workers: int,
    ) -> None:
        self.drain = Drain()
        self.unsent = UnsentBytes()
        self.idle: dict[Any, None] = {}
        """Connections without a whole request, the idlest first."""
        self.timeouts = timeouts
        self.drain_seconds = settings.drain_seconds
        """Seconds to keep serving after SIGTERM while reporting not ready."""
        self._settings = settings
        super().__init__(
            partial(build_api, self.drain, self.unsent),
            factory=True,
            host=host,
            port=port,
            workers=workers,
            ws="none",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=settings.keep_alive_seconds,
            limit_concurrency=CLIENTS_MAX,
            timeout_graceful_shutdown=timeouts.graceful_shutdown,
            timeout_worker_healthcheck=timeouts.worker_healthcheck,
            log_config=None,
        )

    @property
    def is_ipv6(self) -> bool:
        """Whether the host is an IPv6 address."""
        return ":" in self.host

    def bind_ipv6(self) -> socket:
        """Bind a socket that takes IPv4 too where the host is `::`.

        The system's default does not matter.

        Raises:
            SystemExit: the address is not available; the log contains the reason.
        """
        listener = socket(AF_INET6)
        try:
            listener.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
            listener.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, 0)
            listener.bind((self.host, self.port))
        except OSError as error:
            listener.close()
            exit_with_error(error)
        return listener

    def bind_socket(self) -> socket:
        """Bind the socket that several workers share."""
        if not self.is_ipv6:
            return super().bind_socket()
        listener = self.bind_ipv6()
        listener.set_inheritable(True)
        address = self.host, listener.getsockname()[1]
        getLogger("uvicorn.error").info("Uvicorn running on http://[%s]:%d (Press CTRL+C to quit)", *address)
        return listener

    def configure_logging(self) -> None:
        """Configure the log; the first thing a worker does."""
        super().configure_logging()
        configure_logs(self._settings)

    def load(self) -> None:
        """Build the application.

        Raises:
            SystemExit: building failed; the log contains the reason.
        """
        try:
            super().load()
            if find_spec("httptools"):  # not on Windows
                # Only processes that serve import the web framework.
                from interfaces.server.protocol import DeadlineProtocol  # noqa: PLC0415

                self.http_protocol_class = DeadlineProtocol
        except Exception as error:  # noqa: BLE001 - a worker's traceback would bypass the log
            exit_with_error(error)
