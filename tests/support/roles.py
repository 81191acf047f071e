"""Settings of a database role that would spoil sessions."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

from sqlalchemy import URL, text

from infrastructure.database.engine import open_engine

SPOILED = {
    "client_encoding": "LATIN1",
    "timezone": "Asia/Tokyo",
    "datestyle": "German",
    "extra_float_digits": "-10",
    "standard_conforming_strings": "off",
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "default_transaction_deferrable": "on",
    "statement_timeout": "1",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "enable_indexscan": "off",
}


@contextmanager
def role_with(url: URL, settings: dict[str, str]) -> Iterator[None]:
    """Set a role's settings in one database for a while."""
    target = f'ROLE "{url.username}" IN DATABASE "{url.database}"'
    with closing(open_engine(url, 1).connect()) as connection:
        for name, value in settings.items():
            connection.execute(text(f"ALTER {target} SET {name} = '{value}'"))
        connection.commit()
    try:
        yield
    finally:
        with closing(open_engine(url, 1).connect()) as connection:
            connection.execute(text(f"ALTER {target} RESET ALL"))
            connection.commit()
