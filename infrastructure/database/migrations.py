"""The schema's history: bringing a database up to date, and telling whether it is."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection

import migrations
from application.ports import Unavailable
from infrastructure.database.engine import Database, failures_named, open_engine


def config() -> Config:
    """Configure Alembic for this project's migrations; the database comes from the settings, never from here."""
    found = Config()
    found.set_main_option("script_location", str(Path(migrations.__file__).parent).replace("%", "%%"))
    return found


class Migrations:
    """One database's schema against the history in `migrations/`."""

    def __init__(self, url: URL) -> None:
        self._url = url
        self._config = config()
        self._script = ScriptDirectory.from_config(self._config)
        self._heads = set(self._script.get_heads())
        self._steps = [step.revision for step in self._script.walk_revisions()]

    def upgrade(self) -> None:
        """Bring the schema up to date; nothing happens where it is already.

        Raises:
            Unavailable: the database cannot answer now.
        """
        with self._connect() as connection:
            self.upgrade_on(connection)

    def upgrade_on(self, connection: Connection) -> None:
        """Bring the schema up to date over a connection, within its transaction if it is in one."""
        self._config.attributes["connection"] = connection
        command.upgrade(self._config, "heads")

    def require_current(self) -> None:
        """Accept a schema that this release was written for.

        Raises:
            Unavailable: it is another one, or the database cannot answer now.
        """
        with self._connect() as connection:
            if not self.is_current(connection):
                raise Unavailable("the database's schema is not this release's; run: agora migrate")

    def is_current(self, connection: Connection) -> bool:
        """Tell whether the schema is the one that this release was written for."""
        return _current(connection) == self._heads

    def pending(self, connection: Connection) -> list[str]:
        """Name the steps that the schema still lacks, in their order."""
        applied = {step.revision for step in self._script.iterate_revisions(self._known(connection), "base")}
        return [name for name in reversed(self._steps) if name not in applied]

    def unknown(self, connection: Connection) -> list[str]:
        """Name the steps that the schema has and this release does not know: a newer release took them."""
        return sorted(_current(connection) - set(self._steps))

    def _known(self, connection: Connection) -> tuple[str, ...]:
        return tuple(_current(connection).intersection(self._steps))

    @contextmanager
    def _connect(self) -> Iterator[Connection]:
        engine = open_engine(self._url, connections=1)
        try:
            with failures_named(), engine.connect() as connection:
                yield connection
        finally:
            engine.dispose()


def _current(connection: Connection) -> set[str]:
    return set(MigrationContext.configure(connection).get_current_heads())


class SqlHealth:
    """Asks the database whether it answers, and whether its schema is the one this code was written for."""

    def __init__(self, database: Database, migrations: Migrations) -> None:
        self._database = database
        self._migrations = migrations

    def checks(self) -> dict[str, str]:
        """Check the database and its migrations.

        The keys are "database" and "migrations"; each value is "ok" or says what is wrong.
        """
        try:
            with self._database.read() as link:
                current = self._migrations.is_current(link.connection)
        except Unavailable:
            return {"database": "unavailable", "migrations": "unknown"}
        return {"database": "ok", "migrations": "ok" if current else "not at this release's schema"}
