"""A database that is there and does not answer: 503 in time, and everything as before when it does."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from time import monotonic

import httpx2
import pytest
from sqlalchemy import text

from infrastructure.database.engine import open_engine
from tests.support.load import HANG_SECONDS, TIMES, Load, VotingForum, is_refusal, serve
from tests.support.postgres import Postgres
from tests.support.proxy import Proxy
from tests.support.servers import Server
from tests.support.wire import Wire

ANSWER_SECONDS = HANG_SECONDS if TIMES == 1 else 6
"""No answer may take longer, whatever happens; `make test` has other work beside it and only looks for what hangs."""

REQUESTS = 250 if TIMES == 1 else 1_000 * TIMES
THREADS = 2
"""Fewer than there are voters: waiters for a connection are refused as well. And two lost connections are all."""


@pytest.fixture(scope="module")
def way(forum: VotingForum) -> Iterator[Proxy]:
    """The network between server and database."""
    with Proxy(lambda: forum.url.port) as way:
        yield way


@pytest.fixture(scope="module")
def server(forum: VotingForum, way: Proxy) -> Iterator[Server]:
    """A server with few connections."""
    with serve(forum.url.set(port=way.port), DATABASE_CONNECTIONS=str(THREADS)) as server:
        yield server
        assert server.end() == 0
        assert "Traceback" not in server.said


def frozen(breakable: Postgres, _way: Proxy) -> AbstractContextManager[None]:
    return breakable.frozen()


@contextmanager
def swallowed(_breakable: Postgres, way: Proxy) -> Iterator[None]:
    way.swallow()
    try:
        yield
    finally:
        way.cut()
        way.flow()


@contextmanager
def slowed(_breakable: Postgres, way: Proxy) -> Iterator[None]:
    """Let one round trip through within a request's time, and no more: every request takes two."""
    way.delay_seconds = 1.5
    try:
        yield
    finally:
        way.delay_seconds = 0


STALLS = (frozen, slowed, swallowed) if TIMES > 1 else (frozen, slowed)


@pytest.mark.parametrize("stalled", STALLS)
def test_a_database_that_does_not_answer_is_503_and_comes_back(
    breakable: Postgres,
    forum: VotingForum,
    way: Proxy,
    server: Server,
    stalled: Callable[[Postgres, Proxy], AbstractContextManager[None]],
) -> None:
    with (
        Load(server.address, forum, answer_seconds=ANSWER_SECONDS) as load,
        httpx2.Client(base_url=server.address, timeout=ANSWER_SECONDS) as client,
    ):
        load.wait_for("acknowledged", 20)
        with stalled(breakable, way):
            until = monotonic() + 3 * TIMES
            load.wait_for("refused", 10 * TIMES)
            while monotonic() < until:
                load.wait_for("refused")
            assert client.get("/health/live").status_code == 200
            assert is_refusal(client.get("/health/ready"))
        load.wait_for("acknowledged", 20)
        assert client.get("/health/ready").status_code == 200
    load.require_kept()


@pytest.mark.parametrize("ended", ["restarted", "cut"])
def test_connections_that_end_between_two_requests_are_no_matter(
    breakable: Postgres, forum: VotingForum, way: Proxy, server: Server, ended: str
) -> None:
    with Load(server.address, forum, rate=100) as load:
        load.wait_for("acknowledged", 40)  # every connection is open
    if ended == "cut":
        way.cut()
    else:
        breakable.stop()
        breakable.start()
    with httpx2.Client(base_url=server.address, timeout=HANG_SECONDS) as client:

        def read(number: int) -> int:
            path, voter = f"/posts/{forum.posts[0]}", forum.voters[number % len(forum.voters)]
            return client.get(path, headers=voter.headers).status_code

        with ThreadPoolExecutor(THREADS) as pool:
            assert set(pool.map(read, range(20))) == {200}


def test_clients_who_hang_up_leave_nothing_behind(forum: VotingForum, server: Server) -> None:
    voter = forum.voters[0]
    path = f"/posts/{forum.posts[0]}/vote"
    body = b'{"dir": 1}'
    head = (
        f"PUT {path} HTTP/1.1\r\nHost: agora\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        f"Authorization: {voter.headers['Authorization']}\r\n\r\n"
    ).encode()

    def ask(number: int) -> int | None:
        with Wire(server.port) as wire:
            wire.send(head + body)
            if number % 5 == 0:
                wire.reset()
                return None
            return wire.answer().status

    with ThreadPoolExecutor(8) as pool:
        statuses = set(pool.map(ask, range(REQUESTS)))
    assert statuses <= {None, 200, 503}
    with httpx2.Client(base_url=server.address, timeout=HANG_SECONDS) as client:
        answers = [client.put(path, json={"dir": -1}, headers=voter.headers) for voter in forum.voters]
    assert {answer.status_code for answer in answers} == {200}
    forum.require_true_counters()
    with closing(open_engine(forum.url, connections=1).connect()) as connection:
        states = set(
            connection.execute(
                text("SELECT state FROM pg_stat_activity WHERE application_name = 'agora' AND pid <> pg_backend_pid()")
            ).scalars()
        )
    assert states <= {"idle"}
