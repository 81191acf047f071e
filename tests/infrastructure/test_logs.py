"""What the log looks like, and what is left out of it."""

import asyncio
import gc
import io
import json
import logging
import sqlite3
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from contextvars import ContextVar
from threading import Thread
from typing import Any, Literal, NoReturn

import psycopg2
import pytest
import structlog
from sqlalchemy import URL, Integer, String, bindparam, cast, create_engine, select, text
from sqlalchemy.exc import DBAPIError

from application.errors import Unavailable
from application.views import Action, SecurityEvent
from domain.users import OPERATOR, Actor, Role
from infrastructure.database.engine import open_database
from infrastructure.database.errors import cause_of, driver_message
from infrastructure.database.pipeline import Statement
from infrastructure.logs import StructlogSecurityLog, configure_logs
from infrastructure.settings import Settings
from tests.support.connections import connection_of
from tests.support.process import kept

Level = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
Environment = Literal["development", "testing", "production"]
Configure = Callable[..., Callable[[], str]]

request_id: ContextVar[str] = ContextVar("request_id", default="")


class Terminal(io.StringIO):
    """Something that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> Iterator[Configure]:
    """Configure the logs, and give what reads them; afterwards logging is as it was."""

    def configure(
        environment: Environment = "production", level: Level = "INFO", stream: io.StringIO | None = None
    ) -> Callable[[], str]:
        written = stream or io.StringIO()
        monkeypatch.setattr(sys, "stderr", written)
        configure_logs(Settings(fastapi_env=environment, log_level=level), request_id)
        return written.getvalue

    with kept():
        yield configure


def lines(written: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written.splitlines()]


def test_our_own_lines_and_everybody_elses_are_json_objects_of_one_form(configured: Configure) -> None:
    log = configured()
    structlog.get_logger().info("request", status=200)
    logging.getLogger("uvicorn.error").warning("Invalid HTTP request %s", "received")
    logging.getLogger("alembic.runtime").error("no such revision")

    own, uvicorn, alembic = lines(log())
    assert own.pop("timestamp").endswith("Z")
    assert uvicorn.pop("timestamp").endswith("Z")
    assert own == {"event": "request", "level": "info", "status": 200}
    assert uvicorn == {"event": "Invalid HTTP request received", "level": "warning", "logger": "uvicorn"}
    assert alembic["logger"] == "alembic.runtime"


def test_security_event_is_a_line_with_what_is_known(configured: Configure) -> None:
    log = configured()
    security = StructlogSecurityLog()
    token = request_id.set("my-request")
    security.record(SecurityEvent(Action.SIGN_IN, "refused", None, 7, "invalid-credentials"))
    security.record(SecurityEvent(Action.PROMOTE, "success", Actor(3, Role.ADMIN), 7))
    request_id.reset(token)
    security.record(SecurityEvent(Action.PROMOTE, "success", OPERATOR, 7))

    event = {"event": "security", "timestamp": "", "subject": 7}
    promotion = {**event, "action": "promote", "outcome": "success", "level": "info"}
    assert [line | {"timestamp": ""} for line in lines(log())] == [
        {
            **event,
            "action": "sign-in",
            "outcome": "refused",
            "actor": None,
            "reason": "invalid-credentials",
            "level": "warning",
            "request_id": "my-request",
        },
        {**promotion, "actor": 3, "request_id": "my-request"},
        {**promotion, "actor": "operator"},
    ]


def test_lines_of_every_logger_carry_the_request_id(configured: Configure) -> None:
    log = configured()
    token = request_id.set("my-request")
    structlog.get_logger().info("one")
    logging.getLogger("other").info("other")
    request_id.reset(token)
    structlog.get_logger().info("none")

    assert [line.get("request_id") for line in lines(log())] == ["my-request", "my-request", None]


@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARNING", "ERROR"])
def test_what_is_less_severe_than_the_level_is_not_written(configured: Configure, level: Level) -> None:
    log = configured(level=level)
    for name in ("debug", "info", "warning", "error"):
        getattr(structlog.get_logger(), name)("own")
        getattr(logging.getLogger("other"), name)("other")

    expected = [
        name
        for name in ("debug", "info", "warning", "error")
        if getattr(logging, name.upper()) >= getattr(logging, level)
    ]
    assert [line["level"] for line in lines(log())] == [name for name in expected for _ in range(2)]


CONTROL = "".join(map(chr, (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)))


@pytest.mark.parametrize("environment", ["production", "development"])
def test_a_line_stays_one_line_whatever_is_in_it(configured: Configure, environment: Environment) -> None:
    log = configured(environment)
    structlog.get_logger().info(f"one{CONTROL}line", value=f"one{CONTROL}value", other=b"\r\n")
    logging.getLogger("other").warning("one%sline", CONTROL)

    assert log().endswith("\n")
    assert log().count("\n") == 2
    assert not set(log()) & (set(CONTROL) - {"\n"})


def test_outside_production_lines_are_plain_and_on_a_terminal_in_colours(configured: Configure) -> None:
    plain, terminal = configured("development"), Terminal()
    structlog.get_logger().info("request", status=200)
    structlog.reset_defaults()
    coloured = configured("development", stream=terminal)
    structlog.get_logger().info("request", status=200)

    assert plain().endswith("request status=200\n")
    assert "\x1b[" not in plain()
    assert "\x1b[" in coloured()


def test_in_production_a_terminal_gets_json_too(configured: Configure) -> None:
    log = configured(stream=Terminal())
    structlog.get_logger().info("request")
    assert [line["event"] for line in lines(log())] == ["request"]


def refuse(value: str) -> NoReturn:
    raise ValueError(f"cannot read {value}")


def fail() -> None:
    secret = "canary-local"
    try:
        dict[str, str]()[secret]
    except KeyError as error:
        error.add_note(secret)
        refuse(secret)


def fail_in_a_group() -> None:
    parts = []
    try:
        fail()
    except ValueError as error:
        parts.append(error)
    message = "canary-" + "group"
    raise ExceptionGroup(message, parts)


@pytest.mark.parametrize("environment", ["production", "development"])
@pytest.mark.parametrize("failure", [fail, fail_in_a_group])
def test_a_traceback_tells_kinds_and_places_and_no_messages(
    configured: Configure, environment: Environment, failure: Callable[[], None]
) -> None:
    log = configured(environment)
    try:
        failure()
    except (ValueError, ExceptionGroup):
        structlog.get_logger().exception("failed")
        logging.getLogger("other").exception("failed")

    assert log().count("builtins.KeyError") == log().count("builtins.ValueError") == 2
    assert log().count("cannot read {value}") == 2
    assert "canary-group" not in log()
    assert log().count("canary-local") == 0


def test_exceptions_that_lead_to_each_other_in_a_circle_are_told_once(configured: Configure) -> None:
    log = configured()
    one, other = ValueError(), KeyError()
    one.__cause__, other.__cause__ = other, one
    structlog.get_logger().error("failed", exc_info=one)

    (line,) = lines(log())
    assert line["exception"].count("Traceback") == 2


def test_an_error_outside_of_any_exception_has_no_traceback(configured: Configure) -> None:
    log = configured()
    structlog.get_logger().error("failed", exc_info=True)
    assert "exception" not in lines(log())[0]


def test_statements_are_told_at_debug_and_rows_never(configured: Configure) -> None:
    log = configured(level="DEBUG")
    logging.getLogger("sqlalchemy.engine").setLevel("DEBUG")  # as an operator may to see every statement
    engine = create_engine("sqlite://", hide_parameters=True)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT :value AS it"), {"value": "canary"}).scalar() == "canary"
    engine.dispose()

    assert any("SELECT ? AS it" in line["event"] for line in lines(log()))
    assert "canary" not in log()


def test_warnings_of_python_are_lines_too(configured: Configure) -> None:
    log = configured()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("something is old", stacklevel=1)
    assert "something is old" in lines(log())[0]["event"]


class Unfortunate:
    """Something that cannot be given up without a failure."""

    def __del__(self) -> None:
        fail()


def raise_in_a_thread() -> None:
    thread = Thread(target=fail)
    thread.start()
    thread.join()


def raise_where_nothing_can_be_raised() -> None:
    Unfortunate()
    gc.collect()


def raise_to_the_interpreter() -> None:
    try:
        fail()
    except ValueError as error:
        sys.excepthook(type(error), error, error.__traceback__)


def log_wrongly() -> None:
    logging.getLogger("other").info("%d", "canary-local")


UNCAUGHT = (raise_in_a_thread, raise_where_nothing_can_be_raised, raise_to_the_interpreter)


@pytest.mark.parametrize("failure", [*UNCAUGHT, log_wrongly])
def test_what_python_would_print_is_a_line_too_in_production(
    configured: Configure, failure: Callable[[], None]
) -> None:
    log = configured()
    failure()

    (line,) = lines(log())
    assert line["level"] == "error"
    assert "Error" in line["exception"]
    assert "canary-local" not in log()


def test_a_thread_that_just_ends_is_no_line(configured: Configure) -> None:
    log = configured()
    thread = Thread(target=sys.exit)
    thread.start()
    thread.join()
    assert log() == ""


def test_outside_production_python_prints_uncaught_exceptions(configured: Configure) -> None:
    before = (sys.excepthook, threading.excepthook, sys.unraisablehook)
    configured("development")
    assert (sys.excepthook, threading.excepthook, sys.unraisablehook) == before


def caused(error: Exception, cause: Exception | None) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("cause", "told"),
    [
        (psycopg2.OperationalError("connection to server failed\nDETAIL: a value"), "connection to server failed"),
        (sqlite3.OperationalError("database is locked"), "database is locked"),
    ],
)
def test_of_what_a_driver_noticed_the_first_line_is_told(cause: Exception, told: str) -> None:
    for raised in (cause, DBAPIError("SELECT 1", None, cause)):
        assert cause_of(caused(Exception(), raised)) == f"OperationalError: {told}"


@pytest.mark.parametrize("prepared", [True, False])
def test_of_what_a_server_said_its_kind_is_told(
    configured: Configure, database_of: Callable[[str], URL], prepared: bool
) -> None:
    log = configured()
    cancel = "DO $$ BEGIN RAISE EXCEPTION 'canary' USING ERRCODE = 'query_canceled'; END $$"
    number = Statement(select(cast(bindparam("value", type_=String), Integer)))
    values = {"value": "canary"}
    with closing(open_database(database_of("postgres"), 1, prepared=[number] if prepared else ())) as database:
        with pytest.raises(psycopg2.Error, match="canary") as refusal, database.read() as querier:
            querier.fetch_all(number, values)
        with pytest.raises(Unavailable) as by_us, database.read() as querier:
            querier.fetch_all(Statement(text(cancel)), {})
        with pytest.raises(Unavailable) as by_sqlalchemy, database.read() as querier:
            connection_of(querier).exec_driver_sql(cancel)
    structlog.get_logger().error("failed", exc_info=refusal.value)
    structlog.get_logger().error("failed", exc_info=by_us.value)

    assert cause_of(by_us.value) == cause_of(by_sqlalchemy.value) == "QueryCanceled"
    assert "psycopg2.errors.InvalidTextRepresentation" in log()
    assert "psycopg2.errors.QueryCanceled" in log()
    assert "cursor.execute(" in log()
    assert "canary" not in log()


def test_operators_are_told_what_a_server_said_but_for_the_values_in_it(database_of: Callable[[str], URL]) -> None:
    insert = "INSERT INTO attempts VALUES ('canary', {}, now())"
    wrong = [insert.format("NULL"), "SELECT 'canary'::int", "SELECT nothing FROM attempts"]
    said = []
    with closing(open_database(database_of("postgres"), 1)) as database:
        for statement in wrong:
            with pytest.raises(DBAPIError) as refused, database.write() as querier:
                connection_of(querier).exec_driver_sql(statement)
            said += [driver_message(refused.value), driver_message(refused.value.orig or refused.value)]
    assert said[::2] == said[1::2]
    assert said[::2] == [
        'null value in column "count" of relation "attempts" violates not-null constraint',
        "InvalidTextRepresentation",
        'column "nothing" does not exist',
    ]


def test_operators_are_told_what_a_driver_noticed_in_one_line() -> None:
    assert driver_message(psycopg2.OperationalError("lost:\n\tmaybe it ended\n")) == "lost: maybe it ended"
    assert driver_message(psycopg2.OperationalError("refused\n\tIs it up?\n")) == "refused. Is it up?"
    assert driver_message(sqlite3.OperationalError("database is locked")) == "database is locked"


def test_of_other_causes_the_kind_is_told() -> None:
    assert cause_of(caused(Exception(), TimeoutError("a value"))) == "TimeoutError"
    assert cause_of(Exception()) is None


def test_exception_of_an_unawaited_task_is_logged_alike(configured: Configure) -> None:
    log = configured()

    async def forget() -> None:
        task = asyncio.ensure_future(asyncio.to_thread(fail))
        await asyncio.wait([task])
        del task
        gc.collect()

    asyncio.run(forget())

    (line,) = lines(log())
    assert (line["event"], line["logger"]) == ("Task exception was never retrieved", "asyncio")
    assert "builtins.ValueError" in line["exception"]
    assert "canary-local" not in log()
