"""The real nginx with deploy/nginx.conf, before a real server. `make proxy` runs these tests."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL

from tests.support.nginx import ORIGIN, Nginx, nginx
from tests.support.postgres import free_port
from tests.support.servers import Server, serving


@pytest.fixture(scope="module")
def server(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    file = tmp_path_factory.mktemp("proxy") / "agora.db"
    shutil.copy(sqlite_template, file)
    url = URL.create("sqlite", database=str(file))
    with serving(url, TRUSTED_PROXIES="127.0.0.1", CORS_ORIGINS=ORIGIN) as server:
        yield server


@pytest.fixture(scope="module")
def proxy(server: Server) -> Iterator[Nginx]:
    with nginx(server.port) as running:
        yield running


@pytest.fixture(scope="module")
def orphan() -> Iterator[Nginx]:
    """An nginx whose server is down."""
    with nginx(free_port()) as running:
        yield running
