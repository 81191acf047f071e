"""Connections to PostgreSQL: session settings that roles and URLs cannot spoil, and parameters of the URL."""

import asyncio
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import URL, Connection, Float, Text, bindparam, cast, func, select, text

from application.errors import Refused, TransactionAborted, Unavailable
from infrastructure.database.engine import open_database, open_engine
from infrastructure.database.pipeline import Statement
from infrastructure.execution.greenlets import GreenletExecutor
from infrastructure.timeouts import Timeouts
from tests.support.backends import end_backend
from tests.support.connections import PING, connection_of
from tests.support.postgres import free_port
from tests.support.roles import SPOILED, role_with

SETTING = Statement(select(func.current_setting(cast(bindparam("name"), Text))))
FLOAT = Statement(select(cast(cast(bindparam("number"), Float(53)), Text)))
ECHO = Statement(select(cast(bindparam("said"), Text)))


def settings_of(url: URL, *names: str) -> dict[str, Any]:
    with closing(open_database(url, 1)) as database, database.read() as querier:
        return {name: querier.fetch_all(SETTING, {"name": name})[0][0] for name in names}


def in_greenlet(work: Callable[[], None]) -> None:
    asyncio.run(GreenletExecutor().run(work))


def test_connection_is_released_outside_any_transaction(postgres_url: URL) -> None:
    found: list[bool] = []

    def work() -> None:
        with closing(open_database(postgres_url, 1)) as database:
            for _ in range(2):
                with database.read() as querier:
                    found.append(connection_of(querier).in_transaction())
                    connection_of(querier).exec_driver_sql("SELECT 1")
                    assert connection_of(querier).in_transaction()

    in_greenlet(work)
    assert found == [False, False]


def test_lost_connection_is_closed_with_all_idle_ones(postgres_url: URL) -> None:
    used: list[Connection] = []

    def work() -> None:
        with closing(open_database(postgres_url, 3)) as database, closing(open_database(postgres_url, 1)) as other:
            with database.read() as first, database.read() as second:
                used.extend((connection_of(first), connection_of(second)))
            with pytest.raises(Unavailable), database.write() as querier:
                used.append(connection_of(querier))
                end_backend(other, connection_of(querier).exec_driver_sql("SELECT pg_backend_pid()").scalar())
                querier.fetch_all(PING, {})
            assert all(connection.closed for connection in used)
            with database.read() as querier:
                assert connection_of(querier) not in used

    in_greenlet(work)


def test_connection_lost_again_at_once_is_not_used_by_the_next_write(postgres_url: URL) -> None:
    ending = Statement(select(func.pg_terminate_backend(func.pg_backend_pid())))

    def work() -> None:
        with closing(open_database(postgres_url, 1)) as database:
            with pytest.raises(TransactionAborted), database.read() as querier:
                querier.fetch_all(ending, {})
            with database.write() as querier:
                querier.enqueue(PING, {})  # one message with COMMIT, which is not sent again

    in_greenlet(work)


def test_connection_of_a_cancelled_query_is_not_used_by_the_next_write(postgres_url: URL) -> None:
    async def main() -> None:
        executor = GreenletExecutor()
        with closing(open_database(postgres_url, 1)) as database:

            def read(statement: Statement) -> None:
                with database.read() as querier:
                    querier.fetch_all(statement, {})

            def write() -> None:
                with database.write() as querier:
                    querier.enqueue(PING, {})  # one message with COMMIT, which is not sent again

            await executor.run(read, PING)
            task = asyncio.create_task(executor.run(read, Statement(text("SELECT pg_sleep(3)"))))
            for _ in range(5):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await executor.run(write)

    asyncio.run(main())


def test_failed_connection_leaves_its_slot_free(postgres_url: URL) -> None:
    def work() -> None:
        nowhere = postgres_url.set(port=free_port())
        with closing(open_database(nowhere, 1, Timeouts(acquire=0.02))) as database:
            for _ in range(2):
                with pytest.raises(Unavailable, match="accepts no connection") as refusal, database.read() as querier:
                    querier.fetch_all(PING, {})
                assert type(refusal.value) is Unavailable  # a server that is down is not asked again at once

    in_greenlet(work)


def test_cancelled_waiter_does_not_cancel_the_first_connection(postgres_url: URL) -> None:
    async def main() -> None:
        executor = GreenletExecutor()
        with closing(open_database(postgres_url, 2)) as database:

            def ping() -> object:
                with database.read() as querier:
                    return querier.fetch_all(PING, {})

            cancelled, other = (asyncio.create_task(executor.run(ping)) for _ in range(2))
            for _ in range(5):  # both wait for the connection, which takes a round trip
                await asyncio.sleep(0)
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            assert await other == [(True,)]

    asyncio.run(main())


def test_session_settings_override_those_of_the_role(postgres_url: URL) -> None:
    expected = settings_of(postgres_url, *SPOILED)
    assert expected["client_encoding"] == "UTF8"
    with role_with(postgres_url, SPOILED):
        found = settings_of(postgres_url, *SPOILED)
        assert found == expected | {"enable_indexscan": "off"}  # the one that a role may choose
        with closing(open_database(postgres_url, 1)) as database:
            with database.read() as querier:
                assert querier.fetch_all(ECHO, {"said": "caf\u00e9 \U0001f98a \\"}) == [("caf\u00e9 \U0001f98a \\",)]
                assert querier.fetch_all(FLOAT, {"number": 0.1 + 0.2}) == [("0.30000000000000004",)]
            with database.write() as querier:
                querier.enqueue(Statement(text("DELETE FROM posts")), {})


def test_options_of_the_url_are_joined_with_ours(postgres_url: URL) -> None:
    url = postgres_url.update_query_dict({"options": "-csearch_path=custom,public --work-mem=5MB"})
    assert settings_of(url, "search_path", "work_mem", "timezone") == {
        "search_path": "custom,public",
        "work_mem": "5MB",
        "timezone": "UTC",
    }
    with closing(open_engine(url, 1).connect()) as connection:
        assert connection.execute(text("SHOW search_path")).scalar() == "custom,public"


def test_options_of_the_environment_are_joined_with_ours(postgres_url: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c work_mem=6MB")
    assert settings_of(postgres_url, "work_mem", "timezone") == {"work_mem": "6MB", "timezone": "UTC"}


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"options": "-c timezone=Asia/Tokyo"}, "timezone"),
        ({"options": "-cStatement_Timeout=0 -c work_mem=1MB"}, "statement_timeout"),
        ({"options": "--default-transaction-isolation=serializable"}, "default_transaction_isolation"),
        ({"client_encoding": "LATIN1"}, "client_encoding"),
        ({"application_name": "mine"}, "application_name"),
    ],
)
@pytest.mark.parametrize("opened", [open_database, open_engine])
def test_parameter_that_agora_sets_is_refused(
    postgres_url: URL, parameters: dict[str, str], named: str, opened: Callable[[URL, int], object]
) -> None:
    with pytest.raises(Refused, match=f" set {named}, which Agora sets itself"):
        opened(postgres_url.update_query_dict(parameters), 1)


def test_other_parameters_of_the_url_are_used(postgres_url: URL) -> None:
    url = postgres_url.update_query_dict({"keepalives_idle": "77", "connect_timeout": "9"})
    with closing(open_engine(url, 1).connect()) as connection:
        raw: Any = connection.connection.dbapi_connection
        parameters = raw.get_dsn_parameters()
    assert (parameters["keepalives_idle"], parameters["connect_timeout"]) == ("77", "9")
    assert parameters["tcp_user_timeout"] == "6000"
