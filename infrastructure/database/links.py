"""What a connection is lent as: something to ask with, in as few messages to the database as the answers allow."""

from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from itertools import count
from typing import Any, Final

import psycopg2
from sqlalchemy import Connection, CursorResult, Executable, NestedTransaction, select, text, true
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError

from infrastructure.database.waiting import Overdue

Values = Mapping[str, Any]

PREPARED_MAX: Final = 100
"""Statements that PostgreSQL keeps prepared for one connection; the one that was prepared first gives way."""

_numbers = count(1)


class Statement:
    """A statement that is sent often. Its text is made once, and PostgreSQL parses and plans it once a connection.

    `prepared` is False where the plan has to go by the values: a search for a rare word is not one for a common word.
    Such a one may also collect rows from an index of trigrams, which gives them in no order (see `INDEX_WALKS`).
    """

    def __init__(self, clause: Any, *, sqlite: Executable | None = None, prepared: bool = True) -> None:
        self.clause: Any = clause if sqlite is None else sqlite
        prepared_as = clause.compile(dialect=_dialect("numeric_dollar"))
        self.text = str(prepared_as)
        self.whole = str(clause.compile(dialect=_dialect("pyformat")))
        self.name = f"agora_{next(_numbers)}" if prepared else None
        names = ", ".join(f"%({name})s" for name in prepared_as.positiontup or ())
        if self.name is not None:
            self.call = f"EXECUTE {self.name} ({names})" if names else f"EXECUTE {self.name}"
        elif clause.is_select:
            self.call = self.whole = f"SET LOCAL enable_bitmapscan = on; {self.whole}"  # for as long as this message
        else:
            self.call = self.whole


def _dialect(style: Any) -> Any:
    return postgresql.dialect(paramstyle=style)  # type: ignore[no-untyped-call]


PING: Final = Statement(select(true()))
BEGIN, COMMIT, ROLLBACK = (Statement(text(word), prepared=False) for word in ("BEGIN", "COMMIT", "ROLLBACK"))


def is_outdated(error: psycopg2.Error) -> bool:
    """Tell whether a statement that was prepared does not fit the tables any more: a migration has changed a type."""
    return error.pgcode == "0A000" and "cached plan" in str(error)


class Link:
    """A connection for questions, each its own transaction, or inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def connection(self) -> Connection:
        """The connection itself, for what is not asked often."""
        return self._connection

    @property
    def memory(self) -> dict[Any, Any]:
        """What is kept as long as the connection lives that the latest answer came over."""
        return self._connection.info

    def execute(self, statement: Executable, values: Values | Sequence[Values] | None = None) -> CursorResult[Any]:
        """Run a statement through SQLAlchemy."""
        return self.connection.execute(statement, values)

    def begin_nested(self) -> NestedTransaction:
        """Begin a part of the transaction that can be undone alone."""
        return self.connection.begin_nested()

    def rows(self, statement: Statement, values: Values) -> Sequence[tuple[Any, ...]]:
        """Ask, and get the answer."""
        return self._connection.execute(statement.clause, values).all()

    def row(self, statement: Statement, values: Values) -> tuple[Any, ...] | None:
        """Ask for one row, and get it or None."""
        return next(iter(self.rows(statement, values)), None)

    def later(self, statement: Statement, values: Values) -> None:
        """Have something done with the next question, or with the commit; what it runs into is raised there."""
        self._connection.execute(statement.clause, values)


class PipelinedLink(Link):
    """A connection to PostgreSQL. What needs no answer waits, and goes out in one message with what does.

    The connection is in autocommit mode: BEGIN and COMMIT are words of ours, which travel with their neighbours. A
    message that found the connection lost is sent once more over a fresh one if it was the first and did not commit:
    the server had been restarted in between, and nothing has happened.
    """

    def __init__(self, connection: Connection, *, transaction: bool, prepare: bool) -> None:
        super().__init__(connection)
        self._prepare = prepare
        self._raw: Any = None
        self._waiting: list[tuple[Statement, Values]] = [(BEGIN, {})] if transaction else []
        self._is_used = False

    @property
    def connection(self) -> Connection:
        """The connection itself, alive, and inside the transaction if there is one."""
        if not self._is_used:
            self._waiting.append((PING, {}))
        if self._waiting:
            self._send()
        return self._connection

    def rows(self, statement: Statement, values: Values) -> Sequence[tuple[Any, ...]]:
        """Ask, and get the answer."""
        self._waiting.append((statement, values))
        found: Sequence[tuple[Any, ...]] = self._send().fetchall()
        return found

    def later(self, statement: Statement, values: Values) -> None:
        """Have something done with the next message."""
        self._waiting.append((statement, values))

    def commit(self) -> None:
        """Send what still waits, and commit."""
        if self._is_used or len(self._waiting) > 1:
            self._is_used = True  # whatever happens, this is not sent twice
            self._waiting.append((COMMIT, {}))
            self._send()

    def rollback(self) -> None:
        """Undo what was sent."""
        if self._raw is not None and not self._raw.closed:
            self._waiting = [(ROLLBACK, {})]
            with suppress(psycopg2.OperationalError):  # the connection is lost, and everything undone with it
                self._send()

    def _send(self) -> Any:
        waiting, self._waiting = self._waiting, []
        is_first, self._is_used = not self._is_used, True
        try:
            return self._run(waiting)
        except psycopg2.Error as error:
            if not self._raw.closed:
                raise
            self._distrust()
            if not is_first or isinstance(error, Overdue):
                raise
        return self._run(waiting)

    def _run(self, statements: Sequence[tuple[Statement, Values]]) -> Any:
        self._raw = self._connection.connection.dbapi_connection
        cursor = self._raw.cursor()
        info = self._connection.info
        prepared: dict[str, None] = info.setdefault("prepared", {})
        parts: list[bytes] = []
        is_unsure = "is unsure" in info and statements[0][0] is not ROLLBACK  # before that nothing else is heard
        if is_unsure:
            parts.append(b"DEALLOCATE ALL")
        fresh: list[str] = []
        for statement, values in statements:
            if not self._prepare or statement.name is None:
                call = statement.whole
            else:
                call = statement.call
                if statement.name not in prepared and statement.name not in fresh:
                    parts.append(f"PREPARE {statement.name} AS {statement.text}".encode())
                    fresh.append(statement.name)
            parts.append(cursor.mogrify(call, values) if values else call.encode())
        if fresh:
            used = {statement.name for statement, _ in statements}
            parts = self._making_room(prepared, len(fresh), used) + parts
        try:
            cursor.execute(b"; ".join(parts))
        except psycopg2.Error as error:
            if fresh or is_outdated(error):  # nobody can tell now which of them are prepared, or of what use they are
                prepared.clear()
                info["is unsure"] = True
            raise
        prepared.update(dict.fromkeys(fresh))
        if is_unsure:
            del info["is unsure"]
        return cursor

    @staticmethod
    def _making_room(prepared: dict[str, None], more: int, used: Container[str | None]) -> list[bytes]:
        """Give up the statements that were prepared first, but none in use, if the connection would hold too many."""
        over = max(0, len(prepared) + more - PREPARED_MAX)
        first = [name for name in prepared if name not in used][:over]
        for name in first:
            del prepared[name]
        return [f"DEALLOCATE {name}".encode() for name in first]

    def _distrust(self) -> None:
        """Have SQLAlchemy find out that the connection is lost: it then distrusts every other one of that age."""
        with suppress(DBAPIError):
            self._connection.exec_driver_sql("SELECT 1")
        self._connection.rollback()
