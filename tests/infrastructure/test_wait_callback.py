"""Waits for PostgreSQL in greenlets on the event loop: concurrent, bounded, and cleaned up after."""

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from functools import partial
from typing import Any, NoReturn

import psycopg2
import pytest
import uvloop
from psycopg2.extensions import get_wait_callback
from sqlalchemy import URL, Text, bindparam, cast, func, insert, literal_column, select
from sqlalchemy.exc import OperationalError

from application.errors import Unavailable
from infrastructure.database.engine import Database, open_database
from infrastructure.database.pipeline import Querier, Statement
from infrastructure.database.postgres import PostgresDatabase
from infrastructure.database.tables import attempts
from infrastructure.database.wait_callback import ResponseTimeout, bounded_waits, unbounded_waits
from infrastructure.execution.greenlets import GreenletExecutor
from infrastructure.timeouts import DEFAULT_TIMEOUTS, Timeouts
from tests.support.backends import LOCK, value
from tests.support.concurrency import until
from tests.support.connections import connection_of
from tests.support.process import low_numbers_taken

PATIENCE_SECONDS = 20
CONNECTIONS = 3
HURRIED = Timeouts(connect=1, response=0.1)

BACKEND = Statement(select(func.pg_backend_pid()))
LENGTH = Statement(select(func.length(cast(bindparam("said"), Text)), cast(bindparam("said"), Text)))
ADD = Statement(insert(attempts).values(bucket=bindparam("name"), count=literal_column("1"), ends_at=func.now()))
TOTAL = Statement(select(func.count()).select_from(attempts))

Main = Callable[[], Coroutine[Any, Any, None]]


class Site:
    """Where use cases run on the loop, and the database that they wait for."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.run = GreenletExecutor().run

    def ask(self, statement: Statement, **values: object) -> Any:
        with self.database.read() as querier:
            return value(querier, statement, **values)

    async def backends(self) -> set[int]:
        """Ask for what every connection of the loop is, each while the others are held."""
        found: set[int] = set()

        def collect() -> None:
            with ExitStack() as stack:
                queriers = [stack.enter_context(self.database.read()) for _ in range(CONNECTIONS)]
                found.update(value(querier, BACKEND) for querier in queriers)

        await self.run(collect)
        return found


def raw(querier: Querier) -> Any:
    return connection_of(querier).connection.dbapi_connection


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def on_loop(request: pytest.FixtureRequest) -> Iterator[Callable[[Main], None]]:
    """Run something on a loop of each kind; nothing in it may take for ever."""

    async def bounded(main: Main) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await main()

    with asyncio.Runner(loop_factory=request.param) as runner:
        yield lambda main: runner.run(bounded(main))


@asynccontextmanager
async def serving(url: URL, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> AsyncIterator[Site]:
    with closing(open_database(url, CONNECTIONS, timeouts)) as database:
        yield Site(database)


class Stranger:
    """Another session of the same database, with locks that use cases wait for."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        connection.autocommit = True

    def __call__(self, question: str, *values: object) -> Any:
        with self._connection.cursor() as cursor:
            cursor.execute(question, values)
            return cursor.fetchone()[0]

    async def see_waiting(self, number: int) -> None:
        """Wait until the given number of use cases wait for a lock."""
        question = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        await until(lambda: self(question) == number)


@pytest.fixture
def stranger(postgres_url: URL) -> Iterator[Stranger]:
    connection = psycopg2.connect(
        host=postgres_url.host,
        port=postgres_url.port,
        user=postgres_url.username,
        password=postgres_url.password,
        dbname=postgres_url.database,
    )
    with closing(connection):
        yield Stranger(connection)


def test_waiting_use_case_blocks_no_other(
    on_loop: Callable[[Main], None], postgres_url: URL, stranger: Stranger
) -> None:
    events: list[str] = []

    async def main() -> None:
        async with serving(postgres_url) as site:

            def wait_for(key: int) -> None:
                site.ask(LOCK, key=key)
                events.append(f"had lock {key}")

            for key in (1, 2):
                stranger("SELECT pg_advisory_lock(%s)", key)
            waiting = [asyncio.create_task(site.run(wait_for, key)) for key in (1, 2)]
            await stranger.see_waiting(2)
            for _ in range(2):
                await site.run(site.ask, BACKEND)
                events.append("asked")
            for task, key in reversed(list(zip(waiting, (1, 2), strict=True))):
                stranger("SELECT pg_advisory_unlock(%s)", key)
                await task

    on_loop(main)

    assert events == ["asked", "asked", "had lock 2", "had lock 1"]


