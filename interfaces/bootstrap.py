"""What every interface starts with: the container, and the application.

The container, and all that it imports, is imported when a function is called.
"""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from application.app import App
    from infrastructure.container import Container


def new_container() -> Container:
    """Build the container."""
    from infrastructure.container import Container

    return Container()


def migrated_container() -> Container:
    """Build the container of a database with the schema of this release.

    Raises:
        Unavailable: the schema is another one, or the database is unavailable.
    """
    container = new_container()
    container.migrations().require_current()
    return container


def fillable_container() -> Container:
    """Build the container of a database to fill; a missing SQLite file is created.

    Raises:
        Unavailable: the schema is another one, or the database is unavailable.
    """
    container = new_container()
    container.migrations().create_missing()
    container.migrations().require_current()
    return container


@contextmanager
def open_app() -> Iterator[App]:
    """Open the application on the database of the settings.

    Its security events are logged. A use case that is called here waits on the thread of its caller; an event loop
    awaits `container.executor().run(use_case, ...)` of `migrated_container`, which also retries.

    Raises:
        Unavailable: the schema is not this release's, or the database is unavailable.
    """
    from infrastructure.logs import configure_logs

    container = migrated_container()
    configure_logs(container.settings())
    with closing(container.database()):
        yield container.app()
