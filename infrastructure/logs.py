"""Logs: one line per event on standard error, in one format for all libraries.

Agora's loggers are structlog's and skip the standard library, which would double the cost of an access line. Records
of libraries (uvicorn, Alembic, SQLAlchemy) pass through the same processors.
"""

import logging
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from contextvars import ContextVar
from json import JSONEncoder
from types import TracebackType
from typing import Final, TextIO

import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor, WrappedLogger

from application.views import SecurityEvent
from domain.users import OPERATOR
from infrastructure.settings import Settings

_CONTROL: Final = (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)
"""Characters that end a line or move a terminal's cursor: control characters (ISO 6429), Unicode separators."""

_ESCAPES: Final = {code: chr(code).encode("unicode_escape").decode() for code in _CONTROL}

_encode: Final = JSONEncoder(default=repr).encode


def configure_logs(settings: Settings, *context: ContextVar[str]) -> None:
    """Log events of `LOG_LEVEL` and above to standard error.

    Each event carries the variables of `context` that are set, by name. In production each event is a JSON object, and
    uncaught exceptions are logged too, where Python would print them.
    """
    as_json = settings.fastapi_env == "production"
    finish: list[Processor] = [_format_exception, *([_as_json] if as_json else [_escape, _console()])]
    common: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_context(context),
    ]
    structlog.configure(
        processors=[*common, *finish],
        wrapper_class=structlog.make_filtering_bound_logger(settings.log_level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = _Handler(sys.stderr)
    handler.addFilter(_drop_values)
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=[_add_library, *common],
            processors=[ProcessorFormatter.remove_processors_meta, *finish],
        )
    )
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    logging.captureWarnings(True)
    if as_json:
        sys.excepthook = _log_uncaught
        threading.excepthook = _log_uncaught_in_thread
        sys.unraisablehook = _log_unraisable
    is_debug = settings.log_level == "DEBUG"
    logging.getLogger("alembic").setLevel("DEBUG" if is_debug else "WARNING")  # it reports every check of the schema
    logging.getLogger("sqlalchemy.engine").setLevel("INFO" if is_debug else "WARNING")  # statements, without values


class _Handler(logging.StreamHandler[TextIO]):
    """Writes lines.

    A record that cannot be formatted is reported without its content, which Python would print.
    """

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        with suppress(Exception):
            structlog.get_logger().error("a line could not be logged", logger=record.name, exc_info=True)


def _log_uncaught(_kind: type[BaseException], error: BaseException, _at: TracebackType | None) -> None:
    structlog.get_logger().error("uncaught", exc_info=error)


def _log_uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is not SystemExit:
        structlog.get_logger().error("uncaught in a thread", exc_info=args.exc_value)


def _log_unraisable(args: "sys.UnraisableHookArgs") -> None:
    structlog.get_logger().error("uncaught where nothing can be raised", exc_info=args.exc_value)


def _drop_values(record: logging.LogRecord) -> bool:
    """Drop values from messages of libraries.

    SQLAlchemy logs rows below INFO, and asyncio exceptions of tasks.
    """
    if record.name == "asyncio" and record.exc_info:  # later lines describe the task
        record.msg, record.args = record.getMessage().partition("\n")[0], ()
    return record.levelno >= logging.INFO or not record.name.startswith("sqlalchemy.engine")


class StructlogSecurityLog:
    """Writes security events to the log, refusals as warnings."""

    def __init__(self) -> None:
        self._log = structlog.get_logger()

    def record(self, event: SecurityEvent) -> None:
        """Write an event; the client's address comes from the request's context."""
        log = self._log
        actor = "operator" if event.actor == OPERATOR else event.actor and event.actor.id
        fields = {"action": event.action.value, "outcome": event.outcome, "actor": actor, "subject": event.subject}
        if event.outcome == "success":
            log.info("security", **fields)
        else:
            log.warning("security", **fields, reason=event.reason)


def _add_library(_logger: WrappedLogger, _method: str, fields: EventDict) -> EventDict:
    name = fields["_record"].name
    fields["logger"] = (
        "uvicorn" if name == "uvicorn.error" else name
    )  # which has all of uvicorn's lines, not only errors
    return fields


def _add_context(context: Sequence[ContextVar[str]]) -> Processor:
    def add(_logger: WrappedLogger, _method: str, fields: EventDict) -> EventDict:
        for variable in context:
            if value := variable.get(""):
                fields.setdefault(variable.name, value)
        return fields

    return add


def _format_exception(_logger: WrappedLogger, _method: str, fields: EventDict) -> EventDict:
    """Replace an exception by its traceback."""
    raised = fields.pop("exc_info", None)
    error = (
        raised if isinstance(raised, BaseException) else (raised if isinstance(raised, tuple) else sys.exc_info())[1]
    )
    if raised and error:
        fields["exception"] = "".join(_traceback_lines(error, set())).rstrip()
    return fields


def _traceback_lines(error: BaseException, seen: set[int]) -> Iterator[str]:
    """Format a traceback as Python does, without messages and notes.

    Those may quote a request. The line that raised the exception is included, and shows the message without its values.
    """
    seen.add(id(error))
    earlier = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if earlier is not None and id(earlier) not in seen:
        yield from _traceback_lines(earlier, seen)
        yield "\nThe above exception led to this one:\n\n"
    yield "Traceback (most recent call last):\n"
    yield from traceback.format_tb(error.__traceback__)
    yield f"{type(error).__module__}.{type(error).__qualname__}\n"
    for part in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
        yield "\nIn this group of exceptions:\n\n"
        yield from _traceback_lines(part, seen)


def _as_json(_logger: WrappedLogger, _method: str, fields: EventDict) -> str:
    return _encode(fields).replace("\x7f", "\\u007f")  # the one control character that JSON does not escape


def _escape(_logger: WrappedLogger, _method: str, fields: EventDict) -> EventDict:
    return {
        name: value.translate(_ESCAPES) if isinstance(value, str) and name != "exception" else value
        for name, value in fields.items()
    }


def _console() -> Processor:
    return structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback, pad_event_to=0, sort_keys=False
    )
