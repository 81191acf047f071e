"""The real server behind a real socket: one as it is, and one in a hurry."""

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import URL

from tests.support.preparations import expect_requests_soon
from tests.support.servers import Server
from tests.support.wire import quick


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
    with quick(database_of("sqlite"), prepare=expect_requests_soon) as server:
        yield server
        assert server.end() == 0
        assert "Traceback" not in server.said, server.said.partition("Traceback")[2]


@pytest.fixture
def port(server: Server) -> int:
    """Where the server listens."""
    return server.port
