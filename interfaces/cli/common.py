"""What commands share: the front door, why they fail and how they show their examples."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Final

from application.app import App
from application.errors import Refused, Unavailable
from domain.errors import DomainError
from infrastructure.container import Container
from infrastructure.logs import DRIVER_ERRORS, said_by_driver
from infrastructure.settings import SettingsError

EXPECTED: Final = (SettingsError, DomainError, Refused, Unavailable, *DRIVER_ERRORS)
"""What commands fail with. Anything else is a defect."""


def reason(error: Exception) -> str:
    """Tell in one line why a command fails, with what the database's driver said: clients of the API never see that."""
    if isinstance(error, DRIVER_ERRORS):
        return f"the database refuses: {said_by_driver(error)}"
    cause = error.__cause__
    if not isinstance(cause, DRIVER_ERRORS):
        return str(error)
    said = said_by_driver(cause)
    if "FATAL" in said:  # PostgreSQL, of those whom it does not let in
        return f"the database does not let us in ({said}); agora doctor says what to do"
    return f"{error} ({said})"


@contextmanager
def front_door() -> Iterator[App]:
    """Open the application on the database that the settings name, for one command.

    Raises:
        Unavailable: its schema is not this release's, or the database cannot answer now.
    """
    container = Container()
    container.migrations().require_current()
    with asking(container):
        yield container.app()


@contextmanager
def asking(container: Container) -> Iterator[None]:
    """Close the container's database after the block."""
    with closing(container.database()):
        yield


def examples(*lines: str) -> str:
    """Write the end of a command's help: each example on a line of its own."""
    return "\n\n".join(("Examples:", *lines))
