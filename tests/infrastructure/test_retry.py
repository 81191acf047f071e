"""Retries: which use cases run again, how often, and that their effect occurs once."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from threading import Barrier

import pytest
from sqlalchemy import URL, text
from sqlalchemy.util import await_only

from application.errors import TransactionAborted, Unavailable
from domain.users import EmailTaken
from infrastructure.database.engine import Database, open_database
from infrastructure.database.pipeline import Querier, Statement
from infrastructure.database.unit_of_work import SqlUnitOfWorkFactory
from infrastructure.execution.greenlets import Executor, GreenletExecutor
from infrastructure.execution.retry import RetryingExecutor
from infrastructure.execution.threads import WorkerThreads
from infrastructure.timeouts import DEFAULT_TIMEOUTS
from tests.support.connections import connection_of
from tests.support.samples import a_user, add_post, add_user

CONNECTIONS = 4
SERIALIZABLE = Statement(text("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"))
VOTE_UP = text("UPDATE posts SET upvotes = upvotes + 1, score = score + 1 WHERE id = :post_id")


@pytest.fixture
def database(emptied: Callable[[str], URL]) -> Iterator[Database]:
    url = emptied("postgres")
    with closing(open_database(url, CONNECTIONS)) as database:
        yield database


@pytest.fixture
def posts(database: Database) -> list[int]:
    """Two posts without votes."""
    uow = SqlUnitOfWorkFactory(database)
    ann = add_user(uow)
    return [add_post(uow, ann).id for _ in range(2)]


class Retries:
    """Counts."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


def with_executor(executor: Executor, use: Callable[[Executor], Awaitable[None]]) -> int:
    """Use an executor in an event loop of its own, and count the retries."""
    retries = Retries()

    async def use_and_close() -> None:
        with closing(RetryingExecutor(executor, retried=retries)) as retrying:
            await use(retrying)

    asyncio.run(use_and_close())
    return retries.count


def run(work: Callable[[], object]) -> int:
    """Run a use case on the event loop, and count its retries."""

    async def use(executor: Executor) -> None:
        await executor.run(work)

    return with_executor(GreenletExecutor(), use)


def upvotes(database: Database) -> list[int]:
    with database.read() as querier:
        return list(connection_of(querier).execute(text("SELECT upvotes FROM posts ORDER BY id")).scalars())


def vote_up(querier: Querier, post_id: int) -> None:
    connection_of(querier).execute(VOTE_UP, {"post_id": post_id})


def lose(database: Database, querier: Querier) -> None:
    """Close a connection on the server's side."""
    backend = connection_of(querier).exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    with database.read() as other:
        assert (
            connection_of(other)
            .execute(text("SELECT pg_terminate_backend(:backend, 10000)"), {"backend": backend})
            .scalar()
        )


class Tries:
    """Counts the tries of a use case."""

    def __init__(self) -> None:
        self.count = 0

    def is_first(self) -> bool:
        self.count += 1
        return self.count == 1


@pytest.mark.parametrize("in_greenlets", [True, False])
def test_of_two_deadlocked_use_cases_one_runs_again(database: Database, posts: list[int], in_greenlets: bool) -> None:
    on_loop, on_threads = asyncio.Barrier(2), Barrier(2)

    def vote_on_both(order: list[int], tries: Tries) -> None:
        with database.write() as querier:
            connection_of(querier).exec_driver_sql("SET LOCAL lock_timeout = 0")  # PostgreSQL is to find the deadlock
            vote_up(querier, order[0])
            if tries.is_first():
                if in_greenlets:
                    await_only(on_loop.wait())
                else:
                    on_threads.wait()
            vote_up(querier, order[1])

    async def use(executor: Executor) -> None:
        await asyncio.gather(*(executor.run(vote_on_both, order, Tries()) for order in (posts, posts[::-1])))

    assert with_executor(GreenletExecutor() if in_greenlets else WorkerThreads(2, "-", 2.0), use) == 1
    assert upvotes(database) == [2, 2]


def test_serialization_failure_is_run_again(database: Database, posts: list[int]) -> None:
    tries = Tries()

    def vote() -> None:
        with database.write() as querier:
            querier.enqueue(SERIALIZABLE, {})
            connection_of(querier).exec_driver_sql("SELECT upvotes FROM posts").all()
            if tries.is_first():
                with database.write() as other:
                    vote_up(other, posts[0])
            vote_up(querier, posts[0])

    assert run(vote) == 1
    assert upvotes(database) == [2, 0]


def test_lock_timeout_is_run_again(database: Database, posts: list[int]) -> None:
    tries = Tries()

    def vote() -> None:
        with database.write() as querier:
            connection_of(querier).exec_driver_sql("SET LOCAL lock_timeout = 20")
            if not tries.is_first():
                vote_up(querier, posts[0])
                return
            with database.write() as other:
                vote_up(other, posts[0])
                vote_up(querier, posts[0])

    assert run(vote) == 1
    assert upvotes(database) == [1, 0]


def test_connection_lost_before_the_commit_is_run_again(database: Database, posts: list[int]) -> None:
    tries = Tries()

    def vote() -> None:
        with database.write() as querier:
            vote_up(querier, posts[0])
            if tries.is_first():
                lose(database, querier)
            vote_up(querier, posts[1])

    assert run(vote) == 1
    assert upvotes(database) == [1, 1]


def test_connection_lost_while_reading_is_run_again(database: Database, posts: list[int]) -> None:
    tries = Tries()

    def read() -> None:
        with database.read() as querier:
            if tries.is_first():
                lose(database, querier)
            assert connection_of(querier).exec_driver_sql("SELECT count(*) FROM posts").scalar_one() == len(posts)

    assert run(read) == 1


def test_connection_lost_with_the_commit_is_not_run_again(database: Database, posts: list[int]) -> None:
    tries = Tries()

    def vote() -> None:
        with database.write() as querier:
            vote_up(querier, posts[0])
            assert tries.is_first()
            lose(database, querier)

    with pytest.raises(Unavailable) as failed:
        run(vote)
    assert not isinstance(failed.value, TransactionAborted)
    assert upvotes(database) == [0, 0]


def test_violated_constraint_is_not_run_again(database: Database) -> None:
    tries, uow = Tries(), SqlUnitOfWorkFactory(database)
    add_user(uow)

    def register() -> None:
        assert tries.is_first()
        with uow() as tx:
            tx.users.add(a_user())

    with pytest.raises(EmailTaken):
        run(register)


def test_missing_database_is_asked_once(database: Database) -> None:
    nowhere = database.engine.url.set(database="nowhere")
    tries = Tries()
    with closing(open_database(nowhere, CONNECTIONS)) as lost:

        def read() -> None:
            assert tries.is_first()
            with lost.read() as querier:
                connection_of(querier).execute(text("SELECT 1"))

        with pytest.raises(Unavailable):
            run(read)


def test_use_case_is_run_again_three_times_at_most() -> None:
    tries = Tries()

    def collide() -> None:
        tries.is_first()
        raise TransactionAborted("in conflict")

    with pytest.raises(Unavailable, match="in conflict"):
        run(collide)
    assert tries.count == 1 + len(DEFAULT_TIMEOUTS.retry_pauses) == 4
