"""Batches: concurrent queries share round trips, and nothing else."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import closing, nullcontext
from contextvars import Context
from functools import partial
from typing import Any, TypeVar

import psycopg2
import pytest
from sqlalchemy import URL, text
from sqlalchemy.util import await_only

from application.errors import TransactionAborted, Unavailable
from application.paging import LIMIT_DEFAULT, Order, SortBy, Window
from application.views import Bearer, Caller, PostFilter
from application.votes import CastVote, CastVotes
from domain.posts import PostNotFound
from domain.sessions import RefreshHashes, Session
from domain.users import ANONYMOUS, Actor, InvalidToken
from domain.votes import Direction
from infrastructure.database.batching import IN_FLIGHT, ROWS_MAX, Batcher
from infrastructure.database.engine import Database, open_database
from infrastructure.database.pipeline import Querier, Rows, Statement, Values
from infrastructure.database.posts import GET_VISIBLE, SqlPostReader
from infrastructure.database.prepared import BATCHED, PREPARED
from infrastructure.database.users import SqlUserReader
from infrastructure.execution.deadline import start_deadline
from infrastructure.execution.greenlets import GreenletExecutor
from infrastructure.timeouts import Timeouts
from tests.fakes.services import FrozenClock
from tests.support.backends import sql_backend
from tests.support.concurrency import until
from tests.support.connections import connection_of
from tests.support.round_trips import round_trips
from tests.support.samples import NOW, add_post, add_user

CONNECTIONS = 4
T = TypeVar("T")
Query = Callable[[], object]


@pytest.fixture
def url(emptied: Callable[[str], URL]) -> URL:
    return emptied("postgres")


@pytest.fixture
def sent() -> list[str]:
    """What the database sends; `database` fills it."""
    return []


@pytest.fixture
def database(url: URL, sent: list[str]) -> Iterator[Database]:
    with round_trips(sent), closing(open_database(url, CONNECTIONS, prepared=PREPARED, batched=BATCHED)) as opened:
        yield opened


@pytest.fixture
def people(url: URL) -> list[Actor]:
    """Accounts that each wrote a post, a draft, and voted on the post of the one before."""
    with sql_backend(url) as backend:
        found = [add_user(backend.uow, f"user{number}") for number in range(5)]
        posts = [add_post(backend.uow, person, minutes=number) for number, person in enumerate(found)]
        for number, person in enumerate(found):
            add_post(backend.uow, person, published=False, minutes=number)
            CastVote(CastVotes(backend.uow, FrozenClock()))(person, posts[number - 1].id, Direction.UP)
            with backend.uow() as tx:
                refresh = RefreshHashes(f"family {number}", "secret")
                tx.sessions.add(Session.open(user_id=person.id, user_agent="", refresh=refresh, now=NOW))
    return found


async def at_once(queries: Sequence[Query]) -> list[Any]:
    executor = GreenletExecutor()
    return await asyncio.gather(*(executor.run(query) for query in queries), return_exceptions=True)


def run(main: Coroutine[Any, Any, T]) -> T:
    return Context().run(asyncio.run, asyncio.wait_for(main, 60))


def outcome(query: Query) -> object:
    try:
        return query()
    except (PostNotFound, InvalidToken) as error:
        return error


def executions(sent: list[str], name: str) -> int:
    return sum(name in message and "PREPARE" not in message for message in sent)


def test_batched_queries_return_what_each_returns_alone(database: Database, people: list[Actor]) -> None:
    posts, users = SqlPostReader(database.read), SqlUserReader(database.read)
    readers: list[Caller] = [ANONYMOUS, *people, *(Bearer(person.id, 2, NOW) for person in people)]
    queries: list[Query] = [
        *(partial(posts.get, reader, post_id) for reader in readers for post_id in range(1, 12)),
        *(
            partial(posts.list, reader, PostFilter(), Order(by), Window(LIMIT_DEFAULT))
            for reader in readers
            for by in SortBy
        ),
        *(partial(users.find_actor, Bearer(person.id, session, NOW)) for person in people for session in range(1, 6)),
    ]
    alone = [outcome(query) for query in queries]

    together = run(at_once(queries))

    assert [repr(found) for found in together] == [repr(found) for found in alone]
    assert len({repr(found) for found in alone}) > len(readers)


def test_pages_of_a_batch_keep_their_own_cursors(database: Database, url: URL) -> None:
    with sql_backend(url) as backend:
        ann = add_user(backend.uow)
        for minutes in range(30):
            add_post(backend.uow, ann, minutes=minutes)
    posts = SqlPostReader(database.read)
    first = posts.list(ann, PostFilter(), Order(), Window(LIMIT_DEFAULT))
    second = posts.list(ann, PostFilter(), Order(), Window(LIMIT_DEFAULT, after=first.last))
    windows = [Window(LIMIT_DEFAULT, after=page.last) for page in (first, second, first, second)]

    together = run(at_once([partial(posts.list, ann, PostFilter(), Order(), window) for window in windows]))

    assert together[0] == second
    assert together[:2] == together[2:]
    assert [post.id for post in together[1].items] == list(range(10, 0, -1))


def test_concurrent_queries_share_round_trips(
    database: Database, people: list[Actor], sent: list[str], url: URL
) -> None:
    posts = SqlPostReader(database.read)

    async def main() -> None:
        await at_once([partial(posts.get, people[0], 1)])  # opens a connection
        sent.clear()
        executor = GreenletExecutor()
        with Locked(url):
            waiting = [asyncio.create_task(executor.run(posts.get, people[0], 1)) for _ in range(60)]
            for _ in range(20):
                await asyncio.sleep(0)
        await asyncio.gather(*waiting)

    run(main())

    assert executions(sent, GET_VISIBLE.batched.name) == 1
    assert executions(sent, GET_VISIBLE.name) == 1  # the first, which found no other at work


def test_query_that_is_alone_is_no_batch(database: Database, people: list[Actor], sent: list[str]) -> None:
    posts = SqlPostReader(database.read)

    async def main() -> None:
        for _ in range(3):
            await at_once([partial(posts.get, people[0], 1)])

    run(main())

    assert executions(sent, GET_VISIBLE.batched.name) == 0
    assert executions(sent, GET_VISIBLE.name) == 3


def test_lists_of_a_batch_are_bounded_by_their_rows(database: Database, people: list[Actor], sent: list[str]) -> None:
    posts = SqlPostReader(database.read)
    listing = partial(posts.list, people[0], PostFilter(), Order(), Window(LIMIT_DEFAULT))

    async def main() -> None:
        await at_once([listing])
        sent.clear()
        await at_once([listing] * 50)

    run(main())

    assert executions(sent, "agora_") >= 50 / (ROWS_MAX // (LIMIT_DEFAULT + 1))


def fetch(database: Database, values: dict[str, object]) -> object:
    with database.read() as querier:
        return querier.fetch_all(GET_VISIBLE, values)


@pytest.mark.usefixtures("people")
def test_error_reaches_its_own_query_only(database: Database) -> None:
    good: dict[str, object] = {"post_id": 1, "caller_id": 1}
    bad: dict[str, object] = {"post_id": "no number", "caller_id": 1}

    outcomes = run(at_once([partial(fetch, database, values) for values in (good, good, bad, good, bad)]))

    assert [isinstance(found, psycopg2.DataError) for found in outcomes] == [False, False, True, False, True]
    assert outcomes[0] == outcomes[1] == outcomes[3] != []


@pytest.mark.parametrize("error", [Unavailable("no connection"), TransactionAborted("a lock")])
def test_batch_that_cannot_be_served_is_not_asked_query_by_query(error: Unavailable) -> None:
    asked: list[int] = []

    class Busy(Querier):
        def fetch_many(self, _statement: Statement, many: Sequence[Values]) -> Sequence[Rows]:
            asked.append(len(many))
            await_only(are_waiting.wait())
            raise error

    async def main() -> list[Any]:
        batcher = Batcher([GET_VISIBLE], lambda: nullcontext(Busy(None)), Timeouts())  # type: ignore[arg-type]
        executor, values = GreenletExecutor(), {"post_id": 1, "caller_id": 1}
        tasks = [asyncio.create_task(executor.run(batcher.fetch_all, GET_VISIBLE, values)) for _ in range(5)]
        await until(lambda: len(asked) == 2)
        are_waiting.set()
        return list(await asyncio.gather(*tasks, return_exceptions=True))

    are_waiting = asyncio.Event()
    assert run(main()) == [error] * 5
    assert asked == [1, 4]


class Locked:
    """The posts, locked by another session until the block ends."""

    def __init__(self, url: URL) -> None:
        self._database = open_database(url, 1)
        self._writer = self._database.write()

    def __enter__(self) -> None:
        connection_of(self._writer.__enter__()).execute(text("LOCK TABLE posts"))

    def __exit__(self, *_: object) -> None:
        self._writer.__exit__(None, None, None)
        self._database.close()


def test_late_query_is_refused_and_the_others_are_not(database: Database, people: list[Actor], url: URL) -> None:
    posts = SqlPostReader(database.read)

    def in_a_hurry() -> object:
        start_deadline(0.01)
        return posts.get(people[0], 1)

    async def main() -> list[Any]:
        executor = GreenletExecutor()
        with Locked(url):
            waiting = [asyncio.create_task(executor.run(posts.get, people[0], 1)) for _ in range(5)]
            await asyncio.sleep(0)
            late = asyncio.create_task(executor.run(in_a_hurry))
            with pytest.raises(Unavailable):
                await late
            assert not any(task.done() for task in waiting)
        return await asyncio.gather(*waiting)

    assert {post.id for post in run(main())} == {1}


def test_cancelled_query_leaves_its_batch_alone(database: Database, people: list[Actor], url: URL) -> None:
    posts = SqlPostReader(database.read)

    async def main() -> list[Any]:
        executor = GreenletExecutor()
        with Locked(url):
            waiting = [asyncio.create_task(executor.run(posts.get, people[0], 1)) for _ in range(6)]
            for _ in range(20):
                await asyncio.sleep(0)
            waiting.pop(3).cancel()
        return await asyncio.gather(*waiting)

    assert {post.id for post in run(main())} == {1}


def test_lost_connection_is_replaced_for_the_whole_batch(database: Database, people: list[Actor], url: URL) -> None:
    posts = SqlPostReader(database.read)

    async def main() -> list[Any]:
        await at_once([partial(posts.get, people[0], 1)] * 10)
        with closing(open_database(url, 1)) as other, other.read() as querier:
            connection_of(querier).execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
        return await at_once([partial(posts.get, people[0], 1)] * 10)

    assert {getattr(post, "id", post) for post in run(main())} == {1}


def test_waiting_queries_are_refused_when_the_database_closes(people: list[Actor], url: URL) -> None:
    async def main() -> list[Any]:
        opened = open_database(url, CONNECTIONS, prepared=PREPARED, batched=BATCHED)
        posts, executor = SqlPostReader(opened.read), GreenletExecutor()
        with Locked(url):
            waiting = [asyncio.create_task(executor.run(posts.get, people[0], 1)) for _ in range(2 + IN_FLIGHT)]
            for _ in range(20):
                await asyncio.sleep(0)
            waiting.pop(0).cancel()
            opened.close()
            return await asyncio.gather(*waiting, return_exceptions=True)

    assert [type(found) for found in run(main())] == [Unavailable] * (1 + IN_FLIGHT)
