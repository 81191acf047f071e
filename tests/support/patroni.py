"""Three real Patroni nodes with deploy/patroni.yml, and etcd, on free loopback ports."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2

from tests.support.postgres import find_binaries, free_port, readable, unprivileged_user
from tests.support.process import children
from tests.support.reaper import passing_folder, reaper_mark

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "patroni.yml"
PASSWORD = "a password"
START_SECONDS = 90


class Node:
    """A node of Patroni, with its PostgreSQL."""

    def __init__(self, start: Callable[[], "subprocess.Popen[bytes]"], data: Path, api: int, port: int) -> None:
        self._start = start
        self._data = data
        self._process = start()
        self.api = f"http://127.0.0.1:{api}"
        self.port = port

    def has(self, role: str) -> bool:
        """Whether it is the "primary", a "replica", or one that is "synchronous"."""
        with suppress(httpx2.TransportError):
            return httpx2.get(f"{self.api}/{role}", timeout=2).status_code == 200
        return False

    def kill(self) -> None:
        """End Patroni and PostgreSQL at once, as a power cut would."""
        self._process.kill()
        self._process.wait()
        with suppress(OSError):  # Patroni is not the parent of PostgreSQL
            postmaster = int((self._data / "postmaster.pid").read_text().split()[0])
            for process in (postmaster, *children(postmaster)):
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)

    def start(self) -> None:
        """Start it again."""
        self._process = self._start()


@contextmanager
def patroni_nodes() -> Iterator[Sequence[Node]]:
    """Run three nodes, from when they replicate synchronously."""
    with passing_folder("agora-patroni-", Path("/tmp")) as folder:
        user = unprivileged_user()
        identity: dict[str, Any] = {}
        if user is not None:
            os.chown(folder, user.pw_uid, user.pw_gid)
            identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        binaries = readable(find_binaries(), folder, as_another_user=user is not None)
        configuration = folder / "patroni.yml"
        shutil.copy(CONFIGURATION, configuration)
        configuration.chmod(0o644)
        log = (folder / "log").open("ab")

        def run(command: Sequence[str | Path], **environment: str) -> "subprocess.Popen[bytes]":
            values = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", **reaper_mark(), **environment}
            return subprocess.Popen(command, cwd=folder, env=values, stdout=log, stderr=log, **identity)

        etcd, peers = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        words = ("--data-dir", folder / "etcd", "--listen-client-urls", etcd, "--advertise-client-urls", etcd)
        more = ("--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers)
        store = run([os.environ.get("ETCD", "etcd"), *words, *more, "--initial-cluster", f"default={peers}"])
        nodes = []
        try:
            for number in range(3):
                data, api, port = folder / f"node{number}", free_port(), free_port()
                environment = {
                    "PATRONI_NAME": f"node{number}",
                    "PATRONI_ETCD3_HOSTS": etcd.removeprefix("http://"),
                    "PATRONI_RESTAPI_LISTEN": f"127.0.0.1:{api}",
                    "PATRONI_RESTAPI_CONNECT_ADDRESS": f"127.0.0.1:{api}",
                    "PATRONI_POSTGRESQL_LISTEN": f"127.0.0.1:{port}",
                    "PATRONI_POSTGRESQL_CONNECT_ADDRESS": f"127.0.0.1:{port}",
                    "PATRONI_POSTGRESQL_DATA_DIR": str(data),
                    "PATRONI_POSTGRESQL_BIN_DIR": str(binaries),
                    "PATRONI_SUPERUSER_USERNAME": "agora",
                    "PATRONI_SUPERUSER_PASSWORD": PASSWORD,
                    "PATRONI_REPLICATION_USERNAME": "replicator",
                    "PATRONI_REPLICATION_PASSWORD": PASSWORD,
                }
                command = (os.environ.get("PATRONI", "patroni"), configuration)
                nodes.append(Node(lambda command=command, values=environment: run(command, **values), data, api, port))  # type: ignore[misc]
            wait_until_whole(nodes)
            yield nodes
        finally:
            for node in nodes:
                node.kill()
            store.kill()
            store.wait()
            log.close()


def wait_until_whole(nodes: Sequence[Node]) -> None:
    """Wait for a primary and two standbys, for one of which commits wait."""
    until = time.monotonic() + START_SECONDS
    while [sum(node.has(role) for node in nodes) for role in ("primary", "replica", "synchronous")] != [1, 2, 1]:
        assert time.monotonic() < until, "a node does not come up"
        time.sleep(0.5)


def url_of(nodes: Sequence[Node]) -> str:
    """Write the URL that names all nodes, and chooses the one that may be written to."""
    hosts = ",".join(f"127.0.0.1:{node.port}" for node in nodes)
    return f"postgresql://agora:{quote(PASSWORD)}@{hosts}/postgres?target_session_attrs=read-write"
