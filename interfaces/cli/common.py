"""What commands share: the front door, how they show their examples, and how far they are."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager

from application.app import App
from application.views import Recount
from infrastructure.container import Container
from interfaces.cli.progress import progress


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
