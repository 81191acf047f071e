"""Opening a database by its URL, of either kind."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Final, Protocol

from sqlalchemy import URL, Connection, Engine

from infrastructure.database.errors import translate_errors
from infrastructure.database.pipeline import Querier, Statement
from infrastructure.database.postgres import PostgresDatabase, postgres_engine
from infrastructure.database.sqlite import SqliteDatabase, sqlite_engine
from infrastructure.database.wait_callback import bounded_waits
from infrastructure.metrics import NO_METRICS, Metrics
from infrastructure.timeouts import DEFAULT_TIMEOUTS, Timeouts

HEALTH_CONNECTIONS: Final = 1
"""Connections of a worker that no request waits for: readiness is judged even when all others are in use."""


class Database(Protocol):
    """One database, and the connections to it."""

    engine: Engine

    def read(self) -> AbstractContextManager[Querier]:
        """Check out a connection for queries, each in a transaction of its own.

        Raises:
            Unavailable: no connection became free in time, or the database cannot respond now.
        """
        ...

    def write(self) -> AbstractContextManager[Querier]:
        """Check out a connection for a transaction.

        Leaving the block commits, an exception rolls back.

        Raises:
            TransactionAborted: the transaction was rolled back, and may be run again.
            Unavailable: no connection became free in time, or the database cannot respond now.
        """
        ...

    def close(self) -> None:
        """Close every connection."""
        ...


def open_database(
    url: URL,
    connections: int,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
    *,
    prepared: Sequence[Statement] = (),
    batched: Sequence[Statement] = (),
    metrics: Metrics = NO_METRICS,
) -> Database:
    """Make the database for a URL, with at most this many connections.

    A connection opens when it is first needed. On PostgreSQL each prepares the given statements, and concurrent queries
    of the batched ones share round trips.
    """
    if url.get_backend_name() == "sqlite":
        return SqliteDatabase(url, connections, timeouts, metrics)
    return PostgresDatabase(url, connections, timeouts, prepared, batched, metrics)


def open_engine(url: URL, connections: int, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> Engine:
    """Make the engine for a URL, for commands and migrations.

    Its connections open when they are first needed.
    """
    if url.get_backend_name() == "sqlite":
        return sqlite_engine(url, connections, timeouts)
    return postgres_engine(url, connections, timeouts)


@contextmanager
def connected(url: URL, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> Iterator[Connection]:
    """Open a database for one connection, and close it afterwards.

    Raises:
        Unavailable: the database is unavailable.
    """
    engine = open_engine(url, 1, timeouts)
    try:
        with translate_errors():
            with bounded_waits(timeouts):
                connection = engine.connect()
            with connection:
                yield connection
    finally:
        engine.dispose()
