"""Connections: what they are opened with, what failing is called, and that the next use works again."""

import socket
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from pydantic import SecretStr
from sqlalchemy import URL, text
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError

from application.errors import TransactionAborted, Unavailable
from domain.users import UserNotFound
from infrastructure.database.engine import Database, open_database, open_engine
from infrastructure.database.errors import is_transient, translate_errors
from infrastructure.database.pipeline import Querier, Statement
from infrastructure.database.wait_callback import ResponseTimeout
from infrastructure.metrics import Metrics
from infrastructure.settings import Settings, database_url
from infrastructure.timeouts import DEFAULT_TIMEOUTS, Timeouts
from tests.fakes.services import CountingSpan
from tests.support.backends import PostgresServer, end_backend
from tests.support.connections import connection_of
from tests.support.postgres import free_port

INSERT_USER = text(
    "INSERT INTO users (email, email_key, search_key, password_hash, role, is_active, created_at)"
    " VALUES (:name, :name, :name, 'a hash', 'user', true, '2026-01-01 12:00:00')"
)

HURRIED = Timeouts(acquire=0.01, sqlite_busy=0.01)


@pytest.fixture
def sqlite_url(emptied: Callable[[str], URL]) -> URL:
    return emptied("sqlite")


@contextmanager
def opened(
    url: URL, connections: int = 2, timeouts: Timeouts = DEFAULT_TIMEOUTS, prepared: Sequence[Statement] = ()
) -> Iterator[Database]:
    with closing(open_database(url, connections, timeouts, prepared=prepared)) as database:
        yield database


@pytest.fixture
def database(url: URL) -> Iterator[Database]:
    with opened(url) as database:
        yield database


@pytest.fixture
def sqlite(sqlite_url: URL) -> Iterator[Database]:
    with opened(sqlite_url) as database:
        yield database


@pytest.fixture
def postgres_database(postgres_url: URL) -> Iterator[Database]:
    with opened(postgres_url) as database:
        yield database


def ask(querier: Querier, question: str) -> object:
    return connection_of(querier).exec_driver_sql(question).scalar_one()


def count_users(database: Database) -> object:
    with database.read() as querier:
        return ask(querier, "SELECT count(*) FROM users")


# Both.


def test_leaving_the_block_commits(database: Database) -> None:
    with database.write() as querier:
        connection_of(querier).execute(INSERT_USER, {"name": "ann"})
    assert count_users(database) == 1


def test_an_error_undoes_everything_and_stays_what_it_is(database: Database) -> None:
    with pytest.raises(UserNotFound), database.write() as querier:
        connection_of(querier).execute(INSERT_USER, {"name": "ann"})
        raise UserNotFound(7)
    assert count_users(database) == 0


def test_uncommitted_rows_are_invisible(database: Database) -> None:
    with database.write() as querier:
        connection_of(querier).execute(INSERT_USER, {"name": "ann"})
        assert count_users(database) == 0
    assert count_users(database) == 1


def test_foreign_keys_are_in_force(database: Database) -> None:
    orphan = text("INSERT INTO votes (post_id, user_id, dir, created_at) VALUES (1, 1, 1, '2026-01-01 12:00:00')")
    with pytest.raises(DBAPIError, match=r"(?i)foreign key"), database.write() as querier:
        connection_of(querier).execute(orphan)


def test_a_wrong_statement_is_our_fault_and_no_excuse(postgres_database: Database) -> None:
    with pytest.raises(ProgrammingError), postgres_database.read() as querier:
        ask(querier, "SELECT nothing FROM nowhere")
    assert count_users(postgres_database) == 0


def test_error_of_a_statement_holds_none_of_its_values(url: URL) -> None:
    wrong, values = text("SELECT nothing\nFROM nowhere\nWHERE :value = 'x'"), {"value": "canary"}
    for engine in (open_engine(url, 1), open_database(url, 1).engine):
        with pytest.raises(DBAPIError) as refusal, engine.connect() as connection:
            connection.execute(wrong, values)
        engine.dispose()
        assert "nowhere" in str(refusal.value)
        assert "canary" not in str(refusal.value)


