"""The configuration of uvicorn, shared by all processes of the server."""

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
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
    def drain_seconds(self) -> int:
        """Seconds to keep serving after SIGTERM while reporting not ready."""
        return self._settings.drain_seconds

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
