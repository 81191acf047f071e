"""Checks of settings, files and database, each finding with its remedy."""

import getpass
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from shlex import quote
from typing import Final

from sqlalchemy import URL, Connection, func, select, text

from application.errors import Unavailable
from application.ports.services import Clock
from application.votes import VerifyVotes
from infrastructure.database.engine import HEALTH_CONNECTIONS, connected
from infrastructure.database.errors import DRIVER_ERRORS, driver_message
from infrastructure.database.pipeline import Querier
from infrastructure.database.postgres import is_pooled
from infrastructure.database.schema import Migrations
from infrastructure.database.standby import position_of, replayed_by, unfit
from infrastructure.database.tables import metadata
from infrastructure.operations.findings import Finding, Level, ok, problem, warning
from infrastructure.settings import Settings
from infrastructure.timeouts import Timeouts

PARTS: Final = ("DB_HOST", "DB_PORT", "DB_USER", "DB_PASSWORD", "DB_NAME")

SKEW_NOTED: Final = timedelta(seconds=1)
SKEW_HARMFUL: Final = timedelta(seconds=10)
"""Tolerance of tokens between two machines: `LEEWAY_SECONDS` in `infrastructure/tokens.py`."""

LIMITS: Final = text(
    "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int"
    " - coalesce(current_setting('reserved_connections', true)::int, 0) AS server,"
    " (SELECT datconnlimit FROM pg_database WHERE datname = current_database()) AS database,"
    " (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user) AS role,"
    " (SELECT count(*) FROM pg_stat_activity"
    " WHERE datid IS NOT NULL AND application_name IS DISTINCT FROM 'agora') AS others,"
    " current_setting('superuser_reserved_connections')::int"
    " + coalesce(current_setting('reserved_connections', true)::int, 0) AS reserved,"
    " quote_ident(current_database()) AS database_name, quote_ident(current_user) AS role_name"
)
"""Limits on connections of the server, the database and the role (-1: none), and connections of others."""

RIGHTS: Final = text(
    "SELECT quote_ident(relname) AS name, quote_ident(pg_get_userbyid(relowner)) AS owner,"
    " quote_ident(current_user) AS role_name, quote_ident(current_database()) AS database_name,"
    " has_table_privilege(oid, 'SELECT') AND (relname = 'alembic_version' OR has_table_privilege(oid, 'INSERT')"
    " AND has_table_privilege(oid, 'UPDATE') AND has_table_privilege(oid, 'DELETE')) AS is_open"
    " FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p')"
    " AND relname = ANY(:names) ORDER BY relname"
)
"""Agora's tables, their owners, and whether the role may read and write them."""

UNREACHABLE: Final = (
    ('role ".*" does not exist', "create the role: CREATE ROLE {user} LOGIN PASSWORD '...'; or name another user"),
    (
        'database ".*" does not exist',
        "create the database: CREATE DATABASE {database} OWNER {user}; or name another one",
    ),
    (
        "too many clients|connection slots",
        "raise max_connections in postgresql.conf and restart PostgreSQL, or start fewer workers",
    ),
    (
        "password authentication failed",
        (
            "correct the user and the password; in DATABASE_URL write % as %25, or set DB_PASSWORD instead, which needs"
            " no escaping; in a shell or a .env file, put the value between single quotes"
        ),
    ),
    ("Connection refused", "start PostgreSQL, or name the host and port where it listens"),
    ("timeout expired|respond in time|no response", "check the host, the port and the firewalls between"),
    ("translate host name", "correct the name of the host"),
    ("not a database", "name another file in DATABASE_URL: this one is no SQLite database"),
)
"""Patterns of driver errors, each with its remedy; the first match counts."""


