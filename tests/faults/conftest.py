"""A PostgreSQL of one's own to be broken, and a server on it. `AGORA_FAULTS` sets how often things break."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL

from tests.support.backends import empty, migrate
from tests.support.load import VotingForum
from tests.support.postgres import Postgres, private_server


@pytest.fixture(scope="session")
def breakable() -> Iterator[Postgres]:
    """A migrated PostgreSQL of its own."""
    with private_server() as server:
        migrate(server.url)
        yield server


@pytest.fixture(scope="module")
def forum(breakable: Postgres) -> VotingForum:
    """People and posts on PostgreSQL."""
    empty(breakable.url)
    return VotingForum(breakable.url)


@pytest.fixture
def file_forum(tmp_path: Path, sqlite_template: Path) -> VotingForum:
    """People and posts on SQLite."""
    file = tmp_path / "agora.db"
    shutil.copy(sqlite_template, file)
    return VotingForum(URL.create("sqlite", database=str(file)))