def test_an_exhausted_pool_is_unavailable_and_recovers(url: URL) -> None:
    with opened(url, connections=1, timeouts=HURRIED) as database:
        with database.read() as querier:
            ask(querier, "SELECT 1")
            with pytest.raises(Unavailable):
                count_users(database)
        assert count_users(database) == 0


def test_it_is_seen_who_has_a_connection(url: URL) -> None:
    in_use = CountingSpan()
    with closing(open_database(url, 2, metrics=Metrics(connections_in_use=in_use))) as database:
        for check_out in (database.read, database.write):
            with pytest.raises(UserNotFound), check_out() as querier:
                ask(querier, "SELECT 1")
                assert in_use.inside == 1
                with database.read() as other:
                    ask(other, "SELECT 1")
                    assert in_use.inside == 2
                raise UserNotFound(7)
            assert in_use.inside == 0


def test_a_read_leaves_the_next_write_as_it_should_be(url: URL) -> None:
    with opened(url, connections=1) as database:
        assert count_users(database) == 0
        with pytest.raises(UserNotFound), database.write() as querier:
            connection_of(querier).execute(INSERT_USER, {"name": "ann"})
            raise UserNotFound(7)
        assert count_users(database) == 0


# Whether a database that is not there may be there a little later.


def connecting_to(url: URL) -> Unavailable:
    """Give what it is called that we cannot connect."""
    with pytest.raises(Unavailable) as failed, translate_errors(), open_engine(url, connections=1).connect():
        pytest.fail("we are let in")
    return failed.value


def caused_by(said: Exception) -> Unavailable:
    error = Unavailable()
    error.__cause__ = said
    return error


def test_a_server_that_does_not_listen_may_do_so_later(postgres_url: URL, tmp_path: Path) -> None:
    assert is_transient(connecting_to(postgres_url.set(port=free_port())))
    assert is_transient(connecting_to(postgres_url.set(host=str(tmp_path))))


@pytest.mark.parametrize(
    "wrong",
    [
        {"password": "wrong"},
        {"password": ""},
        {"database": "recovery"},
        {"database": "too many clients"},
        {"query": {"sslmode": "require"}},
        {"query": {"sslmode": "verify-full", "sslrootcert": "/no/such/file"}},
    ],
)
def test_a_server_that_answers_and_does_not_let_us_in_will_not_do_so_later(
    postgres_url: URL, wrong: dict[str, Any]
) -> None:
    assert not is_transient(connecting_to(postgres_url.set(**wrong)))


