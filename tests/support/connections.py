"""The SQLAlchemy connection behind a querier, for statements that only tests execute."""

from sqlalchemy import Connection, select, true

from infrastructure.database.pipeline import Querier, Statement

PING = Statement(select(true()))


def connection_of(querier: Querier) -> Connection:
    """Return the connection, alive, and inside the transaction if there is one."""
    querier.fetch_one(PING, {})
    return querier._connection
