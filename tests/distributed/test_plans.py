"""Plans on a distributed database: one shard for one post, and a limit on every shard for a list."""

import re
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
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
from infrastructure.database.post_lists import ListQuery, index_ranges, list_statement
from infrastructure.database.sql import WindowShape
from tests.support.citus import SHARDS, execute
from tests.support.connections import connection_of
from tests.support.samples import NOW

READER = Actor(1)
FILLED = """
INSERT INTO users (email, email_key, search_key, password_hash, role, is_active, created_at)
VALUES ('a@b.c', 'a@b.c', 'a@b.c', '', 'user', true, now());
INSERT INTO posts (id, owner_id, title, content, published, created_at, updated_at, version,
                   upvotes, downvotes, score, hot)
SELECT n, 1, 'A title', repeat('Some content ', 20), n % 10 > 0, now() + n * interval '1 second', now(), 1,
       n * 7 % 1009, 0, n * 7 % 1009, n * 7 % 1009 FROM generate_series(1, 20000) AS n
"""
"""Enough posts of one account that a shard would rather sort them all than walk along an index to their end."""

VALUES = {
    "caller_id": 1,
    "session_id": None,
    "now": None,
    "post_id": 7,
    "of_post": 7,
    "voter_id": 1,
    "owner_id": 3,
    "since": NOW,
    "until": NOW + timedelta(days=3_650),
    "after_id": 7,
    "skip": 50,
    "needle": "%needle%",
}
ON_ALL_SHARDS = f"Task Count: {SHARDS}\n"


@pytest.fixture
def database(distributed: URL) -> Iterator[Database]:
    with closing(open_database(distributed, 1)) as database:
        yield database


def plan(database: Database, statement: Statement, after_key: object = None) -> str:
    """Return the plan of the coordinator, with that of one shard for each of its queries."""
    with database.read() as querier:
        raw: Any = connection_of(querier).connection.dbapi_connection
        with closing(raw.cursor()) as cursor:
            *settings, query = statement.whole.split("; ", 1)
            cursor.execute("; ".join([*settings, f"EXPLAIN (COSTS OFF) {query}"]), VALUES | {"after_key": after_key})
            return "\n".join(line for (line,) in cursor.fetchall())


@pytest.mark.parametrize(
    "statement",
    [posts.GET_ANY, posts.GET_VISIBLE, posts.LOCK_VISIBLE, votes.LOCK, votes.CONTEXT, recount_statement(Counter.VOTES)],
    ids=["get as administrator", "get", "edit", "lock for a vote", "context of a vote", "recount"],
)
def test_one_post_asks_one_shard(database: Database, statement: Statement) -> None:
    counts = re.findall(r"Task Count: (\d+)", plan(database, statement))
    assert set(counts) == {"1"}, counts


WALKED = re.compile(
    r"^ +->  Limit\n +->  Nested Loop Left Join\n(?: +Join Filter: .*\n)? +->  Merge Append\n +Sort Key: .*\n"
    r" +->  Index Scan Backward using ix_posts_published_",
    re.MULTILINE,
)
"""A plan that reads of published posts what the page shows; own drafts, which are few, may be sorted."""

RANGES = index_ranges(READER, PostFilter())


def lists() -> Iterator[Statement]:
    """Yield lists that find ids first, and lists of votes."""
    for by, dated in product(SortBy, (False, True)):
        query = ListQuery(RANGES, Order(by), WindowShape(10, skip=True), since=dated, until=dated)
        yield list_statement(query)
    yield list_statement(ListQuery(RANGES, Order(), WindowShape(10), search=True))
    for skip in (False, True):
        yield votes.list_statement((Direction.UP, Direction.DOWN), admin=False, window=WindowShape(10, skip))


def test_page_is_one_walk_along_the_indexes_of_every_shard(database: Database, distributed: URL) -> None:
    execute(distributed, FILLED)
    execute(distributed, "ANALYZE users, posts, votes")
    for by, dated, after in product(SortBy, (False, True), (False, True)):
        query = ListQuery(RANGES, Order(by), WindowShape(10, after=after), since=dated, until=dated)
        shown = plan(database, list_statement(query), NOW + timedelta(days=730) if by is SortBy.DATE else 500)
        coordinator, *tasks = shown.split("->  Task\n")
        assert ON_ALL_SHARDS in coordinator, shown
        assert len(tasks) == 1, shown
        assert WALKED.search(tasks[0]), shown


def test_list_takes_its_page_from_every_shard_and_no_more(database: Database) -> None:
    for statement in lists():
        shown = plan(database, statement)
        _, *queries = shown.split(ON_ALL_SHARDS)
        assert queries
        for query in queries:  # the posts of the page are joined to an intermediate result
            tasks = query.partition("Distributed Subplan")[0]
            assert "->  Limit" in tasks or "read_intermediate_result" in tasks, shown
