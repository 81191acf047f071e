"""What the drivers send."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2.extensions
from sqlalchemy import event
from sqlalchemy.pool import Pool


@contextmanager
def round_trips(into: list[str] | None = None) -> Iterator[list[str]]:
    """Collect what the driver sends over connections that are opened in the block."""
    sent: list[str] = [] if into is None else into

    class CountingCursor(psycopg2.extensions.cursor):
        def execute(self, query: Any, values: Any = None) -> None:
            sent.append(query.decode() if isinstance(query, bytes) else str(query))
            super().execute(query, values)

    def note(connection: Any, _record: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.set_trace_callback(sent.append)
        else:
            connection.cursor_factory = CountingCursor

    event.listen(Pool, "connect", note)
    try:
        yield sent
    finally:
        event.remove(Pool, "connect", note)
