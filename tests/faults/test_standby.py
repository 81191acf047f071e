"""A standby that lags, freezes, dies and is promoted: a client that writes and reads at once sees its write."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import httpx2
import pytest
from sqlalchemy import text

from infrastructure.database.engine import open_database
from tests.support.backends import empty
from tests.support.command import plain
from tests.support.connections import connection_of
from tests.support.load import HANG_SECONDS, TIMES, Load, Voter, VoterThreads, VotingForum, serve
from tests.support.metrics import values
from tests.support.postgres import Postgres
from tests.support.preparations import ask_standby_again_soon
from tests.support.servers import Server

WRITERS = 4
PREPARE = ask_standby_again_soon if TIMES == 1 else None


class Writers(VoterThreads):
    """People who look for what they have just written, until the block ends. Nothing they ask may fail."""

    def __init__(self, address: str, forum: VotingForum) -> None:
        super().__init__(self._write, forum.voters[:WRITERS])
        self._address = address
        self._forum = forum
        self._rounds = 0

    def go_on(self, rounds: int = 10 * TIMES) -> None:
        """Wait until they have written and read this many times more."""
        with self._more:
            until = self._rounds + rounds
            while self._rounds < until and not self._faults:
                self._more.wait()

    def _write(self, voter: Voter) -> None:
        with httpx2.Client(base_url=self._address, headers=voter.headers, timeout=HANG_SECONDS) as client:
            number = 0
            while not self._is_over.wait(0.02):
                number += 1
                try:
                    self._write_and_read(client, voter, f"Number {number}")
                except (httpx2.HTTPError, AssertionError) as error:
                    self._faults.append(repr(error))
                with self._more:
                    self._rounds += 1
                    self._more.notify_all()

    @staticmethod
    def _write_and_read(client: httpx2.Client, voter: Voter, title: str) -> None:
        def ask(method: str, path: str, **options: object) -> httpx2.Response:
            answer = client.request(method, path, **options)  # type: ignore[arg-type]
            assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
            return answer

        post_id = ask("POST", "/posts", json={"title": title, "content": "Some content"}).json()["id"]
        (found,) = ask("GET", f"/posts?owner_id={voter.id}&limit=1").json()
        assert (found["id"], found["title"]) == (post_id, title)
        ask("PUT", f"/posts/{post_id}/vote", json={"dir": 1})
        (found,) = ask("GET", f"/posts?search={title}&owner_id={voter.id}&limit=1").json()
        assert (found["id"], found["my_vote"], found["votes"]) == (post_id, 1, 1)
        (vote,) = ask("GET", "/users/me/votes?limit=1").json()
        assert (vote["post_id"], vote["dir"]) == (post_id, 1)
        ask("DELETE", f"/posts/{post_id}")
        assert all(found["id"] != post_id for found in ask("GET", f"/posts?owner_id={voter.id}").json())


@pytest.fixture
def standby(breakable: Postgres) -> Iterator[Postgres]:
    """A hot standby of the PostgreSQL that may be broken."""
    empty(breakable.url)
    with breakable.standby() as standby:
        yield standby


def answered(server: Server) -> float:
    """Tell how many reads the standby has answered so far."""
    page = httpx2.get(f"{server.address}/metrics", timeout=HANG_SECONDS).text
    return values(page, "agora_standby_reads_total")["answered",]


def test_faults_of_a_standby_hide_no_write_from_its_author(breakable: Postgres, standby: Postgres) -> None:
    forum = VotingForum(breakable.url)
    with (
        serve(forum.url, DATABASE_READ_URL=plain(standby.url), METRICS="true", prepare=PREPARE) as server,
        closing(open_database(standby.url, 1)) as at_standby,
    ):

        def say(statement: str) -> object:
            with at_standby.read() as querier:
                return connection_of(querier).execute(text(statement)).scalar()

        def go_on_until_it_answers() -> None:
            before = answered(server)
            while answered(server) == before:
                writers.go_on(1)
            writers.go_on()

        with Writers(server.address, forum) as writers:
            go_on_until_it_answers()
            say("SELECT pg_wal_replay_pause()")
            writers.go_on()
            say("SELECT pg_wal_replay_resume()")
            go_on_until_it_answers()
            with standby.frozen():
                writers.go_on()
            go_on_until_it_answers()
            standby.kill()
            writers.go_on()
            standby.start()
            go_on_until_it_answers()
            say("SELECT pg_wal_replay_pause()")
            writers.go_on()
            say("SELECT pg_promote(false)")
            while say("SELECT pg_is_in_recovery()"):
                writers.go_on(1)
            before = answered(server)
            writers.go_on()
            assert answered(server) == before
        assert server.end() == 0
    assert "Traceback" not in server.said


def test_service_returns_when_the_standby_is_promoted(breakable: Postgres, standby: Postgres) -> None:
    forum = VotingForum(breakable.url)
    hosts = tuple(f"127.0.0.1:{server.url.port}" for server in (breakable, standby))
    both = {"host": hosts, "target_session_attrs": "read-write"}
    with (
        killed_for_good(breakable) as kill,
        serve(forum.url.set(host=None, port=None, query=both)) as server,
        closing(open_database(standby.url, 1)) as at_standby,
    ):
        with Load(server.address, forum) as load:
            load.wait_for("acknowledged", 20)
            kill()
            load.wait_for("refused", 5)
            with at_standby.read() as querier:
                assert connection_of(querier).execute(text("SELECT pg_promote(false)")).scalar()
            load.wait_for("acknowledged", 40)
        assert server.end() == 0
    assert "Traceback" not in server.said
    forum.url = standby.url
    forum.require_true_counters()


@contextmanager
def killed_for_good(primary: Postgres) -> Iterator[Callable[[], None]]:
    """Let a primary be killed, and start it only when no process takes it for the primary any more."""
    is_dead = False

    def kill() -> None:
        nonlocal is_dead
        primary.kill()
        is_dead = True

    try:
        yield kill
    finally:
        if is_dead:
            primary.start()
