"""What commands share: the front door, and how they show their examples."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

from application.app import App
from infrastructure.container import Container


@contextmanager
def front_door() -> Iterator[App]:
    """Open the application on the database that the settings name, for one command.

    Raises:
        Unavailable: its schema is not this release's, or the database cannot answer now.
    """
    container = Container()
    container.migrations().require_current()
    with closing(container.database()):
        yield container.app()


def examples(*lines: str) -> str:
    """Write the end of a command's help: each example on a line of its own."""
    return "\n\n".join(("Examples:", *lines))
