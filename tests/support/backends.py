"""The three storages behind the ports, each handed to the contract suite under the same names."""

import collections
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from sqlalchemy import (
    URL,
    BigInteger,
    Row,
    Text,
    bindparam,
    cast,
    func,
    literal_column,
    select,
    text,
    true,
)

from application.ports.services import Throttle
from application.ports.storage import DashboardReader, PostReader, UnitOfWorkFactory, UserReader, VoteReader
from application.views import Counter, Recount
from domain.text import fold
from domain.votes import Tally, hotness
from infrastructure.database.admin import SqlDashboardReader
from infrastructure.database.engine import Database, open_database, open_engine
from infrastructure.database.pipeline import Querier, Statement
from infrastructure.database.posts import SqlPostReader
from infrastructure.database.schema import Migrations
from infrastructure.database.tables import metadata
from infrastructure.database.throttle import SqlThrottle
from infrastructure.database.unit_of_work import SqlUnitOfWorkFactory
from infrastructure.database.users import SqlUserReader
from infrastructure.database.votes import SqlVoteReader
from infrastructure.operations.counters import Counters
from tests.fakes.memory import (
    MemoryDashboardReader,
    MemoryDatabase,
    MemoryPostReader,
    MemoryUserReader,
    MemoryVoteReader,
)
from tests.fakes.services import MemoryThrottle
from tests.support import citus
from tests.support.connections import connection_of

CONNECTIONS = 16


@dataclass(frozen=True)
class Backend:
    """One storage: what commands write through, and what queries ask."""

    name: str
    uow: UnitOfWorkFactory
    users: UserReader
    posts: PostReader
    votes: VoteReader
    throttle: Throttle
    dashboard: DashboardReader
    wrong_counters: Callable[[], Sequence[object]]
    """Lists the posts whose counters disagree with the rows that they count."""
    lock_waits: Callable[[], int] | None = None
    """Counts transactions that wait for locks, where several can write at a time."""


def wrong_counters(counters: Counters) -> list[Recount]:
    """Verify every counter."""
    return [found for of in Counter for batch in counters.verify(of) for found in batch if not found.agrees]


def memory_backend(database: MemoryDatabase) -> Backend:
    return Backend(
        "memory",
        database.transaction,
        MemoryUserReader(database),
        MemoryPostReader(database),
        MemoryVoteReader(database),
        MemoryThrottle(),
        MemoryDashboardReader(database),
        database.wrong_counters,
    )


@contextmanager
def sql_backend(url: URL) -> Iterator[Backend]:
    database = open_database(url, CONNECTIONS)
    try:
        yield Backend(
            url.get_backend_name(),
            SqlUnitOfWorkFactory(database),
            SqlUserReader(database.read),
            SqlPostReader(database.read),
            SqlVoteReader(database.read),
            SqlThrottle(database),
            SqlDashboardReader(database.read),
            partial(wrong_counters, Counters(database)),
            partial(_lock_waits, database) if url.get_backend_name() == "postgresql" else None,
        )
    finally:
        database.close()


class PostgresServer:
    """Makes databases on a server: empty ones, and ready ones from a template that was migrated once."""

    def __init__(self, url: URL) -> None:
        self._url = url
        self._made = 0
        self._template: str | None = None

    @contextmanager
    def database(self, *, migrated: bool = True, encoding: str | None = None) -> Iterator[URL]:
        """Create a database, and drop it after the block."""
        if migrated and self._template is None:
            self._template = self._create(None)
            migrate(self._url.set(database=self._template))
        name = self._create(self._template if migrated else None, encoding)
        try:
            yield self._url.set(database=name)
        finally:
            self._drop(name)

    def close(self) -> None:
        """Drop the template."""
        if self._template is not None:
            self._drop(self._template)

    def _create(self, template: str | None, encoding: str | None = None) -> str:
        self._made += 1
        name = f"agora_test_{os.getpid()}_{self._made}"
        other = f" ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'" if encoding else ""
        for server in self._servers:
            if template and citus.BINARIES:
                _run(server, citus.END_MAINTENANCE.format(template))
            _run(server, f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else other))
        if citus.BINARIES and template:
            citus.distribute(self._url.set(database=name))  # a copy has no settings of the template
        elif citus.BINARIES:
            citus.join([server.set(database=name) for server in self._servers])
        return name

    def _drop(self, name: str) -> None:
        for server in self._servers:
            _run(server, f"DROP DATABASE {name} WITH (FORCE)")

    @cached_property
    def _servers(self) -> list[URL]:
        return citus.nodes(self._url) if citus.BINARIES else [self._url]


