"""A real PgBouncer in transaction mode before a private PostgreSQL. `make pooler` runs these tests."""

from collections.abc import Iterator

import pytest
from sqlalchemy import URL

from infrastructure.database.schema import Migrations
from tests.support.pgbouncer import pgbouncer
from tests.support.postgres import Postgres, private_server


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with private_server() as server:
        Migrations(server.url).upgrade()
        yield server


@pytest.fixture(scope="module")
def pooled(server: Postgres) -> Iterator[URL]:
    with pgbouncer(server.url) as url:
        yield url
