"""Bulk reads and writes of whole databases.

Their statements and transactions are unbounded, and their locks wait longer than those of requests.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from io import StringIO
from itertools import islice
from typing import Any, Final

import psycopg2
from sqlalchemy import URL, Connection, Executable, Result, Table, column, func, insert, inspect, select, table, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import AddConstraint, DropConstraint

from application.errors import Refused, Unavailable
from domain.posts import Post
from domain.users import User
from domain.votes import Vote
from infrastructure.database.engine import connected
from infrastructure.database.posts import post_row, title_row
from infrastructure.database.schema import reach_trigrams
from infrastructure.database.tables import FILLED, NUMBERED, posts, titles, users, votes
from infrastructure.database.users import user_row
from infrastructure.database.votes import vote_row
from infrastructure.database.wait_callback import unbounded_waits
from infrastructure.timeouts import DEFAULT_TIMEOUTS

BATCH: Final = 2_000
"""Rows in memory at once: a few hundred megabytes with the longest posts."""

Part = tuple[Callable[[Connection, Sequence[Any]], None], Iterable[Any]]
"""Entities of one kind, after the function that inserts them."""


@contextmanager
def snapshot(url: URL) -> Iterator[Connection]:
    """Read a consistent snapshot of a database, without blocking writers.

    Raises:
        Unavailable: the database is unavailable.
    """
    with connected(url) as connection, unbounded_waits():
        if connection.dialect.name == "sqlite":
            connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql("BEGIN")  # locks nothing
        else:
            connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            _relax_timeouts(connection)
        yield connection


@contextmanager
def transaction(url: URL) -> Iterator[Connection]:
    """Write in one transaction: the end of the block commits, an exception rolls back.

    Raises:
        Unavailable: the database is unavailable.
    """
    with connected(url) as connection, unbounded_waits(), connection.begin():
        _relax_timeouts(connection)
        yield connection


def _relax_timeouts(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0"))
        connection.execute(text(f"SET LOCAL lock_timeout = {DEFAULT_TIMEOUTS.operation_lock * 1_000:.0f}"))


def analyze(url: URL) -> None:
    """Update the planner's statistics after a bulk write.

    Failures are ignored: autovacuum does the same later.
    """
    if url.get_backend_name() == "postgresql":
        with suppress(Unavailable), connected(url) as connection, unbounded_waits():
            connection.execution_options(isolation_level="AUTOCOMMIT")
            connection.execute(text("SET statement_timeout = 0"))
            connection.execute(text(f"VACUUM (ANALYZE) {', '.join(filled.name for filled in FILLED)}"))


def require_empty(connection: Connection) -> None:
    """Accept only a database without users.

    Later registrations wait until the transaction ends.

    Raises:
        Refused: the database has users.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("LOCK TABLE users IN SHARE ROW EXCLUSIVE MODE"))
    if connection.execute(select(users.c.id).limit(1)).first() is not None:
        raise Refused("this database has users already; name an empty one, and run there: agora migrate")


@contextmanager
def without_indexes(connection: Connection) -> Iterator[None]:
    """Drop PostgreSQL's indexes and foreign keys, and create them after the block.

    Without them loading takes half the time. The tables stay locked until the transaction ends.
    """
    if connection.dialect.name == "sqlite":
        yield
        return
    reach_trigrams(connection)
    inspector = inspect(connection)  # without pg_trgm there are no trigram indexes
    indexes = [
        index for filled in FILLED for index in filled.indexes if inspector.has_index(filled.name, str(index.name))
    ]
    keys = [key for filled in FILLED for key in filled.foreign_key_constraints]
    for index in indexes:
        index.drop(connection)
    for key in keys:
        connection.execute(DropConstraint(key))
    yield
    for index in indexes:
        index.create(connection)
    for key in keys:
        connection.execute(AddConstraint(key, isolate_from_table=False))


