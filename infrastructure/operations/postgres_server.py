"""Checks of a PostgreSQL server: rights, clock, limit on connections, pooler."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from sqlalchemy import Connection, func, select, text

from application.ports.services import Clock
from infrastructure.database.engine import HEALTH_CONNECTIONS
from infrastructure.database.postgres import inspect_server
from infrastructure.database.tables import metadata
from infrastructure.operations.findings import Finding, Level, ok, problem

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

CREATION: Final = text(
    "SELECT quote_ident(coalesce(current_schema(), 'public')) AS schema, quote_ident(current_user) AS role_name,"
    " quote_ident(current_database()) AS database_name,"
    " coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) AS may_create,"
    " (SELECT min(quote_ident(pg_get_userbyid(relowner))) FROM pg_class WHERE relname = ANY(:names)"
    " AND relnamespace = current_schema()::regnamespace AND NOT pg_has_role(relowner, 'USAGE')) AS owner"
)
"""Whether the role may create tables, and an owner of Agora's tables that it is no member of."""


def check_rights(connection: Connection) -> Iterator[Finding]:
    """Check the right to read and write Agora's tables; no finding if there is."""
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


def who_can_migrate(connection: Connection) -> str:
    """Say how to apply pending migrations: by this role, its owner, or after a grant."""
    found = connection.execute(CREATION, {"names": [*metadata.tables, "alembic_version"]}).one()
    if found.owner is not None:
        return f"run as {found.owner}, who owns tables of it: agora migrate"
    if not found.may_create:
        return (
            f"{found.role_name} may not create tables; as a superuser, in the database {found.database_name}:"
            f" GRANT USAGE, CREATE ON SCHEMA {found.schema} TO {found.role_name}; then run: agora migrate"
        )
    return "run: agora migrate"


def check_clock(clock: Clock, connection: Connection) -> Iterator[Finding]:
    """Compare this machine's clock with the server's."""
    before = clock.now()
    theirs = connection.execute(select(func.clock_timestamp())).scalar_one()
    after = clock.now()
    skew = abs(theirs - before - (after - before) / 2)
    says = f"this machine's clock and the database's are {skew.total_seconds():.1f} seconds apart"
    if skew < SKEW_NOTED:
        yield ok(says)
    else:
        level = Level.WARNING if skew < SKEW_HARMFUL else Level.PROBLEM
        yield Finding(level, says, "synchronize both by NTP, for example: timedatectl set-ntp true")


def check_limits(connections: int, workers: int, connection: Connection) -> Iterator[Finding]:
    """Compare the limits on connections with what the workers need."""
    limits = connection.execute(LIMITS).one()
    each = connections + HEALTH_CONNECTIONS
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


def check_pooler(connection: Connection) -> Iterator[Finding]:
    """Detect a connection pooler; no finding without one."""
    is_pooled, _ = inspect_server(connection.connection.dbapi_connection)
    if is_pooled:
        yield ok("a connection pooler stands before PostgreSQL: statements are not prepared")
