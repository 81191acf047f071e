"""Votes in SQL: statements, then the repository and the reader that send them. The lock on the post guards them all."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import (
    Select,
    bindparam,
    case,
    delete,
    func,
    literal_column,
    or_,
    select,
    tuple_,
    union_all,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from application.paging import Page, PageCursor, Window
from application.views import OwnVote, Recount
from domain.posts import PostNotFound
from domain.users import Actor
from domain.votes import Direction, Tally, Vote, VoteContext, hotness
from infrastructure.database.links import Link, Statement
from infrastructure.database.sql import Reading, is_id
from infrastructure.database.tables import posts, votes

LOCK: Final = Statement(
    select(posts.c.id).where(posts.c.id == bindparam("of_post")).with_for_update(key_share=True)  # FOR NO KEY UPDATE
)
VOTE_CONTEXT: Final = Statement(
    select(
        posts.c.owner_id,
        posts.c.published,
        posts.c.created_at,
        posts.c.upvotes,
        posts.c.downvotes,
        select(votes.c.dir)
        .where(votes.c.post_id == posts.c.id, votes.c.user_id == bindparam("of_user"))
        .scalar_subquery(),
    ).where(posts.c.id == bindparam("of_post"))
)


def _put(insert: Any) -> Any:
    row: dict[str, Any] = {name: bindparam(name) for name in ("post_id", "user_id", "dir", "created_at")}
    new = insert(votes).values(row)
    return new.on_conflict_do_update(
        index_elements=[votes.c.post_id, votes.c.user_id],
        set_={"dir": new.excluded.dir, "created_at": new.excluded.created_at},
    )


PUT: Final = Statement(_put(postgresql.insert), sqlite=_put(sqlite.insert))
DELETE: Final = Statement(
    delete(votes).where(votes.c.post_id == bindparam("of_post"), votes.c.user_id == bindparam("of_user"))
)
COUNT: Final = Statement(
    update(posts)
    .where(posts.c.id == bindparam("of_post"))
    .values({name: bindparam(name) for name in ("upvotes", "downvotes", "score", "hot")})
)

_UPS: Final = func.count(case((votes.c.dir == literal_column("1"), votes.c.dir)))
_DOWNS: Final = func.count(case((votes.c.dir == literal_column("-1"), votes.c.dir)))
RECOUNT_ONE: Final = Statement(
    select(posts.c.created_at, _UPS, _DOWNS)
    .select_from(posts.outerjoin(votes, votes.c.post_id == posts.c.id))
    .where(posts.c.id == bindparam("of_post"))
    .group_by(posts.c.id, posts.c.created_at)
)


@lru_cache
def recount_statement(most: int) -> Statement:
    """Build the statement that counts the votes on so many posts: the number stands in it, as in lists."""
    batch = (
        select(posts.c.id, posts.c.created_at, posts.c.upvotes, posts.c.downvotes, posts.c.hot)
        .where(posts.c.id > bindparam("after"))
        .order_by(posts.c.id)
        .limit(literal_column(str(most)))
        .subquery("batch")
    )
    counted = select(*batch.c, _UPS, _DOWNS).select_from(batch.outerjoin(votes, votes.c.post_id == batch.c.id))
    return Statement(counted.group_by(*batch.c).order_by(batch.c.id))


LATEST_FIRST: Final = (votes.c.created_at.desc(), votes.c.post_id.desc())


@lru_cache(maxsize=1_000)
def list_statement(
    directions: tuple[Direction, ...], admin: bool, after: bool, skip: bool, rows: int | None
) -> Statement:
    """Build the statement of a person's votes for one combination of what is asked: a walk of one index, or of two."""
    parts: list[Any] = [_walk(direction, after=after) for direction in directions]
    # PostgreSQL merges what is in order if each part says so itself; SQLite merges unasked.
    in_order = [
        part.order_by(*LATEST_FIRST).offset(literal_column("0")).subquery(f"part_{number}").select()
        for number, part in enumerate(parts)
    ]
    return Statement(_shown(in_order, admin, skip, rows), sqlite=_shown(parts, admin, skip, rows))


def _walk(direction: Direction, *, after: bool) -> Select[Any]:
    part = select(votes.c.post_id, votes.c.dir, votes.c.created_at).where(
        votes.c.user_id == bindparam("voter_id"), votes.c.dir == literal_column(str(direction.value))
    )
    if after:
        there = tuple_(bindparam("after_key", type_=votes.c.created_at.type), bindparam("after_id"))
        part = part.where(tuple_(votes.c.created_at, votes.c.post_id) < there)
    return part


