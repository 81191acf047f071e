"""Lists of posts in SQL: statements, from ranges of indexes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, and_, bindparam, case, false, select, true, union_all

from application.paging import Order, SortBy
from application.views import PostFilter
from domain.users import Actor
from infrastructure.database.callers import CALLER
from infrastructure.database.pipeline import Statement
from infrastructure.database.sql import Keyset, WindowShape, contains
from infrastructure.database.tables import posts, titles, users, votes

_POST: Final = ("id", "title", "content", "published", "created_at", "updated_at", "version", "owner_id")
_TALLY: Final = ("upvotes", "downvotes")


def shown_post(listed: Any, post_id: Any) -> Select[Any]:
    """Select what is shown of a post, and the caller's vote on it.

    `listed` is the table of posts, or a subquery of its rows.
    """
    # No join: the planner might first read every vote of the reader.
    vote = select(votes.c.dir).where(votes.c.post_id == post_id, votes.c.user_id == bindparam("caller_id"))
    return select(
        *(listed.c[name] for name in _POST),
        users.c.username,
        users.c.created_at.label("owner_created_at"),
        *(listed.c[name] for name in _TALLY),
        vote.scalar_subquery().label("dir"),
    )


RANKS: Final = {SortBy.DATE: posts.c.created_at, SortBy.VOTES: posts.c.score, SortBy.HOT: posts.c.hot}


@dataclass(frozen=True, slots=True)
class IndexRange:
    """Adjacent entries of an index: published posts or drafts, of all or one owner."""

    published: bool
    owner: str | None = None
    """Name of the parameter with the owner's id: "owner_id" or "caller_id"."""

    @property
    def condition(self) -> ColumnElement[bool]:
        """Condition of the posts in the range."""
        kind = posts.c.published if self.published else ~posts.c.published
        return kind if self.owner is None else and_(posts.c.owner_id == bindparam(self.owner), kind)


def index_ranges(reader: Actor, which: PostFilter) -> tuple[IndexRange, ...]:
    """Return the disjoint ranges that hold what a reader may see of a filter."""
    owner = None if which.owner_id is None else "owner_id"
    public, own = IndexRange(published=True, owner=owner), IndexRange(published=False, owner="caller_id")
    if which.published:
        return (public,)
    if which.published is False and reader.is_admin:
        return (IndexRange(published=False, owner=owner),)
    drafts = (own,) if which.owner_id in {None, reader.id} else ()
    return drafts if which.published is False else (public, *drafts)


@dataclass(frozen=True, slots=True)
class ListQuery:
    """Query of a list without its values: the key for the cache of statements."""

    ranges: tuple[IndexRange, ...]
    order: Order
    window: WindowShape
    since: bool = False
    until: bool = False
    search: bool = False
    by_bearer: bool = False
    """Whether it checks the caller, and returns a row of nulls if there are no posts."""

    @property
    def rank(self) -> str:
        """Name of the column that orders the list."""
        return RANKS[self.order.by].name

    def keyset(self, columns: Any) -> Keyset:
        """Return the order of the list on the columns of posts, or of a subquery of them."""
        return Keyset(columns.id, columns[self.rank], self.order.descending)


@lru_cache(maxsize=1_000)
def list_statement(query: ListQuery) -> Statement:
    """Build the statement of a list.

    It scans the indexes in order, to the end of the page. It counts nothing, and sorts only the page.
    """
    is_by_ids = query.search or query.window.skip  # not all posts that it sorts or skips are shown
    return Statement(
        _seen(query, _page_by_ids(query, sort_ranges=True) if is_by_ids else _page(query)),
        sqlite=_seen(query, _page_by_ids(query, sort_ranges=False)),
        trigrams=query.search,
        rows=query.window.limit + 1,
    )


def _seen(query: ListQuery, page: Select[Any]) -> Select[Any]:
    """Check the bearer who asks for a page."""
    if not query.by_bearer:
        return page
    seen = page.subquery("seen")
    order = Keyset(seen.c.id, seen.c.rank, query.order.descending).order
    return select(seen).select_from(CALLER.outerjoin(seen, true())).order_by(*order)


def _shown(query: ListQuery, listed: Any, source: Any) -> Select[Any]:
    shown = shown_post(listed, listed.c.id).add_columns(listed.c[query.rank].label("rank"))
    # An outer join, though each post has an owner: of few accounts the planner expects few rows, and sorts all posts.
    shown = shown.select_from(source.outerjoin(users, users.c.id == listed.c.owner_id))
    return shown.order_by(*query.keyset(listed.c).order)


def _page_by_ids(query: ListQuery, *, sort_ranges: bool) -> Select[Any]:
    """Find the ids of a page, then its posts.

    PostgreSQL merges several ranges in order if each is a sorted subquery; SQLite merges them without. Each ends with
    the page: Citus reads it whole.
    """
    parts: list[Any] = [
        select(posts.c.id, posts.c[query.rank]).where(index_range.condition, *_limits(query, posts.c))
        for index_range in query.ranges
    ]
    if len(parts) > 1 and sort_ranges:
        parts = [_sorted(query, part.limit(query.window.reach), number) for number, part in enumerate(parts)]
    union: Any = parts[0] if len(parts) == 1 else union_all(*parts)
    page = query.window.cut(union.order_by(*query.keyset(union.selected_columns).order)).subquery("page")
    return _shown(query, posts, page.join(posts, posts.c.id == page.c.id))


def _page(query: ListQuery) -> Select[Any]:
    """Read the posts of a page in their order.

    PostgreSQL merges several ranges in order if each is a sorted subquery or a whole table, and Citus does so on every
    shard if none has a limit. Published posts are the whole table, and chosen outside: a shard would sort all of them.
    """
    if len(query.ranges) == 1:
        listed: Any = posts
        condition = query.ranges[0].condition
    else:
        listed = union_all(*(_part(query, *each) for each in enumerate(query.ranges))).subquery("listed")
        condition = listed.c.is_listed
    page: Select[Any] = query.window.cut(_shown(query, listed, listed).where(condition, *_limits(query, listed.c)))
    return page


def _part(query: ListQuery, number: int, index_range: IndexRange) -> Any:
    columns = [column for column in posts.c if column.name in {*_POST, *_TALLY, query.rank}]
    if index_range == IndexRange(published=True):
        return select(*columns, posts.c.published.label("is_listed"))
    return _sorted(query, select(*columns, true().label("is_listed")).where(index_range.condition), number)


def _sorted(query: ListQuery, part: Any, number: int) -> Any:
    return part.order_by(*query.keyset(posts.c).order).subquery(f"range_{number}").select()


def _limits(query: ListQuery, columns: Any) -> Sequence[ColumnElement[bool]]:
    """Return the conditions of a list besides its ranges."""
    limits: list[ColumnElement[bool]] = []
    if query.since:
        limits.append(columns.created_at >= bindparam("since"))
    if query.until:
        limits.append(columns.created_at < bindparam("until"))
    if limits and query.order.by is not SortBy.DATE and not query.search:
        # Hidden from the planner, which might fetch all rows between the dates and sort them by rank.
        limits = [case((and_(*limits), true()), else_=false())]
    if query.window.after:
        limits.append(query.keyset(columns).is_after_cursor)
    if query.search:
        limits += [titles.c.post_id == columns.id, contains(titles.c.title_folded, bindparam("needle"))]
    return limits
