"""Plans of queries: every list scans an index, on both databases."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from importlib import import_module
from inspect import getmembers, isclass, isfunction
from itertools import product
from pkgutil import iter_modules
from typing import Any, Final, get_origin

import pytest
from sqlalchemy import URL, text

from application.paging import Order, Page, SortBy
from application.views import Counter, PostFilter
from domain.users import Actor, Role
from domain.votes import Direction, hotness
from infrastructure import database as package
from infrastructure.database.callers import FIND
from infrastructure.database.counters import recount_statement
from infrastructure.database.engine import Database, open_database
from infrastructure.database.pipeline import Statement
from infrastructure.database.post_lists import RANKS, ListQuery, index_ranges, list_statement
from infrastructure.database.posts import GET_FOR_BEARER, GET_VISIBLE, OWNER
from infrastructure.database.prepared import BATCHED, GROUPED, PREPARED
from infrastructure.database.sql import WindowShape
from infrastructure.database.tables import posts, sessions, titles, users, votes
from infrastructure.database.users import list_statement as accounts_statement
from infrastructure.database.votes import CONTEXT, LOCK, LOCK_AT_ONCE, LOCK_FREE
from infrastructure.database.votes import list_statement as votes_statement
from tests.support.backends import empty
from tests.support.connections import connection_of
from tests.support.samples import NOW

POSTS, PEOPLE, LIMIT = 6_000, 40, 10
PAGE = LIMIT + 1
"""Rows of a page, and one that tells whether more follow."""

SECOND = timedelta(seconds=1)

READERS = {"user": Actor(1), "administrator": Actor(2, Role.ADMIN), "anonymous": Actor(0)}
PUBLISHED: tuple[bool | None, ...] = (None, True, False)
OWNERS: dict[str, int | None] = {"all": None, "own": 1, "another's": 3}
ORDERS = tuple(Order(by, descending=descending) for by, descending in product(SortBy, (True, False)))
VALUES = {
    "caller_id": 1,
    "owner_id": 3,
    "voter_id": 1,
    "after_id": POSTS // 2,
    "since": NOW + 100 * SECOND,
    "until": NOW + (POSTS - 100) * SECOND,
    "needle": "%needle%",
    "skip": 50,
    "post_id": POSTS // 2,
    "user_id": 1,
    "session_id": 1,
    "now": NOW,
    "after": POSTS - PAGE,
}


def keys(by: SortBy) -> datetime | float:
    halfway = NOW + POSTS // 2 * SECOND
    found: dict[SortBy, datetime | float] = {
        SortBy.DATE: halfway,
        SortBy.VOTES: 3,
        SortBy.HOT: hotness(3, halfway),
    }
    return found[by]


def fill(database: Database) -> None:
    """Store many posts of many users, mostly drafts; all users vote on every tenth."""
    moments = [NOW + number * SECOND for number in range(POSTS)]
    scores = [number * 7 % 13 - 3 for number in range(POSTS)]
    with database.write() as querier:
        connection_of(querier).execute(
            users.insert(),
            [
                {
                    "email": f"user{number}@x.org",
                    "email_key": f"user{number}@x.org",
                    "search_key": f"user{number}@x.org",
                    "search_folded": f"user{number}@x.org",
                    "password_hash": "-",
                    "role": "user",
                    "is_active": True,
                    "created_at": NOW,
                }
                for number in range(PEOPLE)
            ],
        )
        connection_of(querier).execute(
            posts.insert(),
            [
                {
                    "owner_id": number % PEOPLE + 1,
                    "title": "A title",
                    "content": "Some content",
                    "published": number // PEOPLE % 3 == 0,
                    "created_at": moment,
                    "updated_at": moment,
                    "version": 1,
                    "upvotes": max(score, 0),
                    "downvotes": max(-score, 0),
                    "score": score,
                    "hot": hotness(score, moment),
                }
                for number, (moment, score) in enumerate(zip(moments, scores, strict=True))
            ],
        )
        connection_of(querier).execute(
            titles.insert(),
            [
                {"post_id": number + 1, "title_key": title, "title_folded": title}
                for number, title in enumerate("a needle" if n == 77 else f"a title number {n}" for n in range(POSTS))
            ],
        )
        connection_of(querier).execute(
            votes.insert(),
            [
                {"post_id": post, "user_id": user, "dir": Direction(1 - post % 3 // 2 * 2).value, "created_at": NOW}
                for post in range(10, POSTS, 10)
                for user in range(1, PEOPLE + 1)
            ],
        )
        connection_of(querier).execute(
            sessions.insert(),
            [
                {
                    "user_id": 1,
                    "created_at": NOW,
                    "last_used_at": NOW,
                    "ends_at": NOW,
                    "user_agent": "",
                    "refresh_family": "-",
                    "refresh_secret": "-",
                }
            ],
        )
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as analyst:
        analyst.execute(text("ANALYZE"))


@pytest.fixture(scope="module")
def filled_of(database_of: Callable[[str], URL]) -> Iterator[Callable[[str], Database]]:
    filled: dict[str, Database] = {}

    def database(kind: str) -> Database:
        if kind not in filled:
            empty(database_of(kind))
            filled[kind] = open_database(database_of(kind), 2)
            fill(filled[kind])
        return filled[kind]

    yield database
    for made in filled.values():
        made.close()


def list_queries() -> Iterator[ListQuery]:
    """Yield every query of a list that a client can send, without search."""
    choices = product(READERS.values(), PUBLISHED, OWNERS.values())
    scanned = {
        index_ranges(reader, PostFilter(published=published, owner_id=owner)) for reader, published, owner in choices
    }
    for ranges, order in product(scanned - {()}, ORDERS):
        for after, since, until, skip in product((False, True), repeat=4):
            if not (after and skip):
                yield ListQuery(ranges, order, WindowShape(LIMIT, skip, after), since, until)


def plan_on_postgres(database: Database, statement: Statement, values: dict[str, Any]) -> dict[str, Any]:
    """Execute a statement as requests do; return the plan of PostgreSQL."""
    with database.read() as querier:
        raw: Any = connection_of(querier).connection.dbapi_connection
        with closing(raw.cursor()) as cursor:
            explain = "EXPLAIN (ANALYZE, TIMING OFF, COSTS OFF, SUMMARY OFF, FORMAT JSON) "
            if statement not in PREPARED:
                *settings, query = statement.whole.split("; ", 1)
                cursor.execute("; ".join([*settings, explain + query]), values)
                (rows,) = cursor.fetchone()
            else:
                cursor.execute(f"PREPARE {statement.name} AS {statement.text}")
                cursor.execute(explain + statement.call, values)
                (rows,) = cursor.fetchone()
                cursor.execute(f"DEALLOCATE {statement.name}")
    plan: dict[str, Any] = (json.loads(rows) if isinstance(rows, str) else rows)[0]["Plan"]
    return plan


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", []):
        yield from nodes(part)


def sorted_rows(node: dict[str, Any]) -> float:
    return max(float(part["Actual Rows"] * part["Actual Loops"]) for part in node["Plans"])


def faults_on_postgres(plan: dict[str, Any], most_sorted: int) -> list[str]:
    found = []
    for node in nodes(plan):
        kind = node["Node Type"]
        if kind == "Seq Scan" or "Aggregate" in kind or "Bitmap" in kind:
            found.append(kind)
        if "Sort" in kind and sorted_rows(node) > most_sorted:
            found.append(f"{kind} of {sorted_rows(node)} rows")
    return found


def plan_on_sqlite(database: Database, statement: Statement, values: dict[str, Any]) -> list[tuple[int, int, str]]:
    with database.read() as querier:
        compiled = statement.clause.compile(database.engine)
        ordered = tuple(compiled.construct_params(values)[name] for name in compiled.positiontup)
        rows = connection_of(querier).exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", _plain(ordered)).all()
    return [(row[0], row[1], row[3]) for row in rows]


def _plain(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(f"{v.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}" if isinstance(v, datetime) else v for v in values)


def faults_on_sqlite(plan: list[tuple[int, int, str]]) -> list[str]:
    """Return table scans and sorts, except the sort of the page at the top."""
    scans = [step for _, _, step in plan if step.startswith("SCAN") and step.split()[1] in {"posts", "votes", "titles"}]
    sorts = [step for _, parent, step in plan if "TEMP B-TREE" in step and parent != 0]
    return [step for step in scans if "USING" not in step] + sorts


def test_every_list_of_posts_scans_an_index_on_postgresql(filled_of: Callable[[str], Database]) -> None:
    database = filled_of("postgres")
    faults = {}
    for query in list_queries():
        values = VALUES | {"after_key": keys(query.order.by)}
        plan = plan_on_postgres(database, list_statement(query), values)
        if found := faults_on_postgres(plan, PAGE):
            faults[query] = found
    assert faults == {}


def test_every_list_of_posts_scans_an_index_on_sqlite(filled_of: Callable[[str], Database]) -> None:
    database = filled_of("sqlite")
    faults = {}
    for query in list_queries():
        values = VALUES | {"after_key": keys(query.order.by)}
        if found := faults_on_sqlite(plan_on_sqlite(database, list_statement(query), values)):
            faults[query] = found
    assert faults == {}


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
@pytest.mark.parametrize("order", ORDERS, ids=lambda order: f"{order.by}-{order.descending}")
def test_search_reads_few_rows_for_rare_and_common_words(
    filled_of: Callable[[str], Database], kind: str, order: Order
) -> None:
    database = filled_of(kind)
    statement = list_statement(ListQuery(index_ranges(Actor(1), PostFilter()), order, WindowShape(LIMIT), search=True))
    if kind == "sqlite":  # no index for searches: it scans the list in order and sorts nothing
        assert faults_on_sqlite(plan_on_sqlite(database, statement, VALUES)) == []
        return
    own = POSTS // PEOPLE  # own drafts may all be read: they are few
    for word, most in (("needle", own + 10), ("absent", own + 10), ("title", 400)):
        plan = plan_on_postgres(database, statement, VALUES | {"needle": f"%{word}%"})
        touched = [node for node in nodes(plan) if node.get("Relation Name") in {"posts", "titles"}]
        assert sum(rows_read(node) for node in touched) <= most, (word, plan)


def rows_read(node: dict[str, Any]) -> float:
    """Count the rows that a scan read, filtered ones included."""
    each = node["Actual Rows"] + node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return float(each * node["Actual Loops"])


READERS_OF_A_BATCH = (1, 2, 5, 7)
MOST_READ = {
    FIND: {"users": 1, "sessions": 1},
    GET_FOR_BEARER: {"posts": 1, "votes": 1, "users": 2},
    GET_VISIBLE: {"posts": 1, "votes": 1, "users": 1},
    OWNER: {"users": 1},
    LOCK: {"posts": 1, "users": 1},
    LOCK_AT_ONCE: {"posts": 1, "users": 1},
    LOCK_FREE: {"posts": 1, "users": 1},
    CONTEXT: {"posts": 1, "votes": 1, "users": 1},
}
"""Rows that each query of a batch may read, of callers that were checked; a list reads some pages at most."""


@pytest.mark.parametrize("place", range(len(BATCHED + GROUPED)))
def test_batched_queries_scan_indexes_and_read_what_each_would_alone(
    filled_of: Callable[[str], Database], place: int
) -> None:
    statement = (BATCHED + GROUPED)[place]
    values = VALUES | {"after_key": keys(_rank_of(statement)), "session_id": None, "of_post": VALUES["post_id"]}
    arrays = {name: [value] * len(READERS_OF_A_BATCH) for name, value in values.items()}
    arrays["caller_id"] = list(READERS_OF_A_BATCH)

    plan = plan_on_postgres(filled_of("postgres"), statement.batched, arrays)

    assert faults_on_postgres(plan, len(READERS_OF_A_BATCH) * PAGE) == []
    for table, most in MOST_READ.get(statement, {"posts": 4 * PAGE, "votes": PAGE, "users": PAGE + 1}).items():
        read = sum(rows_read(node) for node in nodes(plan) if node.get("Relation Name") == table)
        assert read <= most * len(READERS_OF_A_BATCH), (table, plan)


def _rank_of(statement: Statement) -> SortBy:
    return next((by for by in SortBy if f".{RANKS[by].name} AS rank" in statement.text), SortBy.DATE)


@pytest.mark.parametrize("directions", [(Direction.UP,), (Direction.UP, Direction.DOWN)])
@pytest.mark.parametrize("after", [False, True])
def test_list_of_own_votes_scans_an_index(
    filled_of: Callable[[str], Database], directions: tuple[Direction, ...], after: bool
) -> None:
    statement = votes_statement(directions, admin=False, window=WindowShape(LIMIT, after=after))
    values = VALUES | {"after_key": NOW}
    assert faults_on_postgres(plan_on_postgres(filled_of("postgres"), statement, values), PAGE) == []
    assert faults_on_sqlite(plan_on_sqlite(filled_of("sqlite"), statement, values)) == []


PAGES: Final[Mapping[str, tuple[Statement, Mapping[str, int]]]] = {
    "SqlPostReader.list": (
        list_statement(ListQuery(index_ranges(Actor(1), PostFilter()), Order(), WindowShape(LIMIT))),
        {"posts": 3 * PAGE, "votes": PAGE},
    ),
    "SqlUserReader.list": (accounts_statement(search=False, window=WindowShape(LIMIT)), {"users": PAGE}),
    "SqlVoteReader.list": (
        votes_statement((Direction.UP,), admin=False, window=WindowShape(LIMIT)),
        {"votes": 4 * PAGE, "posts": 4 * PAGE},
    ),
}
"""A statement of each method that returns a page, and the rows that it may read: two thirds of the posts are drafts."""


def test_each_method_that_returns_a_page_has_its_plan_tested() -> None:
    modules = [import_module(f"{package.__name__}.{each.name}") for each in iter_modules(package.__path__)]
    classes = [each for module in modules for _, each in getmembers(module, isclass)]
    methods = [each for found in classes for _, each in getmembers(found, isfunction)]
    paged = {each.__qualname__ for each in methods if get_origin(each.__annotations__.get("return")) is Page}
    assert paged == PAGES.keys()


@pytest.mark.parametrize(
    ("statement", "most"),
    [
        *PAGES.values(),
        (GET_VISIBLE, {"posts": 1, "votes": 1}),
        (FIND, {"users": 1, "sessions": 1}),
        (recount_statement(Counter.VOTES, PAGE), {"posts": PAGE, "votes": 2 * PEOPLE}),
    ],
)
def test_queries_read_few_more_rows_than_they_return(
    filled_of: Callable[[str], Database], statement: Statement, most: dict[str, int]
) -> None:
    plan = plan_on_postgres(filled_of("postgres"), statement, VALUES)
    for table, limit in most.items():
        read = sum(rows_read(node) for node in nodes(plan) if node.get("Relation Name") == table)
        assert read <= limit, (table, plan)
    assert faults_on_sqlite(plan_on_sqlite(filled_of("sqlite"), statement, VALUES)) == []
