"""The schema of a database: migrations, tables of other applications, health."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy import URL, Connection, inspect, text

import migrations
from application.errors import Refused, Unavailable
from infrastructure.database.engine import Database, connected
from infrastructure.database.errors import driver_message, is_transient, translate_errors
from infrastructure.database.pipeline import Statement
from infrastructure.database.sqlite import create_file, is_missing
from infrastructure.database.tables import metadata
from infrastructure.database.wait_callback import bounded_waits
from infrastructure.timeouts import DEFAULT_TIMEOUTS, Timeouts

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

T = TypeVar("T")

COURSE_TABLES: Final = frozenset({"users", "posts", "votes"})
"""Tables of the public course's application. Agora has three of the same names."""

EXTENSION: Final = text(
    "SELECT quote_ident(nspname) AS name, has_schema_privilege(extnamespace, 'USAGE') AS is_open,"
    " quote_ident(current_user) AS role_name"
    " FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace WHERE extname = 'pg_trgm'"
)
"""The schema of pg_trgm, and whether the role may use it."""

APPEND_TO_PATH: Final = text(
    "SELECT set_config('search_path', concat_ws(', ', nullif(current_setting('search_path'), ''), :schema), true)"
)


FOLDER: Final = Path(migrations.__file__).parent

STEPS: Final = tuple(sorted(file.name.split("_")[1] for file in FOLDER.glob("versions/[0-9]*.py")))
"""The revisions in their order, from the names of their files: most commands need Alembic for nothing else."""


HAS_VERSIONS: Final = Statement(
    text("SELECT 1 WHERE to_regclass('alembic_version') IS NOT NULL"),
    sqlite=text("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'"),
)
VERSIONS: Final = Statement(text("SELECT version_num FROM alembic_version"))


def config() -> "Config":
    """Configure Alembic for the migrations of Agora; the settings name the database."""
    from alembic.config import Config  # here, as only migrating commands need it

    found = Config()
    found.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    return found


