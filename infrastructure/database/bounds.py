"""Waits that end, where nobody is served: for commands, and for looks at the schema."""

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg2.extensions import get_wait_callback, set_wait_callback

from infrastructure.database.waiting import wait


@contextmanager
def bounded_waits() -> Iterator[None]:
    """Have every wait for PostgreSQL in the process end in time, as while requests are served.

    Not for what copies, which psycopg2 refuses then, and not for statements that may take as long as they must.

    Raises:
        Overdue: from the driver, in the block: an answer did not come in time.
    """
    before = get_wait_callback()
    set_wait_callback(wait)
    try:
        yield
    finally:
        set_wait_callback(before)
