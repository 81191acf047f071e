"""The fixed set of prepared statements: what the most frequent requests execute.

All others are sent whole. The reads among them are batched, each in a second form that is prepared too.
"""

from itertools import product
from typing import Final

from application.paging import LIMIT_DEFAULT, Order, SortBy
from application.views import PostFilter
from domain.users import ANONYMOUS
from infrastructure.database import posts, quotas, users, votes
from infrastructure.database.pipeline import Statement
from infrastructure.database.sql import WindowShape

_FEEDS: Final = tuple(
    posts.list_statement(
        posts.ListQuery(posts.index_ranges(ANONYMOUS, PostFilter()), Order(by), WindowShape(LIMIT_DEFAULT, after=after))
    )
    for by, after in product(SortBy, (False, True))
)
"""The first and the following pages of all posts, in each order."""

BATCHED: Final[tuple[Statement, ...]] = (users.FIND_ACTOR, posts.GET_ANY, posts.GET_VISIBLE, *_FEEDS)
"""Reads that concurrent requests share round trips for."""

PREPARED: Final[tuple[Statement, ...]] = (
    *BATCHED,
    posts.LOCK_VISIBLE,
    posts.INSERT,
    posts.INSERT_TITLE,
    votes.LOCK_VISIBLE,
    votes.VISIBLE_CONTEXT,
    votes.PUT,
    votes.DELETE,
    votes.STORE_TALLY,
    quotas.CHARGE,
)
