"""Votes in SQL: statements, and the repository and reader that execute them.

The lock on a post guards its votes and its tally.
"""

from collections.abc import Container, Sequence
from contextlib import suppress
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import Select, and_, bindparam, delete, literal_column, or_, select, union_all
from sqlalchemy.dialects import postgresql, sqlite

from application.errors import RowLocked
from application.paging import Page, PageCursor, Window
from application.views import Caller, Counter, OwnVote
from domain.posts import PostNotFound
from domain.users import Actor, InvalidToken, Role
from domain.votes import Direction, Tally, Vote, VoteContext
from infrastructure.database.callers import CALLER, HAS_ADMIN_ROLE, IS_ADMIN, IS_VISIBLE, caller_values, checked
from infrastructure.database.counters import store_statement
from infrastructure.database.pipeline import Querier, Rows, Statement
from infrastructure.database.posts import tally_row
from infrastructure.database.sql import ConnectionProvider, Keyset, WindowShape, is_id, page_of, window_values
from infrastructure.database.tables import posts, votes

_IS_POST: Final = posts.c.id == bindparam("of_post")
_FOUND: Final = select(posts.c.id).where(_IS_POST, or_(IS_VISIBLE, HAS_ADMIN_ROLE))
LOCK: Final = Statement(_FOUND.with_for_update(key_share=True))  # FOR NO KEY UPDATE
LOCK_AT_ONCE: Final = Statement(_FOUND.with_for_update(key_share=True, nowait=True))
LOCK_FREE: Final = Statement(_FOUND.with_for_update(key_share=True, skip_locked=True))
CONTEXT: Final = Statement(
    select(
        CALLER.c.role,
        posts.c.owner_id,
        posts.c.published,
        posts.c.created_at,
        posts.c.upvotes,
        posts.c.downvotes,
        select(votes.c.dir)
        .where(votes.c.post_id == bindparam("of_post"), votes.c.user_id == bindparam("caller_id"))
        .scalar_subquery(),
    ).select_from(CALLER.outerjoin(posts, and_(_IS_POST, or_(IS_VISIBLE, IS_ADMIN))))
)
"""One row, of nulls but the role if the caller sees no such post; none if the caller is refused."""


def _put(insert: Any) -> Any:
    new = insert(votes)
    return new.on_conflict_do_update(
        index_elements=[votes.c.post_id, votes.c.user_id],
        set_={"dir": new.excluded.dir, "created_at": new.excluded.created_at},
    )


PUT: Final = Statement(_put(postgresql.insert), sqlite=_put(sqlite.insert))
DELETE: Final = Statement(
    delete(votes).where(votes.c.post_id == bindparam("of_post"), votes.c.user_id == bindparam("of_user"))
)
STORE_TALLY: Final = store_statement(Counter.VOTES)


def _latest_first(rows: Any) -> Keyset:
    return Keyset(rows.post_id, rows.created_at)


@lru_cache(maxsize=1_000)
def list_statement(directions: tuple[Direction, ...], admin: bool, window: WindowShape) -> Statement:
    """Build the statement of a user's votes: one index scan per direction."""
    parts: list[Any] = [_part(direction, admin, window) for direction in directions]
    # PostgreSQL merges the parts in order if each is a sorted subquery; SQLite merges them without.
    sorted_parts = [
        part.order_by(*_latest_first(votes.c).order).limit(window.reach).subquery(f"part_{number}").select()
        for number, part in enumerate(parts)
    ]
    return Statement(_merged(sorted_parts, window), sqlite=_merged(parts, window))


def _part(direction: Direction, admin: bool, window: WindowShape) -> Select[Any]:
    part = (
        select(
            *(column.label(column.name) for column in (votes.c.post_id, posts.c.title, votes.c.dir, votes.c.created_at))
        )
        .join_from(votes, posts, posts.c.id == votes.c.post_id)
        .where(votes.c.user_id == bindparam("voter_id"), votes.c.dir == literal_column(str(direction.value)))
    )
    if not admin:
        part = part.where(or_(posts.c.published, posts.c.owner_id == bindparam("voter_id")))
    return part.where(_latest_first(votes.c).is_after_cursor) if window.after else part