@pytest.mark.parametrize("sslmode", ["disable", "prefer", "require"])
def test_a_server_of_another_kind_will_not_become_one_of_ours(sslmode: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as thread:

        def answer() -> None:
            with listener.accept()[0] as client:
                client.recv(1_000)
                client.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

        answered = thread.submit(answer)
        at = URL.create("postgresql+psycopg2", "ann", "secret", "127.0.0.1", listener.getsockname()[1], "forum")
        failed = connecting_to(at.set(query={"sslmode": sslmode}))
        answered.result()
    assert not is_transient(failed)


FAILED = 'connection to server at "db.example" (192.0.2.1), port 5432 failed: '


@pytest.mark.parametrize(
    "said",
    [
        f"{FAILED}Connection timed out",
        f"{FAILED}timeout expired",
        f"{FAILED}No route to host",
        f"{FAILED}Network is unreachable",
        f"{FAILED}server closed the connection unexpectedly\n\tThis probably means the server terminated abnormally",
        f"{FAILED}could not receive data from server: Connection reset by peer",
        f"{FAILED}SSL SYSCALL error: EOF detected",
        "SSL connection has been closed unexpectedly",
        'could not translate host name "db.example" to address: Temporary failure in name resolution',
        f"{FAILED}FATAL:  the database system is starting up",
        f"{FAILED}FATAL:  the database system is shutting down",
        f"{FAILED}FATAL:  the database system is in recovery mode",
        f"{FAILED}FATAL:  the database system is not yet accepting connections\nDETAIL:  Consistent recovery state",
        f"{FAILED}FATAL:  sorry, too many clients already",
        f'{FAILED}FATAL:  too many connections for role "agora"',
        f"{FAILED}FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute",
        f"{FAILED}Connection refused\n\tIs the server running?\n{FAILED}FATAL:  the database system is starting up\n",
    ],
)
def test_what_may_pass_by_itself_is_known_by_what_the_driver_says(said: str) -> None:
    raised = psycopg2.OperationalError(said)
    for cause in (raised, OperationalError(None, None, raised), OperationalError("SELECT 1", None, raised)):
        assert is_transient(caused_by(cause))


@pytest.mark.parametrize(
    "said",
    [
        f"{FAILED}Connection refused\n{FAILED}server does not support SSL, but SSL was required",
        f'{FAILED}Connection refused\n{FAILED}FATAL:  database "forum" does not exist',
        f"{FAILED}could not open certificate file: No such file or directory",
        "any other error",
    ],
)
def test_all_else_is_not_waited_for(said: str) -> None:
    assert not is_transient(caused_by(OperationalError(None, None, psycopg2.OperationalError(said))))


def test_an_answer_that_does_not_come_in_time_may_come_later() -> None:
    assert is_transient(caused_by(OperationalError("SELECT 1", None, ResponseTimeout("no response in time"))))


def test_lost_connection_is_replaced(postgres_url: URL, postgres_database: Database) -> None:
    with opened(postgres_url) as database, pytest.raises(Unavailable) as lost, database.write() as querier:
        end_backend(postgres_database, ask(querier, "SELECT pg_backend_pid()"))
        ask(querier, "SELECT 1")
    assert is_transient(lost.value)


def test_a_statement_that_is_refused_will_be_refused_later(postgres_database: Database) -> None:
    with pytest.raises(Unavailable) as refused, postgres_database.write() as querier:
        connection_of(querier).exec_driver_sql("SET LOCAL statement_timeout = 20")
        connection_of(querier).exec_driver_sql("SELECT pg_sleep(60)")
    assert not is_transient(refused.value)


def test_a_file_that_is_locked_may_be_free_later(sqlite_url: URL) -> None:
    with (
        opened(sqlite_url, timeouts=HURRIED) as database,
        closing(sqlite3.connect(str(sqlite_url.database))) as stranger,
    ):
        stranger.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable) as locked, database.write():
            pytest.fail("another thread has the lock")
    assert is_transient(locked.value)


def test_a_file_that_cannot_be_opened_will_not_open_by_itself(tmp_path: Path) -> None:
    assert not is_transient(connecting_to(URL.create("sqlite", database=str(tmp_path / "data" / "agora.db"))))


# SQLite.


@pytest.mark.parametrize(
    ("pragma", "value"), [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1), ("busy_timeout", 5000)]
)
def test_sqlite_is_opened_to_lose_nothing(sqlite: Database, pragma: str, value: object) -> None:
    with sqlite.read() as reader, sqlite.write() as writer:
        assert ask(reader, f"PRAGMA {pragma}") == value
        assert ask(writer, f"PRAGMA {pragma}") == value


def test_a_writer_on_sqlite_takes_the_lock_before_its_first_statement(sqlite: Database, sqlite_url: URL) -> None:
    assert count_users(sqlite) == 0
    with closing(sqlite3.connect(str(sqlite_url.database), timeout=0)) as stranger:
        with sqlite.write(), pytest.raises(sqlite3.OperationalError, match="locked"):
            stranger.execute("BEGIN IMMEDIATE")
        stranger.execute("BEGIN IMMEDIATE")
        stranger.rollback()


def test_a_reader_on_sqlite_takes_no_lock(sqlite: Database, sqlite_url: URL) -> None:
    with closing(sqlite3.connect(str(sqlite_url.database), timeout=0)) as stranger, sqlite.read() as querier:
        assert ask(querier, "SELECT count(*) FROM users") == 0
        stranger.execute("BEGIN IMMEDIATE")
        assert ask(querier, "SELECT count(*) FROM users") == 0
        stranger.rollback()


