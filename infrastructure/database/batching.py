"""Batched reads: concurrent queries of one statement share a round trip.

ADR 38 has the reasons.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Final

from sqlalchemy.util import await_only

from application.errors import Unavailable
from infrastructure.database.pipeline import ConnectionSource, Pipeline, Querier, Rows, Statement, Values
from infrastructure.execution.batching import Batches
from infrastructure.execution.greenlets import GreenletExecutor
from infrastructure.timeouts import Timeouts

IN_FLIGHT: Final = 2
"""Batches of one statement at once: one is executed while the rows of the other are read."""

QUERIES_MAX: Final = 64
ROWS_MAX: Final = 128
"""Rows that a batch may return: with the longest posts 32 MiB, held until each query has its own."""


class Batcher:
    """Batches the queries of a fixed set of statements.

    For greenlets on one event loop.

    A query that is alone is sent at once. A batch is sent after all its queries were issued, so each sees what was
    committed before its request. A batch with a wrong query is repeated query by query, so that its error reaches no
    other. Memory is bounded by `ROWS_MAX` rows for each of at most `IN_FLIGHT` batches of a statement.
    """

    def __init__(
        self,
        statements: Sequence[Statement],
        checkout: Callable[[], AbstractContextManager[Querier]],
        timeouts: Timeouts,
    ) -> None:
        self._checkout = checkout
        self._greenlets = GreenletExecutor()
        self._at_work = 0
        self._batches: dict[Statement, Batches[Values, Rows]] = {
            statement: Batches(
                partial(self._send, statement),
                most=min(QUERIES_MAX, max(1, ROWS_MAX // statement.rows)),
                in_flight=IN_FLIGHT,
                timeouts=timeouts,
            )
            for statement in statements
        }

    def __contains__(self, statement: Statement) -> bool:
        return statement in self._batches

    def fetch_all(self, statement: Statement, values: Values) -> Rows:
        """Execute a statement, alone or in a batch, and return its rows.

        Raises:
            Unavailable: the rows did not arrive in time.
        """
        if not self._at_work:  # here, not in `Batches`: other statements at work count too, and no task is needed
            (rows,) = self._execute(statement, [values])
            return rows
        shared: Rows = await_only(self._batches[statement].submit(values))
        return shared

    def close(self) -> None:
        """Cancel the batches at work."""
        for batches in self._batches.values():
            batches.close()

    async def _send(self, statement: Statement, many: Sequence[Values]) -> Sequence[Rows | Exception]:
        try:
            return await self._greenlets.run(self._execute, statement, many)
        except Unavailable as error:  # no query is to blame, and one by one they would take more connections
            return [error] * len(many)

    def _execute(self, statement: Statement, many: Sequence[Values]) -> Sequence[Rows]:
        self._at_work += 1
        try:
            with self._checkout() as querier:
                return querier.fetch_many(statement, many)
        finally:
            self._at_work -= 1


class BatchedReads(Pipeline):
    """Queries that share round trips with other requests.

    Any other statement is executed on a connection of its own.
    """

    def __init__(self, batcher: Batcher, source: ConnectionSource) -> None:
        super().__init__(source, transaction=False)
        self._batcher = batcher

    def fetch_all(self, statement: Statement, values: Values) -> Rows:
        """Execute a statement, and return its rows."""
        if statement in self._batcher:
            return self._batcher.fetch_all(statement, values)
        return super().fetch_all(statement, values)
