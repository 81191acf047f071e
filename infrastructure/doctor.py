"""Looks at everything that Agora stands on, and says in plain words what is wrong and what to do about it."""

import getpass
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from shlex import quote
from typing import Final

from sqlalchemy import URL, Connection, Engine, func, select, text

from application.errors import Unavailable
from application.ports.services import Clock
from application.votes import VerifyVotes
from infrastructure.database.engine import HEALTH_CONNECTIONS, open_engine
from infrastructure.database.errors import translate_errors
from infrastructure.database.migrations import Migrations
from infrastructure.database.pipeline import Querier
from infrastructure.database.standby import position_of, replayed_by, unfit
from infrastructure.database.tables import metadata
from infrastructure.logs import DRIVER_ERRORS, said_by_driver
from infrastructure.settings import Settings, origin

PARTS: Final = ("DB_HOST", "DB_PORT", "DB_USER", "DB_PASSWORD", "DB_NAME")

SKEW_NOTED: Final = timedelta(seconds=1)
SKEW_HARMFUL: Final = timedelta(seconds=10)
"""What tokens forgive between two machines: `LEEWAY_SECONDS` in `infrastructure/tokens.py`."""

CATCH_UP_SECONDS: Final = 1.0
"""How long a standby is given to catch up with where the database was."""

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
"""How many connections the server, the database and the role allow, -1 for any number, and how many others hold."""

RIGHTS: Final = text(
    "SELECT quote_ident(relname) AS name, quote_ident(pg_get_userbyid(relowner)) AS owner,"
    " quote_ident(current_user) AS role_name, quote_ident(current_database()) AS database_name,"
    " has_table_privilege(oid, 'SELECT') AND (relname = 'alembic_version' OR has_table_privilege(oid, 'INSERT')"
    " AND has_table_privilege(oid, 'UPDATE') AND has_table_privilege(oid, 'DELETE')) AS is_open"
    " FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p')"
    " AND relname = ANY(:names) ORDER BY relname"
)
"""Our tables, to whom they belong, and whether we may do with them what we do."""

