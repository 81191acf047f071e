"""Use cases that are run again: which, how often, and that what they did is done once."""

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
from infrastructure.database.links import Link, Statement
from infrastructure.database.unit_of_work import SqlUnitOfWorkFactory
from infrastructure.retries import PAUSES_SECONDS, RetryingRunner
from infrastructure.runners import LoopRunner, Runner, ThreadRunner
from tests.backends import empty
from tests.samples import a_user, add_post, add_user

CONNECTIONS = 4
SERIALIZABLE = Statement(text("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"), prepared=False)
VOTE_UP = text("UPDATE posts SET upvotes = upvotes + 1, score = score + 1 WHERE id = :post_id")


@pytest.fixture
def database(database_of: Callable[[str], URL]) -> Iterator[Database]:
    url = database_of("postgres")
    empty(url)
    with closing(open_database(url, CONNECTIONS, CONNECTIONS)) as database:
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


def with_a_runner(runner: Runner, use: Callable[[Runner], Awaitable[None]]) -> int:
    """Use a runner in an event loop of its own, and tell how often something was run again."""
    retries = Retries()

    async def start_and_stop() -> None:
        retrying = RetryingRunner(runner, retries)
        retrying.start()
        try:
            await use(retrying)
        finally:
            retrying.stop()

    asyncio.run(start_and_stop())
    return retries.count


def run(work: Callable[[], object]) -> int:
    """Run a use case on the event loop, as requests are, and tell how often it was run again."""

    async def use(runner: Runner) -> None:
        await runner.run(work)

    return with_a_runner(LoopRunner(CONNECTIONS, ""), use)


def upvotes(database: Database) -> list[int]:
    with database.read() as link:
        return list(link.connection.execute(text("SELECT upvotes FROM posts ORDER BY id")).scalars())


def vote_up(link: Link, post_id: int) -> None:
    link.execute(VOTE_UP, {"post_id": post_id})


def lose(database: Database, link: Link) -> None:
    """Have the server end a connection."""
    backend = link.connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    with database.read() as other:
        assert other.execute(text("SELECT pg_terminate_backend(:backend, 10000)"), {"backend": backend}).scalar()


class Tries:
    """Counts the tries of a use case."""

    def __init__(self) -> None:
        self.count = 0

    def is_first(self) -> bool:
        self.count += 1
        return self.count == 1


@pytest.mark.parametrize("kind", [LoopRunner, ThreadRunner])
def test_of_two_that_deadlock_one_is_run_again(
    database: Database, posts: list[int], kind: type[LoopRunner | ThreadRunner]
) -> None:
    on_loop, on_threads = asyncio.Barrier(2), Barrier(2)

    def vote_on_both(order: list[int], tries: Tries) -> None:
        with database.write() as link:
            link.connection.exec_driver_sql("SET LOCAL lock_timeout = 0")  # PostgreSQL is to find the deadlock
            vote_up(link, order[0])
            if tries.is_first():
                if kind is LoopRunner:
                    await_only(on_loop.wait())
                else:
                    on_threads.wait()
            vote_up(link, order[1])

    async def use(runner: Runner) -> None:
        await asyncio.gather(runner.run(vote_on_both, posts, Tries()), runner.run(vote_on_both, posts[::-1], Tries()))

    assert with_a_runner(kind(CONNECTIONS, ""), use) == 1
    assert upvotes(database) == [2, 2]


def test_a_serialization_failure_is_run_again(database: Database, posts: list[int]) -> None:
    tries = Tries()

    def vote() -> None:
        with database.write() as link:
            link.later(SERIALIZABLE, {})
            link.connection.exec_driver_sql("SELECT upvotes FROM posts").all()
            if tries.is_first():
                with database.write() as other:
                    vote_up(other, posts[0])
            vote_up(link, posts[0])

    assert run(vote) == 1
    assert upvotes(database) == [2, 0]


def test_a_lock_that_was_not_to_be_had_is_asked_for_again(database: Database, posts: list[int]) -> None:
    tries = Tries()

    def vote() -> None:
        with database.write() as link:
            link.connection.exec_driver_sql("SET LOCAL lock_timeout = 20")
            if not tries.is_first():
                vote_up(link, posts[0])
                return
            with database.write() as other:
                vote_up(other, posts[0])
                vote_up(link, posts[0])

    assert run(vote) == 1
    assert upvotes(database) == [1, 0]


def test_a_connection_lost_before_the_commit_is_no_matter(database: Database, posts: list[int]) -> None:
    tries = Tries()

    def vote() -> None:
        with database.write() as link:
            vote_up(link, posts[0])
            if tries.is_first():
                lose(database, link)
            vote_up(link, posts[1])

    assert run(vote) == 1
    assert upvotes(database) == [1, 1]


def test_a_connection_lost_while_reading_is_no_matter(database: Database, posts: list[int]) -> None:
    tries = Tries()

    def read() -> None:
        with database.read() as link:
            if tries.is_first():
                lose(database, link)
            assert link.connection.exec_driver_sql("SELECT count(*) FROM posts").scalar_one() == len(posts)

    assert run(read) == 1


def test_a_connection_lost_with_the_commit_is_left_to_the_caller(database: Database, posts: list[int]) -> None:
    tries = Tries()

    def vote() -> None:
        with database.write() as link:
            vote_up(link, posts[0])
            assert tries.is_first()
            lose(database, link)

    with pytest.raises(Unavailable) as failed:
        run(vote)
    assert not isinstance(failed.value, TransactionAborted)
    assert upvotes(database) == [0, 0]


def test_what_is_taken_stays_taken(database: Database) -> None:
    tries, uow = Tries(), SqlUnitOfWorkFactory(database)
    add_user(uow)

    def register() -> None:
        assert tries.is_first()
        with uow() as tx:
            tx.users.add(a_user())

    with pytest.raises(EmailTaken):
        run(register)


def test_a_database_that_is_not_there_is_not_asked_again_and_again(database: Database) -> None:
    nowhere = database.engine.url.set(database="nowhere")
    tries = Tries()
    with closing(open_database(nowhere, CONNECTIONS, CONNECTIONS)) as lost:

        def read() -> None:
            assert tries.is_first()
            with lost.read():
                pytest.fail("there is no such database")

        with pytest.raises(Unavailable):
            run(read)


def test_it_is_run_again_three_times_at_most() -> None:
    tries = Tries()

    def interrupted() -> None:
        tries.is_first()
        raise TransactionAborted("in the way")

    with pytest.raises(Unavailable, match="in the way"):
        run(interrupted)
    assert tries.count == 1 + len(PAUSES_SECONDS)
