"""The SQLAlchemy connection behind a querier, for statements that only tests execute."""

from sqlalchemy import Connection, select, true

from infrastructure.database.batching import BatchedReads
from infrastructure.database.pipeline import Querier, Statement

PING = Statement(select(true()))


def connection_of(querier: Querier) -> Connection:
    """Return the connection, alive, and inside the transaction if there is one."""
    querier.fetch_one(PING, {})
    own = querier._own if isinstance(querier, BatchedReads) else querier
    assert own is not None
    return own._connection