UNREACHABLE: Final = (
    ('role ".*" does not exist', "make the role: CREATE ROLE {user} LOGIN PASSWORD '...'; or name another user"),
    ('database ".*" does not exist', "make the database: CREATE DATABASE {database} OWNER {user}; or name another one"),
    (
        "too many clients|connection slots",
        "raise max_connections in postgresql.conf and restart PostgreSQL, or start fewer workers",
    ),
    ("Connection refused", "start PostgreSQL, or name the host and port where it listens"),
    ("timeout expired|no answer in time", "see that host and port are right, and that no firewall is between"),
    ("translate host name", "correct the name of the host"),
    ("not a database", "name another file in DATABASE_URL: this one is not SQLite's"),
)
"""What a driver says when it cannot connect, and what helps; the first that fits."""


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; what is not ok has a remedy where there is one."""

    level: Level
    says: str
    remedy: str = ""


def _ok(says: str) -> Finding:
    return Finding(Level.OK, says)


def _warning(says: str, remedy: str = "") -> Finding:
    return Finding(Level.WARNING, says, remedy)


def _problem(says: str, remedy: str) -> Finding:
    return Finding(Level.PROBLEM, says, remedy)


class Doctor:
    """Checks the settings, the files, and the database and its server. A check that cannot be made is a finding too."""

    def __init__(self, settings: Settings, migrations: Migrations, verify: VerifyVotes, clock: Clock) -> None:
        self._settings = settings
        self._engine = open_engine(settings.url, connections=1)
        self._standby = open_engine(settings.read_url, connections=1) if settings.read_url else None
        self._migrations = migrations
        self._verify = verify
        self._clock = clock
        self._postgres = settings.url.get_backend_name() != "sqlite"
        name = str(settings.url.database)
        self._file = None if self._postgres or name.startswith("file:") else Path(name).absolute()

    def examine(self, workers: int) -> Iterator[Finding]:
        """Check everything, for a server of so many workers. Nothing found holds a secret."""
        yield from self._of_settings()
        if self._file is not None:
            yield from self._tried("the files of the database", self._of_files(self._file))
        elif not self._postgres:
            yield _warning("the files of the database were not checked: DATABASE_URL names them by a URI")
        if not self._postgres and workers > 1:
            yield _warning(
                f"SQLite has one writer at a time, for which {workers} workers would wait in turn",
                "start one worker, or take PostgreSQL: agora export and agora import carry everything there",
            )
        connected = self._connected()
        if connected is None or connected.level is Level.PROBLEM:
            yield from [connected] if connected else []
            yield _warning("what is in the database was not checked: it cannot be reached")
            return
        yield connected
        schema = list(self._tried("the rights on tables", self._of_rights())) if self._postgres else []
        schema += [] if schema else self._tried("the schema", self._of_schema())
        yield from schema
        if self._postgres:
            yield from self._tried("the clock", self._of_clock())
            yield from self._tried("the limit on connections", self._of_pool(workers))
        if self._standby is not None:
            yield from self._tried("the standby", self._of_standby(self._standby))
        if all(finding.level is Level.OK for finding in schema):
            yield from self._tried("the counters", self._of_counters())
        else:
            yield _warning("the counters were not checked: the schema is not fit for it, or could not be looked at")

    @contextmanager
    def _asking(self, engine: Engine | None = None) -> Iterator[Connection]:
        """Lend a connection for questions, to the database or whatever else is named; none is kept open."""
        engine = engine or self._engine
        try:
            with translate_errors(), engine.connect() as connection:
                yield connection.execution_options(isolation_level="AUTOCOMMIT")
        finally:
            engine.dispose()

    @staticmethod
    def _tried(what: str, check: Iterator[Finding]) -> Iterator[Finding]:
        """Make a check, or say why it cannot be made."""
        try:
            yield from check
        except (Unavailable, *DRIVER_ERRORS, OSError) as error:
            yield _warning(f"{what} could not be checked: {_reason(error)}")

    def _of_settings(self) -> Iterator[Finding]:
        production = self._settings.fastapi_env == "production"
        weaknesses = self._settings.weaknesses()
        for weakness in weaknesses:
            says, _, remedy = weakness.partition(": ")
            if production:
                yield _problem(says, remedy)
            else:
                yield _warning(f"{says}, which production refuses", remedy)
        parts = [name for name in PARTS if getattr(self._settings, name.lower()) is not None]
        if self._settings.database_url is not None and parts:
            yield _warning(
                f"{', '.join(parts)} mean nothing beside DATABASE_URL, which wins",
                "leave out the one or the other",
            )
        named = {weakness.partition(" ")[0] for weakness in weaknesses}
        warnings = [said for said in self._settings.warnings() if said.partition(" ")[0] not in named]
        for warning in warnings:
            says, _, remedy = warning.partition("; ")
            yield _warning(says, remedy)
        if not weaknesses and not warnings:
            yield _ok(f"the settings are fit for use; FASTAPI_ENV is {self._settings.fastapi_env}")

    def _of_files(self, file: Path) -> Iterator[Finding]:
        """Check a SQLite file and its folder, where SQLite makes two more files beside it."""
        me = _user()
        for folder in reversed(file.parents[1:]):
            if not _open_to_us(folder, os.X_OK) and folder.is_dir():
                yield _problem(
                    f"{me} cannot enter the folder {folder}, and so not reach {file}",
                    f"run: chmod a+x {quote(str(folder))}; or name a file elsewhere in DATABASE_URL",
                )
                return
        if not file.parent.is_dir():
            yield _problem(f"there is no folder {file.parent}", "make it, or name another one in DATABASE_URL")
            return
        if _open_to_us(file.parent, os.X_OK) and file.is_dir():
            yield _problem(
                f"{file} is a folder, not a file", f"name a file in it: DATABASE_URL=sqlite:///{file}/agora.db"
            )
            return
        found = []
        if not _open_to_us(file.parent, os.R_OK | os.W_OK | os.X_OK):
            found.append(
                _problem(
                    f"the folder {file.parent} is closed to {me}, and SQLite makes files in it while it works",
                    f"run: chown {me} {quote(str(file.parent))} && chmod u+rwx {quote(str(file.parent))}",
                )
            )
            if not _open_to_us(file.parent, os.X_OK):
                yield from found
                return
        files = [name for name in (file, Path(f"{file}-wal"), Path(f"{file}-shm")) if name.exists()]
        for name in files:
            found += self._of_file(name, me)
        if not files and not found:
            found.append(_problem(f"there is no database {file} yet", "run: agora migrate"))
        yield from found or [_ok(f"the files of the database are open to {me} and to nobody else")]

    def _of_file(self, name: Path, me: str) -> Iterator[Finding]:
        if not name.is_file() or not _open_to_us(name, os.R_OK | os.W_OK):
            yield _problem(
                f"{me} cannot read and write {name}",
                f"run: chown {me} {quote(str(name))} && chmod u+rw {quote(str(name))}",
            )
        mode = name.stat().st_mode
        if all(folder.stat().st_mode & stat.S_IXOTH for folder in name.parents):
            if mode & stat.S_IWOTH:
                yield _problem(f"everybody on this machine can write {name}", f"run: chmod o= {quote(str(name))}")
            elif mode & stat.S_IROTH:
                yield _warning(
                    f"everybody on this machine can read {name}, e-mails and password hashes included",
                    f"run: chmod o= {quote(str(name))}",
                )

    def _connected(self) -> Finding | None:
        """Connect, but make no file that is not there."""
        if self._file is not None and not _is_there(self._file):
            return None
        try:
            with self._asking() as connection:
                connection.execute(select(1))
        except (Unavailable, *DRIVER_ERRORS, OSError) as error:
            reason = _reason(error)
            is_refused = "password authentication failed" in reason
            remedy = self._remedy_for_password() if is_refused else _remedy(reason, self._settings.url)
            return _problem(f"the database cannot be reached: {reason}", remedy)
        return _ok("the database answers")

    def _of_schema(self) -> Iterator[Finding]:
        with self._asking() as connection:
            strangers = self._migrations.strangers(connection)
            unknown, pending = self._migrations.unknown(connection), self._migrations.pending(connection)
        if strangers:
            says, _, remedy = strangers.partition("; ")
            yield _problem(says, remedy)
        elif unknown:
            yield _problem(
                f"the schema is ahead of this release, which does not know {', '.join(unknown)}",
                "run the release that migrated it, or a later one",
            )
        elif pending:
            yield _problem(f"migrations are pending: {', '.join(pending)}", "run: agora migrate")
        else:
            yield _ok("the schema is this release's")

    def _of_rights(self) -> Iterator[Finding]:
        """Check that we may read and write our tables; nothing is said where we may."""
        with self._asking() as connection:
            tables = connection.execute(RIGHTS, {"names": [*metadata.tables, "alembic_version"]}).all()
        for owner in sorted({table.owner for table in tables if not table.is_open}):
            closed = [table for table in tables if table.owner == owner and not table.is_open]
            names, (role, database) = [table.name for table in closed], closed[0][2:4]
            yield _problem(
                f"{role} may not read and write {', '.join(names)}, which belong to {owner}",
                f"as {owner} or a superuser, in the database {database}: "
                + " ".join(f"ALTER TABLE {name} OWNER TO {role};" for name in names)
                + " or, where another role migrates:"
                + f" GRANT SELECT, INSERT, UPDATE, DELETE ON {', '.join(names)} TO {role};",
            )

    def _of_clock(self) -> Iterator[Finding]:
        with self._asking() as connection:
            before = self._clock.now()
            theirs = connection.execute(select(func.clock_timestamp())).scalar_one()
            after = self._clock.now()
        skew = abs(theirs - before - (after - before) / 2)
        says = f"this machine's clock and the database's are {skew.total_seconds():.1f} seconds apart"
        if skew < SKEW_NOTED:
            yield _ok(says)
        else:
            level = Level.WARNING if skew < SKEW_HARMFUL else Level.PROBLEM
            yield Finding(level, says, "keep both right by NTP, such as: timedatectl set-ntp true")

    def _of_pool(self, workers: int) -> Iterator[Finding]:
        with self._asking() as connection:
            limits = connection.execute(LIMITS).one()
        each = self._settings.threads + HEALTH_CONNECTIONS
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
            yield _ok(says)
        else:
            threads = free // workers - HEALTH_CONNECTIONS
            lower = f"set THREADS to at most {threads}" if threads > 0 else "start fewer workers"
            level = Level.WARNING if total <= allowed else Level.PROBLEM
            yield Finding(level, says, f"{lower}; or {higher}")

    def _of_standby(self, standby: Engine) -> Iterator[Finding]:
        """Check that the standby is one of this database. Without one the primary answers everything."""
        with self._asking() as connection:
            position = position_of(Querier(connection))
        try:
            with self._asking(standby) as connection:
                replayed, is_standby = replayed_by(Querier(connection), CATCH_UP_SECONDS)
        except Unavailable as error:
            yield _warning(f"the standby cannot be reached: {_reason(error)}", _remedy(_reason(error), standby.url))
            return
        if reason := unfit(replayed, position, is_standby=is_standby):
            yield _problem(
                f"DATABASE_READ_URL names no standby of this database: {reason}",
                "name one that streams from it, or leave DATABASE_READ_URL out; after a failover rebuild the standby",
            )
        elif replayed.bytes < position.bytes:
            yield _warning(
                f"the standby is {position.bytes - replayed.bytes} bytes behind, and the primary answers in its stead",
                "ask the standby SELECT pg_is_wal_replay_paused(), and the primary SELECT * FROM pg_stat_replication",
            )
        else:
            yield _ok("the standby has caught up")

    def _of_counters(self) -> Iterator[Finding]:
        posts = wrong = 0
        for batch in self._verify():
            posts += len(batch)
            wrong += sum(not recount.agrees for recount in batch)
        if wrong:
            yield _problem(f"{wrong} of {posts} posts disagree with their votes", "run: agora votes repair")
        else:
            yield _ok(f"none of {posts} posts disagree with their votes")

    def _remedy_for_password(self) -> str:
        """Say which ways of writing a password go wrong, and nothing of the password."""
        name = "DATABASE_URL" if self._settings.database_url is not None else "DB_PASSWORD"
        remedies = [f"see that user and password in {name} are right"]
        if name == "DATABASE_URL":
            if self._settings.password_holds_escape:
                remedies.append(
                    "the password holds a % and two hexadecimal digits, read as one other character: write %25 for a %"
                    " that means itself"
                )
            remedies.append(
                "or leave DATABASE_URL out and set DB_PASSWORD and the other DB_* names: nothing in it needs escaping"
            )
        elif self._settings.password_holds_escape:
            remedies.append(
                "it holds a % and two hexadecimal digits, and is taken as it is: if that was written to escape another"
                " character, write the character itself"
            )
        if origin(name) == "environment":
            remedies.append("in a shell, put the value between single quotes")
        else:
            remedies.append(
                f"in {origin(name)}, put the value between single quotes if it holds a quote or a # after a blank"
            )
        return "; ".join(remedies)


def _remedy(reason: str, url: URL) -> str:
    is_file = url.get_backend_name() == "sqlite"
    otherwise = "see that DATABASE_URL names a file of SQLite's" if is_file else "ask its server's log"
    remedy = next((remedy for said, remedy in UNREACHABLE if re.search(said, reason)), otherwise)
    return remedy.format(user=_identifier(url.username), database=_identifier(url.database))


def _identifier(name: str | None) -> str:
    """Write a name as SQL takes it."""
    if name is None or re.fullmatch("[a-z_][a-z0-9_]*", name):
        return name or "..."
    return '"{}"'.format(name.replace('"', '""'))


def _is_there(file: Path) -> bool:
    try:
        return file.is_file()
    except PermissionError:  # a folder on the way to it is closed to us
        return False


def _reason(error: Exception) -> str:
    """Tell what the driver said, in one line; drivers repeat no password."""
    return said_by_driver(error.__cause__ or error)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user without a name, as containers have them
        return str(os.getuid())


def _open_to_us(path: Path, ways: int) -> bool:
    return os.access(path, ways, effective_ids=os.access in os.supports_effective_ids)
