"""Counters of posts in SQL: what each counts, and the statements that follow.

The lock on a post guards its counters.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from sqlalchemy import Table, bindparam, case, func, literal_column, or_, select, update

from application.views import Counter, Recount
from domain.votes import Tally
from infrastructure.database.pipeline import Querier, Statement
from infrastructure.database.posts import tally_row
from infrastructure.database.tables import OF_ACCOUNT, ON_POST, posts, votes


class Source(NamedTuple):
    """What a counter counts, and the columns of posts that store it."""

    rows: Table
    numbers: tuple[Any, ...]
    """Counts of rows, which the first columns store."""
    columns: tuple[str, ...]
    derive: Callable[..., dict[str, Any]]
    """Computes these columns from the date of the post and the numbers."""


SOURCES: Final = {
    Counter.VOTES: Source(
        votes,
        tuple(func.count(case((votes.c.dir == literal_column(way), votes.c.dir))) for way in ("1", "-1")),
        ("upvotes", "downvotes", "score", "hot"),
        lambda created_at, *numbers: tally_row(Tally(*numbers), created_at),
    ),
}


@lru_cache
def recount_statement(of: Counter, limit: int | None = None) -> Statement:
    """Build the statement that counts the rows on posts: on one without `limit`."""
    rows, numbers, columns, _ = SOURCES[of]
    found = select(posts.c.id, posts.c.created_at, *(posts.c[name] for name in columns))
    if limit is None:
        found = found.where(posts.c.id == bindparam("of_post"))
    else:
        found = found.where(posts.c.id > bindparam("after")).order_by(posts.c.id).limit(literal_column(str(limit)))
    batch = found.subquery("batch")
    counted = select(*batch.c, *numbers).select_from(batch.outerjoin(rows, ON_POST[rows] == batch.c.id))
    return Statement(counted.group_by(*batch.c).order_by(batch.c.id))


@lru_cache
def uncount_statement(of: Counter) -> Statement:
    """Build the statement that counts rows on posts without an account's."""
    rows, numbers, columns, _ = SOURCES[of]
    left = [posts.c[name] - number for name, number in zip(columns, numbers, strict=False)]
    own = or_(*(account == bindparam("user_id") for table, account in OF_ACCOUNT if table is rows))
    counted = select(posts.c.id, posts.c.created_at, *left).join_from(rows, posts, posts.c.id == ON_POST[rows])
    return Statement(counted.where(own).group_by(posts.c.id, posts.c.created_at, *(posts.c[name] for name in columns)))


@lru_cache
def store_statement(of: Counter) -> Statement:
    """Build the statement that stores a counter of a post."""
    values: dict[str, Any] = {name: bindparam(name) for name in SOURCES[of].columns}
    return Statement(update(posts).where(posts.c.id == bindparam("of_post")).values(values))


def uncount(querier: Querier, user_id: int) -> None:
    """Take the rows of a locked account, before its removal, out of all counters.

    The posts that the rows are on are locked.
    """
    for of, source in SOURCES.items():
        for post_id, *counted in querier.fetch_all(uncount_statement(of), {"user_id": user_id}):
            querier.enqueue(store_statement(of), {"of_post": post_id, **source.derive(*counted)})


def store_counted(querier: Querier, of: Counter, post_id: int) -> None:
    """Count the rows on a locked post, and store the counter.

    A statement after the lock sees all of them.
    """
    (row,) = querier.fetch_all(recount_statement(of), {"of_post": post_id})
    querier.enqueue(store_statement(of), {"of_post": post_id, **_recount(of, row).counted})


def recount(querier: Querier, of: Counter, after: int, limit: int) -> Sequence[Recount]:
    """Count the rows on the posts after an id, by one statement, at one moment."""
    return [_recount(of, row) for row in querier.fetch_all(recount_statement(of, limit), {"after": after})]


def _recount(of: Counter, row: Sequence[Any]) -> Recount:
    _, _, columns, derive = SOURCES[of]
    post_id, created_at, *values = row
    stored = dict(zip(columns, values, strict=False))
    return Recount(post_id, stored, derive(created_at, *values[len(columns) :]))
