"""The fixed set of prepared statements: what the most frequent requests execute.

All others are sent whole. The reads among them are batched, each in a second form that is prepared too.
"""

from itertools import product
from typing import Final

from application.paging import LIMIT_DEFAULT, Order, SortBy
from application.views import PostFilter
from domain.users import ANONYMOUS
from infrastructure.database import callers, posts, quotas, votes
from infrastructure.database.pipeline import Statement
from infrastructure.database.post_lists import ListQuery, index_ranges, list_statement
from infrastructure.database.sql import WindowShape

_FEEDS: Final = tuple(
    list_statement(
        ListQuery(
            index_ranges(ANONYMOUS, PostFilter()),
            Order(by),
            WindowShape(LIMIT_DEFAULT, after=after),
            by_bearer=by_bearer,
        )
    )
    for by, after, by_bearer in product(SortBy, (False, True), (False, True))
)
"""The first and the following pages of all posts, in each order."""

BATCHED: Final[tuple[Statement, ...]] = (callers.FIND, posts.GET_FOR_BEARER, posts.GET_VISIBLE, *_FEEDS)
"""Reads that concurrent requests share round trips for."""

GROUPED: Final[tuple[Statement, ...]] = (posts.OWNER, votes.LOCK, votes.LOCK_AT_ONCE, votes.LOCK_FREE, votes.CONTEXT)
"""Queries of transactions that several requests share."""

PREPARED: Final[tuple[Statement, ...]] = (
    *BATCHED,
    *GROUPED,
    *(statement.batched for statement in BATCHED + GROUPED),
    posts.LOCK_VISIBLE,
    posts.INSERT,
    posts.INSERT_TITLE,
    votes.PUT,
    votes.DELETE,
    votes.STORE_TALLY,
    quotas.CHARGE,
)
