"""Many rows at once: what filling, exporting, importing and adopting a whole database stand on.

Such work may take long, so it has a connection of its own, without the limits on time that requests have.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from io import StringIO
from itertools import islice
from typing import Any, Final, TypeVar

import psycopg2
from sqlalchemy import URL, Connection, Executable, Row, Table, column, func, insert, inspect, select, table, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import AddConstraint, DropConstraint

from application.errors import Refused, Unavailable
from domain.posts import Post
from domain.users import User
from domain.votes import Vote
from infrastructure.database.engine import open_engine
from infrastructure.database.errors import translate_errors
from infrastructure.database.posts import post_row, title_row
from infrastructure.database.tables import posts, sessions, titles, users, votes
from infrastructure.database.users import user_row
from infrastructure.database.votes import vote_row
from infrastructure.database.wait_callback import unbounded_waits

BATCH: Final = 2_000
"""Rows that are held in memory at once; the longest posts there can be take a few hundred megabytes then."""

NUMBERED: Final = (users, posts, sessions)
"""Tables that give their rows ids."""

FILLED: Final = (users, posts, titles, votes)
"""Tables that rows are loaded into."""

Item = TypeVar("Item")


@contextmanager
def snapshot(url: URL) -> Iterator[Connection]:
    """Read a database as it is at one moment, however long that takes and whoever writes meanwhile.

    Raises:
        Unavailable: the database cannot answer now.
    """
    with _connection(url) as connection:
        if connection.dialect.name == "sqlite":
            connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql("BEGIN")  # keeps nobody waiting
        else:
            connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            _without_limits(connection)
        yield connection


@contextmanager
def transaction(url: URL) -> Iterator[Connection]:
    """Write much, and all of it or nothing: leaving the block commits, an exception undoes everything.

    Raises:
        Unavailable: the database cannot answer now.
    """
    with _connection(url) as connection, connection.begin():
        _without_limits(connection)
        yield connection


@contextmanager
def _connection(url: URL) -> Iterator[Connection]:
    engine = open_engine(url, connections=1)
    try:
        with unbounded_waits(), translate_errors(), engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def _without_limits(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0"))


def tidy(url: URL) -> None:
    """Have PostgreSQL look at what was written in bulk, so that it plans well from the first request on.

    Autovacuum would do the same a little later, so it is no failure when this fails.
    """
    if url.get_backend_name() == "postgresql":
        with suppress(Unavailable), _connection(url) as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            connection.execute(text("SET statement_timeout = 0"))
            connection.execute(text("VACUUM (ANALYZE) users, posts, titles, votes"))


def require_empty(connection: Connection) -> None:
    """Accept a database in which nobody has registered yet, and let nobody register until the transaction ends.

    Raises:
        Refused: somebody has.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("LOCK TABLE users IN SHARE ROW EXCLUSIVE MODE"))
    if connection.execute(select(users.c.id).limit(1)).first() is not None:
        raise Refused("this database has users already; take an empty one, and run there: agora migrate")


@contextmanager
def checked_at_the_end(connection: Connection) -> Iterator[None]:
    """Have PostgreSQL build indexes and check foreign keys when all rows are there: one by one takes twice as long.

    Until the transaction ends, nobody else can read or write these tables.
    """
    if connection.dialect.name == "sqlite":
        yield
        return
    inspector = inspect(connection)  # without pg_trgm there are no indexes of trigrams
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


def batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Cut what comes into lists that memory can hold."""
    iterator = iter(items)
    while batch := list(islice(iterator, BATCH)):
        yield batch


def stream(connection: Connection, statement: Executable) -> Iterator[Row[*tuple[Any, ...]]]:
    """Read the rows of a question a batch at a time."""
    for batch in connection.execute(statement, execution_options={"yield_per": BATCH}).partitions():
        yield from batch


def add_users(connection: Connection, new: Sequence[User]) -> None:
    """Store accounts with the ids that they have."""
    _load(connection, users, [{"id": user.id, **user_row(user), "created_at": user.created_at} for user in new])


def add_posts(connection: Connection, new: Sequence[Post]) -> None:
    """Store posts with the ids and the tallies that they have."""
    _load(connection, posts, [{"id": post.id, **post_row(post)} for post in new])
    _load(connection, titles, [{"post_id": post.id, **title_row(post)} for post in new])


def add_votes(connection: Connection, new: Sequence[Vote]) -> None:
    """Store votes; the tallies of their posts count them already."""
    _load(connection, votes, [vote_row(vote) for vote in new])


def _load(connection: Connection, into: Table, rows: Sequence[Mapping[str, object]]) -> None:
    """Insert rows by the fastest way there is: COPY on PostgreSQL, one prepared statement on SQLite."""
    if not rows:
        return
    if connection.dialect.name == "sqlite":
        connection.execute(insert(into), rows)
        return
    statement = f"COPY {into.name} ({', '.join(rows[0])}) FROM STDIN"
    lines = StringIO("".join("\t".join(map(_copied, row.values())) + "\n" for row in rows))
    with closing(connection.connection.cursor()) as cursor:
        try:
            cursor.copy_expert(statement, lines)
        except psycopg2.Error as error:  # past SQLAlchemy, which would have named it so
            raise DBAPIError.instance(statement, None, error, psycopg2.Error, dialect=connection.dialect) from error


def _copied(value: object) -> str:
    """Write a value in COPY's text format."""
    if value is None:
        return r"\N"
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str):
        return value.replace("\\", r"\\").replace("\t", r"\t").replace("\n", r"\n").replace("\r", r"\r")
    return str(value)


def last_ids(connection: Connection) -> dict[str, int]:
    """Tell the last id that each table has given, be it to a row that is gone."""
    return {numbered.name: last_id(connection, numbered.name) for numbered in NUMBERED}


def last_id(connection: Connection, name: str) -> int:
    """Tell the last id that a table has given, as far as it remembers."""
    if connection.dialect.name == "sqlite":
        remembers = connection.exec_driver_sql("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'").first()
        counter = text("SELECT seq FROM sqlite_sequence WHERE name = :name")
        given = connection.scalar(counter, {"name": name}) if remembers else None
    else:
        given = connection.scalar(select(func.pg_sequence_last_value(func.pg_get_serial_sequence(name, "id"))))
    highest = connection.scalar(select(func.max(column("id"))).select_from(table(name)))
    return max(given or 0, highest or 0)


def move_on(connection: Connection, last: Mapping[str, int]) -> None:
    """Have each table go on after the last id that was given, here or there, so that no two rows ever share one."""
    for name, here in last_ids(connection).items():
        values = {"name": name, "last": max(here, last.get(name, 0))}
        if not values["last"]:
            continue
        if connection.dialect.name == "sqlite":
            connection.execute(text("DELETE FROM sqlite_sequence WHERE name = :name"), values)
            connection.execute(text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :last)"), values)
        else:
            connection.execute(text("SELECT setval(pg_get_serial_sequence(:name, 'id'), :last)"), values)
