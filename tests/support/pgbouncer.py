"""A real PgBouncer in transaction mode, as a process of the tests."""

import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg2
from sqlalchemy import URL

from tests.support.postgres import free_port
from tests.support.reaper import passing_folder

START_SECONDS = 20
SERVER_CONNECTIONS = 3


def find_pgbouncer() -> str:
    found = shutil.which(os.environ.get("PGBOUNCER", "pgbouncer"), path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        raise RuntimeError("PgBouncer is missing; on Debian: apt install pgbouncer; elsewhere name it in PGBOUNCER")
    return found


@contextmanager
def pgbouncer(server: URL, ignored: str = "options") -> Iterator[URL]:
    """Run PgBouncer before a server, as the URL of the database through it."""
    with passing_folder("agora-pgbouncer-", Path("/tmp")) as folder, _running(server, folder, ignored) as url:
        yield url


@contextmanager
def _running(server: URL, folder: Path, ignored: str) -> Iterator[URL]:
    port = free_port()
    secret = str(server.password).replace('"', '""')
    (folder / "users.txt").write_text(f'"{server.username}" "{secret}"\n')
    (folder / "pgbouncer.ini").write_text(
        f"""[databases]
* = host={server.host} port={server.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/users.txt
pool_mode = transaction
default_pool_size = {SERVER_CONNECTIONS}
max_client_conn = 200
query_wait_timeout = 5
ignore_startup_parameters = {ignored}
logfile = {folder}/log
"""
    )
    identity: dict[str, Any] = {}
    if os.geteuid() == 0:  # as which PgBouncer refuses to run
        user = pwd.getpwnam("daemon")
        identity = {"user": user.pw_uid, "group": user.pw_gid}
        for path in (folder, *folder.iterdir()):
            os.chown(path, user.pw_uid, user.pw_gid)
    command = [find_pgbouncer(), str(folder / "pgbouncer.ini")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **identity)
    url = server.set(port=port)
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                psycopg2.connect(**url.translate_connect_args(username="user", database="dbname")).close()
                break
            except psycopg2.OperationalError:
                if process.poll() is not None or time.monotonic() > deadline:
                    log = (folder / "log").read_text() if (folder / "log").exists() else ""
                    raise RuntimeError(f"PgBouncer did not start:\n{log}") from None
                time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait()