def test_a_lock_held_too_long_is_unavailable_and_passes(sqlite_url: URL) -> None:
    with opened(sqlite_url, timeouts=HURRIED) as database:
        with closing(sqlite3.connect(str(sqlite_url.database))) as stranger:
            stranger.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable), database.write():
                pytest.fail("another thread has the lock")
            assert count_users(database) == 0
        with database.write() as querier:
            connection_of(querier).execute(INSERT_USER, {"name": "ann"})
        assert count_users(database) == 1


def test_missing_file_is_unavailable_until_it_is_there(tmp_path: Path) -> None:
    file = tmp_path / "data" / "agora.db"
    with opened(URL.create("sqlite", database=str(file))) as database:
        with pytest.raises(Unavailable, match=f"there is no database at {file};"), database.read():
            pytest.fail("there is no such folder")
        (tmp_path / "data").mkdir()
        with pytest.raises(Unavailable), database.write():
            pytest.fail("there is no such file")
        assert not file.exists()
        file.touch()
        with database.read() as querier:
            assert ask(querier, "SELECT 1") == 1


def test_first_connection_to_sqlite_leaves_the_pool_that_others_open(sqlite_url: URL) -> None:
    with opened(sqlite_url) as database:
        pool = database.engine.pool
        with database.read():
            assert database.engine.pool is pool


def test_deleted_file_is_not_written_and_its_replacement_is_used(sqlite: Database, sqlite_url: URL) -> None:
    file = Path(str(sqlite_url.database))
    other = file.with_suffix(".other")
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("VACUUM INTO ?", [str(other)])
    with sqlite.write() as querier:
        connection_of(querier).execute(INSERT_USER, {"name": "ann"})
    assert count_users(sqlite) == 1

    away = file.rename(file.with_suffix(".away"))
    for connect in (sqlite.read, sqlite.write):
        with pytest.raises(Unavailable, match="deleted"), connect():
            pytest.fail("there is no file of this name")
    assert not file.exists()
    other.rename(file)
    assert count_users(sqlite) == 0
    file.unlink()
    away.rename(file)
    assert count_users(sqlite) == 1


def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "agora.db").write_text("Dear diary, " * 100)
    with opened(URL.create("sqlite", database=str(tmp_path / "agora.db"))) as database:
        with pytest.raises(Unavailable), database.read():
            pytest.fail("this is no database")
        with pytest.raises(Unavailable), database.write():
            pytest.fail("this is no database")


def test_on_sqlite_it_is_seen_who_waits_to_write(sqlite_url: URL) -> None:
    waiting = CountingSpan()

    def write(database: Database) -> None:
        with database.write():
            pass

    metrics = Metrics(connections_waiting=waiting)
    with closing(open_database(sqlite_url, 2, metrics=metrics)) as database, ThreadPoolExecutor(1) as other:
        with database.write():
            assert waiting.inside == 0
            written = other.submit(write, database)
            waiting.wait_for(1)
        written.result()
    assert waiting.inside == 0


# PostgreSQL.


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("TimeZone", "UTC"),
        ("statement_timeout", "5s"),
        ("lock_timeout", "1s"),
        ("idle_in_transaction_session_timeout", "10s"),
        ("application_name", "agora"),
        ("transaction_isolation", "read committed"),
    ],
)
def test_no_wait_in_a_session_is_without_an_end(postgres_database: Database, setting: str, value: str) -> None:
    with postgres_database.read() as reader, postgres_database.write() as writer:
        assert ask(reader, f"SHOW {setting}") == value
        assert ask(writer, f"SHOW {setting}") == value


def test_times_are_in_utc_whatever_the_server_prefers(postgres: PostgresServer) -> None:
    with postgres.database(migrated=False) as url:
        with opened(url) as database, database.write() as querier:
            connection_of(querier).exec_driver_sql(f"ALTER DATABASE {url.database} SET timezone = 'Asia/Tokyo'")
        with opened(url) as database, database.read() as querier:
            assert ask(querier, "SHOW TimeZone") == "UTC"


