"""Logs: one line for each event on standard error, our own and everybody else's in the same form.

Our own loggers are structlog's and skip the standard library, which would make an access line cost twice as much. What
others log there (uvicorn, Alembic, SQLAlchemy) ends in the same processors.
"""

import logging
import sqlite3
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import suppress
from contextvars import ContextVar
from json import JSONEncoder
from types import TracebackType
from typing import Final, TextIO

import psycopg2
import structlog
from sqlalchemy.exc import DBAPIError
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor, WrappedLogger

from infrastructure.settings import Settings

_CONTROL: Final = (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)
"""What could end a line or move a terminal's cursor: control characters (ISO 6429), and Unicode's separators."""

_ESCAPES: Final = {code: chr(code).encode("unicode_escape").decode() for code in _CONTROL}

_encode: Final = JSONEncoder(default=repr).encode


def configure_logs(settings: Settings, request_id: ContextVar[str] | None = None) -> None:
    """Send every logger's lines of `LOG_LEVEL` and above to standard error; in production each is a JSON object.

    A line that is written while a request is at work carries the id in `request_id`. In production the log tells what
    nobody has caught, too, where Python would print it.
    """
    as_json = settings.fastapi_env == "production"
    finish: list[Processor] = [_tell_exception, *([_as_json] if as_json else [_escape, _console()])]
    common: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *([_identify(request_id)] if request_id else []),
    ]
    structlog.configure(
        processors=[*common, *finish],
        wrapper_class=structlog.make_filtering_bound_logger(settings.log_level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = _Handler(sys.stderr)
    handler.addFilter(_leave_out)
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *common],
            processors=[ProcessorFormatter.remove_processors_meta, *finish],
        )
    )
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    logging.captureWarnings(True)
    if as_json:
        sys.excepthook = _tell_uncaught
        threading.excepthook = _tell_uncaught_in_thread
        sys.unraisablehook = _tell_unraisable
    is_debug = settings.log_level == "DEBUG"
    logging.getLogger("alembic").setLevel("DEBUG" if is_debug else "WARNING")  # it reports every look at the schema
    logging.getLogger("sqlalchemy.engine").setLevel("INFO" if is_debug else "WARNING")  # statements, without values


DRIVER_ERRORS: Final = (DBAPIError, psycopg2.Error, sqlite3.Error)
"""What databases' drivers raise, as it is and as SQLAlchemy hands it on."""


def said_by_driver(error: BaseException) -> str:
    """Tell in one line what a database's driver said of an error, for whoever operates it; values are left out.

    A server quotes them in the details that come after its message, and in the message itself where the data is wrong.
    """
    said = getattr(error, "orig", error)
    if (getattr(said, "pgcode", None) or "").startswith("22"):  # DATA EXCEPTION
        return type(said).__name__
    return " ".join((getattr(getattr(said, "diag", None), "message_primary", None) or str(said)).split())


def cause_of(error: Exception) -> str | None:
    """Tell in one line what is behind an error: its kind, and what a database's driver noticed by itself.

    What a server said is told by its kind alone, as it may quote values, and of a driver the first line.
    """
    cause = getattr(error.__cause__, "orig", error.__cause__)
    if cause is None:
        return None
    is_of_driver = isinstance(cause, (psycopg2.Error, sqlite3.Error)) and not getattr(cause, "pgcode", None)
    said = str(cause).strip().partition("\n")[0] if is_of_driver else ""
    return ": ".join(filter(None, (type(cause).__name__, said)))


class _Handler(logging.StreamHandler[TextIO]):
    """Writes lines; about one that cannot be written it says so in a line, where Python would print what is in it."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        with suppress(Exception):
            structlog.get_logger().error("a line could not be logged", logger=record.name, exc_info=True)


def _tell_uncaught(_kind: type[BaseException], error: BaseException, _at: TracebackType | None) -> None:
    structlog.get_logger().error("uncaught", exc_info=error)


def _tell_uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is not SystemExit:
        structlog.get_logger().error("uncaught in a thread", exc_info=args.exc_value)


def _tell_unraisable(args: "sys.UnraisableHookArgs") -> None:
    structlog.get_logger().error("uncaught where nothing can be raised", exc_info=args.exc_value)


def _leave_out(record: logging.LogRecord) -> bool:
    """Keep out values in messages of libraries: rows, which SQLAlchemy logs below INFO, and what a task has raised."""
    if record.name == "asyncio" and record.exc_info:  # the lines after the first describe the task
        record.msg, record.args = record.getMessage().partition("\n")[0], ()
    return record.levelno >= logging.INFO or not record.name.startswith("sqlalchemy.engine")


def _identify(request_id: ContextVar[str]) -> Processor:
    def add(_logger: WrappedLogger, _method: str, fields: EventDict) -> EventDict:
        if this_id := request_id.get(""):
            fields["request_id"] = this_id
        return fields

    return add


def _tell_exception(_logger: WrappedLogger, _method: str, fields: EventDict) -> EventDict:
    """Put a traceback in the place of an exception."""
    raised = fields.pop("exc_info", None)
    error = (
        raised if isinstance(raised, BaseException) else (raised if isinstance(raised, tuple) else sys.exc_info())[1]
    )
    if raised and error:
        fields["exception"] = "".join(_told(error, set())).rstrip()
    return fields


def _told(error: BaseException, told: set[int]) -> Iterator[str]:
    """Tell an exception as Python does, but for its message and its notes: these may quote what somebody sent.

    The line that raised it is shown, and with it what the message says but for the values in it.
    """
    told.add(id(error))
    earlier = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if earlier is not None and id(earlier) not in told:
        yield from _told(earlier, told)
        yield "\nThe above exception led to this one:\n\n"
    yield "Traceback (most recent call last):\n"
    yield from traceback.format_tb(error.__traceback__)
    yield f"{type(error).__module__}.{type(error).__qualname__}\n"
    for part in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
        yield "\nIn this group of exceptions:\n\n"
        yield from _told(part, told)


def _as_json(_logger: WrappedLogger, _method: str, fields: EventDict) -> str:
    return _encode(fields).replace("\x7f", "\\u007f")  # the one control character that JSON lets stand


def _escape(_logger: WrappedLogger, _method: str, fields: EventDict) -> EventDict:
    return {
        name: value.translate(_ESCAPES) if isinstance(value, str) and name != "exception" else value
        for name, value in fields.items()
    }


def _console() -> Processor:
    return structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback, pad_event_to=0, sort_keys=False
    )
