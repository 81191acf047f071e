"""Databases of a private Citus cluster. `make distributed` runs these tests, and those of PostgreSQL in it."""

from collections.abc import Iterator

import pytest
from sqlalchemy import URL

from infrastructure.database.schema import Migrations
from tests.support.backends import PostgresServer


@pytest.fixture
def migrated(postgres: PostgresServer) -> Iterator[URL]:
    """A migrated database that is not distributed."""
    with postgres.database(migrated=False) as url:
        Migrations(url).upgrade()
        yield url


@pytest.fixture
def distributed(postgres: PostgresServer) -> Iterator[URL]:
    """A distributed database without rows."""
    with postgres.database() as url:
        yield url