class Migrations:
    """One database's schema against the history in `migrations/`."""

    def __init__(self, url: URL, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> None:
        self._url = url
        self._timeouts = timeouts

    def upgrade(self, target: str = "heads") -> list[str]:
        """Apply pending migrations, all or those up to a revision; report each.

        Raises:
            Unavailable: the schema is a newer release's or another application's, the encoding of the database is not
                UTF8, or the database is unavailable.
        """
        if self._url.get_backend_name() == "sqlite":
            with translate_errors():
                create_file(self._url)
        with self._inspecting() as connection:
            is_current = self.is_current(connection)
            if not is_current:
                self._require_known(connection)
        with connected(self._url, self._timeouts) as connection:
            return finish(connection) if is_current else self.upgrade_on(connection, target)

    def create_missing(self) -> None:
        """Create the SQLite file if there is none, with the schema of this release.

        Raises:
            Unavailable: the file cannot be created.
        """
        if is_missing(self._url):
            self.upgrade()

    def upgrade_on(self, connection: Connection, target: str = "heads") -> list[str]:
        """Apply pending migrations on a connection, within its transaction.

        Raises:
            Refused: a migration found rows that it cannot migrate, and changed nothing.
            Unavailable: the database's encoding is not UTF8.
        """
        from alembic import command

        _require_utf8(connection)
        return self._run(command.upgrade, connection, target)

    def applied_after(self, target: str) -> list[str]:
        """Return the applied revisions that follow a revision, the last one first.

        Raises:
            Refused: this release has no such revision.
            Unavailable: as `upgrade` does.
        """
        if target not in STEPS:
            raise Refused(f"there is no revision {target}; this release has {', '.join(STEPS)}")
        with self._inspecting() as connection:
            self._require_known(connection)
            pending = self.pending(connection)
        return [name for name in reversed(STEPS) if name > target and name not in pending]

    def downgrade(self, target: str) -> list[str]:
        """Revert the migrations that follow a revision; report each."""
        from alembic import command

        with connected(self._url, self._timeouts) as connection:
            return self._run(command.downgrade, connection, target)

    def _run(self, move: "Callable[[Config, str], None]", connection: Connection, target: str) -> list[str]:
        from alembic.util import CommandError

        done: list[str] = []
        with_connection = config()
        with_connection.attributes |= {
            "connection": connection,
            "report": done.append,
            "timeouts": self._timeouts,
        }
        try:
            move(with_connection, target)
        except CommandError as error:
            raise Refused(str(error)) from error
        return done

    def require_current(self) -> None:
        """Accept only the schema of this release.

        Raises:
            Unavailable: the schema is another one, the encoding is not UTF8, or the database is unavailable.
        """
        with self._inspecting() as connection:
            if self.is_current(connection):
                return
            self._require_known(connection)
            raise Unavailable("the database's schema is older than this release; run: agora migrate")

    def when_available(self, act: Callable[[], T], report: Callable[[str], None]) -> T:
        """Call `act`, and call it again while the database starts up; return its result.

        `report` receives the driver's error after each failed attempt.

        Raises:
            Unavailable: `act` raised it for another reason, or the database was unavailable until the timeout.
        """
        until = time.monotonic() + self._timeouts.startup
        pauses = chain(self._timeouts.startup_pauses, repeat(self._timeouts.startup_pauses[-1]))
        while True:
            try:
                return act()
            except Unavailable as error:
                pause = next(pauses)
                if not is_transient(error) or time.monotonic() + pause > until:
                    raise
                report(driver_message(error.__cause__ or error))
                time.sleep(pause)

    def is_current(self, connection: Connection) -> bool:
        """Return whether the schema is this release's."""
        return _current(connection) == {STEPS[-1]}

    def pending(self, connection: Connection) -> list[str]:
        """Return the revisions that the schema lacks, in their order."""
        latest = max(self._known(connection), default="")
        return [name for name in STEPS if name > latest]

    def unknown(self, connection: Connection) -> list[str]:
        """Return the schema's revisions that this release does not know.

        A newer release applied them.
        """
        return sorted(_current(connection) - set(STEPS))

    def unmanaged(self, connection: Connection) -> str | None:
        """Describe tables with names of Agora's that Agora did not create.

        A remedy follows a semicolon; None if there are none. Tables under unknown revisions are a later release's, if
        `users` is Agora's.
        """
        # The tables first: another process may migrate meanwhile, and commits tables and version together.
        tables = sorted(set(inspect(connection).get_table_names()) & metadata.tables.keys())
        current = _current(connection)
        if not tables or current.intersection(STEPS) or (current and _has_managed_users(connection)):
            return None
        if is_course(connection):
            return "the tables users, posts and votes are those of the public course's application; run: agora adopt"
        named = f"a table {tables[0]}" if len(tables) == 1 else f"tables {', '.join(tables)}"
        return f"the database has {named} that Agora did not create; name another database, or rename what is there"

    def _require_known(self, connection: Connection) -> None:
        if unmanaged := self.unmanaged(connection):
            raise Unavailable(unmanaged)
        if self.unknown(connection):
            raise Unavailable("the database's schema is newer than this release; install the release that made it")

    def _known(self, connection: Connection) -> tuple[str, ...]:
        return tuple(_current(connection).intersection(STEPS))

    @contextmanager
    def _inspecting(self) -> Iterator[Connection]:
        """Connect without transaction and locks, with a timeout on each response."""
        with bounded_waits(self._timeouts), connected(self._url, self._timeouts) as connection:
            _require_utf8(connection)
            yield connection.execution_options(isolation_level="AUTOCOMMIT")


def encoding_fault(connection: Connection) -> str | None:
    """Describe an encoding of a PostgreSQL database that cannot store every text.

    A remedy follows a semicolon; None for UTF8 and for SQLite. The server reported its encoding when it was connected.
    """
    raw: Any = connection.connection.dbapi_connection
    encoding = None if connection.dialect.name == "sqlite" else raw.get_parameter_status("server_encoding")
    if encoding in {None, "UTF8"}:
        return None
    return (
        f"the database {raw.info.dbname} has the encoding {encoding}, and Agora's text needs UTF8; create another one,"
        " and move what is there by pg_dump --encoding=UTF8:"
        " CREATE DATABASE ... ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0"
    )


def _require_utf8(connection: Connection) -> None:
    if fault := encoding_fault(connection):
        raise Unavailable(fault)


def finish(connection: Connection, script: "ScriptDirectory | None" = None) -> list[str]:
    """Do what the last applied migration leaves to short transactions.

    It may be repeated, and names what it did. A later migration with a `finish` replaces it.
    """
    from alembic.script import ScriptDirectory

    script = script or ScriptDirectory.from_config(config())
    connection.execution_options(isolation_level="AUTOCOMMIT")
    for step in script.iterate_revisions(tuple(_current(connection)), "base"):
        if hasattr(step.module, "finish"):
            return list(step.module.finish(connection))
    return []


def _current(connection: Connection) -> set[str]:
    if not inspect(connection).has_table("alembic_version"):
        return set()
    return set(connection.execute(text("SELECT version_num FROM alembic_version")).scalars())


def reach_trigrams(connection: Connection) -> str | None:
    """Append the schema of pg_trgm to the search path of the transaction.

    Return the statement that would give the role access to that schema, if it has none. Only indexes name the
    extension's operator class; searches use PostgreSQL's own LIKE.
    """
    found = connection.execute(EXTENSION).one_or_none()
    if found is None:
        return None
    connection.execute(APPEND_TO_PATH, {"schema": found.name})
    return None if found.is_open else f"GRANT USAGE ON SCHEMA {found.name} TO {found.role_name};"


def is_course(connection: Connection) -> bool:
    """Return whether the tables are those of the public course's application.

    Its `users` differs from Agora's by the column `email_key`.
    """
    return set(inspect(connection).get_table_names()) >= COURSE_TABLES and not _has_managed_users(connection)


def _has_managed_users(connection: Connection) -> bool:
    inspector = inspect(connection)
    return inspector.has_table("users") and "email_key" in {found["name"] for found in inspector.get_columns("users")}


class SqlHealth:
    """Checks that the database responds and has the schema of this release."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def checks(self) -> dict[str, str]:
        """Return the state of "database" and of "migrations": "ok", or what is wrong."""
        try:
            with self._database.read() as querier:
                found = querier.fetch_all(HAS_VERSIONS, {}) and querier.fetch_all(VERSIONS, {})
        except Unavailable:
            return {"database": "unavailable", "migrations": "unknown"}
        return {"database": "ok", "migrations": "ok" if found == [(STEPS[-1],)] else "not at this release's schema"}
