"""One deadline for all that a request waits for: for its turn, for locks, for answers, for another try."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from sqlalchemy import URL, text
from starlette.types import Message, Receive, Scope, Send

from application.errors import TransactionAborted, Unavailable
from infrastructure import deadlines
from infrastructure.database.engine import open_database
from infrastructure.deadlines import forget_deadline, is_over, seconds_left, start_deadline, within
from infrastructure.retries import RetryingRunner
from infrastructure.runners import LoopRunner, ThreadRunner
from interfaces.http.addresses import Proxies
from interfaces.http.middleware import RequestIds
from tests.backends import empty
from tests.infrastructure.test_waiting import LOCK

PATIENCE_SECONDS = 20
LONG_SECONDS = 3_600


class FakeTime:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    clock = FakeTime()
    monkeypatch.setattr(deadlines, "time", clock)
    return clock


@pytest.fixture(autouse=True)
def no_deadline() -> Iterator[None]:
    forget_deadline()
    yield
    forget_deadline()


@pytest.fixture
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give requests little time, and each wait alone more than this test has."""
    monkeypatch.setattr(deadlines, "REQUEST_SECONDS", 0.1)
    monkeypatch.setattr(deadlines, "LAST_SECONDS", 0.05)
    monkeypatch.setattr("infrastructure.database.waiting.ANSWER_SECONDS", LONG_SECONDS)
    monkeypatch.setattr("infrastructure.database.engine.SQLITE_BUSY_SECONDS", LONG_SECONDS)
    monkeypatch.setattr("infrastructure.runners.WAIT_SECONDS", LONG_SECONDS)


def test_without_a_deadline_a_wait_takes_what_it_takes(clock: FakeTime) -> None:
    clock.now += LONG_SECONDS
    assert seconds_left(5.0) == 5.0
    assert not is_over()


def test_each_wait_takes_what_the_ones_before_it_have_left(clock: FakeTime) -> None:
    start_deadline()
    assert (seconds_left(2.0), seconds_left(60.0)) == (2.0, 5.5)
    clock.now += 4.0
    start_deadline()  # the request's second use case
    assert (seconds_left(1.0), seconds_left(2.0)) == (1.0, 1.5)
    assert not is_over()
    clock.now += 1.5
    assert is_over()
    assert seconds_left(2.0) == 0.25
    assert seconds_left(0.1) == 0.1


def test_a_block_may_be_given_less_and_never_more(clock: FakeTime) -> None:
    start_deadline()
    with within(1.0):
        assert seconds_left(60.0) == 1.0
        with within(3.0):
            assert seconds_left(60.0) == 1.0
    assert seconds_left(60.0) == 5.5
    clock.now += 5.0
    with within(1.0):
        assert seconds_left(60.0) == 0.5


def test_every_request_has_its_own(clock: FakeTime) -> None:
    left: list[float] = []

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        start_deadline()
        left.append(seconds_left(60.0))

    async def receive() -> Message:
        raise AssertionError

    async def send(_message: Message) -> None:
        raise AssertionError

    async def serve() -> None:
        api = RequestIds(app, Proxies(()), begin=forget_deadline)
        for _ in range(2):  # in one context, as servers do with what is pipelined
            await api({"type": "http", "method": "GET", "path": "/", "headers": [], "client": None}, receive, send)
            clock.now += LONG_SECONDS

    asyncio.run(serve())
    assert left == [5.5, 5.5]


def test_nothing_is_tried_again_past_the_deadline(clock: FakeTime) -> None:
    tries = 0

    def collide() -> None:
        nonlocal tries
        tries += 1
        clock.now += 3.0
        raise TransactionAborted("others are in the way")

    async def main() -> None:
        runner = RetryingRunner(ThreadRunner(1, "-"))
        runner.start()
        with pytest.raises(TransactionAborted):
            await runner.run(collide)
        runner.stop()

    asyncio.run(main())
    assert tries == 2


@pytest.mark.usefixtures("in_a_hurry")
def test_waiting_for_an_answer_ends_with_the_request(postgres_url: URL) -> None:
    async def main(on_threads: bool) -> None:
        with (
            closing(open_database(postgres_url, 2, 2)) as database,
            closing(open_database(postgres_url, 0, 1)) as other,
        ):
            loop, threads = RetryingRunner(LoopRunner(2, "-")), RetryingRunner(ThreadRunner(2, "-"))

            def wait_in_vain() -> None:
                with database.read() as link:
                    link.connection.exec_driver_sql("SET statement_timeout = 0")
                    link.row(LOCK, {"key": 1})

            loop.start()
            threads.start()
            with other.write() as link:
                link.connection.exec_driver_sql("SELECT pg_advisory_xact_lock(1)")
                async with asyncio.timeout(PATIENCE_SECONDS):
                    with pytest.raises(Unavailable):
                        await (threads if on_threads else loop).run(wait_in_vain)
            threads.stop()
            loop.stop()

    for on_threads in (False, True):
        asyncio.run(main(on_threads))


@pytest.mark.usefixtures("in_a_hurry")
def test_waiting_for_a_turn_ends_with_the_request() -> None:
    async def main() -> None:
        runner, over = RetryingRunner(ThreadRunner(1, "no turn")), asyncio.Event()
        runner.start()

        def hold() -> None:
            asyncio.run_coroutine_threadsafe(over.wait(), loop).result(PATIENCE_SECONDS)

        loop = asyncio.get_running_loop()
        holding = asyncio.create_task(runner.run(hold))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="no turn"):
            await runner.run(print)
        over.set()
        await holding
        runner.stop()

    asyncio.run(main())


@pytest.mark.usefixtures("in_a_hurry")
def test_writers_on_sqlite_wait_together_no_longer_than_each_may(database_of: Callable[[str], URL]) -> None:
    url = database_of("sqlite")
    empty(url)

    async def main() -> None:
        with closing(open_database(url, 0, 8)) as database:

            def write() -> None:
                with database.write() as link:
                    link.execute(text("DELETE FROM posts"))

            runner = RetryingRunner(ThreadRunner(8, "-"))
            runner.start()
            with closing(sqlite3.connect(str(url.database))) as stranger:
                stranger.execute("BEGIN IMMEDIATE")
                async with asyncio.timeout(PATIENCE_SECONDS):
                    found = await asyncio.gather(*(runner.run(write) for _ in range(8)), return_exceptions=True)
                assert {type(one) for one in found} == {Unavailable}
            await runner.run(write)
            runner.stop()

    asyncio.run(main())
