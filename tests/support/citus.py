"""A private Citus cluster for the tests: a coordinator and two workers, on free loopback ports.

`TEST_CITUS_BIN` names the `bin` of a PostgreSQL that has the extension. Then every PostgreSQL of the tests is such a
cluster, and every migrated database in it is distributed.
"""

import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import psycopg2
from sqlalchemy import URL

from infrastructure.operations.distribution import Distribution

BINARIES: Final = os.environ.get("TEST_CITUS_BIN", "")
SHARDS: Final = int(os.environ.get("TEST_CITUS_SHARDS", "4"))
"""Shards of a table: by default enough that each worker has two, and few enough for a database of every module."""

WORKERS: Final = 2
OPTIONS: Final = {
    "shared_preload_libraries": "citus",
    "citus.node_conninfo": "sslmode=disable",
    "citus.max_cached_conns_per_worker": "8",
}

END_MAINTENANCE: Final = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{}'"
"""Ends the connections to a template, which the maintenance of Citus opens again a few seconds later."""


def find_citus() -> Path:
    """Find the PostgreSQL with the extension."""
    if not (Path(BINARIES) / "postgres").exists():
        raise RuntimeError(f"TEST_CITUS_BIN is {BINARIES}, which has no PostgreSQL; run: make distributed")
    return Path(BINARIES)


def nodes(coordinator: URL) -> list[URL]:
    """List the servers of a cluster, the coordinator first."""
    found = execute(
        coordinator.set(database="postgres"), "SELECT nodename, nodeport FROM pg_dist_node ORDER BY groupid"
    )
    return [coordinator.set(host=host, port=port) for host, port in found]


def join(servers: Sequence[URL]) -> None:
    """Make a cluster of the databases of one name on these servers, the coordinator first."""
    coordinator, *workers = servers
    for server in servers:
        execute(server, "CREATE EXTENSION IF NOT EXISTS citus")
    execute(coordinator, f"SELECT citus_set_coordinator_host('{coordinator.host}', {coordinator.port})")
    for worker in workers:
        execute(coordinator, f"SELECT citus_add_node('{worker.host}', {worker.port})")


def distribute(url: URL) -> None:
    """Distribute a migrated database."""
    Distribution(url).apply(SHARDS)


def execute(url: URL, statement: str) -> list[Any]:
    """Execute a statement, which commits, and return its rows."""
    words = url.translate_connect_args(username="user", database="dbname")
    with closing(psycopg2.connect(**words)) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []
