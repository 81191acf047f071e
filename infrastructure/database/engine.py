"""Connections: how each database is opened, and what its failures are called."""

import asyncio
import re
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Final, Protocol

import psycopg2
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.util import await_only, greenlet_spawn
from sqlalchemy.util.concurrency import in_greenlet

from application.errors import TransactionAborted, Unavailable
from infrastructure.database.links import Link, PipelinedLink, is_outdated
from infrastructure.database.waiting import CONNECT_SECONDS, Overdue, WaitingConnection, addresses, is_lost
from infrastructure.deadlines import seconds_left
from infrastructure.metrics import UNMEASURED, Span

POOL_WAIT_SECONDS: Final = 2
SQLITE_BUSY_SECONDS: Final = 5

DEFAULT_PORT: Final = 5432

POSTGRES_CONNECT: Final = {
    "connect_timeout": CONNECT_SECONDS,
    "keepalives_idle": 30,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 6_000,
    "application_name": "agora",
    "options": (
        "-c timezone=UTC -c statement_timeout=5000 -c lock_timeout=1000 -c idle_in_transaction_session_timeout=10000"
    ),
}
"""What every PostgreSQL connection is opened with: no wait in it is without an end. Times in seconds, those in
`options` and `tcp_user_timeout` in milliseconds."""

INDEX_WALKS: Final = " -c plan_cache_mode=force_generic_plan -c enable_seqscan=off -c enable_bitmapscan=off"
"""What requests ask is answered by walking indexes in their order, and planned once a connection, for any values. It is
to be planned so, too, where PostgreSQL believes that it will find little: in tables that are still empty, or between
two dates that it does not know yet."""


def open_database(
    url: URL,
    at_once: int,
    on_threads: int,
    *,
    prepare: bool = True,
    in_use: Span = UNMEASURED,
    waiting: Span = UNMEASURED,
) -> "Database":
    """Make the database for a URL, for so many requests at once, and so many besides on threads of their own."""
    if url.get_backend_name() == "sqlite":
        return SqliteDatabase(url, at_once + on_threads, in_use, waiting)
    return PostgresDatabase(url, at_once, on_threads, in_use, prepare=prepare)


class Database(Protocol):
    """One database, and the connections to it: enough that nobody waits."""

    engine: Engine

    def read(self) -> AbstractContextManager[Link]:
        """Lend a connection for questions, each its own transaction.

        Raises:
            Unavailable: the database cannot answer now.
        """
        ...

    def write(self) -> AbstractContextManager[Link]:
        """Lend a connection inside a transaction: leaving the block commits, an exception undoes everything.

        Raises:
            Unavailable: the database cannot answer now.
        """
        ...

    def close(self) -> None:
        """Close every connection."""
        ...


class SqliteDatabase:
    """A SQLite file."""

    def __init__(self, url: URL, connections: int, in_use: Span, waiting: Span) -> None:
        self._in_use = in_use
        self._waiting = waiting
        name = str(url.database)
        self._file = None if name.startswith("file:") else Path(name)
        self._opened: tuple[int, int] | None = None
        self.engine = open_engine(url, connections)
        self._readers = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        # SQLite has one writer at a time. Queue for it here: waiters at its own lock sleep and poll, and some starve.
        self._turn = Lock()

    @contextmanager
    def read(self) -> Iterator[Link]:
        """Lend a connection for questions."""
        with failures_named(), self._connect(self._readers) as connection, self._in_use:
            yield Link(connection)

    @contextmanager
    def write(self) -> Iterator[Link]:
        """Lend a connection inside a transaction."""
        with self._waiting:
            has_turn = self._turn.acquire(timeout=seconds_left(SQLITE_BUSY_SECONDS))
        if not has_turn:
            raise Unavailable("somebody else has been writing all the time")
        try:
            with failures_named(), self._connect(self.engine) as connection, self._in_use, connection.begin():
                yield Link(connection)
        finally:
            self._turn.release()

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    def _connect(self, engine: Engine) -> Connection:
        """Connect to the file that has the name now: one that is open can be written to when it is removed already."""
        found = self._identity()
        if found is None and self._opened is not None:
            raise Unavailable("the file of the database is gone")
        if found != self._opened:
            self.engine.dispose()
        connection = engine.connect()
        self._opened = found or self._identity()
        return connection

    def _identity(self) -> tuple[int, int] | None:
        try:
            status = self._file.stat() if self._file is not None else None
        except OSError:
            return None
        return None if status is None else (status.st_dev, status.st_ino)


