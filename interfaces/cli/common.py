"""What commands share: the front door, why they fail, how they show their examples, and how far they are."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Final

from application.app import App
from application.ports import Refused, Unavailable
from application.views import Recount
from domain.errors import DomainError
from infrastructure.container import Container
from infrastructure.settings import SettingsError
from interfaces.cli.progress import progress

EXPECTED: Final = (SettingsError, DomainError, Refused, Unavailable)
"""What commands fail with. Anything else is a defect."""


def reason(error: Exception) -> str:
    """Tell in one line why a command fails, with what the database's driver said: clients of the API never see that."""
    said = getattr(error.__cause__, "orig", None) if isinstance(error, Unavailable) else None
    return f"{error} ({' '.join(str(said).split())})" if said else str(error)


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


def with_bar(batches: Iterable[Sequence[Recount]], last_id: int) -> Iterator[Sequence[Recount]]:
    """Hand batches of posts on, up to about this id; on a terminal a bar shows how far it is."""
    with progress("counting") as show:
        for batch in batches:
            yield batch
            show(batch[-1].post_id, last_id)
