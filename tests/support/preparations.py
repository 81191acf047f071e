"""What a forked server does before it runs; each is handed to `serving`, and takes effect in that process alone."""

import logging
import sys
from pathlib import Path
from typing import Any

from dependency_injector import providers

from infrastructure.container import Container
from infrastructure.timeouts import Timeouts
from interfaces.http import api
from interfaces.server import config, supervisor

CONNECTIONS = 200
REQUEST_SECONDS = 1
RESTART_SECONDS = 0.5


def _set(timeouts: Timeouts) -> None:
    Container.timeouts.override(providers.Object(timeouts))


def expect_requests_soon() -> None:
    """Wait less long for requests, and take fewer connections."""
    config.CLIENTS_MAX = CONNECTIONS  # type: ignore[misc]
    _set(Timeouts(receive=REQUEST_SECONDS))


def reload_from_the_current_folder() -> None:
    """Watch this folder's files in place of the product's."""
    supervisor.SOURCES[:] = [Path.cwd()]


def finish_requests_soon() -> None:
    """Wait less long for requests at the end."""
    _set(Timeouts(graceful_shutdown=REQUEST_SECONDS))


def restart_workers_soon() -> None:
    """Restart workers that failed after a shorter delay."""
    _set(Timeouts(worker_restart=RESTART_SECONDS))


def kill_workers_soon() -> None:
    """Wait less long for workers to stop."""
    _set(Timeouts(graceful_shutdown=0, socket_closing=0))


def break_installation() -> None:
    """Take a module away that processes import when they begin to serve."""
    sys.modules["interfaces.server.protocol"] = None  # type: ignore[assignment]


def log_everything() -> None:
    """Log everything that there is: SQL, rows and connections too."""
    create = api.create_api

    def create_loud(*given: Any) -> Any:
        for name in ("sqlalchemy", "sqlalchemy.engine", "sqlalchemy.pool", "alembic", "asyncio"):
            logging.getLogger(name).setLevel(logging.DEBUG)
        return create(*given)

    api.create_api = create_loud  # type: ignore[assignment]
