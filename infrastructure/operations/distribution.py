"""Distribution of a database over several machines, by the extension Citus.

Posts, their titles and their votes are distributed by the post's id, so that a vote is a transaction on one machine.
Accounts are complete on every machine, since posts and votes refer to them. All else stays on the coordinator.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from sqlalchemy import URL, Connection, Table, text
from sqlalchemy.schema import AddConstraint, DropConstraint

from application.errors import Refused
from infrastructure.database.engine import connected
from infrastructure.database.tables import ON_POST, metadata, posts, users
from infrastructure.operations.bulk import transaction
from infrastructure.operations.findings import Finding, ok, problem, warning
from infrastructure.timeouts import DEFAULT_TIMEOUTS, Timeouts

SHARDS: Final = 32

REFERENCE: Final = frozenset({users})
"""Tables that are complete on every node."""

DISTRIBUTED: Final = {table: column.name for table, column in ON_POST.items()}
"""Tables that are distributed, each by a column that holds the id of a post."""

HAS_EXTENSION: Final = text("SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus')")
NODES: Final = text("SELECT count(*) FROM pg_dist_node WHERE shouldhaveshards AND noderole = 'primary'")
PLACED: Final = text(
    "SELECT table_name::text AS name, citus_table_type AS kind, distribution_column AS by, shard_count AS shards"
    " FROM citus_tables WHERE table_name::text = ANY(:names)"
)
MODE: Final = "citus.multi_shard_modify_mode"
SESSION: Final = text(
    f"SELECT current_setting('{MODE}') AS mode, quote_ident(current_database()) AS database_name,"
    " quote_ident(current_user) AS role_name"
)
WORKER_LOCK_TIMEOUTS: Final = text(
    "SELECT success AND result = set_config('lock_timeout', :timeout, true) AS is_set"
    " FROM run_command_on_workers('SHOW lock_timeout')"
)


class Distribution:
    """Distributes the tables of a database."""

    def __init__(self, url: URL, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> None:
        self._url = url
        self._timeouts = timeouts

    def steps(self, shards: int = SHARDS) -> list[str]:
        """Describe what `apply` would do; nothing if it is done.

        Raises:
            Refused: the database has no Citus, or no node for shards.
            Unavailable: the database is unavailable.
        """
        with connected(self._url, self._timeouts) as connection:
            require_cluster(connection)
            tables = [_placement(table, shards)[0] for table in _unplaced(connection)]
            return [*tables, *missing_settings(connection, self._timeouts)]

    def apply(self, shards: int = SHARDS) -> None:
        """Place each table that is not placed, in one transaction, and store the settings.

        Raises:
            Refused: as `steps` does.
            Unavailable: the database is unavailable, or other transactions use the tables.
        """
        with transaction(self._url) as connection:
            require_cluster(connection)
            connection.execute(text(f"SET LOCAL {MODE} = sequential; SET LOCAL client_min_messages = warning"))
            tables = _unplaced(connection)
            # Citus refuses identity columns of tables that it has to convert because a key refers to another one.
            keys = [key for table in tables for key in table.foreign_key_constraints]
            for key in keys:
                connection.execute(DropConstraint(key))
            for table in tables:
                connection.execute(text(_placement(table, shards)[1]))
            for table in tables:
                if table in REFERENCE or table in DISTRIBUTED:  # the rows from before, in the coordinator's own table
                    connection.execute(text(f"SELECT truncate_local_data_after_distributing_table('{table.name}')"))
            for key in keys:
                connection.execute(AddConstraint(key, isolate_from_table=False))
        with connected(self._url, self._timeouts) as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            for statement in missing_settings(connection, self._timeouts):
                connection.execute(text(statement))


def require_cluster(connection: Connection) -> None:
    """Accept only a database in a cluster of Citus.

    Raises:
        Refused: it has no extension, or no node for shards.
    """
    if connection.dialect.name != "postgresql":
        raise Refused("SQLite is one file, which cannot be distributed; move to PostgreSQL with the extension Citus")
    if not connection.scalar(HAS_EXTENSION):
        raise Refused(
            "the database has no extension citus; on every node install Citus 13 (https://docs.citusdata.com), set"
            " shared_preload_libraries = 'citus', restart, and run in the database: CREATE EXTENSION citus"
        )
    if not connection.scalar(NODES):
        raise Refused(
            "the cluster has no node for shards; run in the database: SELECT citus_set_coordinator_host('host', 5432),"
            " then for each worker: SELECT citus_add_node('host', 5432)"
        )


def check_distribution(timeouts: Timeouts, connection: Connection) -> Iterator[Finding]:
    """Check how a database with Citus is distributed; no finding without it."""
    if not connection.scalar(HAS_EXTENSION):
        return
    known, missing = placed(connection), _unplaced(connection)
    if not known:
        yield warning("the database has Citus, and its tables are not distributed", "run: agora distribute")
        return
    if missing:
        yield problem(
            f"tables that Citus does not know: {', '.join(table.name for table in missing)}", "run: agora distribute"
        )
    for statement in missing_settings(connection, timeouts):
        yield problem("a setting of the distributed database is missing", f"run: {statement}")
    yield ok("Citus: " + "; ".join(f"{name} {how}" for name, how in sorted(known.items())))


def placed(connection: Connection) -> dict[str, str]:
    """Describe how each of Agora's tables is placed that Citus knows."""
    found = connection.execute(PLACED, {"names": list(metadata.tables)}).all()
    return {
        row.name: f"by {row.by}, in {row.shards} shards" if row.kind == "distributed" else row.kind for row in found
    }


def missing_settings(connection: Connection, timeouts: Timeouts) -> Iterator[str]:
    """Yield the statements that set what a distributed database needs.

    Options of a connection do not reach the workers, so a lock there is bounded by a setting of the role.
    """
    session = connection.execute(SESSION).one()
    if session.mode != "sequential":
        yield f"ALTER DATABASE {session.database_name} SET {MODE} = sequential"
    lock = f"{timeouts.lock:g}s"
    if not all(connection.execute(WORKER_LOCK_TIMEOUTS, {"timeout": lock}).scalars()):
        yield f"ALTER ROLE {session.role_name} IN DATABASE {session.database_name} SET lock_timeout = '{lock}'"


def _unplaced(connection: Connection) -> Sequence[Table]:
    known = placed(connection)
    return [table for table in metadata.sorted_tables if table.name not in known]


def _placement(table: Table, shards: int) -> tuple[str, str]:
    """Describe where a table is placed, and build the statement that places it."""
    name = table.name
    if table in REFERENCE:
        return f"{name}: a reference table, complete on every node", f"SELECT create_reference_table('{name}')"
    if table not in DISTRIBUTED:
        return f"{name}: stays on the coordinator", f"SELECT citus_add_local_table_to_metadata('{name}')"
    by = DISTRIBUTED[table]
    where = f"shard_count => {shards}, colocate_with => 'none'" if table is posts else "colocate_with => 'posts'"
    return (
        f"{name}: distributed by {by}, in {shards} shards",
        f"SELECT create_distributed_table('{name}', '{by}', {where})",
    )
