"""A real hot standby: it serves current reads only, and its failures go unnoticed."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
import structlog
from sqlalchemy import URL, text

from application.errors import TransactionAborted, Unavailable
from infrastructure.database.engine import Database, open_database
from infrastructure.database.pipeline import Querier
from infrastructure.database.schema import Migrations
from infrastructure.database.standby import Standby
from infrastructure.execution.greenlets import GreenletExecutor
from infrastructure.execution.retry import RetryingExecutor
from infrastructure.execution.threads import WorkerThreads
from infrastructure.metrics import StandbyOutcome
from infrastructure.timeouts import Timeouts
from tests.support.connections import connection_of
from tests.support.postgres import Postgres, private_server

PATIENCE_SECONDS = 20
CONNECTIONS = 3
HURRIED = Timeouts(standby_lost=0.2)

WRITE = text("INSERT INTO attempts (bucket, count, ends_at) VALUES (:name, 1, now())")
COUNT = text("SELECT count(*), pg_is_in_recovery() FROM attempts")


@pytest.fixture(scope="module")
def primary() -> Iterator[Postgres]:
    with private_server() as server:
        Migrations(server.url).upgrade()
        yield server


@pytest.fixture(scope="module")
def follower(primary: Postgres) -> Iterator[Postgres]:
    with primary.standby() as server:
        yield server


class Pair:
    """A primary and its standby, as the server uses them, and what was counted."""

    def __init__(self, primary: Database, standby: Database, timeouts: Timeouts) -> None:
        self.primary = primary
        self.follower = standby
        self.outcomes: list[StandbyOutcome] = []
        self.standby = Standby(primary, standby, timeouts, self.outcomes.append)

    def write(self, name: str) -> None:
        with self.primary.write() as querier:
            connection_of(querier).execute(WRITE, {"name": name})

    def read(self) -> tuple[int, bool]:
        """Count what was written, and tell whether a standby did."""
        with self.standby.read() as querier:
            return tuple(connection_of(querier).execute(COUNT).one())

    def until_read_at_standby(self) -> None:
        until = time.monotonic() + PATIENCE_SECONDS
        while not self.read()[1]:
            assert time.monotonic() < until, self.outcomes[-5:]


@contextmanager
def paired(primary: URL, standby: URL, timeouts: Timeouts = HURRIED) -> Iterator[Pair]:
    with (
        closing(open_database(primary, CONNECTIONS)) as first,
        closing(open_database(standby, CONNECTIONS)) as second,
    ):
        yield Pair(first, second, timeouts)


@pytest.fixture
def pair(primary: Postgres, follower: Postgres) -> Iterator[Pair]:
    with paired(primary.url, follower.url) as pair:
        with pair.primary.write() as querier:
            connection_of(querier).execute(text("DELETE FROM attempts"))
        yield pair


@contextmanager
def paused(follower: Postgres) -> Iterator[None]:
    """Have a standby receive the log, and repeat none of it."""
    with closing(open_database(follower.url, 1)) as database, database.read() as querier:
        connection_of(querier).execute(text("SELECT pg_wal_replay_pause()"))
        try:
            yield
        finally:
            connection_of(querier).execute(text("SELECT pg_wal_replay_resume()"))


def test_a_standby_that_has_caught_up_answers(pair: Pair) -> None:
    pair.write("one")
    pair.until_read_at_standby()
    assert pair.read() == (1, True)
    assert pair.outcomes[-1] == "answered"


def test_read_after_commit_sees_it_however_soon(pair: Pair) -> None:
    for number in range(200):
        pair.write(f"number {number}")
        assert pair.read()[0] == number + 1
    assert pair.outcomes.count("answered") > 0


def test_while_a_standby_repeats_nothing_the_primary_answers(pair: Pair, follower: Postgres) -> None:
    pair.until_read_at_standby()
    with paused(follower):
        pair.write("one")
        for _ in range(3):
            assert pair.read() == (1, False)
        assert "behind" in pair.outcomes
    pair.until_read_at_standby()


def test_frozen_standby_costs_one_timeout_and_is_used_again_later(pair: Pair, follower: Postgres) -> None:
    pair.until_read_at_standby()
    pair.standby = Standby(
        pair.primary, pair.follower, Timeouts(standby=0.3, standby_lost=3_600.0), pair.outcomes.append
    )
    pair.write("one")
    pair.outcomes.clear()
    with structlog.testing.capture_logs() as logs, follower.frozen():
        assert [pair.read() for _ in range(5)] == [(1, False)] * 5
    assert pair.outcomes == ["left_out"] * 5
    assert [(line["event"], line["cause"]) for line in logs] == [
        ("standby is left out", "ResponseTimeout: no response in time")
    ]
    pair.standby._rests_until = 1  # a time that has passed
    with structlog.testing.capture_logs() as logs:
        pair.until_read_at_standby()
    assert [line["event"] for line in logs] == ["standby is asked again"]


def test_one_request_probes_a_lost_standby_and_the_others_do_not_wait(pair: Pair) -> None:
    pair.until_read_at_standby()
    pair.standby._rests_until = 1
    assert pair.standby._is_due()
    assert not pair.standby._is_due()


def is_standby(querier: Querier) -> object:
    return connection_of(querier).execute(text("SELECT pg_is_in_recovery()")).scalar()


@pytest.mark.parametrize("in_greenlets", [True, False])
def test_a_use_case_whose_standby_dies_is_answered_by_the_primary(
    pair: Pair, follower: Postgres, in_greenlets: bool
) -> None:
    pair.until_read_at_standby()
    pair.write("one")
    answered_by: list[object] = []

    def read() -> int:
        with pair.standby.read() as querier:
            answered_by.append(is_standby(querier))
            if answered_by == [True]:
                follower.kill()
            return int(connection_of(querier).execute(COUNT).one()[0])

    async def main(executor: GreenletExecutor | WorkerThreads) -> None:
        retrying = RetryingExecutor(executor)
        answered_by.clear()
        while answered_by[-1:] != [False] or len(answered_by) == 1:  # until one began at the standby
            answered_by.clear()
            assert await retrying.run(read) == 1
        pair.primary.close()
        pair.standby.close()
        retrying.close()

    try:
        asyncio.run(main(GreenletExecutor() if in_greenlets else WorkerThreads(CONNECTIONS, "-", 2.0)))
    finally:
        follower.start()
    assert answered_by == [True, False]
    pair.until_read_at_standby()


def test_without_an_executor_a_lost_standby_raises_transaction_aborted(pair: Pair, follower: Postgres) -> None:
    pair.until_read_at_standby()
    try:
        with pytest.raises(TransactionAborted), pair.standby.read() as querier:
            assert is_standby(querier)
            follower.kill()
            is_standby(querier)
        assert pair.read() == (0, False)
    finally:
        follower.start()


def test_unreachable_standby_is_left_out(primary: Postgres) -> None:
    with paired(primary.url, primary.url.set(port=1)) as pair:
        assert pair.read()[1] is False
        assert pair.outcomes == ["left_out"]


def test_without_the_primary_reads_are_unavailable(follower: Postgres) -> None:
    with paired(follower.url.set(port=1), follower.url) as pair, pytest.raises(Unavailable):
        pair.read()


@pytest.mark.parametrize("which", ["cluster", "database"])
def test_another_database_is_never_asked(primary: Postgres, follower: Postgres, which: str) -> None:
    with closing(open_database(primary.url, 1)) as database, database.read() as querier:
        connection_of(querier).execute(text("CREATE DATABASE another"))
    try:
        if which == "cluster":
            with private_server() as stranger, stranger.standby() as other:
                require_left_out(primary.url, other.url)
        else:
            with paired(primary.url, follower.url) as pair:
                pair.until_read_at_standby()  # which has the new database by now
            require_left_out(primary.url, follower.url.set(database="another"))
    finally:
        with closing(open_database(primary.url, 1)) as database, database.read() as querier:
            connection_of(querier).execute(text("DROP DATABASE another"))


def require_left_out(primary: URL, standby: URL) -> None:
    """Require a standby to be left out because it is another database's."""
    with paired(primary, standby) as pair:
        with structlog.testing.capture_logs() as logs, pair.standby.read() as querier:
            assert connection_of(querier).execute(text("SELECT pg_is_in_recovery(), current_database()")).one() == (
                False,
                primary.database,
            )
        assert pair.outcomes == ["left_out"]
        assert [line["reason"] for line in logs] == ["it follows another database"]