def load(
    connection: Connection, parts: Iterable[Part], last: Mapping[str, int], progress: Callable[[int], None]
) -> None:
    """Insert entities in batches; `progress` receives the number inserted so far.

    No id up to the last one of its table, here or in `last`, is generated again.
    """
    done = 0
    with without_indexes(connection):
        for add, entities in parts:
            remaining = iter(entities)
            while batch := list(islice(remaining, BATCH)):
                add(connection, batch)
                progress(done := done + len(batch))
    _advance_sequences(connection, last)


def stream(connection: Connection, statement: Executable) -> Result[*tuple[Any, ...]]:
    """Fetch the rows of a query in batches."""
    return connection.execute(statement, execution_options={"yield_per": BATCH})


def add_users(connection: Connection, new: Sequence[User]) -> None:
    """Insert accounts with their ids."""
    insert_rows(users, connection, [{"id": user.id, **user_row(user), "created_at": user.created_at} for user in new])


def add_posts(connection: Connection, new: Sequence[Post]) -> None:
    """Insert posts with their ids and tallies."""
    insert_rows(posts, connection, [{"id": post.id, **post_row(post)} for post in new])
    insert_rows(titles, connection, [{"post_id": post.id, **title_row(post)} for post in new])


def add_votes(connection: Connection, new: Sequence[Vote]) -> None:
    """Insert votes; the tallies of their posts include them already."""
    insert_rows(votes, connection, [vote_row(vote) for vote in new])


def insert_rows(into: Table, connection: Connection, rows: Sequence[Mapping[str, object]]) -> None:
    """Insert rows by COPY on PostgreSQL, by one prepared statement on SQLite."""
    if not rows:
        return
    if connection.dialect.name == "sqlite":
        connection.execute(insert(into), rows)
        return
    statement = f"COPY {into.name} ({', '.join(rows[0])}) FROM STDIN"
    lines = StringIO("".join("\t".join(map(_copy_text, row.values())) + "\n" for row in rows))
    with closing(connection.connection.cursor()) as cursor:
        try:
            cursor.copy_expert(statement, lines)
        except psycopg2.Error as error:  # SQLAlchemy does not see COPY, so its error is wrapped here
            raise DBAPIError.instance(statement, None, error, psycopg2.Error, dialect=connection.dialect) from error


def _copy_text(value: object) -> str:
    """Encode a value in COPY's text format."""
    if value is None:
        return r"\N"
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str):
        return value.replace("\\", r"\\").replace("\t", r"\t").replace("\n", r"\n").replace("\r", r"\r")
    return str(value)


def last_ids(connection: Connection) -> dict[str, int]:
    """Return the last id that each table generated, deleted rows included."""
    return {numbered.name: last_id(connection, numbered.name) for numbered in NUMBERED}


def last_id(connection: Connection, name: str) -> int:
    """Return the last id that a table generated, as far as the database knows."""
    if connection.dialect.name == "sqlite":
        has_sequences = connection.exec_driver_sql("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'").first()
        counter = text("SELECT seq FROM sqlite_sequence WHERE name = :name")
        given = connection.scalar(counter, {"name": name}) if has_sequences else None
    else:
        given = connection.scalar(select(func.pg_sequence_last_value(func.pg_get_serial_sequence(name, "id"))))
    highest = connection.scalar(select(func.max(column("id"))).select_from(table(name)))
    return max(given or 0, highest or 0)


def _advance_sequences(connection: Connection, last: Mapping[str, int]) -> None:
    for name, here in last_ids(connection).items():
        values = {"name": name, "last": max(here, last.get(name, 0))}
        if not values["last"]:
            continue
        if connection.dialect.name == "sqlite":
            connection.execute(text("DELETE FROM sqlite_sequence WHERE name = :name"), values)
            connection.execute(text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :last)"), values)
        else:
            connection.execute(text("SELECT setval(pg_get_serial_sequence(:name, 'id'), :last)"), values)
