"""Connections: how each database is opened, and what its failures are called."""

import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import Lock
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import ConnectionPoolEntry

from application.ports import Unavailable

POOL_WAIT_SECONDS: Final = 2
SQLITE_BUSY_SECONDS: Final = 5

POSTGRES_CONNECT: Final = {
    "connect_timeout": 3,
    "keepalives_idle": 30,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 6_000,
    "application_name": "agora",
    "options": (
        "-c timezone=UTC -c statement_timeout=5000 -c lock_timeout=4000 -c idle_in_transaction_session_timeout=10000"
    ),
}
"""What every PostgreSQL connection is opened with: no wait in it is without an end. Times in seconds, those in
`options` and `tcp_user_timeout` in milliseconds."""


class Database:
    """One database, and the pool of connections to it: as many as the worker has threads, so nobody waits."""

    def __init__(self, url: URL, connections: int) -> None:
        self.engine = open_engine(url, connections)
        self._readers = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        # SQLite has one writer at a time. Queue for it here: waiters at its own lock sleep and poll, and some starve.
        sqlite = url.get_backend_name() == "sqlite"
        self._turn: AbstractContextManager[object] = Lock() if sqlite else nullcontext()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Lend a connection for questions, each its own transaction.

        Raises:
            Unavailable: the database cannot answer now.
        """
        with failures_named(), self._readers.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Lend a connection inside a transaction: leaving the block commits, an exception undoes everything.

        Raises:
            Unavailable: the database cannot answer now.
        """
        with self._turn, failures_named(), self.engine.begin() as connection:
            yield connection

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def open_engine(url: URL, connections: int) -> Engine:
    """Make the engine for a PostgreSQL or SQLite database; nothing is connected yet."""
    if url.get_backend_name() != "sqlite":
        return create_engine(
            url,
            pool_size=connections,
            max_overflow=0,
            pool_timeout=POOL_WAIT_SECONDS,
            pool_pre_ping=True,
            skip_autocommit_rollback=True,
            connect_args=POSTGRES_CONNECT,
        )
    engine = create_engine(
        url,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=POOL_WAIT_SECONDS,
        connect_args={"timeout": SQLITE_BUSY_SECONDS},
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # the driver would open transactions too late: see _begin_sqlite
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")  # an acknowledged write survives a power cut
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(connection: Connection) -> None:
    # A writer takes its lock at the start: one that reads first and writes later fails when somebody came between.
    if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
        connection.exec_driver_sql("BEGIN IMMEDIATE")


@contextmanager
def failures_named() -> Iterator[None]:
    """Raise what means "not now" as Unavailable; errors in our own statements stay what they are."""
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeoutError) as error:
        raise Unavailable("the database cannot answer now") from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise Unavailable("the connection to the database was lost") from error
        # None of its kinds: SQLite says so of a file that is damaged or not its own. A DSN is the operator's.
        if type(error) is DatabaseError or "invalid dsn" in str(error.orig):
            raise Unavailable("the database cannot answer now") from error
        raise


def violated(error: DBAPIError) -> str:
    """Name the constraint that a statement ran into: by its name on PostgreSQL, by table.column on SQLite.

    SQLite does not say which foreign key it was; "FOREIGN KEY constraint failed" stands for any.
    """
    diagnosis: Any = getattr(error.orig, "diag", None)
    if diagnosis is not None:
        return str(diagnosis.constraint_name)
    return str(error.orig).removeprefix("UNIQUE constraint failed: ")
