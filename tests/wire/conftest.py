"""The real server behind a real socket: one as it is, and one in a hurry."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from sqlalchemy import URL

from tests.cli.command import COMMAND
from tests.servers import Server, serving

KEY = "0123456789abcdef" * 4
REQUEST_SECONDS = 1
CONNECTIONS = 200

HURRIED = f"""
from dependency_injector import providers
from infrastructure.container import Container
from infrastructure.timeouts import Timeouts
from interfaces.cli.main import main
from interfaces.server import config

config.CLIENTS_MAX = {CONNECTIONS}
Container.timeouts.override(providers.Object(Timeouts(receive={REQUEST_SECONDS})))
main()
"""
"""The command, but its server waits less long and takes fewer connections."""


def quick(
    url: URL, *, command: Sequence[str | Path] = (COMMAND,), key: str = KEY, previous_key: str = ""
) -> AbstractContextManager[Server]:
    """Run a server that hashes passwords quickly: they are not what is tested here."""
    return serving(
        url,
        command=command,
        SECRET_KEY=key,
        SECRET_KEY_PREVIOUS=previous_key,
        ARGON2_MEMORY_KIB="8",
        ARGON2_TIME_COST="1",
    )


@pytest.fixture(scope="module")
def server(database_of: Callable[[str], URL]) -> Iterator[Server]:
    """A server for all tests of a module."""
    with quick(database_of("sqlite")) as server:
        yield server
        assert server.end() == 0
        assert "Traceback" not in server.said, server.said.partition("Traceback")[2]


@pytest.fixture(scope="module")
def hurried_server(database_of: Callable[[str], URL]) -> Iterator[Server]:
    """A server that waits one second for a request, not fifteen."""
    with quick(database_of("sqlite"), command=[sys.executable, "-c", HURRIED]) as server:
        yield server
        assert server.end() == 0
        assert "Traceback" not in server.said, server.said.partition("Traceback")[2]


@pytest.fixture
def port(server: Server) -> int:
    """Where the server listens."""
    return server.port
