"""Natural batching: concurrent queries of one statement share a round trip.

A data loader without a timer: queries that arrive while others are at work form the next batch, and a query that is
alone is sent at once. ADR 38 has the reasons.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import Context
from functools import cache, partial
from types import TracebackType
from typing import Any, Final

from sqlalchemy import BigInteger, BindParameter, bindparam, column, func, literal_column, select, true
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.sql import visitors
from sqlalchemy.util import await_only

from application.errors import Unavailable
from infrastructure.database.pipeline import Querier, Statement, Values
from infrastructure.execution.deadline import remaining, use_case_deadline
from infrastructure.execution.greenlets import GreenletExecutor
from infrastructure.timeouts import Timeouts

Rows = Sequence[tuple[Any, ...]]

TURNS: Final = 2
"""Turns of the event loop before a batch is sent, so that requests that were just read can join."""

IN_FLIGHT: Final = 2
"""Batches of one statement at once: one is executed while the rows of the other are read."""

QUERIES_MAX: Final = 64
ROWS_MAX: Final = 128
"""Rows that a batch may return: with the longest posts 32 MiB, held until each query has its own."""


@cache
def batched_form(statement: Statement) -> Statement:
    """Derive the statement that executes another for each row of arrays.

    There is one array per parameter.

    Its rows begin with the number of their query, from 1. LATERAL executes the statement once for each query, in a
    nested loop, which keeps the order of its rows (PostgreSQL's manual, section 7.2.1.5).
    """
    types: dict[str, Any] = {}

    def replace(element: Any, **_: object) -> Any:
        if not isinstance(element, BindParameter) or not element.required:
            return None
        types[element.key] = BigInteger() if element.type._isnull else element.type  # noqa: SLF001
        return literal_column(f"asked.{element.key}", types[element.key])

    inner = visitors.replacement_traverse(statement.postgres, {}, replace).lateral("found")
    arrays = [bindparam(name, type_=ARRAY(kind)) for name, kind in types.items()]
    asked = func.unnest(*arrays).table_valued(*(column(name) for name in types), with_ordinality="number")
    asked = asked.render_derived(name="asked")
    return Statement(
        select(literal_column("asked.number"), literal_column("found.*")).select_from(asked.join(inner, true()))
    )


class _Query:
    """A query that waits for its rows."""

    __slots__ = ("rows", "values")

    def __init__(self, values: Values, rows: "asyncio.Future[Rows]") -> None:
        self.values = values
        self.rows = rows


class _Queue:
    """Queries of one statement that wait for the next batch."""

    __slots__ = ("batched", "in_flight", "is_scheduled", "statement", "waiting")

    def __init__(self, statement: Statement, batched: Statement) -> None:
        self.statement = statement
        self.batched = batched
        self.waiting: deque[_Query] = deque()
        self.in_flight = 0
        self.is_scheduled = False

    def take(self) -> list[_Query]:
        """Take the queries of a batch, in order of arrival, without those that gave up."""
        most = min(QUERIES_MAX, max(1, ROWS_MAX // self.statement.rows))
        taken: list[_Query] = []
        while self.waiting and len(taken) < most:
            query = self.waiting.popleft()
            if not query.rows.done():
                taken.append(query)
        return taken


class Batcher:
    """Batches the queries of a fixed set of statements.

    For greenlets on one event loop.

    A batch is sent after all its queries were asked, so each sees what was committed before its request. A failed
    batch is asked again query by query: an error reaches its own query only. Each query keeps its own deadline. Memory
    is bounded by `ROWS_MAX` rows for each of at most `IN_FLIGHT` batches of a statement.
    """

    def __init__(
        self,
        statements: Mapping[Statement, Statement],
        checkout: Callable[[], AbstractContextManager[Querier]],
        timeouts: Timeouts,
    ) -> None:
        self._queues = {statement: _Queue(statement, many) for statement, many in statements.items()}
        self._checkout = checkout
        self._timeouts = timeouts
        self._greenlets = GreenletExecutor()
        self._tasks: set[asyncio.Task[None]] = set()
        self._at_work = 0

    def __contains__(self, statement: Statement) -> bool:
        return statement in self._queues

    def fetch_all(self, statement: Statement, values: Values) -> Rows:
        """Execute a statement, alone or in a batch, and return its rows.

        Raises:
            Unavailable: the rows did not arrive in time.
        """
        if not self._at_work:
            return self._execute(statement, values)
        loop = asyncio.get_running_loop()
        query = _Query(values, loop.create_future())
        queue = self._queues[statement]
        queue.waiting.append(query)
        self._schedule(queue, TURNS)
        alarm = loop.call_later(
            remaining(self._timeouts.response), _refuse, query, "the database does not respond; try again"
        )
        try:
            rows: Rows = await_only(query.rows)
        finally:
            alarm.cancel()
        return rows

    def close(self) -> None:
        """Cancel the batches at work."""
        for task in self._tasks:
            task.cancel()

    def _schedule(self, queue: _Queue, turns: int) -> None:
        if not queue.is_scheduled and queue.waiting and queue.in_flight < IN_FLIGHT:
            queue.is_scheduled = True
            asyncio.get_running_loop().call_soon(self._turn, queue, turns)

    def _turn(self, queue: _Queue, turns: int) -> None:
        if turns > 1:
            asyncio.get_running_loop().call_soon(self._turn, queue, turns - 1)
            return
        queue.is_scheduled = False
        if queries := queue.take():
            queue.in_flight += 1
            # In a context of its own: the deadline of the first query is not that of the batch.
            task = asyncio.get_running_loop().create_task(self._send(queue, queries), context=Context())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            self._schedule(queue, TURNS)

    async def _send(self, queue: _Queue, queries: list[_Query]) -> None:
        try:
            if len(queries) > 1:
                try:
                    await self._run(queries, partial(self._execute_batch, queue.batched, queries))
                except Exception:  # noqa: BLE001 - one query may be to blame: each is asked again alone, and raises
                    await asyncio.gather(*(self._send_alone(queue.statement, query) for query in queries))
            else:
                await self._send_alone(queue.statement, queries[0])
        finally:
            for query in queries:
                _refuse(query, "the server is stopping; try again")
            queue.in_flight -= 1
            self._schedule(queue, 1)

    async def _send_alone(self, statement: Statement, query: _Query) -> None:
        if query.rows.done():
            return
        try:
            await self._run([query], lambda: [self._execute(statement, query.values)])
        except Exception as error:  # noqa: BLE001 - the query raises it
            if not query.rows.done():
                query.rows.set_exception(error)

    async def _run(self, queries: Sequence[_Query], execute: Callable[[], Sequence[Rows]]) -> None:
        with use_case_deadline(self._timeouts.request):
            for query, rows in zip(queries, await self._greenlets.run(execute), strict=True):
                if not query.rows.done():
                    query.rows.set_result(rows)

    def _execute(self, statement: Statement, values: Values) -> Rows:
        self._at_work += 1
        try:
            with self._checkout() as querier:
                return querier.fetch_all(statement, values)
        finally:
            self._at_work -= 1

    def _execute_batch(self, statement: Statement, queries: Sequence[_Query]) -> Sequence[Rows]:
        arrays = {name: [query.values[name] for query in queries] for name in statement.names}
        found: list[list[tuple[Any, ...]]] = [[] for _ in queries]
        for row in self._execute(statement, arrays):
            found[row[0] - 1].append(row[1:])
        return found


def _refuse(query: _Query, reason: str) -> None:
    if not query.rows.done():
        query.rows.set_exception(Unavailable(reason))


class BatchedReads(Querier):
    """Queries that share round trips with other requests.

    Any other statement is executed on a connection of its own.
    """

    def __init__(self, batcher: Batcher, checkout: AbstractContextManager[Querier]) -> None:
        self._batcher = batcher
        self._checkout = checkout
        self._own: Querier | None = None

    def __enter__(self) -> Querier:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._own is not None:
            self._checkout.__exit__(kind, error, at)

    @property
    def cache(self) -> dict[Any, Any]:
        """Values that live as long as the connection of the latest statement."""
        return self._connected().cache

    def fetch_all(self, statement: Statement, values: Values) -> Rows:
        """Execute a statement, and return its rows."""
        if statement in self._batcher:
            return self._batcher.fetch_all(statement, values)
        return self._connected().fetch_all(statement, values)

    def enqueue(self, statement: Statement, values: Values) -> None:
        """Queue a statement; its errors surface at the next query."""
        self._connected().enqueue(statement, values)

    def _connected(self) -> Querier:
        if self._own is None:
            self._own = self._checkout.__enter__()
        return self._own