def test_first_use_cases_may_arrive_at_once(on_loop: Callable[[Main], None], postgres_url: URL) -> None:
    async def main() -> None:
        async with serving(postgres_url) as site:
            found = await asyncio.gather(*(site.run(site.ask, BACKEND) for _ in range(3 * CONNECTIONS)))
            assert set(found) <= await site.backends()

    on_loop(main)


def test_more_than_the_socket_buffer_is_sent_and_read_whole(on_loop: Callable[[Main], None], postgres_url: URL) -> None:
    said = "ü" * 12_000_000

    async def main() -> None:
        async with serving(postgres_url) as site:

            def send() -> None:
                with site.database.read() as querier:
                    assert querier.fetch_one(LENGTH, {"said": said}) == (len(said), said)

            await site.run(send)

    on_loop(main)


def test_unresponsive_server_is_unavailable_and_the_next_one_works(
    on_loop: Callable[[Main], None], postgres_url: URL, stranger: Stranger
) -> None:
    async def main() -> None:
        async with serving(postgres_url, Timeouts(response=0.2)) as site:
            before = await site.backends()

            def add_and_wait() -> None:
                with site.database.write() as querier:
                    querier.enqueue(ADD, {"name": "one"})
                    value(querier, LOCK, key=1)

            stranger("SELECT pg_advisory_lock(1)")
            for frozen in (partial(site.ask, LOCK, key=1), add_and_wait):
                with pytest.raises(Unavailable):
                    await site.run(frozen)
            stranger("SELECT pg_advisory_unlock(1)")

            assert await site.run(site.ask, TOTAL) == 0
            assert len(await site.backends() - before) >= 2
            await site.run(add_and_wait)
            assert await site.run(site.ask, TOTAL) == 1

    on_loop(main)