def test_no_wait_for_the_server_is_without_an_end(postgres_database: Database) -> None:
    with postgres_database.read() as querier:
        driver: Any = connection_of(querier).connection.driver_connection
        told = driver.get_dsn_parameters()
    assert (told["connect_timeout"], told["tcp_user_timeout"]) == ("3", "6000")
    assert (told["keepalives_idle"], told["keepalives_interval"], told["keepalives_count"]) == ("30", "5", "3")


def test_a_reader_on_postgresql_holds_no_transaction_open(postgres_database: Database) -> None:
    state = text("SELECT state FROM pg_stat_activity WHERE pid = :backend")
    with postgres_database.read() as querier, postgres_database.read() as observer:
        backend = ask(querier, "SELECT pg_backend_pid()")
        assert connection_of(observer).execute(state, {"backend": backend}).scalar_one() == "idle"


def test_a_password_of_specials_connects(postgres_url: URL) -> None:
    password = postgres_url.password
    assert password is not None
    text_of_url = postgres_url.render_as_string(hide_password=False)
    by_parts = Settings(
        db_host=postgres_url.host,
        db_port=postgres_url.port,
        db_user=postgres_url.username,
        db_password=SecretStr(password),
        db_name=postgres_url.database,
    )
    for url in (database_url(text_of_url), by_parts.url):
        with opened(url) as database:
            assert count_users(database) == 0


def test_a_server_that_does_not_listen_is_unavailable() -> None:
    with opened(URL.create("postgresql+psycopg2", "ann", "secret", "127.0.0.1", free_port(), "forum")) as database:
        with pytest.raises(Unavailable), database.read() as querier:
            ask(querier, "SELECT 1")
        with pytest.raises(Unavailable), database.write() as querier:
            ask(querier, "SELECT 1")


@pytest.mark.parametrize("wrong", [{"password": "wrong"}, {"username": "stranger"}, {"database": "nowhere"}])
def test_a_server_that_does_not_let_us_in_is_unavailable(postgres_url: URL, wrong: dict[str, Any]) -> None:
    with (
        opened(postgres_url.set(**wrong)) as database,
        pytest.raises(Unavailable) as refused,
        database.read() as querier,
    ):
        ask(querier, "SELECT 1")
    assert str(postgres_url.password) not in str(refused.value)


def test_a_statement_that_takes_too_long_is_unavailable(postgres_url: URL) -> None:
    with opened(postgres_url, connections=1) as database:
        with pytest.raises(Unavailable), database.write() as querier:
            connection_of(querier).exec_driver_sql("SET LOCAL statement_timeout = 20")
            connection_of(querier).execute(INSERT_USER, {"name": "ann"})
            connection_of(querier).exec_driver_sql("SELECT pg_sleep(60)")
        assert count_users(database) == 0


def test_a_lock_that_takes_too_long_is_unavailable(postgres_database: Database) -> None:
    with postgres_database.write() as holder:
        connection_of(holder).exec_driver_sql("LOCK TABLE posts")
        with pytest.raises(Unavailable), postgres_database.write() as querier:
            connection_of(querier).exec_driver_sql("SET LOCAL lock_timeout = 20")
            connection_of(querier).exec_driver_sql("LOCK TABLE posts")
    with postgres_database.write() as querier:
        connection_of(querier).exec_driver_sql("LOCK TABLE posts")


def test_connection_lost_in_a_transaction_is_unavailable_once(postgres_url: URL, postgres_database: Database) -> None:
    with opened(postgres_url, connections=1) as database:
        with pytest.raises(Unavailable), database.write() as querier:
            connection_of(querier).execute(INSERT_USER, {"name": "ann"})
            end_backend(postgres_database, ask(querier, "SELECT pg_backend_pid()"))
            connection_of(querier).execute(INSERT_USER, {"name": "bob"})
        assert count_users(database) == 0