def _shown(parts: Sequence[Any], admin: bool, skip: bool, rows: int | None) -> Select[Any]:
    together: Any = parts[0] if len(parts) == 1 else union_all(*parts)
    columns = together.selected_columns
    walked = together.order_by(columns.created_at.desc(), columns.post_id.desc())
    cast = walked.offset(literal_column("0")).subquery("cast_votes")
    statement = select(cast.c.post_id, posts.c.title, cast.c.dir, cast.c.created_at).join_from(
        cast, posts, posts.c.id == cast.c.post_id
    )
    if not admin:
        statement = statement.where(or_(posts.c.published, posts.c.owner_id == bindparam("voter_id")))
    statement = statement.order_by(cast.c.created_at.desc(), cast.c.post_id.desc())
    if rows is not None:
        statement = statement.limit(literal_column(str(rows)))
    return statement.offset(bindparam("skip")) if skip else statement


class SqlVoteRepository:
    """Writes votes inside one transaction."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def lock_context(self, user_id: int, post_id: int) -> VoteContext:
        """Lock a post, and tell what voting on it concerns.

        Two statements: one that waits for a lock sees all but the locked row as it was before it waited.
        """
        if not is_id(post_id):
            raise PostNotFound(post_id)
        self._link.later(LOCK, {"of_post": post_id})
        row = self._link.row(VOTE_CONTEXT, {"of_post": post_id, "of_user": user_id})
        if row is None:
            raise PostNotFound(post_id)
        owner_id, published, created_at, upvotes, downvotes, direction = row
        return VoteContext(
            post_id, owner_id, published, created_at, Tally(upvotes, downvotes), Direction(direction or 0)
        )

    def record(self, vote: Vote, counted: VoteContext) -> None:
        """Store a vote and the ballot that counts it."""
        if vote.direction is Direction.NONE:
            self._link.later(DELETE, {"of_post": vote.post_id, "of_user": vote.user_id})
        else:
            self._link.later(PUT, vote_row(vote))
        self._count(vote.post_id, counted.tally, counted.hot)

    def recount(self, post_id: int) -> None:
        """Count the votes on a locked post, in a statement after the one that locked it, which sees all of them."""
        ((created_at, ups, downs),) = self._link.rows(RECOUNT_ONE, {"of_post": post_id})
        tally = Tally(ups, downs)
        self._count(post_id, tally, hotness(tally.votes, created_at))

    def _count(self, post_id: int, tally: Tally, hot: float) -> None:
        self._link.later(
            COUNT,
            {
                "of_post": post_id,
                "upvotes": tally.upvotes,
                "downvotes": tally.downvotes,
                "score": tally.votes,
                "hot": hot,
            },
        )


class SqlVoteReader:
    """Answers questions about votes."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def list(self, voter: Actor, direction: Direction | None, window: Window | None) -> Page[OwnVote]:
        """List a person's votes on posts that they can still see."""
        directions = (Direction.UP, Direction.DOWN) if direction is None else (direction,)
        after = window.after if window else None
        values: dict[str, object] = {"voter_id": voter.id}
        if after is not None:
            values |= {"after_key": after.key, "after_id": after.id}
        if window and window.skip:
            values["skip"] = window.skip
        statement = list_statement(
            directions,
            voter.is_admin,
            after is not None,
            bool(window and window.skip),
            window.limit + 1 if window else None,
        )
        with self._reading() as link:
            found = [_view(row) for row in link.rows(statement, values)]
        if window is None or len(found) <= window.limit:
            return Page(found)
        last = found[window.limit - 1]
        return Page(found[: window.limit], PageCursor(last.created_at, last.post_id))

    def recount(self, after: int, most: int) -> Sequence[Recount]:
        """Count the votes on the posts whose ids come after this one: one statement, which sees one moment."""
        with self._reading() as link:
            return [_recount(row) for row in link.rows(recount_statement(most), {"after": after})]


def _view(row: Sequence[Any]) -> OwnVote:
    post_id, title, direction, created_at = row
    return OwnVote(post_id, title, direction, created_at)


def _recount(row: Sequence[Any]) -> Recount:
    post_id, created_at, upvotes, downvotes, hot, ups, downs = row
    counted = Tally(ups, downs)
    return Recount(post_id, Tally(upvotes, downvotes), hot, counted, hotness(counted.votes, created_at))


def vote_row(vote: Vote) -> dict[str, object]:
    """Write a vote as its row."""
    return {
        "post_id": vote.post_id,
        "user_id": vote.user_id,
        "dir": vote.direction.value,
        "created_at": vote.created_at,
    }