@contextmanager
def black_hole() -> Iterator[URL]:
    """Listen where a server might be, and never say a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield URL.create("postgresql+psycopg2", "ann", "secret", "127.0.0.1", listener.getsockname()[1], "forum")


def test_server_that_accepts_and_sends_nothing_is_unavailable(on_loop: Callable[[Main], None]) -> None:
    async def main() -> None:
        with black_hole() as url:
            async with serving(url, HURRIED) as site:
                asked = [site.run(site.ask, BACKEND), site.run(site.ask, TOTAL), asyncio.to_thread(site.ask, BACKEND)]
                found = await asyncio.gather(*asked, return_exceptions=True)
                assert [type(one) for one in found] == [Unavailable] * 3

    on_loop(main)


def test_all_wait_for_the_one_attempt_to_connect_first(on_loop: Callable[[Main], None]) -> None:
    async def main() -> None:
        with black_hole() as url, socket.create_server(("127.0.0.1", 0)) as listener:
            async with serving(url.set(port=listener.getsockname()[1]), HURRIED) as site:
                asked = [site.run(site.ask, TOTAL) for _ in range(CONNECTIONS)]
                found = await asyncio.gather(*asked, return_exceptions=True)
                assert [type(one) for one in found] == [Unavailable] * CONNECTIONS
            listener.accept()[0].close()
            listener.setblocking(False)
            with pytest.raises(BlockingIOError):
                listener.accept()

    on_loop(main)


async def accept(listener: socket.socket) -> socket.socket:
    """Accept the client that connects next."""
    listener.setblocking(False)
    client, _ = await asyncio.get_running_loop().sock_accept(listener)
    client.setblocking(False)
    return client


async def until_closed(client: socket.socket) -> None:
    """Read until the client closes its connection."""
    with client:
        while await asyncio.get_running_loop().sock_recv(client, 1_024):
            pass


def test_failed_attempt_to_connect_closes_its_socket(on_loop: Callable[[Main], None]) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener, black_hole() as url:
            async with serving(url.set(port=listener.getsockname()[1]), HURRIED) as site:
                with pytest.raises(Unavailable) as held:
                    await site.run(site.ask, BACKEND)
                await until_closed(await accept(listener))
                assert held.tb is not None  # its frames keep the connection from the collector

    on_loop(main)


def test_attempt_to_connect_that_fails_without_a_waiter_is_quiet(on_loop: Callable[[Main], None]) -> None:
    reports: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, report: reports.append(report))
        with socket.create_server(("127.0.0.1", 0)) as listener, black_hole() as url:
            async with serving(url.set(port=listener.getsockname()[1]), HURRIED) as site:
                waiter = asyncio.create_task(site.run(site.ask, BACKEND))
                client = await accept(listener)
                waiter.cancel()
                await until_closed(client)
        gc.collect()

    on_loop(main)

    assert reports == []


# Names.


def test_every_host_and_each_of_its_addresses_is_tried(on_loop: Callable[[Main], None], postgres_url: URL) -> None:
    hosts = ("nowhere.invalid:5432", "localhost:1", f"localhost:{postgres_url.port}")

    async def main() -> None:
        async with serving(postgres_url.set(host=None, port=None, query={"host": hosts})) as site:
            assert await site.run(site.ask, TOTAL) == 0

    on_loop(main)


def test_host_that_does_not_resolve_is_unavailable(on_loop: Callable[[Main], None], postgres_url: URL) -> None:
    async def main() -> None:
        async with serving(postgres_url.set(host="nowhere.invalid")) as site:
            with pytest.raises(Unavailable):
                await site.run(site.ask, TOTAL)

    on_loop(main)


class SilentResolverLoop(asyncio.SelectorEventLoop):
    """A loop whose resolver never responds."""

    async def getaddrinfo(self, *_arguments: object, **_options: object) -> NoReturn:
        await asyncio.Event().wait()
        raise AssertionError


def test_silent_resolver_does_not_block_the_loop(postgres_url: URL) -> None:
    async def main() -> None:
        async with serving(postgres_url.set(host="silent.example"), HURRIED) as site:
            asked = asyncio.create_task(site.run(site.ask, TOTAL))
            for _ in range(3):
                await asyncio.sleep(0.01)  # the loop goes on
            assert not asked.done()
            with pytest.raises(Unavailable) as caught:
                await asked
            assert isinstance(caught.value.__cause__, OperationalError)
            assert isinstance(caught.value.__cause__.orig, ResponseTimeout)

    with asyncio.Runner(loop_factory=SilentResolverLoop) as runner:
        runner.run(main())


def test_thread_beside_the_loop_waits_by_itself_and_is_bounded(
    on_loop: Callable[[Main], None], postgres_url: URL, stranger: Stranger
) -> None:
    async def main() -> None:
        async with serving(postgres_url, Timeouts(response=0.5)) as site:
            stranger("SELECT pg_advisory_lock(1)")
            beside = asyncio.create_task(asyncio.to_thread(site.ask, LOCK, key=1))
            await stranger.see_waiting(1)
            stranger("SELECT pg_advisory_unlock(1)")
            await beside

            stranger("SELECT pg_advisory_lock(1)")
            with pytest.raises(Unavailable):
                await asyncio.to_thread(site.ask, LOCK, key=1)
            stranger("SELECT pg_advisory_unlock(1)")
            assert await asyncio.to_thread(site.ask, TOTAL) == 0

    on_loop(main)


def test_socket_may_have_any_descriptor(on_loop: Callable[[Main], None], postgres_url: URL) -> None:
    async def main() -> None:
        with low_numbers_taken():
            async with serving(postgres_url) as site:
                assert await site.run(site.ask, TOTAL) == 0
            async with serving(postgres_url) as site:
                assert await asyncio.to_thread(site.ask, TOTAL) == 0

    on_loop(main)


# Loss.


def test_connection_lost_while_idle_is_replaced_unnoticed(
    on_loop: Callable[[Main], None], postgres_url: URL, stranger: Stranger
) -> None:
    async def main() -> None:
        async with serving(postgres_url) as site:
            before = await site.backends()
            for backend in before:
                stranger("SELECT pg_terminate_backend(%s, 10000)", backend)

            assert await site.run(site.ask, TOTAL) == 0
            assert len(await site.backends() - before) == CONNECTIONS

    on_loop(main)


def test_connection_lost_while_idle_does_not_busy_the_loop(
    on_loop: Callable[[Main], None], postgres_url: URL, stranger: Stranger
) -> None:
    async def main() -> None:
        async with serving(postgres_url) as site:

            def look() -> tuple[int, Any]:
                with site.database.read() as querier:
                    value(querier, LOCK, key=1)
                    return value(querier, BACKEND), raw(querier)

            stranger("SELECT pg_advisory_lock(1)")
            looking = asyncio.create_task(site.run(look))
            await stranger.see_waiting(1)
            stranger("SELECT pg_advisory_unlock(1)")
            backend, watched = await looking
            assert watched.loop == asyncio.get_running_loop()
            stranger("SELECT pg_terminate_backend(%s, 10000)", backend)
            await until(lambda: watched.loop is None)

            assert await site.run(site.ask, BACKEND) != backend

    on_loop(main)


def lose(site: Site, numbers: list[int], stranger: Stranger) -> None:
    """Lose a connection in mid-transaction, and note its socket's number."""
    with site.database.write() as querier:
        querier.enqueue(ADD, {"name": "one"})
        backend = value(querier, BACKEND)
        numbers.append(raw(querier).fileno())
        stranger("SELECT pg_terminate_backend(%s, 10000)", backend)
        querier.enqueue(ADD, {"name": "two"})
        value(querier, BACKEND)


