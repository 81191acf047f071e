"""PostgreSQL: opening connections, pooling them, and their transactions."""

import asyncio
import os
import re
from collections.abc import Container, Hashable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Final

import psycopg2
import structlog
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.util import await_only, greenlet_spawn
from sqlalchemy.util.concurrency import in_greenlet

from application.errors import Refused
from infrastructure.database.batching import BatchedReads, Batcher
from infrastructure.database.pipeline import Pipeline, Statement
from infrastructure.database.wait_callback import WatchedConnection, bounded_waits, resolve_hosts
from infrastructure.execution.limiter import Limiter
from infrastructure.metrics import Metrics
from infrastructure.timeouts import Timeouts

DEFAULT_PORT: Final = 5432

INDEX_SCANS: Final = {
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
"""Requests are served by index scans in index order. PostgreSQL would choose otherwise in tables that are still empty,
and between two dates that a generic plan does not know."""

PLANNED_ONCE: Final = "SET plan_cache_mode = force_generic_plan"
"""Plans for any values, one of each prepared statement for a connection; Citus cannot make such plans."""

SESSION: Final = {
    "timezone": "UTC",
    "datestyle": "ISO, MDY",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
}
"""Session settings that change results or commits, set on each connection, whatever role and database say."""

OWNED: Final = frozenset({"application_name", "client_encoding"})
"""Connection parameters that Agora sets itself."""

NONE_PREPARED: Final[frozenset[str]] = frozenset()

log: Final = structlog.get_logger()


class PostgresDatabase:
    """A PostgreSQL database.

    In a greenlet, clients wait for a connection in rotation, one client has at most half of them, and waits release the
    loop.
    """

    def __init__(
        self,
        url: URL,
        connections: int,
        timeouts: Timeouts,
        prepared: Sequence[Statement],
        batched: Sequence[Statement],
        metrics: Metrics,
    ) -> None:
        self._in_use = metrics.connections_in_use
        self._timeouts = timeouts
        self._prepared = prepared
        self._batcher = Batcher(batched, partial(Pipeline, self, transaction=False), timeouts) if batched else None
        self._session = session_settings(timeouts, INDEX_SCANS)
        self.prologue = b""
        self._is_distributed: bool | None = None
        self.engine = create_engine(
            url,
            pool_size=connections,
            max_overflow=0,
            pool_timeout=timeouts.acquire,
            isolation_level="AUTOCOMMIT",
            skip_autocommit_rollback=True,
            use_native_hstore=False,
            hide_parameters=True,
            connect_args=connect_arguments(url, timeouts, INDEX_SCANS) | {"connection_factory": WatchedConnection},
        )
        event.listen(self.engine, "close", _unwatch)
        event.listen(self.engine, "do_connect", self._resolve)
        event.listen(self.engine, "connect", self._prepare_statements)
        self._limiter = Limiter(
            connections,
            "all database connections are in use; try again",
            timeouts.acquire,
            metrics.connections_waiting,
            share=max(1, connections // 2),
        )
        self._idle: list[Connection] = []
        self._has_connected = False
        self._connecting: asyncio.Task[None] | None = None
        self._waits = ExitStack()
        self._waits.enter_context(bounded_waits(timeouts))

    def read(self) -> Pipeline:
        """Check out a connection for queries, at the first of them that is not batched."""
        if self._batcher is None or self._is_distributed or not in_greenlet():
            return Pipeline(self, transaction=False)
        return BatchedReads(self._batcher, self)

    def write(self) -> Pipeline:
        """Check out a connection for a transaction, at its first statement."""
        return Pipeline(self, transaction=True)

    def close(self) -> None:
        """Close every connection."""
        if self._batcher is not None:
            self._batcher.close()
        if self._connecting is not None:
            self._connecting.cancel()
        while self._idle:
            self._idle.pop().close()
        self.engine.dispose()
        self._waits.close()

    def acquire(self, client: Hashable) -> Connection:
        """Acquire a connection: in a greenlet an idle one, without asking the pool."""
        connection = self._acquire_in_turn(client) if in_greenlet() else self.engine.connect()
        self._in_use.__enter__()
        return connection

    def release(self, connection: Connection, client: Hashable) -> None:
        """Release a connection; inside a transaction it is rolled back."""
        self._in_use.__exit__(None, None, None)
        if connection.invalidated:  # the server restarted or was replaced: every other one is suspect
            while self._idle:
                self._idle.pop().close()
        if not in_greenlet():
            connection.close()
            return
        try:
            if connection.invalidated:
                connection.close()
                return
            if connection.in_transaction():
                connection.rollback()
            self._idle.append(connection)
        finally:
            self._limiter.release(client)

    def _acquire_in_turn(self, client: Hashable) -> Connection:
        if not self._limiter.try_acquire(client):
            await_only(self._limiter.acquire(client))
        try:
            if self._idle:
                return self._idle.pop()
            if not self._has_connected:
                await_only(self._connected())
            return self.engine.connect()
        except BaseException:
            self._limiter.release(client)
            raise

    @property
    def is_distributed(self) -> bool:
        """Whether Citus distributes the tables; the first connection tells."""
        if self._is_distributed is None and in_greenlet():
            await_only(self._connected())
        elif self._is_distributed is None:
            self.engine.connect().close()
        return bool(self._is_distributed)

    def prepared(self, connection: Connection) -> Container[str]:
        """Name the statements that are prepared on a connection."""
        found: Container[str] = connection.info.get("prepared", NONE_PREPARED) if self._prepared else NONE_PREPARED
        return found

    def adapt_to_pooler(self, reason: str) -> None:
        """Send statements whole and settings with each transaction from now on.

        The reason is logged once.
        """
        if self._prepared:
            log.warning("statements are not prepared any more", reason=reason)
        self._prepared = ()
        settings = {name: value for name, value in self._session.items() if not name.startswith("default_")}
        settings = {"transaction_isolation": self._session["default_transaction_isolation"], **settings}  # comes first
        self.prologue = "; ".join(f"SET LOCAL {name} = '{value}'" for name, value in settings.items()).encode()

    def _prepare_statements(self, raw: Any, entry: ConnectionPoolEntry) -> None:
        """Prepare the fixed set on a new connection, unless it leads to a pooler."""
        is_pooled, self._is_distributed = inspect_server(raw)
        if is_pooled:
            self.adapt_to_pooler("a connection pooler stands before PostgreSQL")
            return
        planned = [] if self._is_distributed else [PLANNED_ONCE]
        prepared = [f"PREPARE {found.name} AS {found.text}" for found in self._prepared]
        try:
            if planned or prepared:
                raw.cursor().execute("; ".join(planned + prepared))
        except psycopg2.Error as error:
            if raw.closed:
                raise
            log.warning("statements of a connection could not be prepared", sqlstate=error.pgcode)
        else:
            entry.info["prepared"] = frozenset(statement.name for statement in self._prepared)

    def _resolve(self, _dialect: object, _entry: object, _arguments: object, parameters: dict[str, Any]) -> None:
        """Resolve the server's name beside the loop.

        libpq would block the loop, without a bound.
        """
        names = str(parameters.get("host", "")).split(",")
        if in_greenlet() and not any(name == "" or name.startswith("/") for name in names):  # sockets
            ports = str(parameters.get("port", DEFAULT_PORT)).split(",")
            ports = ports if len(ports) > 1 else ports * len(names)
            parameters.update(await_only(resolve_hosts(names, ports, self._timeouts.connect)))

    async def _connected(self) -> None:
        """Wait for the first connection.

        One attempt serves all waiters, and its failure is raised in all of them. SQLAlchemy inspects the server then,
        under a lock that would block the loop's thread.
        """
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect_first())
            self._connecting.add_done_callback(lambda done: done.cancelled() or done.exception())  # waiters may be gone
        connecting = self._connecting
        await asyncio.wait([connecting])  # a waiter that is cancelled does not cancel it
        connecting.result()

    async def _connect_first(self) -> None:
        try:
            await greenlet_spawn(lambda: self.engine.connect().close())
            self._has_connected = True
        finally:
            self._connecting = None


def inspect_server(raw: Any) -> tuple[bool, bool]:
    """Tell whether a connection leads to a pooler, and to a database with Citus.

    A pooler reports a process id of its own instead of that of PostgreSQL's process.
    """
    cursor = raw.cursor()
    cursor.execute("SELECT pg_backend_pid(), to_regclass('pg_catalog.pg_dist_partition') IS NOT NULL")
    ((backend, is_distributed),) = cursor.fetchall()
    return backend != raw.get_backend_pid(), is_distributed


def session_settings(timeouts: Timeouts, more: Mapping[str, str]) -> dict[str, str]:
    """Give the settings of every session: Agora's own, bounds on waits, and more."""
    return {
        **SESSION,
        "statement_timeout": f"{timeouts.statement * 1_000:.0f}",
        "lock_timeout": f"{timeouts.lock * 1_000:.0f}",
        "idle_in_transaction_session_timeout": f"{timeouts.idle_in_transaction * 1_000:.0f}",
        **more,
    }


def connect_arguments(url: URL, timeouts: Timeouts, settings: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Give libpq's parameters of a connection.

    They are joined with those of its URL and of PGOPTIONS.

    Raises:
        Refused: the URL or PGOPTIONS set what Agora sets itself.
    """
    session = session_settings(timeouts, settings or {})
    given = str(url.query.get("options") or os.environ.get("PGOPTIONS", ""))
    named = {name.replace("-", "_").lower() for name in re.findall(r"(?:-c\s*|--)([\w.-]+)\s*=", given)}
    if owned := sorted((named & session.keys()) | (OWNED & url.query.keys())):
        raise Refused(
            f"the database's URL or PGOPTIONS set {', '.join(owned)}, which Agora sets itself; leave that out"
        )
    ours = (f"-c {name}={value.replace(' ', chr(92) + ' ')}" for name, value in session.items())
    defaults = {
        "connect_timeout": timeouts.connect,
        "keepalives_idle": 30,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 6_000,  # milliseconds
    }
    return {name: value for name, value in defaults.items() if name not in url.query} | {
        "application_name": "agora",
        "client_encoding": "utf8",
        "options": " ".join([*([given] if given else []), *ours]),
    }


def postgres_engine(url: URL, connections: int, timeouts: Timeouts) -> Engine:
    """Make an engine for commands and migrations.

    Neither its errors nor its log hold the values of statements.
    """
    return create_engine(
        url,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=timeouts.acquire,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args=connect_arguments(url, timeouts),
    )


def _unwatch(connection: Any, _entry: ConnectionPoolEntry) -> None:
    connection.unwatch()