def test_promoted_standby_is_left_out_and_may_become_the_primary(primary: Postgres, follower: Postgres) -> None:
    """The last test: the standby is none any more."""
    eager = Timeouts(standby_lost=0.0)
    with paired(primary.url, follower.url, eager) as pair, closing(open_database(follower.url, 1)) as promoted:
        with pair.primary.write() as querier:
            connection_of(querier).execute(text("DELETE FROM attempts"))
        pair.until_read_at_standby()
        with promoted.read() as querier:
            assert connection_of(querier).execute(text("SELECT pg_promote()")).scalar()
        pair.write("after the fork")
        assert [pair.read() for _ in range(3)] == [(1, False)] * 3
        assert pair.outcomes[-3:] == ["left_out"] * 3
    with paired(
        follower.url, follower.url, eager
    ) as pair:  # what failover leaves: both addresses lead to the new primary
        pair.write("on the new timeline")
        assert pair.read() == (1, False)
    with primary_followed_by_another(primary) as other, paired(follower.url, other.url, eager) as pair:
        pair.write("which the other one will never see")
        with closing(open_database(primary.url, 1)) as old, old.write() as querier:
            for number in range(200):  # however far the old timeline gets
                connection_of(querier).execute(WRITE, {"name": f"lost {number}"})
        assert [pair.read() for _ in range(3)] == [(2, False)] * 3


@contextmanager
def primary_followed_by_another(primary: Postgres) -> Iterator[Postgres]:
    with primary.standby("another") as other:
        yield other
