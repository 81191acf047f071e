"""Costs of a vote on SQL, in round trips and rows read."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg2.extensions
import pytest
from sqlalchemy import URL, event, text
from sqlalchemy.pool import Pool

from application.votes import CastVote
from domain.votes import Direction, Vote
from infrastructure.database.engine import open_database
from infrastructure.database.pipeline import Querier, Statement
from infrastructure.database.votes import SqlVoteRepository
from tests.fakes.services import FrozenClock
from tests.support.backends import sql_backend
from tests.support.samples import NOW, add_post, add_user

VOTES = 20
ROUND_TRIPS = {"postgresql": 2, "sqlite": 6}
"""On SQLite each statement, BEGIN and COMMIT included."""

ROWS_READ = Statement(
    text(
        "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) FROM pg_stat_xact_user_tables"
        " WHERE relname IN ('posts', 'votes')"
    )
)


def rows_read(querier: Querier) -> int:
    ((rows,),) = querier.fetch_all(ROWS_READ, {})
    return int(rows)


@contextmanager
def round_trips() -> Iterator[list[str]]:
    """Collect what the driver sends over connections that are opened in the block."""
    sent: list[str] = []

    class CountingCursor(psycopg2.extensions.cursor):
        def execute(self, query: Any, values: Any = None) -> None:
            sent.append(str(query))
            super().execute(query, values)

    def note(connection: Any, _record: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.set_trace_callback(sent.append)
        else:
            connection.cursor_factory = CountingCursor

    event.listen(Pool, "connect", note)
    try:
        yield sent
    finally:
        event.remove(Pool, "connect", note)


def test_vote_takes_the_same_round_trips_on_a_post_with_many(url: URL) -> None:
    with round_trips() as sent, sql_backend(url) as backend:
        ann = add_user(backend.uow, "ann")
        cast = CastVote(backend.uow, FrozenClock())
        quiet, busy = add_post(backend.uow, ann), add_post(backend.uow, ann)
        for number in range(VOTES):
            cast(add_user(backend.uow, f"user{number}"), busy.id, Direction.UP)
        counts = []
        for post in (quiet, busy):
            sent.clear()
            cast(ann, post.id, Direction.UP)
            counts.append(sum(not statement.startswith("PRAGMA") for statement in sent))

    assert counts == [ROUND_TRIPS[url.get_backend_name()]] * 2, sent


@pytest.mark.parametrize("url", ["postgres"], indirect=True)
def test_vote_reads_the_same_rows_on_a_post_with_many(url: URL) -> None:
    with sql_backend(url) as backend, closing(open_database(url, 1)) as database:
        ann = add_user(backend.uow, "ann")
        quiet, busy = add_post(backend.uow, ann), add_post(backend.uow, ann)
        for number in range(VOTES):
            CastVote(backend.uow, FrozenClock())(add_user(backend.uow, f"user{number}"), busy.id, Direction.UP)
        rows = []
        for post in (quiet, busy):
            with database.write() as querier:
                before = rows_read(querier)
                votes = SqlVoteRepository(querier)
                context = votes.lock_context(ann.id, post.id)
                vote = Vote(ann.id, post.id, Direction.UP, NOW)
                votes.record(vote, context.counting(vote))
                rows.append(rows_read(querier) - before)

    assert rows[0] == rows[1] > 0