class PostgresDatabase:
    """A PostgreSQL database, with two pools: a connection that the event loop watches is never lent to a thread."""

    def __init__(self, url: URL, at_once: int, on_threads: int, in_use: Span, *, prepare: bool) -> None:
        self.in_use = in_use
        self.engine = _open_postgres(url, on_threads)
        self._on_loop = _open_postgres(url, at_once)
        event.listen(self._on_loop, "close", _unwatch)
        event.listen(self._on_loop, "do_connect", _resolve)
        self._idle: list[Connection] = []
        self._has_connected = False
        self._connecting: asyncio.Task[None] | None = None
        self._prepare = prepare

    def read(self) -> AbstractContextManager[Link]:
        """Lend a connection for questions."""
        return _Lent(self, transaction=False, prepare=self._prepare)

    def write(self) -> AbstractContextManager[Link]:
        """Lend a connection inside a transaction."""
        return _Lent(self, transaction=True, prepare=self._prepare)

    def close(self) -> None:
        """Close every connection."""
        if self._connecting is not None:
            self._connecting.cancel()
        while self._idle:
            self._idle.pop().close()
        self.engine.dispose()
        self._on_loop.dispose()

    def take(self) -> Connection:
        """Take a connection from the pool; on the loop one that was given back before, with no pool to ask."""
        if not in_greenlet():
            return self.engine.connect()
        if self._idle:
            return self._idle.pop()
        if not self._has_connected:
            await_only(self._connected())
        return self._on_loop.connect()

    def give_back(self, connection: Connection) -> None:
        """Give a connection back, in no transaction."""
        if connection.invalidated:  # the pool distrusts every other one of that age
            while self._idle:
                self._idle.pop().close()
        if connection.engine is self.engine or connection.invalidated or not in_greenlet():
            connection.close()
            return
        if connection.in_transaction():
            connection.rollback()
        self._idle.append(connection)

    async def _connected(self) -> None:
        """Wait for the first connection, which is made once for all who ask meanwhile, and fails for all of them.

        SQLAlchemy looks at the server then, and holds a lock meanwhile that stops a thread.
        """
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect_first())
        await asyncio.shield(self._connecting)

    async def _connect_first(self) -> None:
        try:
            await greenlet_spawn(lambda: self._on_loop.connect().close())
            self._has_connected = True
        finally:
            self._connecting = None


class _Lent:
    """A loan: what fails in it is named, and its transaction ends with it."""

    def __init__(self, database: PostgresDatabase, *, transaction: bool, prepare: bool) -> None:
        self._database = database
        self._is_transaction = transaction
        self._prepare = prepare

    def __enter__(self) -> Link:
        try:
            self._connection = self._database.take()
        except Exception as error:
            _raise_named(error)
            raise
        self._database.in_use.__enter__()
        self._link = PipelinedLink(self._connection, transaction=self._is_transaction, prepare=self._prepare)
        return self._link

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if self._is_transaction:
                self._end(failed=kind is not None)
        except Exception as failure:
            error = failure
            _raise_named(failure)
            raise
        finally:
            self._database.in_use.__exit__(kind, error, at)
            if isinstance(error, Exception) and getattr(_said(error), "pgcode", None) == READ_ONLY:
                self._connection.invalidate()  # this server may stay so, and the address lead to another one by now
            self._database.give_back(self._connection)
        if isinstance(error, Exception):
            _raise_interrupted(error)  # not above: once COMMIT was sent, nobody can tell what has happened
            _raise_named(error)

    def _end(self, *, failed: bool) -> None:
        try:
            if not failed:
                self._link.commit()
                return
        except psycopg2.Error:
            self._link.rollback()
            raise
        self._link.rollback()


