"""Rows of the public course's application, read as entities of the domain."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Connection,
    DateTime,
    Integer,
    Row,
    Select,
    String,
    TableClause,
    case,
    column,
    func,
    literal_column,
    select,
    table,
)
from sqlalchemy.types import TypeEngine

from domain.errors import Invalid
from domain.posts import Post
from domain.users import Role, User
from domain.votes import Direction, Tally, Vote
from infrastructure.database.sql import is_id
from infrastructure.domain_names import to_ascii
from infrastructure.passwords import is_password_hash

COURSE: Final[dict[str, dict[str, type[TypeEngine[Any]]]]] = {
    "users": {"id": Integer, "email": String, "password": String, "created_at": DateTime},
    "posts": {
        "id": Integer,
        "title": String,
        "content": String,
        "published": Boolean,
        "created_at": DateTime,
        "owner_id": Integer,
    },
    "votes": {"post_id": Integer, "user_id": Integer},
}
"""The course's tables, each of which refers only to those before it, and the types of their columns."""


def read_any_text(connection: Connection) -> None:
    """Decode any text of SQLite, so that the rules refuse it row by row."""
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name == "sqlite":
        driver.text_factory = lambda found: found.decode(errors="surrogateescape")


def course_table(name: str, where: str) -> TableClause:
    """Describe a table of the course without types: SQLite may hold any."""
    return table(where, *map(column, COURSE[name]))


def course_statements(where: Mapping[str, str], dialect: str) -> dict[str, Select[Any]]:
    """Build the queries for the course's rows, from tables under these names."""
    users, posts, votes = (course_table(name, where[name]) for name in COURSE)
    registered_at, written_at = (_readable(found.c.created_at, dialect) for found in (users, posts))
    counted = select(votes.c.post_id, func.count().label("upvotes")).group_by(votes.c.post_id).subquery()
    return {
        "users": select(users.c.id, users.c.email, users.c.password, registered_at.label("created_at")).order_by(
            users.c.id
        ),
        "posts": select(
            *(found for found in posts.c if found.name != "created_at"),
            written_at.label("created_at"),
            users.c.id.label("owner"),
            func.coalesce(counted.c.upvotes, 0).label("upvotes"),
        )
        .select_from(
            posts.outerjoin(users, users.c.id == posts.c.owner_id).outerjoin(counted, counted.c.post_id == posts.c.id)
        )
        .order_by(posts.c.id),
        "votes": select(
            votes,
            users.c.id.label("voter"),
            posts.c.id.label("about"),
            registered_at.label("registered_at"),
            written_at.label("written_at"),
        )
        .select_from(
            votes.outerjoin(users, users.c.id == votes.c.user_id).outerjoin(posts, posts.c.id == votes.c.post_id)
        )
        .order_by(votes.c.post_id, votes.c.user_id),
    }


def _readable(moment: ColumnElement[Any], dialect: str) -> ColumnElement[Any]:
    """Leave out times of PostgreSQL outside the years 1 to 9999."""
    if dialect == "sqlite":
        return moment
    first, end = (literal_column(f"'{year}-01-01'", DateTime) for year in ("0001", "10000"))
    return case(((moment >= first) & (moment < end), moment))


def read_user(row: Row[Any]) -> User:
    """Read an account.

    Raises:
        Invalid: Agora cannot hold the row.
    """
    _require_id(row)
    email, password = _text(row, "email"), _text(row, "password")
    if not is_password_hash(password):
        raise Invalid("password", "unknown_hash", "its password is no hash that Agora can verify")
    user = User.register(email=email, username=None, role=Role.USER, now=_moment(row.created_at), to_ascii=to_ascii)
    return replace(user, id=row.id, password_hash=password)


def read_post(row: Row[Any]) -> Post:
    """Read a post with the number of its votes.

    Raises:
        Invalid: Agora cannot hold the row.
    """
    _require_id(row)
    title, content = _text(row, "title"), _text(row, "content")
    if row.published not in {0, 1}:
        raise Invalid("published", "not_boolean", "its published is neither true nor false")
    if row.owner is None:
        raise Invalid("owner_id", "missing", f"its owner, user {row.owner_id}, does not exist")
    now = _moment(row.created_at)
    post = Post.restore(owner_id=row.owner, title=title, content=content, published=bool(row.published), now=now)
    return replace(post, id=row.id, tally=Tally(upvotes=row.upvotes))


def read_vote(row: Row[Any]) -> Vote:
    """Read a row as an upvote.

    Its time is unknown: the earliest is when both voter and post existed.

    Raises:
        Invalid: Agora cannot hold the row.
    """
    if row.voter is None or row.about is None:
        raise Invalid("vote", "missing", "the voter or the post does not exist")
    return Vote(row.voter, row.about, Direction.UP, max(_moment(row.registered_at), _moment(row.written_at)))


def _require_id(row: Row[Any]) -> None:
    if not isinstance(row.id, int) or not is_id(row.id):
        raise Invalid("id", "out_of_range", "ids begin with 1")


def _text(row: Row[Any], name: str) -> str:
    found = getattr(row, name)
    if found is None:
        raise Invalid(name, "missing", f"it has no {name}")
    if not isinstance(found, str):
        raise Invalid(name, "not_text", f"its {name} is no text")
    return found


def _moment(found: object) -> datetime:
    """Read a time as UTC, also one without a zone; SQLite holds it as text."""
    try:
        moment = datetime.fromisoformat(found) if isinstance(found, str) else found
        if isinstance(moment, datetime):
            return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (OverflowError, ValueError):
        pass
    raise Invalid("created_at", "not_a_time", "its created_at is no time in the years 1 to 9999")
