"""A PostgreSQL of one's own to be broken, and a server on it. `AGORA_FAULTS` sets how often things break."""

import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL

from infrastructure.database.schema import Migrations
from tests.backends import empty
from tests.faults.load import KEY, Forum
from tests.postgres import Postgres, private_server
from tests.servers import Server, serving

TIMES = int(os.environ.get("AGORA_FAULTS", "1"))
"""How many times as often as `make test` does it; `make faults` says ten."""

PATIENCE_SECONDS = 60 * (1 + TIMES)


def serve(url: URL, port: int = 0, **settings: Any) -> AbstractContextManager[Server]:
    """Run the real server."""
    return serving(url, port=port, patience=PATIENCE_SECONDS, SECRET_KEY=KEY, **settings)


@pytest.fixture(scope="session")
def breakable() -> Iterator[Postgres]:
    """A PostgreSQL that nobody else uses, migrated."""
    with private_server() as server:
        Migrations(server.url).upgrade()
        yield server


@pytest.fixture(scope="module")
def forum(breakable: Postgres) -> Forum:
    """People and posts on PostgreSQL."""
    empty(breakable.url)
    return Forum(breakable.url)


@pytest.fixture
def file_forum(tmp_path: Path, sqlite_template: Path) -> Forum:
    """People and posts on SQLite."""
    file = tmp_path / "agora.db"
    shutil.copy(sqlite_template, file)
    return Forum(URL.create("sqlite", database=str(file)))