def open_engine(url: URL, connections: int) -> Engine:
    """Make the engine for a PostgreSQL or SQLite database; nothing is connected yet.

    Neither its errors nor its log tell the values that statements are sent with.
    """
    if url.get_backend_name() != "sqlite":
        return create_engine(
            url,
            pool_size=connections,
            max_overflow=0,
            pool_timeout=POOL_WAIT_SECONDS,
            pool_pre_ping=True,
            hide_parameters=True,
            connect_args=POSTGRES_CONNECT,
        )
    engine = create_engine(
        url,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=POOL_WAIT_SECONDS,
        hide_parameters=True,
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _open_postgres(url: URL, connections: int) -> Engine:
    """Make an engine for links, which say BEGIN and COMMIT themselves and find out themselves what was lost."""
    options = f"{POSTGRES_CONNECT['options']}{INDEX_WALKS}"
    return create_engine(
        url,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=POOL_WAIT_SECONDS,
        isolation_level="AUTOCOMMIT",
        skip_autocommit_rollback=True,
        use_native_hstore=False,
        hide_parameters=True,
        connect_args=POSTGRES_CONNECT | {"options": options, "connection_factory": WaitingConnection},
    )


def _unwatch(connection: Any, _entry: ConnectionPoolEntry) -> None:
    connection.unwatch()


def _resolve(_dialect: object, _entry: object, _words: object, told: dict[str, Any]) -> None:
    """Look the server's name up beside the loop: libpq would wait for the resolver itself, and without an end."""
    names = str(told.get("host", "")).split(",")
    if in_greenlet() and not any(name == "" or name.startswith("/") for name in names):  # which are sockets
        ports = str(told.get("port", DEFAULT_PORT)).split(",")
        told.update(await_only(addresses(names, ports if len(ports) > 1 else ports * len(names))))


def _prepare_sqlite(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # the driver would open transactions too late: see _begin_sqlite
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")  # an acknowledged write survives a power cut
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(connection: Connection) -> None:
    milliseconds = int(seconds_left(SQLITE_BUSY_SECONDS) * 1_000)
    connection.connection.cursor().execute(f"PRAGMA busy_timeout = {milliseconds}")
    # A writer takes its lock at the start: one that reads first and writes later fails when somebody came between.
    if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
        connection.exec_driver_sql("BEGIN IMMEDIATE")


UNDONE: Final = frozenset({"40001", "40P01", "55P03"})
"""How PostgreSQL says that others were in the way: SERIALIZATION FAILURE, DEADLOCK DETECTED, LOCK NOT AVAILABLE."""

READ_ONLY: Final = "25006"
"""How PostgreSQL says that it takes no changes: READ ONLY SQL TRANSACTION, as a standby says always."""

LOST: Final = psycopg2.OperationalError | psycopg2.InterfaceError
"""What the driver itself calls the failures of a connection."""


@contextmanager
def failures_named() -> Iterator[None]:
    """Raise what means "not now" as Unavailable; errors in our own statements stay what they are."""
    try:
        yield
    except Exception as error:
        _raise_named(error)
        raise


def _raise_named(error: Exception) -> None:
    said = _said(error)
    if getattr(said, "pgcode", None) in UNDONE:
        raise TransactionAborted("too many others want to change the same now") from error
    if getattr(said, "pgcode", None) == READ_ONLY:
        raise Unavailable("the database takes no changes now") from error
    if isinstance(said, psycopg2.Error) and is_outdated(said):
        raise TransactionAborted("the schema has changed") from error
    if isinstance(said, psycopg2.Error) and is_lost(said):
        raise Unavailable("the connection to the database was lost") from error
    if isinstance(error, OperationalError | InterfaceError | PoolTimeoutError | LOST):
        raise Unavailable("the database cannot answer now") from error
    if isinstance(error, DBAPIError):
        if error.connection_invalidated:
            raise Unavailable("the connection to the database was lost") from error
        # None of its kinds: SQLite says so of a file that is damaged or not its own. A DSN is the operator's.
        if type(error) is DatabaseError or "invalid dsn" in str(error.orig):
            raise Unavailable("the database cannot answer now") from error


def _raise_interrupted(error: Exception) -> None:
    said = _said(error)
    is_at_work = not isinstance(error, DBAPIError) or error.statement is not None  # else connecting anew has failed
    if is_at_work and isinstance(said, psycopg2.Error) and is_lost(said):
        raise TransactionAborted("the connection to the database was lost") from error


def _said(error: Exception) -> BaseException | None:
    """What the driver itself has said."""
    return error.orig if isinstance(error, DBAPIError) else error


NOT_YET: Final = re.compile(
    "FATAL: +(the database system is (starting up|shutting down|in recovery mode|not yet accepting)"
    "|sorry, too many clients|too many connections|remaining connection slots)"
)
"""What PostgreSQL says when it will let us in later (57P03, 53300): the driver does not tell the state then."""

NO_ANSWER: Final = re.compile(
    "Connection refused|timed out|timeout expired|No route to host|(Network|Host) is (unreachable|down)"
    "|could not translate host name|failed: No such file|Connection reset|Broken pipe"
    "|closed the connection|connection has been closed|connection already closed|EOF detected|unexpected eof"
)
"""What the driver says when nobody answers, or not to the end: what stands in the way may pass by itself."""


def is_absent(error: Unavailable) -> bool:
    """Tell whether a database may be there by itself a little later: it is not up, out of reach, or locked (SQLite).

    One that answers and refuses us will not think better of it, and neither will one that answers as none would.
    """
    said = _said(error.__cause__) if isinstance(error.__cause__, Exception) else None
    if isinstance(said, sqlite3.OperationalError):
        return said.sqlite_errorname.startswith("SQLITE_BUSY")
    if not isinstance(said, psycopg2.Error):
        return False
    if isinstance(said, Overdue) or said.pgcode is not None:
        return isinstance(said, Overdue) or is_lost(said)
    tries = re.split("\n(?=connection to server)", str(said))  # one for each address, and with and without TLS
    return all((NOT_YET if "FATAL" in each else NO_ANSWER).search(each) for each in tries)


def violated(error: Exception) -> str:
    """Name the constraint that a statement ran into: by its name on PostgreSQL, by table.column on SQLite.

    SQLite does not say which foreign key it was; "FOREIGN KEY constraint failed" stands for any.
    """
    said: Any = _said(error)
    diagnosis: Any = getattr(said, "diag", None)
    if diagnosis is not None:
        return str(diagnosis.constraint_name)
    return str(said).removeprefix("UNIQUE constraint failed: ")
