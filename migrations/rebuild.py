"""Rebuilding SQLite's tables without losing rows, checks or generated ids.

Alembic alters a table that SQLite cannot alter by copying it: it creates `_alembic_tmp_NAME`, drops the original and
renames the copy (Alembic's manual, "Running Batch Migrations for SQLite"). While foreign keys are enforced, dropping a
table deletes its rows first, which cascades. The copy lacks CHECK constraints and AUTOINCREMENT, and its sequence
begins after the last row instead of the last id.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import CheckConstraint, Connection, Table, event, inspect, text

PREFIX = "_alembic_tmp_"


@contextmanager
def safe_rebuilds(connection: Connection) -> Iterator[None]:
    """Stop enforcing foreign keys while the block runs, outside of a transaction."""
    cursor = connection.connection.cursor()
    cursor.execute("PRAGMA foreign_keys = OFF")  # has no effect inside a transaction
    event.listen(Table, "before_create", _complete)
    try:
        yield
    finally:
        event.remove(Table, "before_create", _complete)
        cursor.execute("PRAGMA foreign_keys = ON")


@contextmanager
def checked(connection: Connection) -> Iterator[None]:
    """Check foreign keys and restore generated ids at the end of a transaction.

    Raises:
        RuntimeError: a row refers to a row that is missing.
    """
    last = _last_ids(connection)
    yield
    now = _last_ids(connection)
    for name in last.keys() & inspect(connection).get_table_names():
        values = {"name": name, "last": max(last[name], now.get(name, 0))}
        connection.execute(text("DELETE FROM sqlite_sequence WHERE name = :name"), values)
        connection.execute(text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :last)"), values)
    if missing := connection.execute(text("PRAGMA foreign_key_check")).first():
        raise RuntimeError(f"the migration leaves a row of {missing[0]} that refers to a missing row of {missing[2]}")


def _last_ids(connection: Connection) -> dict[str, int]:
    if not inspect(connection).has_table("sqlite_sequence"):
        return {}
    return {row.name: row.seq for row in connection.execute(text("SELECT name, seq FROM sqlite_sequence"))}


def _complete(copy: Table, connection: Connection, **_: Any) -> None:
    """Give the copy of a table what Alembic does not copy."""
    if not copy.name.startswith(PREFIX):
        return
    original = copy.name.removeprefix(PREFIX)
    declared = connection.scalar(text("SELECT sql FROM sqlite_master WHERE name = :name"), {"name": original})
    copy.dialect_options["sqlite"]["autoincrement"] = "AUTOINCREMENT" in str(declared).upper()
    present = {constraint.name for constraint in copy.constraints}
    for check in inspect(connection).get_check_constraints(original):
        if check["name"] not in present:
            copy.append_constraint(CheckConstraint(check["sqltext"], name=check["name"]))
