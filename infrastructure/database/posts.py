"""Posts in SQL: statements, then the repository and the reader that send them."""

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, and_, bindparam, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from application.paging import Window
from application.views import PostFilter, PostView, PublicUser
from domain.posts import Post, PostNotFound, Tally
from domain.text import search_key
from domain.users import Actor, InvalidToken
from infrastructure.database.engine import violated
from infrastructure.database.queries import Reading, holds, inserted_id, is_id, page_values, pattern
from infrastructure.database.tables import posts, users, votes

LOCK: Final = (
    select(
        posts.c.id,
        posts.c.owner_id,
        posts.c.title,
        posts.c.content,
        posts.c.published,
        posts.c.created_at,
        posts.c.updated_at,
        posts.c.version,
        posts.c.upvotes,
        posts.c.downvotes,
    )
    .where(posts.c.id == bindparam("post_id"))
    .with_for_update(key_share=True)  # FOR NO KEY UPDATE; SQLite has locked the whole database already
)
INSERT: Final = insert(posts)
SAVE: Final = (
    update(posts)
    .where(posts.c.id == bindparam("post_id"))
    .values({name: bindparam(name) for name in ("title", "title_key", "content", "published", "updated_at", "version")})
)
SAVE_TALLY: Final = (
    update(posts)
    .where(posts.c.id == bindparam("post_id"))
    .values(upvotes=bindparam("upvotes"), downvotes=bindparam("downvotes"))
)
DELETE: Final = delete(posts).where(posts.c.id == bindparam("post_id"))

_VIEW: Final = select(
    posts.c.id,
    posts.c.title,
    posts.c.content,
    posts.c.published,
    posts.c.created_at,
    posts.c.updated_at,
    posts.c.version,
    posts.c.owner_id,
    users.c.username,
    users.c.created_at.label("owner_created_at"),
    posts.c.upvotes,
    posts.c.downvotes,
    votes.c.dir,
).select_from(
    posts.join(users, users.c.id == posts.c.owner_id).outerjoin(
        votes, and_(votes.c.post_id == posts.c.id, votes.c.user_id == bindparam("reader_id"))
    )
)
_OWN: Final = posts.c.owner_id == bindparam("reader_id")
_VISIBLE: Final = or_(posts.c.published, _OWN)
GET_ANY: Final = _VIEW.where(posts.c.id == bindparam("post_id"))
GET_VISIBLE: Final = GET_ANY.where(_VISIBLE)


@cache
def list_statement(
    published: bool | None, admin: bool, by_owner: bool, search: bool, paged: bool = True
) -> Select[Any]:
    """Build the statement of a list for one combination of filters: one statement, no count, whatever is asked."""
    statement = _VIEW.order_by(posts.c.created_at.desc(), posts.c.id.desc())
    if published is None:
        statement = statement.where(_VISIBLE)
    elif published:
        statement = statement.where(posts.c.published)
    else:
        statement = statement.where(~posts.c.published)
        if not admin:
            statement = statement.where(_OWN)
    if by_owner:
        statement = statement.where(posts.c.owner_id == bindparam("owner_id"))
    if search:
        statement = statement.where(holds(posts.c.title_key, bindparam("needle")))
    return statement.limit(bindparam("limit")).offset(bindparam("skip")) if paged else statement


class SqlPostRepository:
    """Writes posts inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, post: Post) -> Post:
        """Store a new post."""
        row = {
            "owner_id": post.owner_id,
            "title": post.title,
            "title_key": search_key(post.title),
            "content": post.content,
            "published": post.published,
            "created_at": post.created_at,
            "updated_at": post.updated_at,
            "version": post.version,
            "upvotes": post.tally.upvotes,
            "downvotes": post.tally.downvotes,
        }
        try:
            result = self._connection.execute(INSERT, row)
        except IntegrityError as error:
            if violated(error) in {"fk_posts_owner_id_users", "FOREIGN KEY constraint failed"}:
                raise InvalidToken from error
            raise
        return post.with_id(inserted_id(result))

    def lock(self, post_id: int) -> Post:
        """Get a post and keep everybody else from changing it until the transaction ends."""
        row = self._connection.execute(LOCK, {"post_id": post_id}).first() if is_id(post_id) else None
        if row is None:
            raise PostNotFound(post_id)
        return Post(
            id=row.id,
            owner_id=row.owner_id,
            title=row.title,
            content=row.content,
            published=row.published,
            created_at=row.created_at,
            updated_at=row.updated_at,
            version=row.version,
            tally=Tally(row.upvotes, row.downvotes),
        )

    def save(self, post: Post) -> None:
        """Store the edit of a locked post."""
        self._connection.execute(
            SAVE,
            {
                "post_id": post.id,
                "title": post.title,
                "title_key": search_key(post.title),
                "content": post.content,
                "published": post.published,
                "updated_at": post.updated_at,
                "version": post.version,
            },
        )

    def save_tally(self, post_id: int, tally: Tally) -> None:
        """Store the tally of a locked post."""
        self._connection.execute(
            SAVE_TALLY, {"post_id": post_id, "upvotes": tally.upvotes, "downvotes": tally.downvotes}
        )

    def remove(self, post_id: int) -> None:
        """Remove a locked post; its votes go with it by foreign key."""
        self._connection.execute(DELETE, {"post_id": post_id})


class SqlPostReader:
    """Answers questions about posts."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def get(self, reader: Actor, post_id: int) -> PostView:
        """Get one post."""
        if is_id(post_id):
            statement = GET_ANY if reader.is_admin else GET_VISIBLE
            with self._reading() as connection:
                row = connection.execute(statement, {"post_id": post_id, "reader_id": reader.id}).first()
            if row is not None:
                return _view(row)
        raise PostNotFound(post_id)

    def list(self, reader: Actor, which: PostFilter, window: Window | None) -> Sequence[PostView]:
        """List posts."""
        statement = list_statement(
            which.published, reader.is_admin, which.owner_id is not None, bool(which.search), window is not None
        )
        values = page_values(window) | {"reader_id": reader.id}
        if which.owner_id is not None:
            values["owner_id"] = which.owner_id
        if which.search:
            values["needle"] = pattern(which.search)
        with self._reading() as connection:
            return [_view(row) for row in connection.execute(statement, values)]


def _view(row: Row[*tuple[Any, ...]]) -> PostView:
    return PostView(
        id=row.id,
        title=row.title,
        content=row.content,
        published=row.published,
        created_at=row.created_at,
        updated_at=row.updated_at,
        version=row.version,
        owner=PublicUser(row.owner_id, row.username, row.owner_created_at),
        upvotes=row.upvotes,
        downvotes=row.downvotes,
        my_vote=row.dir or 0,
    )
