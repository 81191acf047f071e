"""Kept counters: whatever a table names as one is verified, repaired, and true after an account's removal."""

from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import combinations

import pytest
from pydantic import SecretStr
from sqlalchemy import URL, Table
from sqlalchemy.exc import IntegrityError

from infrastructure.container import Container
from infrastructure.database.engine import open_engine
from infrastructure.database.tables import metadata
from infrastructure.settings import Settings
from tests.fakes.services import MemorySecurityLog, PlainHasher
from tests.support.app import People, container_with
from tests.support.backends import contents
from tests.support.filled import fill


@pytest.fixture
def container(url: URL) -> Iterator[Container]:
    settings = Settings(database_url=SecretStr(url.render_as_string(hide_password=False)))
    container = container_with(settings=settings, hasher=PlainHasher(), log=MemorySecurityLog())
    with closing(container.database()):
        yield container


def falsified(url: URL, table: Table) -> Iterator[tuple[str, ...]]:
    """Raise each combination of a table's counters that its constraints do not refuse."""
    counters = table.info["counters"]
    engine = open_engine(url, connections=1)
    for size in range(1, len(counters) + 1):
        for names in combinations(counters, size):
            with suppress(IntegrityError):
                with engine.begin() as connection:
                    connection.execute(table.update().values({name: table.c[name] + 1 for name in names}))
                yield names
    engine.dispose()


def test_every_counter_of_every_table_is_verified_and_repaired(url: URL, container: Container) -> None:
    fill(url)
    people = People(container.app())
    before = contents(url)
    for table in metadata.sorted_tables:
        met: set[str] = set()
        for names in falsified(url, table):
            assert list(people.wrong_counters()), (table.name, names)
            people.repair_counters()
            assert contents(url) == before, (table.name, names)
            met.update(names)
        assert met == {*table.info["counters"]}
    assert not list(people.wrong_counters())


def test_removed_account_leaves_every_counter_true(url: URL, container: Container) -> None:
    bob = fill(url)
    before = contents(url)
    for table in metadata.sorted_tables:
        assert before[table.name], table.name
        for key in table.foreign_keys:
            if key.column.table.name == "users":
                assert bob.id in {getattr(row, key.parent.name) for row in before[table.name]}, table.name

    with container.uow()() as tx:
        tx.users.remove(bob.id)

    assert not list(People(container.app()).wrong_counters())
