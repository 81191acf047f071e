"""What operators do while people vote: servers end one after the other, the schema changes, the disk fills up."""

import os
import signal
import socket
import sqlite3
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Self

import httpx2
import pytest
from alembic import command

from infrastructure.database.engine import open_engine
from infrastructure.database.schema import Migrations, config
from tests.support.disks import Limit, SmallDisk, can_mount
from tests.support.load import HANG_SECONDS, TIMES, Load, VotingForum, is_refusal, serve
from tests.support.proxy import Proxy
from tests.support.servers import Server

DISKS = [*([SmallDisk] if can_mount() else []), Limit][: 1 if TIMES == 1 else 2]


class Balancer(Proxy):
    """A proxy in front of servers, which asks each of them all the time whether it is ready."""

    def __init__(self) -> None:
        super().__init__(self.next_port)
        self.servers: list[Server] = []
        self._ready: list[int] = []
        self._turn = 0
        self._is_over = Event()
        self._asking = Thread(target=self._ask)

    def __enter__(self) -> Self:
        self._asking.start()
        return super().__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._is_over.set()
        self._asking.join()
        super().__exit__(kind, error, at)

    def next_port(self) -> int | None:
        ready, self._turn = self._ready, self._turn + 1
        return ready[self._turn % len(ready)] if ready else None

    def _ask(self) -> None:
        with httpx2.Client(timeout=HANG_SECONDS) as client:
            while not self._is_over.wait(0.05):
                self._ready = [server.port for server in self.servers if self._is_ready(client, server)]

    @staticmethod
    def _is_ready(client: httpx2.Client, server: Server) -> bool:
        try:
            return client.get(f"{server.address}/health/ready").is_success
        except httpx2.TransportError:
            return False


class Turns(Proxy):
    """A proxy in front of servers, which asks one after the other, and the next where it is refused, as nginx does."""

    def __init__(self) -> None:
        super().__init__(lambda: None)
        self.servers: list[Server] = []
        self._turn = 0

    def reach(self) -> socket.socket:
        """Connect to the next server that listens."""
        for _ in self.servers:
            self._turn += 1
            with suppress(ConnectionRefusedError):
                return socket.create_connection(("127.0.0.1", self.servers[self._turn % len(self.servers)].port))
        raise ConnectionRefusedError


def test_servers_that_end_one_after_the_other_fail_no_request(forum: VotingForum) -> None:
    with ExitStack() as stack, Balancer() as balancer:
        balancer.servers = [stack.enter_context(serve(forum.url, DRAIN_SECONDS="1")) for _ in range(2)]
        while balancer.next_port() is None:
            pass
        with Load(f"http://127.0.0.1:{balancer.port}", forum, rate=200) as load:
            for turn in range(2 * TIMES):
                if turn:
                    balancer.servers.append(stack.enter_context(serve(forum.url, DRAIN_SECONDS="1")))
                    load.wait_for("acknowledged", 20)
                assert balancer.servers[turn].end(signal.SIGTERM) == 0
                load.wait_for("acknowledged", 20)
        assert load.counts.keys() == {"acknowledged"}
        load.require_kept()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_that_ends_lets_in_who_has_come_and_refuses_the_others(forum: VotingForum, workers: int) -> None:
    with ExitStack() as stack, Turns() as proxy:
        proxy.servers = [stack.enter_context(serve(forum.url, DRAIN_SECONDS="1", workers=workers)) for _ in range(2)]
        with Load(f"http://127.0.0.1:{proxy.port}", forum, rate=200, stays=False) as load:
            for turn in range(TIMES):
                if turn:
                    started = stack.enter_context(serve(forum.url, DRAIN_SECONDS="1", workers=workers))
                    proxy.servers = [proxy.servers[1], started]
                load.wait_for("acknowledged", 20)
                assert proxy.servers[0].end(signal.SIGTERM) == 0
                assert "Traceback" not in proxy.servers[0].said
            load.wait_for("acknowledged", 20)
        assert load.counts.keys() == {"acknowledged"}
        load.require_kept()


def test_one_worker_that_is_told_to_end_leaves_the_doors_open(forum: VotingForum) -> None:
    with serve(forum.url, DRAIN_SECONDS="0", workers=2) as server:
        os.kill(server.workers[0], signal.SIGTERM)
        server.wait_until_it_says("Started server process", 3)
        for _ in range(20):
            assert httpx2.get(f"{server.address}/health/live").is_success
        assert server.end() == 0


def test_a_schema_that_changes_meanwhile_fails_no_request(forum: VotingForum) -> None:
    engine = open_engine(forum.url, connections=1)
    # Without quotas, as the previous release, which has no table of them.
    with serve(forum.url, QUOTA_ROWS="0", QUOTA_MIB="0") as server, Load(server.address, forum) as load:
        for _ in range(TIMES):
            load.wait_for("acknowledged", 10)
            with engine.connect() as connection:
                alembic = config()
                alembic.attributes["connection"] = connection
                command.downgrade(alembic, "-1")
            load.wait_for("acknowledged", 10)
            Migrations(forum.url).upgrade()
        load.wait_for("acknowledged", 10)
    engine.dispose()
    assert load.counts.keys() == {"acknowledged"}
    load.require_kept()


@pytest.mark.parametrize("kind", DISKS)
def test_full_disk_is_503_for_writers_and_heals(file_forum: VotingForum, kind: type[SmallDisk | Limit]) -> None:
    voter, disk = file_forum.voters[0], kind(Path(str(file_forum.url.database)))
    with (
        disk.serve() as server,
        httpx2.Client(base_url=server.address, headers=voter.headers, timeout=HANG_SECONDS) as client,
    ):

        def write() -> httpx2.Response:
            return client.post("/posts", json={"title": "A title", "content": "Some content " * 1_000})

        written = {write().json()["id"]}
        disk.fill()
        while (answer := write()).is_success:
            written.add(answer.json()["id"])
        for _ in range(10 * TIMES):
            assert is_refusal(write())
            for post_id in written:
                assert client.get(f"/posts/{post_id}").status_code == 200
            assert client.get("/posts").status_code == 200
        disk.clear()
        for _ in range(3):
            written.add(write().json()["id"])
        assert server.end() == 0
    assert disk.said in server.said
    assert "Traceback" not in server.said
    with closing(sqlite3.connect(str(file_forum.url.database))) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        found = {post_id for (post_id,) in connection.execute("SELECT id FROM posts")}
    assert found == written | set(file_forum.posts)
    file_forum.require_true_counters()