def _run(server: URL, statement: str) -> None:
    engine = open_engine(server, connections=1)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text(statement))
    engine.dispose()


def migrate(url: URL) -> None:
    """Migrate a database, and distribute it in a cluster."""
    Migrations(url).upgrade()
    if citus.BINARIES and url.get_backend_name() == "postgresql":
        citus.distribute(url)


@contextmanager
def emptying(url: URL) -> Iterator[Callable[[], None]]:
    """Give what removes every row and restarts the ids.

    On PostgreSQL one connection stays open for it, as connecting costs more. The file of SQLite is closed each time.
    """
    engine = open_engine(url, connections=1)

    def empty() -> None:
        with engine.begin() as connection:
            deletions = [f"DELETE FROM {table.name}" for table in reversed(metadata.sorted_tables)]
            if url.get_backend_name() == "sqlite":
                for statement in (*deletions, "DELETE FROM sqlite_sequence"):
                    connection.exec_driver_sql(statement)
            else:  # one round trip, and no TRUNCATE: it makes a file for each table and index
                restart = (
                    "SELECT setval(seqrelid, seqstart, false) FROM pg_sequence"
                    " JOIN pg_class ON oid = seqrelid WHERE relnamespace = current_schema()::regnamespace"
                )
                connection.exec_driver_sql("; ".join((*deletions, restart)))
        if url.get_backend_name() == "sqlite":
            engine.dispose()

    try:
        yield empty
    finally:
        engine.dispose()


def empty(url: URL) -> None:
    """Remove every row, and restart the ids."""
    with emptying(url) as empty_it:
        empty_it()


def contents(url: URL) -> dict[str, list[Row[Any]]]:
    """Read every row of every table."""
    engine = open_engine(url, connections=1)
    with engine.connect() as connection:
        found = {
            table.name: list(connection.execute(table.select().order_by(*table.primary_key)))
            for table in metadata.sorted_tables
        }
    engine.dispose()
    return found


def end_backend(database: Database, backend: object) -> None:
    """End a connection from the server's side, and wait until it has ended."""
    with database.read() as querier:
        assert (
            connection_of(querier)
            .execute(text("SELECT pg_terminate_backend(:backend, 10000)"), {"backend": backend})
            .scalar()
        )


LOCK = Statement(  # however long it takes
    select(
        func.set_config(literal_column("'lock_timeout'"), literal_column("'0'"), true()),
        cast(func.pg_advisory_xact_lock(cast(bindparam("key"), BigInteger)), Text),
    )
)


LOCK_WAITS = Statement(
    text(
        f"SELECT count(*) FROM {'citus' if citus.BINARIES else 'pg'}_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
)


def require_true_counters(url: URL) -> None:
    """Recount the votes of every post."""
    found = contents(url)
    ways = collections.Counter((vote.post_id, vote.dir) for vote in found["votes"])
    for post in found["posts"]:
        tally = Tally(ways[post.id, 1], ways[post.id, -1])
        assert (post.upvotes, post.downvotes, post.score) == (tally.upvotes, tally.downvotes, tally.votes)
        assert post.hot == hotness(tally.votes, post.created_at)
    assert {(title.post_id, title.title_folded) for title in found["titles"]} == {
        (post.id, fold(post.title)) for post in found["posts"]
    }


def _lock_waits(database: Database) -> int:
    with database.read() as querier:
        return int(value(querier, LOCK_WAITS))


def value(querier: Querier, statement: Statement, **values: object) -> Any:
    """Execute a statement, and return the first column of its first row."""
    row = querier.fetch_one(statement, values)
    assert row is not None
    return row[0]
