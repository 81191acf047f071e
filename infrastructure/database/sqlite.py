"""SQLite: opening a file, and its transactions."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock, Semaphore

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.pool import ConnectionPoolEntry

from application.errors import MissingDatabase, Unavailable
from infrastructure.database.errors import translate_errors
from infrastructure.database.pipeline import Querier
from infrastructure.execution.deadline import remaining
from infrastructure.metrics import Metrics
from infrastructure.timeouts import Timeouts


class SqliteDatabase:
    """A SQLite file."""

    def __init__(self, url: URL, connections: int, timeouts: Timeouts, metrics: Metrics) -> None:
        self._timeouts = timeouts
        self._metrics = metrics
        self._file = database_file(url)
        self._opened: tuple[int, int] | None = None
        self.engine = sqlite_engine(url, connections, timeouts)
        self._readers = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        # SQLite has one writer at a time. It is chosen here: waiters at SQLite's own lock sleep and poll, and starve.
        self._writer = Lock()
        self._free = Semaphore(connections)  # the wait of SQLAlchemy's pool knows no deadline

    @contextmanager
    def read(self) -> Iterator[Querier]:
        """Check out a connection for queries."""
        with self._connected(self._readers) as connection:
            yield Querier(connection)

    @contextmanager
    def write(self) -> Iterator[Querier]:
        """Check out a connection inside a transaction."""
        reason = "the database has been locked by another writer all the time; try again"
        with (
            self._held(self._writer, self._timeouts.sqlite_busy, reason),
            self._connected(self.engine) as connection,
            connection.begin(),
        ):
            yield Querier(connection)

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    @contextmanager
    def _connected(self, engine: Engine) -> Iterator[Connection]:
        reason = "all database connections are in use; try again"
        with (
            translate_errors(),
            self._held(self._free, self._timeouts.acquire, reason),
            self._connect(engine) as connection,
            self._metrics.connections_in_use,
        ):
            yield connection

    @contextmanager
    def _held(self, lock: "Lock | Semaphore", seconds: float, reason: str) -> Iterator[None]:
        with self._metrics.connections_waiting:
            is_acquired = lock.acquire(timeout=remaining(seconds))
        if not is_acquired:
            raise Unavailable(reason)
        try:
            yield
        finally:
            lock.release()

    def _connect(self, engine: Engine) -> Connection:
        """Connect to the file that has the name now.

        A file that was deleted can still be written to while open.
        """
        found = self._identity()
        # Not before the first connection: another thread may be opening it, and would initialise the wrong pool.
        if self._opened is not None and found != self._opened:
            if found is None:
                raise Unavailable("the database's file was deleted; restore it")
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


def database_file(url: URL) -> Path | None:
    """Return the file that a URL names; None if it names it by a URI."""
    name = str(url.database)
    return None if name.startswith("file:") else Path(name)


def is_missing(url: URL) -> bool:
    """Return whether a URL names a SQLite file that does not exist."""
    file = database_file(url) if url.get_backend_name() == "sqlite" else None
    try:
        return file is not None and not file.exists()
    except PermissionError:  # a folder above it is closed to this process: SQLite reports that
        return False


def create_file(url: URL) -> None:
    """Create the SQLite file if there is none, open to this user only."""
    if database_file(url) is not None and not is_missing(url):
        return
    engine = create_engine(url)
    before = os.umask(0o077)  # SQLite gives the files beside it the same mode
    try:
        engine.connect().close()
    finally:
        os.umask(before)
        engine.dispose()


def sqlite_engine(url: URL, connections: int, timeouts: Timeouts) -> Engine:
    """Make the engine of a SQLite file, which it does not create.

    Neither its errors nor its log hold the values of statements.
    """
    if database_file(url) is None and "mode" not in url.query:
        url = url.update_query_dict({"mode": "rw"})

    def require_file(*_: object) -> None:
        if is_missing(url):
            raise MissingDatabase(
                f"there is no database at {Path(str(url.database)).absolute()}; name the right one in DATABASE_URL or"
                " change to its folder; a new one is created by: agora migrate"
            )

    engine = create_engine(
        url, pool_size=connections, max_overflow=0, pool_timeout=timeouts.acquire, hide_parameters=True
    )

    def begin(connection: Connection) -> None:
        milliseconds = int(remaining(timeouts.sqlite_busy) * 1_000)
        connection.connection.cursor().execute(f"PRAGMA busy_timeout = {milliseconds}")
        # A writer locks at its beginning: one that reads first and writes later fails when another came between.
        if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    event.listen(engine, "do_connect", require_file)
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", begin)
    return engine


def _configure(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # the driver would begin transactions too late
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")  # an acknowledged write survives a power cut
    connection.execute("PRAGMA foreign_keys = ON")
