"""Plans on a distributed database: one shard for one post, and a limit on every shard for a list."""

import re
from collections.abc import Iterator
from contextlib import closing
from itertools import product
from typing import Any

import pytest
from sqlalchemy import URL

from application.paging import Order, SortBy
from application.views import Counter, PostFilter
from domain.users import Actor
from domain.votes import Direction
from infrastructure.database import posts, votes
from infrastructure.database.counters import recount_statement
from infrastructure.database.engine import Database, open_database
from infrastructure.database.pipeline import Statement
from infrastructure.database.sql import WindowShape
from tests.support.citus import SHARDS
from tests.support.connections import connection_of
from tests.support.samples import NOW

READER = Actor(1)
VALUES = {
    "caller_id": 1,
    "session_id": None,
    "now": None,
    "post_id": 7,
    "of_post": 7,
    "voter_id": 1,
    "owner_id": 3,
    "since": NOW,
    "until": NOW,
    "after_id": 7,
    "after_key": 1,
    "skip": 50,
    "needle": "%needle%",
}
ON_ALL_SHARDS = f"Task Count: {SHARDS}\n"


@pytest.fixture
def database(distributed: URL) -> Iterator[Database]:
    with closing(open_database(distributed, 1)) as database:
        yield database


def plan(database: Database, statement: Statement) -> str:
    """Return the plan of the coordinator, with that of one shard for each of its queries."""
    with database.read() as querier:
        raw: Any = connection_of(querier).connection.dbapi_connection
        with closing(raw.cursor()) as cursor:
            *settings, query = statement.whole.split("; ", 1)
            cursor.execute("; ".join([*settings, f"EXPLAIN (COSTS OFF) {query}"]), VALUES)
            return "\n".join(line for (line,) in cursor.fetchall())


@pytest.mark.parametrize(
    "statement",
    [posts.GET_ANY, posts.GET_VISIBLE, posts.LOCK_VISIBLE, votes.LOCK, votes.CONTEXT, recount_statement(Counter.VOTES)],
    ids=["get as administrator", "get", "edit", "lock for a vote", "context of a vote", "recount"],
)
def test_one_post_asks_one_shard(database: Database, statement: Statement) -> None:
    counts = re.findall(r"Task Count: (\d+)", plan(database, statement))
    assert set(counts) == {"1"}, counts


def lists() -> Iterator[Statement]:
    """Yield lists of posts in every order, between dates, after a skip and after a cursor, and lists of votes."""
    ranges = posts.index_ranges(READER, PostFilter())
    for by, dated, skip in product(SortBy, (False, True), (False, True)):
        query = posts.ListQuery(ranges, Order(by), WindowShape(10, skip), since=dated, until=dated)
        yield posts.list_statement(query)
    following = posts.ListQuery(ranges, Order(SortBy.VOTES), WindowShape(10, after=True))
    yield posts.list_statement(following)
    for skip in (False, True):
        yield votes.list_statement((Direction.UP, Direction.DOWN), admin=False, window=WindowShape(10, skip))


def test_list_takes_its_page_from_every_shard_and_no_more(database: Database) -> None:
    for statement in lists():
        shown = plan(database, statement)
        _, *queries = shown.split(ON_ALL_SHARDS)
        assert queries
        for query in queries:  # the posts of the page are joined to an intermediate result
            tasks = query.partition("Distributed Subplan")[0]
            assert "->  Limit" in tasks or "read_intermediate_result" in tasks, shown
