"""Posts in SQL: statements, then the repository and the reader that send them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    or_,
    select,
    tuple_,
    union_all,
    update,
)

from application.paging import Order, Page, PageCursor, SortBy, Window
from application.views import PostFilter, PostView, PublicUser
from domain.posts import Post, PostNotFound
from domain.text import search_key
from domain.users import Actor
from domain.votes import Tally
from infrastructure.database.links import Link, Statement
from infrastructure.database.sql import Reading, holds, is_id, pattern
from infrastructure.database.tables import posts, titles, users, votes

LOCK: Final = Statement(
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
_OWNER: Final = select(users.c.username, users.c.created_at).where(users.c.id == bindparam("owner_id"))
INSERT: Final = Statement(
    insert(posts)
    .values({column.name: bindparam(column.name) for column in posts.c if column is not posts.c.id})
    .returning(
        posts.c.id,
        _OWNER.with_only_columns(users.c.username).scalar_subquery(),
        _OWNER.with_only_columns(users.c.created_at).scalar_subquery(),
    )
)
INSERT_TITLE: Final = Statement(insert(titles).values(post_id=bindparam("post_id"), title_key=bindparam("title_key")))
SAVE: Final = Statement(
    update(posts)
    .where(posts.c.id == bindparam("post_id"))
    .values({name: bindparam(name) for name in ("title", "content", "published", "updated_at", "version")})
)
SAVE_TITLE: Final = Statement(
    update(titles).where(titles.c.post_id == bindparam("of_post")).values(title_key=bindparam("title_key"))
)
DELETE: Final = Statement(delete(posts).where(posts.c.id == bindparam("post_id")))

_SHOWN: Final = select(
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
    # Not a join, for which the database might first collect every vote that the reader ever cast.
    select(votes.c.dir)
    .where(votes.c.post_id == posts.c.id, votes.c.user_id == bindparam("reader_id"))
    .scalar_subquery()
    .label("dir"),
)
_PEOPLE: Final = posts.join(users, users.c.id == posts.c.owner_id)
_GET: Final = _SHOWN.select_from(_PEOPLE).where(posts.c.id == bindparam("post_id"))
GET_ANY: Final = Statement(_GET)
GET_VISIBLE: Final = Statement(_GET.where(or_(posts.c.published, posts.c.owner_id == bindparam("reader_id"))))

LAST_ID: Final = Statement(select(func.max(posts.c.id)))

NOTHING: Final[ColumnElement[int]] = literal_column("0")
RANKS: Final = {SortBy.DATE: posts.c.created_at, SortBy.VOTES: posts.c.score, SortBy.HOT: posts.c.hot}


@dataclass(frozen=True, slots=True)
class Shelf:
    """Posts that lie side by side in an index: published ones or drafts, of everybody or of one owner."""

    published: bool
    owner: str | None = None
    """The value that names the owner: "owner_id" or "reader_id"."""

    @property
    def condition(self) -> ColumnElement[bool]:
        """What holds for its posts and no others."""
        kind = posts.c.published if self.published else ~posts.c.published
        return kind if self.owner is None else and_(posts.c.owner_id == bindparam(self.owner), kind)


def shelves(reader: Actor, which: PostFilter) -> tuple[Shelf, ...]:
    """Name the shelves on which a reader finds what they may see of what they ask for; none holds a post twice."""
    owner = None if which.owner_id is None else "owner_id"
    everybodys, own = Shelf(published=True, owner=owner), Shelf(published=False, owner="reader_id")
    if which.published:
        return (everybodys,)
    if which.published is False and reader.is_admin:
        return (Shelf(published=False, owner=owner),)
    drafts = (own,) if which.owner_id in {None, reader.id} else ()
    return drafts if which.published is False else (everybodys, *drafts)


@dataclass(frozen=True, slots=True)
class Walk:
    """One way to ask for a list, but for the values in it."""

    shelves: tuple[Shelf, ...]
    order: Order
    after: bool = False
    since: bool = False
    until: bool = False
    search: bool = False
    skip: bool = False
    rows: int | None = None


@lru_cache(maxsize=1_000)
def list_statement(walk: Walk) -> Statement:
    """Build the statement of a list: walk the indexes to the rows of the page, then fetch what is shown of them.

    No count, no sort of more than the page. The number of rows stands in the statement itself: a plan that were made
    for any number would be made for a tenth of all posts.
    """
    return Statement(
        _shown(walk, _page(walk, sort_shelves=True)),
        sqlite=_shown(walk, _page(walk, sort_shelves=False)),
        prepared=not walk.search,
    )


def _shown(walk: Walk, page: Any) -> Select[Any]:
    """Fetch what is shown of the posts of a page."""
    rank, found = RANKS[walk.order.by], page.subquery("page")
    shown = _SHOWN.add_columns(rank.label("rank")).select_from(_PEOPLE.join(found, found.c.id == posts.c.id))
    return shown.order_by(*_ordered(rank, posts.c.id, walk.order))


def _page(walk: Walk, *, sort_shelves: bool) -> Any:
    """Find the ids of a page.

    Of several shelves, PostgreSQL merges what each gives in order if each says so itself; SQLite merges unasked.
    """
    # Ranked, and cut down to dates: the walk in the order of the rank is a query of its own, which hands on its rows in
    # order. A database that could would rather collect all rows of these dates and sort them.
    fenced = bool(walk.order.by is not SortBy.DATE and (walk.since or walk.until) and not walk.search)
    parts: list[Any] = [_part(walk, shelf, dated=not fenced) for shelf in walk.shelves]
    if len(parts) > 1 and sort_shelves and walk.rows is not None:
        parts = [_in_order(walk, part, f"shelf_{number}", fenced=fenced) for number, part in enumerate(parts)]
    together: Any = parts[0] if len(parts) == 1 else union_all(*parts)
    columns = together.selected_columns
    walked = together.order_by(*_ordered(columns.rank, columns.id, walk.order))
    if fenced:
        ranked = walked.offset(NOTHING).subquery("ranked")
        walked = select(ranked.c.id).where(*_between(ranked, walk))
    if walk.rows is not None:
        walked = walked.limit(literal_column(str(walk.rows)))
    return walked.offset(bindparam("skip")) if walk.skip else walked


def _in_order(walk: Walk, part: Any, name: str, *, fenced: bool) -> Any:
    ordered = part.order_by(*_ordered(part.selected_columns.rank, posts.c.id, walk.order))
    whole = fenced or walk.skip
    return (ordered.offset(NOTHING) if whole else ordered.limit(literal_column(str(walk.rows)))).subquery(name).select()


def _part(walk: Walk, shelf: Shelf, *, dated: bool) -> Select[Any]:
    """Find the posts of one shelf."""
    rank = RANKS[walk.order.by]
    part = select(posts.c.id, rank.label("rank"), posts.c.created_at).where(shelf.condition)
    if dated:
        part = part.where(*_between(posts, walk))
    if walk.after:
        here, there = tuple_(rank, posts.c.id), tuple_(bindparam("after_key", type_=rank.type), bindparam("after_id"))
        part = part.where(here < there if walk.order.descending else here > there)
    if walk.search:
        part = part.join(titles, titles.c.post_id == posts.c.id)
        part = part.where(holds(titles.c.title_key, bindparam("needle")))
    return part


def _between(rows: Any, walk: Walk) -> list[ColumnElement[bool]]:
    limits = []
    if walk.since:
        limits.append(rows.c.created_at >= bindparam("since"))
    if walk.until:
        limits.append(rows.c.created_at < bindparam("until"))
    return limits


def _ordered(rank: ColumnElement[Any], post_id: ColumnElement[int], order: Order) -> list[ColumnElement[Any]]:
    return [rank.desc(), post_id.desc()] if order.descending else [rank.asc(), post_id.asc()]


class SqlPostRepository:
    """Writes posts inside one transaction."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def add(self, post: Post) -> PostView:
        """Store a new post."""
        ((post_id, username, owner_created_at),) = self._link.rows(INSERT, post_row(post))
        self._link.later(INSERT_TITLE, {"post_id": post_id, **title_row(post)})
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

    def lock(self, post_id: int) -> Post:
        """Get a post and keep everybody else from changing it until the transaction ends."""
        row = self._link.row(LOCK, {"post_id": post_id}) if is_id(post_id) else None
        if row is None:
            raise PostNotFound(post_id)
        *parts, upvotes, downvotes = row
        post_id, owner_id, title, content, published, created_at, updated_at, version = parts
        tally = Tally(upvotes, downvotes)
        return Post(post_id, owner_id, title, content, published, created_at, updated_at, version, tally)

    def save(self, post: Post) -> None:
        """Store the edit of a locked post."""
        self._link.later(
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
        self._link.later(SAVE_TITLE, {"of_post": post.id, **title_row(post)})

    def remove(self, post_id: int) -> None:
        """Remove a locked post; its votes go with it by foreign key."""
        self._link.later(DELETE, {"post_id": post_id})


class SqlPostReader:
    """Answers questions about posts."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def get(self, reader: Actor, post_id: int) -> PostView:
        """Get one post."""
        if is_id(post_id):
            statement = GET_ANY if reader.is_admin else GET_VISIBLE
            with self._reading() as link:
                row = link.row(statement, {"post_id": post_id, "reader_id": reader.id})
            if row is not None:
                return _view(row)
        raise PostNotFound(post_id)

    def list(self, reader: Actor, which: PostFilter, order: Order, window: Window | None) -> Page[PostView]:
        """List posts."""
        places = shelves(reader, which)
        if not places:
            return Page([])
        after = window.after if window else None
        walk = Walk(
            places,
            order,
            after=after is not None,
            since=which.since is not None,
            until=which.until is not None,
            search=bool(which.search),
            skip=bool(window and window.skip),
            rows=window.limit + 1 if window else None,
        )
        values: dict[str, object] = {"reader_id": reader.id}
        if after is not None:
            values |= {"after_key": after.key, "after_id": after.id}
        if window and window.skip:
            values["skip"] = window.skip
        given: dict[str, int | datetime | str | None] = {
            "owner_id": which.owner_id,
            "since": which.since,
            "until": which.until,
            "needle": pattern(which.search) if which.search else None,
        }
        values |= {name: value for name, value in given.items() if value is not None}
        with self._reading() as link:
            rows = link.rows(list_statement(walk), values)
        if window is None or len(rows) <= window.limit:
            return Page([_view(row) for row in rows])
        last = rows[window.limit - 1]
        return Page([_view(row) for row in rows[: window.limit]], PageCursor(last[-1], last[0]))

    def last_id(self) -> int:
        """Tell the highest id that a post has."""
        with self._reading() as link:
            ((found,),) = link.rows(LAST_ID, {})
        return found or 0


def _view(row: Sequence[Any]) -> PostView:
    post_id, title, content, published, created_at, updated_at, version = row[:7]
    owner_id, username, owner_created_at, upvotes, downvotes, direction = row[7:13]
    return PostView(
        id=post_id,
        title=title,
        content=content,
        published=published,
        created_at=created_at,
        updated_at=updated_at,
        version=version,
        owner=PublicUser(owner_id, username, owner_created_at),
        upvotes=upvotes,
        downvotes=downvotes,
        my_vote=direction or 0,
    )


def post_row(post: Post) -> dict[str, object]:
    """Write a post as its row in `posts`, but for its id."""
    return {
        "owner_id": post.owner_id,
        "title": post.title,
        "content": post.content,
        "published": post.published,
        "created_at": post.created_at,
        "updated_at": post.updated_at,
        "version": post.version,
        "upvotes": post.tally.upvotes,
        "downvotes": post.tally.downvotes,
        "score": post.tally.votes,
        "hot": post.hot,
    }


def title_row(post: Post) -> dict[str, object]:
    """Write a post as its row in `titles`, but for its id."""
    return {"title_key": search_key(post.title)}