def _merged(parts: Sequence[Any], window: WindowShape) -> Any:
    union: Any = parts[0] if len(parts) == 1 else union_all(*parts)
    return window.cut(union.order_by(*_latest_first(union.selected_columns).order))


class SqlVoteRepository:
    """Votes inside one transaction."""

    def __init__(self, querier: Querier) -> None:
        self._querier = querier

    def lock_contexts(
        self, asked: Sequence[tuple[Caller, int]], *, wait: bool = True
    ) -> Sequence[VoteContext | PostNotFound | InvalidToken | RowLocked]:
        """Lock posts; return what voting on them depends on.

        Locks have statements of their own: one that waits for a lock sees only the locked row as it is after the wait.
        """
        # 0 is no post's id: an id that no post can have does not spare a bearer the check.
        values = [{"of_post": post_id if is_id(post_id) else 0, **caller_values(caller)} for caller, post_id in asked]
        ascending = sorted(values, key=itemgetter("of_post"))
        locked = {each["of_post"] for each in values}
        if wait or len(locked) == 1 or not self._querier.locks_rows:
            self._querier.lock(LOCK if wait else LOCK_AT_ONCE, ascending)
        else:
            locked = {row[0] for rows in self._querier.fetch_many(LOCK_FREE, ascending) for row in rows}
        # After the locks: a session that ended meanwhile is refused.
        values = [each | caller_values(self._checked(caller)) for each, (caller, _) in zip(values, asked, strict=True)]
        found = self._querier.fetch_many(CONTEXT, values)
        return [_context(*each, rows, locked) for each, rows in zip(asked, found, strict=True)]

    def _checked(self, caller: Caller) -> Caller:
        with suppress(InvalidToken):  # a refused bearer is refused again, by the context
            return checked(self._querier, caller)
        return caller

    def record_all(self, cast: Sequence[Vote], counted: Sequence[VoteContext]) -> None:
        """Store votes, and the tallies that count them."""
        for vote in cast:
            if vote.direction is Direction.NONE:
                self._querier.enqueue(DELETE, {"of_post": vote.post_id, "of_user": vote.user_id})
            else:
                self._querier.enqueue(PUT, vote_row(vote))
        for context in counted:
            row = tally_row(context.tally, context.created_at)
            self._querier.enqueue(STORE_TALLY, {"of_post": context.post_id, **row})


def _context(
    caller: Caller, post_id: int, rows: Rows, locked: Container[int]
) -> VoteContext | PostNotFound | InvalidToken | RowLocked:
    if not rows:
        return InvalidToken()
    ((role, owner_id, published, created_at, upvotes, downvotes, direction),) = rows
    if owner_id is None:
        return PostNotFound(post_id)
    if post_id not in locked:
        return RowLocked("another transaction is changing this post; try again")
    voter, tally = Actor(caller.id, Role(role), caller.session_id), Tally(upvotes, downvotes)
    return VoteContext(voter, post_id, owner_id, published, created_at, tally, Direction(direction or 0))


class SqlVoteReader:
    """Queries about votes."""

    def __init__(self, connect: ConnectionProvider) -> None:
        self._connect = connect

    def list(self, voter: Actor, direction: Direction | None, window: Window) -> Page[OwnVote]:
        """List a user's votes on posts that they can still see."""
        directions = (Direction.UP, Direction.DOWN) if direction is None else (direction,)
        statement = list_statement(directions, voter.is_admin, WindowShape.of(window))
        with self._connect() as querier:
            rows = querier.fetch_all(statement, {"voter_id": voter.id, **window_values(window)})
        return page_of(rows, window, lambda row: OwnVote(*row), lambda row: PageCursor(row[-1], row[0]))


def vote_row(vote: Vote) -> dict[str, object]:
    """Return the columns of a vote."""
    return {
        "post_id": vote.post_id,
        "user_id": vote.user_id,
        "dir": vote.direction.value,
        "created_at": vote.created_at,
    }
