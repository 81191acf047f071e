"""Posts in SQL: statements, and the repository and reader that execute them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import and_, bindparam, delete, insert, literal_column, null, or_, select, update

from application.paging import Order, Page, PageCursor, Window
from application.views import Bearer, Caller, PostFilter, PostView, PublicUser
from domain.posts import Post, PostNotFound
from domain.text import fold
from domain.users import OPERATOR, Actor, InvalidToken
from domain.votes import Tally, hotness
from infrastructure.database.callers import CALLER, IS_ADMIN, IS_VISIBLE, caller_values, checked, find_actor
from infrastructure.database.pipeline import Querier, Statement
from infrastructure.database.post_lists import ListQuery, index_ranges, list_statement, shown_post
from infrastructure.database.sql import (
    ConnectionProvider,
    WindowShape,
    columns_of,
    is_id,
    page_of,
    pattern,
    window_values,
)
from infrastructure.database.tables import posts, titles, users

_LOCK: Final = (
    select(*columns_of(posts, Post), *columns_of(posts, Tally))
    .where(posts.c.id == bindparam("post_id"))
    .with_for_update(key_share=True)  # FOR NO KEY UPDATE; on SQLite the transaction has locked the database
)
LOCK_ANY: Final = Statement(_LOCK)
LOCK_VISIBLE: Final = Statement(_LOCK.where(IS_VISIBLE))
_OWNER: Final = select(CALLER.c.username, CALLER.c.created_at)
_NEXT_ID: Final[Any] = literal_column("nextval(pg_get_serial_sequence('posts', 'id'))")
OWNER: Final = Statement(_OWNER.add_columns(_NEXT_ID), sqlite=_OWNER.add_columns(null()))
"""The id of a post to insert, where the database knows it before, and the owner of the post."""
INSERT: Final = Statement(
    insert(posts),
    sqlite=insert(posts)
    .values({column.name: bindparam(column.name) for column in posts.c if column is not posts.c.id})
    .returning(posts.c.id),
)
INSERT_TITLE: Final = Statement(insert(titles))
SAVE: Final = Statement(
    update(posts)
    .where(posts.c.id == bindparam("post_id"))
    .values({name: bindparam(name) for name in ("title", "content", "published", "updated_at", "version")})
)
SAVE_TITLE: Final = Statement(
    update(titles)
    .where(titles.c.post_id == bindparam("of_post"))
    .values(title_key=bindparam("title_key"), title_folded=bindparam("title_folded"))
)
DELETE: Final = Statement(delete(posts).where(posts.c.id == bindparam("post_id")))


_ONE: Final = shown_post(posts, bindparam("post_id"))  # not the column: Citus then asks one shard for the vote
_OWNED: Final = posts.join(users, users.c.id == posts.c.owner_id)
_GET: Final = _ONE.select_from(_OWNED).where(posts.c.id == bindparam("post_id"))
GET_ANY: Final = Statement(_GET)
GET_VISIBLE: Final = Statement(_GET.where(IS_VISIBLE))
GET_FOR_BEARER: Final = Statement(
    _ONE.select_from(CALLER.outerjoin(_OWNED, and_(posts.c.id == bindparam("post_id"), or_(IS_VISIBLE, IS_ADMIN))))
)
"""One row, of nulls if the caller sees no such post; none if the caller is refused."""


class SqlPostRepository:
    """Posts inside one transaction."""

    def __init__(self, querier: Querier) -> None:
        self._querier = querier

    def add_all(self, written: Sequence[tuple[Caller, Post]]) -> Sequence[PostView | InvalidToken]:
        """Store new posts of callers."""
        owners = self._querier.fetch_many(OWNER, [caller_values(caller) for caller, _ in written])
        return [
            self._add(post, *found[0]) if found else InvalidToken()
            for (_, post), found in zip(written, owners, strict=True)
        ]

    def _add(self, post: Post, username: str | None, owner_created_at: datetime, post_id: int | None) -> PostView:
        if post_id is None:
            ((post_id,),) = self._querier.fetch_all(INSERT, post_row(post))
        else:
            self._querier.enqueue(INSERT, {"id": post_id, **post_row(post)})
        self._querier.enqueue(INSERT_TITLE, {"post_id": post_id, **title_row(post)})
        return PostView(
            id=post_id,
            title=post.title,
            content=post.content,
            published=post.published,
            created_at=post.created_at,
            updated_at=post.updated_at,
            version=post.version,
            owner=PublicUser(post.owner_id, username, owner_created_at),
            upvotes=post.tally.upvotes,
            downvotes=post.tally.downvotes,
            my_vote=0,
        )

    def lock(self, post_id: int, actor: Actor = OPERATOR) -> Post:
        """Return a post that the actor may see, and lock it until the transaction ends."""
        statement = LOCK_ANY if actor.is_admin else LOCK_VISIBLE
        values = {"post_id": post_id, "caller_id": actor.id}
        row = self._querier.fetch_one(statement, values) if is_id(post_id) else None
        if row is None:
            raise PostNotFound(post_id)
        return Post(*(*row[:-2], Tally(*row[-2:])))

    def save(self, post: Post) -> None:
        """Store the edit of a locked post."""
        self._querier.enqueue(
            SAVE,
            {
                "post_id": post.id,
                "title": post.title,
                "content": post.content,
                "published": post.published,
                "updated_at": post.updated_at,
                "version": post.version,
            },
        )
        self._querier.enqueue(SAVE_TITLE, {"of_post": post.id, **title_row(post)})

    def remove(self, post_id: int) -> None:
        """Remove a locked post; the foreign key removes its votes."""
        self._querier.enqueue(DELETE, {"post_id": post_id})


class SqlPostReader:
    """Queries about posts."""

    def __init__(self, connect: ConnectionProvider) -> None:
        self._connect = connect

    def get(self, reader: Caller, post_id: int) -> PostView:
        """Return one post."""
        with self._connect() as querier:
            reader = checked(querier, reader)
            statement = GET_FOR_BEARER if isinstance(reader, Bearer) else GET_ANY if reader.is_admin else GET_VISIBLE
            # 0 is no post's id: an id that no post can have does not spare a bearer the check.
            row = querier.fetch_one(statement, {"post_id": post_id if is_id(post_id) else 0, **caller_values(reader)})
        if row is None and statement is GET_FOR_BEARER:
            raise InvalidToken
        if row is None or row[0] is None:
            raise PostNotFound(post_id)
        return _view(row)

    def list(self, reader: Caller, which: PostFilter, order: Order, window: Window) -> Page[PostView]:
        """List posts."""
        values = {
            "owner_id": which.owner_id,
            "since": which.since,
            "until": which.until,
            "needle": pattern(which.search),
            **window_values(window),
        }
        with self._connect() as querier:
            reader = checked(querier, reader)
            if by_bearer := isinstance(reader, Bearer):
                # Whose drafts are listed depends on the role: only there it is read first.
                actor = find_actor(querier, reader) if which.published is False else Actor(reader.id)
            else:
                actor = reader
            ranges = index_ranges(actor, which)
            if not ranges:
                return Page([])
            limits = which.since is not None, which.until is not None, bool(which.search)
            query = ListQuery(ranges, order, WindowShape.of(window), *limits, by_bearer)
            rows = querier.fetch_all(list_statement(query), values | caller_values(reader))
        if by_bearer and not rows:
            raise InvalidToken
        rows = [row for row in rows if row[0] is not None]  # that of a bearer who sees no post
        return page_of(rows, window, _view, lambda row: PageCursor(row[-1], row[0]))


def _view(row: Sequence[Any]) -> PostView:
    *post, owner_id, username, owner_created_at, upvotes, downvotes, direction = row[:13]
    owner = PublicUser(owner_id, username, owner_created_at)
    return PostView(*(*post, owner, upvotes, downvotes, direction or 0))


def post_row(post: Post) -> dict[str, object]:
    """Return the columns of a post in `posts`, without its id."""
    return {
        "owner_id": post.owner_id,
        "title": post.title,
        "content": post.content,
        "published": post.published,
        "created_at": post.created_at,
        "updated_at": post.updated_at,
        "version": post.version,
        **tally_row(post.tally, post.created_at),
    }


def tally_row(tally: Tally, created_at: datetime) -> dict[str, object]:
    """Return the columns of a post that its tally determines."""
    return {
        "upvotes": tally.upvotes,
        "downvotes": tally.downvotes,
        "score": tally.votes,
        "hot": hotness(tally.votes, created_at),
    }


def title_row(post: Post) -> dict[str, object]:
    """Return the columns of a post in `titles`, without its id."""
    return {
        "title_key": post.title.lower(),  # read by workers of the release before 0005
        "title_folded": fold(post.title),
    }
