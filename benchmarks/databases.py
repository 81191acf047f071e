"""A private PostgreSQL for the benchmark, with one filled database for each peer."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from io import RawIOBase
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class
from psycopg2.extensions import cursor as Cursor  # noqa: N812 - a class
from sqlalchemy import URL, MetaData, Table, create_engine

from benchmarks.data import Data, Rows
from benchmarks.processes import parent
from infrastructure.database.schema import Migrations
from infrastructure.database.tables import metadata
from tests.support.command import COMMAND, environment, plain
from tests.support.postgres import private_server, running_server

SERVER: Final = {
    "shared_buffers": "2GB",
    "max_wal_size": "8GB",
    "maintenance_work_mem": "512MB",
    "max_connections": "500",
}
"""Enough that neither a checkpoint nor the cache decides about a round. Like the tests' server it runs without
fsync, except for what is measured on a disk: a commit costs its work. All peers share it."""


CONVERTERS: Final[dict[type, Callable[[str], object]]] = {
    bool: "t".__eq__,
    datetime: lambda text: datetime.fromisoformat(text).astimezone(UTC).replace(tzinfo=None),
    float: float,
    int: int,
    str: lambda text: text.replace(r"\n", "\n"),
}
"""From the form of COPY to values, by their type."""

BATCH: Final = 10_000
"""Rows that one INSERT takes."""


class Databases:
    """Makes and fills databases on one server."""

    def __init__(self, server: URL) -> None:
        self._server = server

    def agora(self, name: str, data: Data) -> URL:
        """Make Agora's database, by its own migrations, and fill it."""
        url = self._created(name)
        Migrations(url).upgrade()
        fill(url, metadata, data)
        return url

    def declared(self, name: str, tables: MetaData, data: Data) -> URL:
        """Make a database of declared tables, and fill it."""
        url = self._created(name)
        declare(url, tables)
        fill(url, tables, data)
        return url

    def first_edition(self, name: str, data: Data, command: Path) -> URL:
        """Make a database by the migrations of the first edition, and fill it."""
        url = self._created(name)
        migrate(url, command)
        tables = MetaData()
        engine = create_engine(url)
        tables.reflect(engine)
        engine.dispose()
        fill(url, tables, data)
        return url

    def copy(self, name: str, original: URL) -> URL:
        """Copy a database without connections."""
        return self._created(name, original.database)

    def drop(self, name: str) -> None:
        """Drop a database and close its connections."""
        with connected(self._server) as server, server.cursor() as cursor:
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def version(self) -> str:
        """Return the server's major version."""
        with connected(self._server) as server:
            return str(server.server_version // 10_000)

    def _created(self, name: str, template: str | None = None) -> URL:
        with connected(self._server) as server, server.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else ""))
        return self._server.set(database=name)


@contextmanager
def databases() -> Iterator[Databases]:
    """Run the server, until the block ends."""
    with running_server(eased=False, **SERVER) as url:
        yield Databases(url)


@contextmanager
def databases_on_disk(folder: Path) -> Iterator[Databases]:
    """Run a server below a folder of a disk, with fsync, until the block ends."""
    with private_server(folder, eased=False, **SERVER, fsync="on") as server:
        yield Databases(server.url)


@contextmanager
def connected(url: URL) -> Iterator[Connection]:
    """Yield a connection that commits each statement."""
    address: dict[str, Any] = url.translate_connect_args(username="user", database="dbname")
    with closing(psycopg2.connect(**address)) as connection:
        connection.autocommit = True
        yield connection


def postmaster(url: URL) -> int | None:
    """Return the id of PostgreSQL's main process; SQLite has none."""
    if url.get_backend_name() == "sqlite":
        return None
    with connected(url) as database:
        return parent(database.info.backend_pid)


def migrate(url: URL, command: Path = COMMAND) -> None:
    """Make the tables by an edition's own migrations."""
    subprocess.run([command, "migrate"], env=environment(DATABASE_URL=plain(url)), check=True, capture_output=True)


def declare(url: URL, tables: MetaData) -> None:
    """Create declared tables."""
    engine = create_engine(url)
    tables.create_all(engine)
    engine.dispose()


def fill(url: URL, tables: MetaData, data: Data) -> None:
    """COPY the data into the declared tables; build indexes last, VACUUM, ANALYZE.

    Vacuuming also flushes the pending list of a trigram index, which slows down every search until then.
    """
    rows = data.tables
    with connected(url) as database, database.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")  # foreign keys hold by construction
        for table in (tables.tables[name] for name in rows if name in tables.tables):
            indexes = _take_off_indexes(cursor, table.name)
            _copy(cursor, table, rows[table.name])
            for index in indexes:
                cursor.execute(index)
            if "id" in table.columns:
                cursor.execute(
                    f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), max(id)) FROM {table.name}"
                )
            cursor.execute(f"VACUUM (ANALYZE) {table.name}")


def fill_sqlite(path: Path, data: Data) -> None:
    """Insert the data into the tables of an SQLite database."""
    engine = create_engine(URL.create("sqlite", database=str(path)))
    tables = MetaData()
    tables.reflect(engine)
    with engine.begin() as connection:
        for name, rows in data.tables.items():
            table = tables.tables[name]
            columns = [(rows.columns.index(column.name), column) for column in table.columns]
            convert = [(index, column.name, CONVERTERS[column.type.python_type]) for index, column in columns]
            values = ({name: to(row[index]) for index, name, to in convert} for row in rows.values)
            while batch := list(islice(values, BATCH)):
                connection.execute(table.insert(), batch)
    engine.dispose()


def _take_off_indexes(cursor: Cursor, table: str) -> list[str]:
    cursor.execute(
        "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index"
        " WHERE indrelid = %s::regclass AND NOT indisunique",
        (table,),
    )
    found = cursor.fetchall()
    for name, _ in found:
        cursor.execute(f"DROP INDEX {name}")
    return [definition for _, definition in found]


def _copy(cursor: Cursor, table: Table, rows: Rows) -> None:
    missing = set(table.columns.keys()) - set(rows.columns)
    if missing:
        raise LookupError(f"benchmarks/data.py makes up nothing for {table.name}: {', '.join(sorted(missing))}")
    names = [name for name in rows.columns if name in table.columns]
    choose = itemgetter(*(rows.columns.index(name) for name in names))
    lines = ("\t".join(choose(row)) + "\n" for row in rows.values)
    cursor.copy_expert(f"COPY {table.name} ({', '.join(names)}) FROM STDIN", _Stream(lines))


class _Stream(RawIOBase):
    """Lines as the file that COPY reads from."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._rest = b""

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Read at most `size` bytes; a negative size reads to the end."""
        parts = [self._rest]
        length = len(self._rest)
        while size < 0 or length < size:
            line = next(self._lines, None)
            if line is None:
                break
            parts.append(line.encode())
            length += len(parts[-1])
        whole = b"".join(parts)
        end = len(whole) if size < 0 else size
        self._rest = whole[end:]
        return whole[:end]