def wait_in_vain(site: Site, numbers: list[int]) -> None:
    """Wait for a lock that is never released, and note the socket's descriptor."""
    with site.database.write() as querier:
        querier.enqueue(ADD, {"name": f"of {value(querier, BACKEND)}"})
        numbers.append(raw(querier).fileno())
        value(querier, LOCK, key=1)


async def echoes(number: int) -> bytes:
    """Serve one client, on a socket that listens under this number, which must be free."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()

    def call(port: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"hello\n")
            return client.recv(10)

    with ExitStack() as stack:
        while True:  # the lowest free number is given, always
            listener = stack.enter_context(socket.socket())
            assert listener.fileno() <= number
            if listener.fileno() == number:
                break
        listener.bind(("127.0.0.1", 0))
        async with await asyncio.start_server(echo, sock=listener):
            return await asyncio.to_thread(call, listener.getsockname()[1])


@pytest.mark.parametrize("how", ["lost", "overdue", "cancelled"])
def test_socket_that_reuses_a_descriptor_is_watched(
    on_loop: Callable[[Main], None],
    postgres_url: URL,
    stranger: Stranger,
    how: str,
) -> None:
    numbers: list[int] = []

    async def main() -> None:
        timeouts = Timeouts(response=0.3) if how == "overdue" else DEFAULT_TIMEOUTS
        async with serving(postgres_url, timeouts) as site:
            await site.backends()
            stranger("SELECT pg_advisory_lock(1)")
            if how == "lost":
                with pytest.raises(Unavailable):
                    await site.run(lose, site, numbers, stranger)
            elif how == "overdue":
                with pytest.raises(Unavailable):
                    await site.run(wait_in_vain, site, numbers)
            else:
                task = asyncio.create_task(site.run(wait_in_vain, site, numbers))
                await stranger.see_waiting(1)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

            assert await echoes(numbers[0]) == b"hello\n"
            stranger("SELECT pg_advisory_unlock(1)")
            assert await site.run(site.ask, TOTAL) == 0

    on_loop(main)


def test_cancelled_use_case_leaves_no_broken_connection(
    on_loop: Callable[[Main], None], postgres_url: URL, stranger: Stranger
) -> None:
    async def main() -> None:
        async with serving(postgres_url) as site:
            stranger("SELECT pg_advisory_lock(1)")
            tasks = [asyncio.create_task(site.run(wait_in_vain, site, [])) for _ in range(CONNECTIONS)]
            await stranger.see_waiting(CONNECTIONS)
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            assert [type(one) for one in ended] == [asyncio.CancelledError] * CONNECTIONS
            stranger("SELECT pg_advisory_unlock(1)")

            found = await asyncio.gather(*(site.run(site.ask, TOTAL) for _ in range(3 * CONNECTIONS)))
            assert found == [0] * (3 * CONNECTIONS)
            assert len(await site.backends()) == CONNECTIONS

    on_loop(main)


def test_cancelled_connecting_leaves_no_broken_connection(on_loop: Callable[[Main], None], postgres_url: URL) -> None:
    async def main() -> None:
        for turns in (1, 2, 3, 5, 8):
            async with serving(postgres_url) as site:
                tasks = [asyncio.create_task(site.run(site.ask, TOTAL)) for _ in range(CONNECTIONS)]
                for _ in range(turns):
                    await asyncio.sleep(0)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

                assert len(await site.backends()) == CONNECTIONS

    on_loop(main)


def test_one_loop_may_serve_two_databases(on_loop: Callable[[Main], None], postgres_url: URL) -> None:
    async def main() -> None:
        async with serving(postgres_url) as site:
            async with serving(postgres_url) as other:
                assert await site.backends() & await other.backends() == set()
            assert len(await site.backends()) == CONNECTIONS
            assert isinstance(site.database, PostgresDatabase)

    on_loop(main)


def test_blocks_that_end_out_of_order_leave_the_latest_in_use() -> None:
    with bounded_waits(HURRIED):
        in_use = get_wait_callback()
        with ExitStack() as earlier, ExitStack() as unbounded:
            earlier.enter_context(bounded_waits(DEFAULT_TIMEOUTS))
            unbounded.enter_context(unbounded_waits())
            earlier.close()
            assert get_wait_callback() is None
        assert get_wait_callback() is in_use
    assert get_wait_callback() is not in_use
