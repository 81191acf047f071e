"""Expected failures of commands and of the server, and how they are reported."""

import re
import sys
from pathlib import Path
from typing import Final, NoReturn

import structlog

from application.errors import Refused, Unavailable
from domain.errors import DomainError
from infrastructure.database.errors import DRIVER_ERRORS, driver_message
from infrastructure.settings import SettingsError

log = structlog.get_logger()

EXPECTED: Final = (SettingsError, DomainError, Refused, Unavailable, OSError, *DRIVER_ERRORS)
"""Exceptions that a command or a server reports in one line. Any other is a defect."""

NOT_OPENED: Final = re.compile("FATAL|unable to open database file|file is not a database")
"""Messages of a driver after which trying again does not help: PostgreSQL's refusals of a connection, and SQLite's."""


def reason(error: Exception) -> str:
    """Describe an expected failure in one line, the driver's message included.

    Responses of the API never contain that message.
    """
    if isinstance(error, DRIVER_ERRORS):
        return f"the database refuses: {driver_message(error)}"
    if isinstance(error, OSError):
        return _system_reason(error)
    cause = error.__cause__
    if isinstance(error, DomainError) or not isinstance(cause, DRIVER_ERRORS):
        return str(error)
    message = driver_message(cause)
    if NOT_OPENED.search(message):
        return f"the database cannot be opened ({message}); agora doctor says what to do"
    return f"{error} ({message})"


def _system_reason(error: OSError) -> str:
    try:
        Path.cwd()
    except OSError:
        return "the working directory was deleted; change to another one"
    what = f"{error.filename}: " if error.filename else ""
    return f"the system refuses: {what}{error.strerror or error}"


def exit_with_error(error: Exception) -> NoReturn:
    """Log why the server cannot serve, and exit with status 1."""
    if isinstance(error, EXPECTED):
        log.error("cannot serve", reason=reason(error))
    else:
        sys.excepthook(type(error), error, error.__traceback__)
    sys.exit(1)
