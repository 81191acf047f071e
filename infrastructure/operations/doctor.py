"""Checks of settings, files and database, each finding with its remedy."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from sqlalchemy import Connection, select

from application.errors import Unavailable
from application.ports.services import Clock
from application.views import Counter
from infrastructure.database.engine import connected
from infrastructure.database.errors import DRIVER_ERRORS, driver_message
from infrastructure.database.schema import Migrations, encoding_fault
from infrastructure.operations.configuration import check_encryption, check_env_files, check_settings
from infrastructure.operations.counters import Counters
from infrastructure.operations.distribution import check_distribution
from infrastructure.operations.findings import Finding, Level, ok, problem, warning
from infrastructure.operations.postgres_server import (
    check_clock,
    check_limits,
    check_pooler,
    check_rights,
    who_can_migrate,
)
from infrastructure.operations.remedies import remedy_for
from infrastructure.operations.schema_drift import check_tables
from infrastructure.operations.sqlite_files import check_files, is_reachable_file
from infrastructure.settings import Settings
from infrastructure.timeouts import Timeouts


class Doctor:
    """Checks the settings, the files, the database and its server.

    A check that fails to run is a finding too.
    """

    def __init__(
        self, settings: Settings, migrations: Migrations, counters: Counters, clock: Clock, timeouts: Timeouts
    ) -> None:
        self._settings = settings
        self._migrations = migrations
        self._counters = counters
        self._clock = clock
        self._timeouts = timeouts
        self._postgres = settings.url.get_backend_name() != "sqlite"
        name = str(settings.url.database)
        self._file = None if self._postgres or name.startswith("file:") else Path(name).absolute()

    def examine(self, workers: int, *, count_votes: bool) -> Iterator[Finding]:
        """Check everything, for a server with this number of workers.

        No finding contains a secret.
        """
        yield from check_settings(self._settings)
        yield from _tried("the .env files", check_env_files(self._settings))
        if self._postgres:
            yield from check_encryption(self._settings.url)
        if self._file is not None:
            yield from _tried("the files of the database", check_files(self._file))
        elif not self._postgres:
            yield warning("the files of the database were not checked: DATABASE_URL names them by a URI")
        if not self._postgres and workers > 1:
            yield warning(
                f"SQLite has one writer at a time: {workers} workers would wait for each other",
                "start one worker, or move to PostgreSQL with agora export and agora import",
            )
        connected = self._connected()
        if connected is None or connected.level is Level.PROBLEM:
            yield from [connected] if connected else []
            yield warning("the contents of the database were not checked: it cannot be reached")
            return
        yield connected
        schema = list(self._examined("the rights on tables", check_rights)) if self._postgres else []
        schema += [] if schema else self._examined("the schema", self._of_schema)
        yield from schema
        if self._postgres:
            limits = partial(check_limits, self._settings.database_connections, workers)
            yield from self._examined("the clock", partial(check_clock, self._clock))
            yield from self._examined("the limit on connections", limits)
            yield from self._examined("the connection pooler", check_pooler)
            yield from self._examined("the distribution", partial(check_distribution, self._timeouts))
        if not count_votes:
            return
        if all(finding.level is Level.OK for finding in schema):
            yield from _tried("the counters", self._of_counters())
        else:
            yield warning("the counters were not checked: the schema is not this release's, or was not checked")

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        """Connect without a transaction."""
        with connected(self._settings.url, self._timeouts) as connection:
            yield connection.execution_options(isolation_level="AUTOCOMMIT")

    def _examined(self, what: str, check: Callable[[Connection], Iterator[Finding]]) -> Iterator[Finding]:
        """Run a check on a connection, or report why it cannot run."""

        def on_connection() -> Iterator[Finding]:
            with self._connection() as connection:
                yield from check(connection)

        return _tried(what, on_connection())

    def _connected(self) -> Finding | None:
        """Connect, without creating a SQLite file."""
        if self._file is not None and not is_reachable_file(self._file):
            return None
        try:
            with self._connection() as connection:
                connection.execute(select(1))
        except (Unavailable, *DRIVER_ERRORS, OSError) as error:
            reason = _reason(error)
            return problem(f"the database cannot be reached: {reason}", remedy_for(reason, self._settings.url))
        return ok("the database responds")

    def _of_schema(self, connection: Connection) -> Iterator[Finding]:
        wrong = encoding_fault(connection) or self._migrations.unmanaged(connection)
        unknown, pending = self._migrations.unknown(connection), self._migrations.pending(connection)
        if wrong:
            says, _, remedy = wrong.partition("; ")
            yield problem(says, remedy)
        elif unknown:
            yield problem(
                f"the schema is newer than this release, which does not know {', '.join(unknown)}",
                "install the release that migrated it, or a later one",
            )
        elif pending:
            remedy = who_can_migrate(connection) if self._postgres else "run: agora migrate"
            yield problem(f"migrations are pending: {', '.join(pending)}", remedy)
        elif differences := list(check_tables(connection)):
            yield from differences
        else:
            yield ok("the schema is this release's")

    def _of_counters(self) -> Iterator[Finding]:
        for of in Counter:
            posts = wrong = 0
            for batch in self._counters.verify(of):
                posts += len(batch)
                wrong += sum(not recount.agrees for recount in batch)
            if wrong:
                yield problem(f"{wrong} of {posts} posts disagree with their {of}", f"run: agora {of} verify --repair")
            else:
                yield ok(f"none of {posts} posts disagree with their {of}")


def _tried(what: str, check: Iterator[Finding]) -> Iterator[Finding]:
    """Run a check, or report why it cannot run."""
    try:
        yield from check
    except (Unavailable, *DRIVER_ERRORS, OSError) as error:
        yield warning(f"{what} could not be checked: {_reason(error)}")


def _reason(error: Exception) -> str:
    """Return the driver's message in one line; drivers repeat no password."""
    return driver_message(error.__cause__ or error)
