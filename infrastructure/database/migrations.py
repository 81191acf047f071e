"""The schema's history: bringing a database up to date, and telling whether it is."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, repeat
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection

import migrations
from application.errors import Unavailable
from infrastructure.database.engine import Database, open_engine
from infrastructure.database.errors import is_transient, translate_errors
from infrastructure.database.strangers import in_the_way
from infrastructure.database.wait_callback import bounded_waits
from infrastructure.logs import said_by_driver
from infrastructure.timeouts import DEFAULT_TIMEOUTS, Timeouts


def config() -> Config:
    """Configure Alembic for this project's migrations; the database comes from the settings, never from here."""
    found = Config()
    found.set_main_option("script_location", str(Path(migrations.__file__).parent).replace("%", "%%"))
    return found


class Migrations:
    """One database's schema against the history in `migrations/`."""

    def __init__(self, url: URL, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> None:
        self._url = url
        self._timeouts = timeouts
        self._config = config()
        self._script = ScriptDirectory.from_config(self._config)
        self._heads = set(self._script.get_heads())
        self._steps = [step.revision for step in self._script.walk_revisions()]

    def upgrade(self) -> None:
        """Bring the schema up to date; nothing happens where it is already.

        Raises:
            Unavailable: it is a newer release's or somebody else's, or the database cannot answer now.
        """
        with self._look() as connection:
            if self.is_current(connection):
                return
            self._require_known(connection)
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
        with self._look() as connection:
            if self.is_current(connection):
                return
            self._require_known(connection)
            raise Unavailable("the database's schema is older than this release; run: agora migrate")

    def when_up(self, act: Callable[[], None], say: Callable[[str], None]) -> None:
        """Do one of the above as soon as the database is up: both may start at once.

        `say` is told, about every try that was in vain, what the database's driver said.

        Raises:
            Unavailable: as `act` does, the database refuses us, or it is not up after 30 seconds.
        """
        until = time.monotonic() + self._timeouts.startup
        for pause in chain(self._timeouts.startup_pauses, repeat(self._timeouts.startup_pauses[-1])):
            try:
                act()
            except Unavailable as error:
                if not is_transient(error) or time.monotonic() + pause > until:
                    raise
                say(said_by_driver(error.__cause__ or error))
                time.sleep(pause)
            else:
                return

    def _require_known(self, connection: Connection) -> None:
        if strangers := self.strangers(connection):
            raise Unavailable(strangers)
        if self.unknown(connection):
            raise Unavailable("the database's schema is newer than this release; install the release that made it")

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

    def strangers(self, connection: Connection) -> str | None:
        """Say which tables are somebody else's and, after a semicolon, what to do; None where the schema is ours."""
        if self._known(connection):
            return None
        return in_the_way(connection, is_numbered=bool(self.unknown(connection)))

    def _known(self, connection: Connection) -> tuple[str, ...]:
        return tuple(_current(connection).intersection(self._steps))

    @contextmanager
    def _look(self) -> Iterator[Connection]:
        """Lend a connection for questions: it locks nothing, and each answer comes in time or not at all."""
        with bounded_waits(self._timeouts), self._connect() as connection:
            yield connection.execution_options(isolation_level="AUTOCOMMIT")

    @contextmanager
    def _connect(self) -> Iterator[Connection]:
        engine = open_engine(self._url, 1, self._timeouts)
        try:
            with translate_errors():
                with bounded_waits(self._timeouts):
                    connection = engine.connect()
                with connection:
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
            with self._database.read() as querier:
                current = self._migrations.is_current(querier.connection)
        except Unavailable:
            return {"database": "unavailable", "migrations": "unknown"}
        return {"database": "ok", "migrations": "ok" if current else "not at this release's schema"}