class Doctor:
    """Checks the settings, the files, the database and its server.

    A check that fails to run is a finding too.
    """

    def __init__(
        self, settings: Settings, migrations: Migrations, verify: VerifyVotes, clock: Clock, timeouts: Timeouts
    ) -> None:
        self._settings = settings
        self._migrations = migrations
        self._verify = verify
        self._clock = clock
        self._timeouts = timeouts
        self._postgres = settings.url.get_backend_name() != "sqlite"
        name = str(settings.url.database)
        self._file = None if self._postgres or name.startswith("file:") else Path(name).absolute()

    def examine(self, workers: int, *, count_votes: bool) -> Iterator[Finding]:
        """Check everything, for a server with this number of workers.

        No finding contains a secret.
        """
        yield from self._of_settings()
        if self._file is not None:
            yield from self._tried("the files of the database", self._of_files(self._file))
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
        schema = list(self._tried("the rights on tables", self._of_rights())) if self._postgres else []
        schema += [] if schema else self._tried("the schema", self._of_schema())
        yield from schema
        if self._postgres:
            yield from self._tried("the clock", self._of_clock())
            yield from self._tried("the limit on connections", self._of_pool(workers))
            yield from self._tried("the connection pooler", self._of_pooler())
        if self._settings.read_url is not None:
            yield from self._tried("the standby", self._of_standby(self._settings.read_url))
        if not count_votes:
            return
        if all(finding.level is Level.OK for finding in schema):
            yield from self._tried("the counters", self._of_counters())
        else:
            yield warning("the counters were not checked: the schema is not this release's, or was not checked")

    @contextmanager
    def _connection(self, url: URL | None = None) -> Iterator[Connection]:
        """Connect without a transaction, to the database or to another one."""
        with connected(url or self._settings.url, self._timeouts) as connection:
            yield connection.execution_options(isolation_level="AUTOCOMMIT")

    @staticmethod
    def _tried(what: str, check: Iterator[Finding]) -> Iterator[Finding]:
        """Run a check, or report why it cannot run."""
        try:
            yield from check
        except (Unavailable, *DRIVER_ERRORS, OSError) as error:
            yield warning(f"{what} could not be checked: {_reason(error)}")

    def _of_settings(self) -> Iterator[Finding]:
        production = self._settings.fastapi_env == "production"
        weaknesses = self._settings.weaknesses()
        for weakness in weaknesses:
            says, _, remedy = weakness.partition(": ")
            if production:
                yield problem(says, remedy)
            else:
                yield warning(f"{says}, which production refuses", remedy)
        parts = [name for name in PARTS if getattr(self._settings, name.lower()) is not None]
        if self._settings.database_url is not None and parts:
            yield warning(
                f"{', '.join(parts)} have no effect while DATABASE_URL is set",
                "remove either of them",
            )
        named = {weakness.partition(" ")[0] for weakness in weaknesses}
        warnings = [said for said in self._settings.warnings() if said.partition(" ")[0] not in named]
        for found in warnings:
            says, _, remedy = found.partition("; ")
            yield warning(says, remedy)
        if not weaknesses and not warnings:
            yield ok(f"the settings are fit for use; FASTAPI_ENV is {self._settings.fastapi_env}")

    def _of_files(self, file: Path) -> Iterator[Finding]:
        """Check a SQLite file and its folder, in which SQLite creates two more files."""
        me = _user()
        for folder in reversed(file.parents[1:]):
            if not _is_open(folder, os.X_OK) and folder.is_dir():
                yield problem(
                    f"{me} cannot enter the folder {folder}, so {file} cannot be reached",
                    f"run: chmod a+x {quote(str(folder))}; or name a file elsewhere in DATABASE_URL",
                )
                return
        if not file.parent.is_dir():
            yield problem(f"there is no folder {file.parent}", "create it, or name another one in DATABASE_URL")
            return
        if _is_open(file.parent, os.X_OK) and file.is_dir():
            yield problem(
                f"{file} is a folder, not a file", f"name a file in it: DATABASE_URL=sqlite:///{file}/agora.db"
            )
            return
        found = []
        if not _is_open(file.parent, os.R_OK | os.W_OK | os.X_OK):
            found.append(
                problem(
                    f"the folder {file.parent} is closed to {me}, and SQLite creates files in it",
                    f"run: chown {me} {quote(str(file.parent))} && chmod u+rwx {quote(str(file.parent))}",
                )
            )
            if not _is_open(file.parent, os.X_OK):
                yield from found
                return
        files = [name for name in (file, Path(f"{file}-wal"), Path(f"{file}-shm")) if name.exists()]
        for name in files:
            found += self._of_file(name, me)
        if not files and not found:
            found.append(problem(f"there is no database {file} yet", "run: agora migrate"))
        yield from found or [ok(f"the files of the database are open to {me} only")]

    def _of_file(self, name: Path, me: str) -> Iterator[Finding]:
        if not name.is_file() or not _is_open(name, os.R_OK | os.W_OK):
            yield problem(
                f"{me} cannot read and write {name}",
                f"run: chown {me} {quote(str(name))} && chmod u+rw {quote(str(name))}",
            )
        mode = name.stat().st_mode
        if all(folder.stat().st_mode & stat.S_IXOTH for folder in name.parents):
            if mode & stat.S_IWOTH:
                yield problem(f"every user of this machine can write {name}", f"run: chmod o= {quote(str(name))}")
            elif mode & stat.S_IROTH:
                yield warning(
                    f"every user of this machine can read {name}, with e-mails and password hashes",
                    f"run: chmod o= {quote(str(name))}",
                )

    def _connected(self) -> Finding | None:
        """Connect, without creating a SQLite file."""
        if self._file is not None and not _is_file(self._file):
            return None
        try:
            with self._connection() as connection:
                connection.execute(select(1))
        except (Unavailable, *DRIVER_ERRORS, OSError) as error:
            reason = _reason(error)
            return problem(f"the database cannot be reached: {reason}", _remedy(reason, self._settings.url))
        return ok("the database responds")

    def _of_schema(self) -> Iterator[Finding]:
        with self._connection() as connection:
            unmanaged = self._migrations.unmanaged(connection)
            unknown, pending = self._migrations.unknown(connection), self._migrations.pending(connection)
        if unmanaged:
            says, _, remedy = unmanaged.partition("; ")
            yield problem(says, remedy)
        elif unknown:
            yield problem(
                f"the schema is newer than this release, which does not know {', '.join(unknown)}",
                "install the release that migrated it, or a later one",
            )
        elif pending:
            yield problem(f"migrations are pending: {', '.join(pending)}", "run: agora migrate")
        else:
            yield ok("the schema is this release's")

    def _of_rights(self) -> Iterator[Finding]:
        """Check the right to read and write Agora's tables; no finding if there is."""
        with self._connection() as connection:
            tables = connection.execute(RIGHTS, {"names": [*metadata.tables, "alembic_version"]}).all()
        for owner in sorted({table.owner for table in tables if not table.is_open}):
            closed = [table for table in tables if table.owner == owner and not table.is_open]
            names, (role, database) = [table.name for table in closed], closed[0][2:4]
            yield problem(
                f"{role} may not read and write {', '.join(names)}, which belong to {owner}",
                f"as {owner} or a superuser, in the database {database}: "
                + " ".join(f"ALTER TABLE {name} OWNER TO {role};" for name in names)
                + " or, where another role migrates:"
                + f" GRANT SELECT, INSERT, UPDATE, DELETE ON {', '.join(names)} TO {role};",
            )

    def _of_clock(self) -> Iterator[Finding]:
        with self._connection() as connection:
            before = self._clock.now()
            theirs = connection.execute(select(func.clock_timestamp())).scalar_one()
            after = self._clock.now()
        skew = abs(theirs - before - (after - before) / 2)
        says = f"this machine's clock and the database's are {skew.total_seconds():.1f} seconds apart"
        if skew < SKEW_NOTED:
            yield ok(says)
        else:
            level = Level.WARNING if skew < SKEW_HARMFUL else Level.PROBLEM
            yield Finding(level, says, "synchronize both by NTP, for example: timedatectl set-ntp true")

    def _of_pool(self, workers: int) -> Iterator[Finding]:
        with self._connection() as connection:
            limits = connection.execute(LIMITS).one()
        each = self._settings.database_connections + HEALTH_CONNECTIONS
        total = each * workers
        needed = total + limits.others
        restart = (
            f"set max_connections = {needed + limits.reserved} in postgresql.conf and restart PostgreSQL, which keeps"
            f" {limits.reserved} of them for its superuser"
        )
        allowed, higher = min(
            (limit, higher)
            for limit, higher in (
                (limits.server, restart),
                (limits.database, f"run: ALTER DATABASE {limits.database_name} CONNECTION LIMIT {needed}"),
                (limits.role, f"run: ALTER ROLE {limits.role_name} CONNECTION LIMIT {needed}"),
            )
            if limit >= 0
        )
        says = (
            f"connections: {each} for each worker, {total} for {workers}; PostgreSQL allows {allowed}, and others hold"
            f" {limits.others} of them"
        )
        free = allowed - limits.others
        if total <= free:
            yield ok(says)
        else:
            most = free // workers - HEALTH_CONNECTIONS
            lower = f"set DATABASE_CONNECTIONS to at most {most}" if most > 0 else "start fewer workers"
            level = Level.WARNING if total <= allowed else Level.PROBLEM
            yield Finding(level, says, f"{lower}; or {higher}")

    def _of_pooler(self) -> Iterator[Finding]:
        """Detect a connection pooler; no finding without one."""
        with self._connection() as connection:
            if is_pooled(connection.connection.dbapi_connection):
                yield ok("a connection pooler stands before PostgreSQL: statements are not prepared")

    def _of_standby(self, standby: URL) -> Iterator[Finding]:
        """Check that the standby replicates this database.

        Without one, the primary serves all reads.
        """
        with self._connection() as connection:
            position = position_of(Querier(connection))
        try:
            with self._connection(standby) as connection:
                replayed, is_standby = replayed_by(Querier(connection), self._timeouts.standby_catch_up)
        except Unavailable as error:
            yield warning(f"the standby cannot be reached: {_reason(error)}", _remedy(_reason(error), standby))
            return
        if reason := unfit(replayed, position, is_standby=is_standby):
            yield problem(
                f"DATABASE_READ_URL names no standby of this database: {reason}",
                "name one that streams from it, or leave DATABASE_READ_URL out; after a failover rebuild the standby",
            )
        elif replayed.bytes < position.bytes:
            yield warning(
                f"the standby is {position.bytes - replayed.bytes} bytes behind, so the primary serves all reads",
                "run SELECT pg_is_wal_replay_paused() on the standby, SELECT * FROM pg_stat_replication on the primary",
            )
        else:
            yield ok("the standby has caught up")

    def _of_counters(self) -> Iterator[Finding]:
        posts = wrong = 0
        for batch in self._verify():
            posts += len(batch)
            wrong += sum(not recount.agrees for recount in batch)
        if wrong:
            yield problem(f"{wrong} of {posts} posts disagree with their votes", "run: agora votes verify --repair")
        else:
            yield ok(f"none of {posts} posts disagree with their votes")


def _remedy(reason: str, url: URL) -> str:
    is_file = url.get_backend_name() == "sqlite"
    otherwise = "check that DATABASE_URL names a SQLite file" if is_file else "read the log of the database server"
    remedy = next((remedy for said, remedy in UNREACHABLE if re.search(said, reason)), otherwise)
    return remedy.format(user=_identifier(url.username), database=_identifier(url.database))


def _identifier(name: str | None) -> str:
    """Quote a name for SQL where needed."""
    if name is None or re.fullmatch("[a-z_][a-z0-9_]*", name):
        return name or "..."
    return '"{}"'.format(name.replace('"', '""'))


def _is_file(file: Path) -> bool:
    try:
        return file.is_file()
    except PermissionError:  # a folder above it is closed to this process
        return False


def _reason(error: Exception) -> str:
    """Return the driver's message in one line; drivers repeat no password."""
    return driver_message(error.__cause__ or error)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user without a name, as containers have them
        return str(os.getuid())


def _is_open(path: Path, ways: int) -> bool:
    return os.access(path, ways, effective_ids=os.access in os.supports_effective_ids)