def test_a_connection_lost_before_the_commit_is_unavailable(postgres_url: URL, postgres_database: Database) -> None:
    with opened(postgres_url, connections=1) as database:
        with pytest.raises(Unavailable), database.write() as querier:
            connection_of(querier).execute(INSERT_USER, {"name": "ann"})
            end_backend(postgres_database, ask(querier, "SELECT pg_backend_pid()"))
        assert count_users(database) == 0


def test_connection_lost_during_a_read_is_unavailable_once(postgres_url: URL, postgres_database: Database) -> None:
    with opened(postgres_url, connections=1) as database:
        with pytest.raises(Unavailable), database.read() as querier:
            end_backend(postgres_database, ask(querier, "SELECT pg_backend_pid()"))
            ask(querier, "SELECT 1")
        assert count_users(database) == 0


def test_connection_lost_while_idle_is_replaced_silently(postgres_url: URL, postgres_database: Database) -> None:
    with opened(postgres_url, connections=1) as database:
        with database.read() as querier:
            backend = ask(querier, "SELECT pg_backend_pid()")
        end_backend(postgres_database, backend)
        assert count_users(database) == 0


def test_a_transaction_that_idles_is_cut_off_and_unavailable(postgres_url: URL, postgres_database: Database) -> None:
    with opened(postgres_url, connections=1) as database:
        with pytest.raises(Unavailable), database.write() as querier:
            backend = {"backend": ask(querier, "SELECT pg_backend_pid()")}
            connection_of(querier).exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 20")
            with postgres_database.read() as observer:
                while (
                    connection_of(observer)
                    .execute(text("SELECT 1 FROM pg_stat_activity WHERE pid = :backend"), backend)
                    .first()
                ):
                    pass
            ask(querier, "SELECT 1")
        assert count_users(database) == 0


def test_read_only_server_is_unavailable_and_tried_again_each_time(postgres_url: URL) -> None:
    with opened(postgres_url, connections=1) as database, opened(postgres_url) as other:
        before = end_of(database, "SET default_transaction_read_only = on")
        with pytest.raises(Unavailable, match="no changes"), database.write() as querier:
            connection_of(querier).execute(INSERT_USER, {"name": "ann"})
        assert end_of(database, "SET default_transaction_read_only = on") != before
        with pytest.raises(Unavailable, match="no changes"), database.write() as querier:
            querier.enqueue(Statement(INSERT_USER), {"name": "ann"})  # which is sent with the commit
        with database.write() as querier:
            connection_of(querier).execute(INSERT_USER, {"name": "ann"})
        assert count_users(other) == 1


def end_of(database: Database, statement: str) -> object:
    """Say something over the one connection, and tell which it is."""
    with database.read() as querier:
        connection_of(querier).exec_driver_sql(statement)
        return ask(querier, "SELECT pg_backend_pid()")


def test_outdated_prepared_statement_is_prepared_again(postgres_url: URL) -> None:
    statement = Statement(text("SELECT * FROM diary"))
    with opened(postgres_url) as database:
        end_of(database, "CREATE TABLE diary (day integer)")
    with opened(postgres_url, connections=1, prepared=[statement]) as database:
        with database.read() as querier:
            assert querier.fetch_all(statement, {}) == []
        end_of(database, "ALTER TABLE diary ALTER COLUMN day TYPE bigint")
        with pytest.raises(TransactionAborted), database.read() as querier:
            querier.fetch_all(statement, {})
        with database.read() as querier:
            assert querier.fetch_all(statement, {}) == []
        end_of(database, "DROP TABLE diary")


@pytest.mark.parametrize("state", ["25P03", "57P05", "57P01"])
def test_what_a_server_says_when_it_hangs_up_is_a_lost_connection(state: str, postgres_url: URL) -> None:
    farewell = text(f"DO $$ BEGIN RAISE EXCEPTION 'farewell' USING ERRCODE = '{state}'; END $$")
    with opened(postgres_url) as database:
        with pytest.raises(TransactionAborted), database.write() as querier:
            connection_of(querier).execute(farewell)
        assert count_users(database) == 0
