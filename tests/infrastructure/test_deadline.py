"""One deadline for all waits of a request: for threads, connections, locks, responses, and further attempts."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from contextvars import Context
from dataclasses import replace
from threading import Event

import pytest
from sqlalchemy import URL, text
from starlette.types import Message, Receive, Scope, Send

from application.errors import TransactionAborted, Unavailable
from infrastructure.database.engine import open_database
from infrastructure.execution.deadline import MIN_WAIT, clear_deadline, is_expired, remaining, start_deadline
from infrastructure.execution.greenlets import GreenletExecutor
from infrastructure.execution.retry import RetryingExecutor
from infrastructure.execution.threads import WorkerThreads
from infrastructure.timeouts import Timeouts
from interfaces.http.middleware import RequestContext
from interfaces.http.proxies import Proxies
from tests.support.backends import LOCK
from tests.support.connections import connection_of

PATIENCE_SECONDS = 20
LONG_SECONDS = 3_600.0
HURRIED = Timeouts(request=0.1, acquire=LONG_SECONDS, response=LONG_SECONDS, sqlite_busy=LONG_SECONDS)
"""Little time for a request, and for each wait alone more than a test has."""


@pytest.fixture(autouse=True)
def no_deadline() -> Iterator[None]:
    clear_deadline()
    yield
    clear_deadline()


def test_wait_without_a_deadline_is_bounded_by_itself() -> None:
    assert remaining(LONG_SECONDS) == LONG_SECONDS
    assert not is_expired()


def test_wait_is_bounded_by_what_the_deadline_leaves() -> None:
    start_deadline(100.0)
    start_deadline(LONG_SECONDS)  # the second use case of the request
    assert remaining(2.0) == 2.0
    assert 99.0 < remaining(LONG_SECONDS) <= 100.0
    assert not is_expired()


def test_expired_deadline_leaves_the_least_wait() -> None:
    start_deadline(-1.0)
    assert is_expired()
    assert remaining(LONG_SECONDS) == MIN_WAIT
    assert remaining(MIN_WAIT / 2) == MIN_WAIT / 2


def test_deadline_of_a_request_is_not_inherited_by_the_next() -> None:
    expired: list[bool] = []

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        expired.append(is_expired())
        start_deadline(-1.0)

    async def receive() -> Message:
        raise AssertionError

    async def send(_message: Message) -> None:
        raise AssertionError

    async def serve() -> None:
        api = RequestContext(app, Proxies(()), begin=clear_deadline)
        for _ in range(2):  # in one context, as servers do with what is pipelined
            await api(
                {"type": "http", "scheme": "http", "method": "GET", "path": "/", "headers": [], "client": None},
                receive,
                send,
            )

    asyncio.run(serve())
    assert expired == [False, False]


def test_use_cases_outside_of_requests_each_have_a_deadline() -> None:
    seen: list[float] = []

    async def read_queue() -> None:
        executor = RetryingExecutor(GreenletExecutor(), Timeouts(request=100.0))
        for _ in range(2):
            await executor.run(lambda: seen.append(remaining(LONG_SECONDS)))
            seen.append(remaining(LONG_SECONDS))

    Context().run(asyncio.run, read_queue())

    assert [99.0 < seconds <= 100.0 for seconds in seen] == [True, False, True, False]
    assert seen[1::2] == [LONG_SECONDS] * 2


def test_use_cases_of_a_request_share_one_deadline() -> None:
    async def handle() -> None:
        clear_deadline()
        executor = RetryingExecutor(GreenletExecutor(), Timeouts(request=100.0))
        await executor.run(lambda: None)
        assert remaining(LONG_SECONDS) <= 100.0

    Context().run(asyncio.run, handle())


def test_use_case_is_not_run_again_past_the_deadline() -> None:
    attempts: list[int] = []

    def collide() -> None:
        attempts.append(1)
        raise TransactionAborted("another transaction is in conflict")

    async def main() -> None:
        with pytest.raises(TransactionAborted):
            await RetryingExecutor(GreenletExecutor(), Timeouts(request=-1.0)).run(collide)

    asyncio.run(main())
    assert len(attempts) == 1


@pytest.mark.parametrize("in_greenlet", [True, False])
def test_wait_for_a_response_ends_with_the_request(postgres_url: URL, in_greenlet: bool) -> None:
    async def main() -> None:
        threads = WorkerThreads(1, "-", LONG_SECONDS)
        executor = RetryingExecutor(GreenletExecutor() if in_greenlet else threads, HURRIED)
        with (
            closing(threads),
            closing(open_database(postgres_url, 2, HURRIED)) as database,
            closing(open_database(postgres_url, 1)) as other,
        ):

            def wait_in_vain() -> None:
                with database.read() as querier:
                    connection_of(querier).exec_driver_sql("SET statement_timeout = 0")
                    querier.fetch_one(LOCK, {"key": 1})

            with other.write() as querier:
                connection_of(querier).exec_driver_sql("SELECT pg_advisory_xact_lock(1)")
                async with asyncio.timeout(PATIENCE_SECONDS):
                    with pytest.raises(Unavailable):
                        await executor.run(wait_in_vain)

    asyncio.run(main())


def test_wait_for_a_thread_ends_with_the_request() -> None:
    async def main() -> None:
        with closing(WorkerThreads(1, "no thread", LONG_SECONDS)) as threads:
            executor, event = RetryingExecutor(threads, HURRIED), Event()
            working = asyncio.create_task(executor.run(event.wait, PATIENCE_SECONDS))
            await asyncio.sleep(0)
            with pytest.raises(Unavailable, match="no thread"):
                await executor.run(print)
            event.set()
            await working

    asyncio.run(main())


def test_wait_for_a_connection_ends_with_the_request(postgres_url: URL) -> None:
    async def main() -> None:
        executor = RetryingExecutor(GreenletExecutor(), HURRIED)
        with closing(open_database(postgres_url, 1, HURRIED)) as database:

            def occupy(then: Event) -> None:
                with database.read() as querier:
                    connection_of(querier).exec_driver_sql("SELECT 1")
                    is_occupied.set()
                    while not then.is_set():
                        connection_of(querier).exec_driver_sql("SELECT pg_sleep(0.01)")

            def ask() -> None:
                with database.read() as querier:
                    connection_of(querier).exec_driver_sql("SELECT 1")

            event, is_occupied = Event(), asyncio.Event()
            occupied = asyncio.create_task(executor.run(occupy, event))
            await is_occupied.wait()
            with pytest.raises(Unavailable, match="connections are in use"):
                await executor.run(ask)
            event.set()
            await occupied
            await executor.run(ask)

    asyncio.run(main())


def test_wait_for_a_connection_to_sqlite_ends_with_the_request(emptied: Callable[[str], URL]) -> None:
    hurried = replace(HURRIED, acquire=2.0 * PATIENCE_SECONDS)

    async def main() -> None:
        with (
            closing(open_database(emptied("sqlite"), 1, hurried)) as database,
            closing(WorkerThreads(1, "-", LONG_SECONDS)) as threads,
        ):
            executor = RetryingExecutor(threads, hurried)

            def ask() -> None:
                with database.read() as querier:
                    connection_of(querier).exec_driver_sql("SELECT 1")

            with database.read():
                async with asyncio.timeout(PATIENCE_SECONDS):
                    with pytest.raises(Unavailable, match="connections are in use"):
                        await executor.run(ask)
            await executor.run(ask)

    asyncio.run(main())


def test_writers_on_sqlite_wait_together_no_longer_than_each_may(emptied: Callable[[str], URL]) -> None:
    url = emptied("sqlite")

    async def main() -> None:
        with (
            closing(open_database(url, 8, HURRIED)) as database,
            closing(WorkerThreads(8, "-", LONG_SECONDS)) as threads,
        ):
            executor = RetryingExecutor(threads, HURRIED)

            def write() -> None:
                with database.write() as querier:
                    connection_of(querier).execute(text("DELETE FROM posts"))

            with closing(sqlite3.connect(str(url.database))) as other:
                other.execute("BEGIN IMMEDIATE")
                async with asyncio.timeout(PATIENCE_SECONDS):
                    found = await asyncio.gather(*(executor.run(write) for _ in range(8)), return_exceptions=True)
                assert {type(one) for one in found} == {Unavailable}
            clear_deadline()
            await executor.run(write)

    asyncio.run(main())
