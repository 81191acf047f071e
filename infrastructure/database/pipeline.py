"""Statements, and the pipeline that sends them in few round trips."""

import logging
from collections.abc import Container, Hashable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from hashlib import blake2b
from types import TracebackType
from typing import Any, Final, Protocol, Self

import psycopg2
from sqlalchemy import (
    BigInteger,
    BindParameter,
    Connection,
    Executable,
    bindparam,
    column,
    func,
    literal_column,
    select,
    text,
    true,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import visitors

from infrastructure.database.errors import (
    is_prepared_conflict,
    is_read_only,
    is_stale_plan,
    raise_aborted,
    raise_translated,
)
from infrastructure.database.wait_callback import ResponseTimeout
from infrastructure.execution.limiter import current_client

Values = Mapping[str, Any]
Rows = Sequence[tuple[Any, ...]]

_sql_log: Final = logging.getLogger("sqlalchemy.engine.Engine")  # where SQLAlchemy logs its statements


class Statement:
    """A statement whose text is compiled once, when it is first executed.

    One that is prepared is parsed once for each connection, and planned for any values. Its name is a hash of its
    text: a connection whose session a pooler changes can fail, but never execute another statement of the same name.

    One that searches by `trigrams` may use bitmap scans, the only ones that such an index supports. `rows` is the
    largest number of rows that it returns, where batches need to know.
    """

    def __init__(self, clause: Any, *, sqlite: Executable | None = None, trigrams: bool = False, rows: int = 1) -> None:
        self.clause: Any = clause if sqlite is None else sqlite
        self.postgres = clause
        self.rows = rows
        self._prefix = "SET LOCAL enable_bitmapscan = on; " if trigrams else ""  # for this round trip only

    @cached_property
    def text(self) -> str:
        """Text for PREPARE, with numbered parameters."""
        return str(self._numbered)

    @cached_property
    def whole(self) -> str:
        """Text with the parameters of the driver."""
        return self._prefix + str(self.postgres.compile(dialect=_dialect("pyformat")))

    @cached_property
    def name(self) -> str:
        """Name of the prepared statement."""
        return f"agora_{blake2b(self.text.encode(), digest_size=8).hexdigest()}"

    @cached_property
    def names(self) -> Sequence[str]:
        """Names of the parameters, in the order of their numbers."""
        return self._numbered.positiontup or ()

    @cached_property
    def call(self) -> str:
        """Text that executes the prepared statement."""
        values = ", ".join(f"%({name})s" for name in self.names)
        return f"EXECUTE {self.name} ({values})" if values else f"EXECUTE {self.name}"

    @cached_property
    def batched(self) -> "Statement":
        """Statement that executes this query for each row of arrays.

        There is one array per parameter.

        Its rows begin with the number of their query, from 1. LATERAL executes the query once for each, in a nested
        loop, which keeps the order of queries and of rows (PostgreSQL's manual, section 7.2.1.5).
        """
        types: dict[str, Any] = {}

        def replace(element: Any, **_: object) -> Any:
            if not isinstance(element, BindParameter) or not element.required:
                return None
            types[element.key] = BigInteger() if element.type._isnull else element.type  # noqa: SLF001
            return literal_column(f"asked.{element.key}", types[element.key])

        inner = visitors.replacement_traverse(self.postgres, {}, replace).lateral("found")
        arrays = [bindparam(name, type_=ARRAY(kind)) for name, kind in types.items()]
        asked = func.unnest(*arrays).table_valued(*(column(name) for name in types), with_ordinality="number")
        asked = asked.render_derived(name="asked")
        numbered: Any = select(literal_column("asked.number"), literal_column("found.*"))
        return Statement(numbered.select_from(asked.join(inner, true())))

    @cached_property
    def _numbered(self) -> Any:
        return self.postgres.compile(dialect=_dialect("numeric_dollar"))


def arrays_of(statement: Statement, many: Sequence[Values]) -> Values:
    """Return the values of the batched form of a statement."""
    return {name: [values[name] for values in many] for name in statement.names}


def _dialect(style: Any) -> Any:
    return postgresql.dialect(paramstyle=style)  # type: ignore[no-untyped-call]


BEGIN, COMMIT, ROLLBACK = (Statement(text(word)) for word in ("BEGIN", "COMMIT", "ROLLBACK"))


class Querier:
    """Executes statements on a connection.

    Each statement is a transaction of its own, or all are inside one.
    """

    locks_rows = False

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def fetch_all(self, statement: Statement, values: Values) -> Sequence[tuple[Any, ...]]:
        """Execute a statement, and return its rows."""
        return self._connection.execute(statement.clause, values).all()

    def fetch_one(self, statement: Statement, values: Values) -> tuple[Any, ...] | None:
        """Execute a statement, and return its first row or None."""
        return next(iter(self.fetch_all(statement, values)), None)

    @property
    def is_distributed(self) -> bool:
        """Whether Citus distributes the tables."""
        return False

    def fetch_many(self, statement: Statement, many: Sequence[Values]) -> Sequence[Rows]:
        """Execute a statement for several values, in their order; return the rows of each."""
        return [self.fetch_all(statement, values) for values in many]

    def enqueue(self, statement: Statement, values: Values) -> None:
        """Queue a statement; its errors surface at the next query or at commit."""
        self._connection.execute(statement.clause, values)

    def lock(self, statement: Statement, many: Sequence[Values]) -> None:
        """Queue a query for its locks, once for each values, in their order.

        SQLite has no locks of rows: its transaction holds that of the whole database.
        """


class ConnectionSource(Protocol):
    """The connections of a database, and what it knows of the sessions behind them."""

    prologue: bytes
    """Sent first in each transaction, where a pooler may have changed the session."""

    @property
    def is_distributed(self) -> bool:
        """Whether Citus distributes the tables; the first connection tells."""
        ...

    def acquire(self, client: Hashable) -> Connection:
        """Acquire a connection for a client."""
        ...

    def release(self, connection: Connection, client: Hashable) -> None:
        """Release a connection; inside a transaction it is rolled back."""
        ...

    def prepared(self, connection: Connection) -> Container[str]:
        """Name the statements that are prepared on a connection."""
        ...

    def adapt_to_pooler(self, reason: str) -> None:
        """Send statements whole and settings with each transaction from now on."""
        ...


class Pipeline(Querier):
    """The use of a connection to PostgreSQL for one block.

    It is acquired at the first round trip. Queued statements are sent with the next query or with COMMIT. The end of
    the block ends the transaction, and translates errors.

    The connection is in autocommit mode: BEGIN and COMMIT are statements like others. A first round trip that found
    the connection closed is sent again over a new one, unless it commits: the server had restarted, and nothing
    had happened.
    """

    locks_rows = True

    def __init__(self, source: ConnectionSource, *, transaction: bool) -> None:
        self._source = source
        self._client = current_client.get()
        self._is_transaction = transaction
        self._raw: Any = None
        self._pending: list[tuple[Statement, Values]] = [(BEGIN, {})] if transaction else []
        self._is_used = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if self._is_transaction:
                self._end(failed=kind is not None)
        except Exception as failure:
            error = failure
            raise_translated(failure)
            raise
        finally:
            if self._is_used:
                self._release(error)
        if isinstance(error, Exception):
            raise_aborted(error)  # not above: once COMMIT was sent, its outcome is unknown
            raise_translated(error)

    def fetch_all(self, statement: Statement, values: Values) -> Sequence[tuple[Any, ...]]:
        """Execute a statement after the queued ones, and return its rows."""
        self._pending.append((statement, values))
        found: Sequence[tuple[Any, ...]] = self._send().fetchall()
        return found

    def enqueue(self, statement: Statement, values: Values) -> None:
        """Queue a statement for the next round trip."""
        self._pending.append((statement, values))

    @property
    def is_distributed(self) -> bool:
        """Whether Citus distributes the tables; then statements are sent one by one.

        Citus locks the rows of one shard in a statement, and joins no arrays to several.
        """
        return self._source.is_distributed

    def fetch_many(self, statement: Statement, many: Sequence[Values]) -> Sequence[Rows]:
        """Execute a statement once for each values, in one round trip."""
        if len(many) <= 1 or self.is_distributed:
            return super().fetch_many(statement, many)
        found: list[list[tuple[Any, ...]]] = [[] for _ in many]
        for number, *row in self.fetch_all(statement.batched, arrays_of(statement, many)):
            found[number - 1].append(tuple(row))
        return found

    def lock(self, statement: Statement, many: Sequence[Values]) -> None:
        """Queue a query for its locks, in one statement."""
        if len(many) <= 1 or self.is_distributed:
            for values in many:
                self.enqueue(statement, values)
        else:
            self.enqueue(statement.batched, arrays_of(statement, many))

    def _end(self, *, failed: bool) -> None:
        if failed:
            self._rollback()
            return
        try:
            self._commit()
        except psycopg2.Error:
            self._rollback()
            raise

    def _commit(self) -> None:
        if self._is_used or len(self._pending) > 1:
            self._pending.append((COMMIT, {}))
            self._send(repeatable=False)

    def _rollback(self) -> None:
        if self._raw is not None and not self._raw.closed:
            self._pending = [(ROLLBACK, {})]
            with suppress(psycopg2.OperationalError):  # the connection is lost, and everything rolled back with it
                self._send()

    def _release(self, error: BaseException | None) -> None:
        if is_prepared_conflict(error):
            self._source.adapt_to_pooler("a connection pooler shares the sessions of PostgreSQL")
        is_closed = self._raw is not None and self._raw.closed  # lost, or closed by a wait that was cancelled
        if is_closed or is_read_only(error) or is_stale_plan(error):
            self._connection.invalidate()  # a new one may reach another server, and plans afresh
        self._source.release(self._connection, self._client)

    def _send(self, *, repeatable: bool = True) -> Any:
        pending, self._pending = self._pending, []
        is_first = not self._is_used
        if is_first:
            self._connection = self._source.acquire(self._client)
            self._is_used = True
        try:
            return self._run(pending)
        except psycopg2.Error as error:
            if not self._raw.closed:
                raise
            self._invalidate()
            if not (is_first and repeatable) or isinstance(error, ResponseTimeout):
                raise
        return self._run(pending)

    def _run(self, statements: Sequence[tuple[Statement, Values]]) -> Any:
        self._raw = self._connection.connection.dbapi_connection
        prepared = self._source.prepared(self._connection)
        cursor = self._raw.cursor()
        parts = [self._source.prologue] if self._source.prologue and not self._is_transaction else []
        for statement, values in statements:
            _sql_log.info(statement.whole)
            call = statement.call if statement.name in prepared else statement.whole
            parts.append(cursor.mogrify(call, values) if values else call.encode())
            if statement is BEGIN and self._source.prologue:
                parts.append(self._source.prologue)
        cursor.execute(b"; ".join(parts))
        return cursor

    def _invalidate(self) -> None:
        """Report the closed connection to SQLAlchemy.

        SQLAlchemy then pings every other connection of that age.
        """
        with suppress(DBAPIError):
            self._connection.exec_driver_sql("SELECT 1")
        self._connection.rollback()
