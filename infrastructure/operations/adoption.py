"""Adoption, in place, of the database of a public FastAPI course.

Its tables have names of Agora's and other columns. One transaction copies them to temporary tables, drops them, runs
the migrations, and loads the copies as entities of the domain.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import (
    URL,
    Boolean,
    Connection,
    Row,
    Select,
    TableClause,
    Text,
    column,
    func,
    inspect,
    select,
    table,
    text,
)
from sqlalchemy.exc import DBAPIError, IntegrityError, InternalError, ProgrammingError
from sqlalchemy.types import TypeEngine

from application.errors import Refused
from domain.errors import Invalid
from domain.posts import Post
from domain.users import Role, User
from domain.votes import Direction, Tally, Vote
from infrastructure.database.schema import Migrations, encoding_fault, is_course
from infrastructure.database.sql import is_id
from infrastructure.database.tables import Id, UtcDateTime, metadata
from infrastructure.operations.bulk import (
    add_posts,
    add_users,
    add_votes,
    advance_sequences,
    analyze,
    last_id,
    load,
    snapshot,
    stream,
    transaction,
)
from infrastructure.passwords import is_password_hash

COURSE: Final[dict[str, dict[str, TypeEngine[Any]]]] = {
    "users": {"id": Id, "email": Text(), "password": Text(), "created_at": UtcDateTime()},
    "posts": {
        "id": Id,
        "title": Text(),
        "content": Text(),
        "published": Boolean(),
        "created_at": UtcDateTime(),
        "owner_id": Id,
    },
    "votes": {"post_id": Id, "user_id": Id},
}
"""The course's tables: each refers only to those before it."""

PHONE_NUMBER: Final = "phone_number"
"""A column of `users` from a late chapter; Agora stores no phone numbers."""

INSUFFICIENT_PRIVILEGE: Final = "42501"
VIEWS: Final = text(
    "SELECT DISTINCT view_name, table_name FROM information_schema.view_table_usage"
    " WHERE table_schema = current_schema() AND table_name IN ('users', 'posts', 'votes') ORDER BY 1, 2"
)


@dataclass(slots=True)
class Survey:
    """The rows to adopt, and the obstacles."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COURSE, 0))
    phone_numbers: int = 0
    obstacles: list[str] = field(default_factory=list)


class Adoption:
    """Surveys and adopts a database of the course's application."""

    def __init__(self, url: URL, migrations: Migrations) -> None:
        self._url = url
        self._migrations = migrations

    def survey(self) -> Survey:
        """Check all rows, and change nothing.

        Raises:
            Refused: this is no database of the course's application.
            Unavailable: the database is unavailable.
        """
        with snapshot(self._url) as connection:
            _require_course(connection)
            return _survey(connection)

    def adopt(self, progress: Callable[[int, int], None]) -> Survey:
        """Check all rows and, without obstacles, adopt the database in one transaction.

        Raises:
            Refused: this is no database of the course's application, or it refuses the change.
            Unavailable: the database is unavailable.
        """
        with transaction(self._url) as connection, _translate_errors():
            _require_course(connection)
            if connection.dialect.name == "postgresql":
                connection.execute(text("LOCK TABLE users, posts, votes IN ACCESS EXCLUSIVE MODE"))
            survey = _survey(connection)
            if survey.obstacles:
                return survey
            self._adopt(connection, sum(survey.counts.values()), progress)
        analyze(self._url)
        return survey

    def _adopt(self, connection: Connection, total: int, progress: Callable[[int, int], None]) -> None:
        last = {name: last_id(connection, name) for name in ("users", "posts")}
        aside = {name: f"course_{name}" for name in COURSE}
        for name in COURSE:
            connection.execute(select(_table(name, name)).into(aside[name], temporary=True))
        for name in reversed(COURSE):
            connection.execute(text(f"DROP TABLE {name}"))
        connection.execute(text("DROP TABLE IF EXISTS alembic_version"))
        self._migrations.upgrade_on(connection)
        statements = _statements(aside)
        parts = (
            (add_users, map(_user, stream(connection, statements["users"]))),
            (add_posts, map(_post, stream(connection, statements["posts"]))),
            (add_votes, map(_vote, stream(connection, statements["votes"]))),
        )
        load(connection, parts, lambda done: progress(done, total))
        advance_sequences(connection, last)


@contextmanager
def _translate_errors() -> Iterator[None]:
    """Raise `Refused` for changes that the database refuses."""
    try:
        yield
    except (IntegrityError, InternalError) as error:
        raise Refused(_refusal(error)) from error
    except ProgrammingError as error:
        if getattr(error.orig, "pgcode", None) != INSUFFICIENT_PRIVILEGE:
            raise
        raise Refused(_refusal(error)) from error


def _refusal(error: DBAPIError) -> str:
    return f"the database refuses, and nothing was changed: {str(error.orig).partition(chr(10))[0]}"


def _require_course(connection: Connection) -> None:
    if fault := encoding_fault(connection):
        raise Refused(fault)
    if not set(COURSE) <= set(inspect(connection).get_table_names()):
        raise Refused("there is nothing to adopt: this database has no tables users, posts and votes")
    if not is_course(connection):
        raise Refused("there is nothing to adopt: this database is Agora's already")


def _survey(connection: Connection) -> Survey:
    survey = Survey()
    if not _survey_tables(connection, survey):
        return survey
    statements = _statements({name: name for name in COURSE})
    spellings = defaultdict[str, list[tuple[int, str]]](list)
    for row in stream(connection, statements["users"]):
        survey.counts["users"] += 1
        user = _validated(_user, row, f"user {row.id}", survey)
        if user is not None:
            spellings[user.email_key].append((row.id, row.email))
    for same in spellings.values():
        if len(same) > 1:
            ids, emails = (", ".join(map(str, parts)) for parts in zip(*same, strict=True))
            survey.obstacles.append(f"users {ids}: they have the same e-mail in several spellings: {emails}")
    for row in stream(connection, statements["posts"]):
        survey.counts["posts"] += 1
        _validated(_post, row, f"post {row.id}", survey)
    for row in stream(connection, statements["votes"]):
        survey.counts["votes"] += 1
        _validated(_vote, row, f"vote of user {row.user_id} on post {row.post_id}", survey)
    return survey


def _survey_tables(connection: Connection, survey: Survey) -> bool:
    """Record obstacles in the tables; return whether their rows can be read."""
    inspector = inspect(connection)
    is_readable = True
    for name, columns in COURSE.items():
        found = {each["name"] for each in inspector.get_columns(name)}
        if name == "users" and PHONE_NUMBER in found:
            found.remove(PHONE_NUMBER)
            survey.phone_numbers = (
                connection.scalar(select(func.count(column(PHONE_NUMBER))).select_from(table(name))) or 0
            )
        for missing in sorted(columns.keys() - found):
            survey.obstacles.append(f"table {name}: it has no column {missing}")
            is_readable = False
        survey.obstacles += [
            f"table {name}: Agora has no column {other}; drop it if it is not needed"
            for other in sorted(found - columns.keys())
        ]
    for other in sorted(set(inspector.get_table_names()) - set(COURSE)):
        if other in metadata.tables:
            survey.obstacles.append(f"table {other}: Agora creates a table of this name; rename or drop this one")
        referred = {key["referred_table"] for key in inspector.get_foreign_keys(other)} & set(COURSE)
        survey.obstacles += [
            f"table {other}: it refers to {name}, which is replaced; drop its foreign key" for name in sorted(referred)
        ]
    if connection.dialect.name == "postgresql":
        survey.obstacles += [
            f"view {view}: it reads {name}, which is replaced; drop it" for view, name in connection.execute(VIEWS)
        ]
    return is_readable


def _validated(read: Callable[[Row[Any]], Any], row: Row[Any], which: str, survey: Survey) -> Any:
    try:
        return read(row)
    except Invalid as error:
        survey.obstacles.append(f"{which}: {error.detail}")
        return None


def _table(name: str, where: str) -> TableClause:
    return table(where, *(column(each, kind) for each, kind in COURSE[name].items()))


def _statements(where: dict[str, str]) -> dict[str, Select[Any]]:
    """Build the queries for the course's rows, from tables under these names."""
    users, posts, votes = (_table(name, where[name]) for name in COURSE)
    counted = select(votes.c.post_id, func.count().label("upvotes")).group_by(votes.c.post_id).subquery()
    return {
        "users": select(users).order_by(users.c.id),
        "posts": select(posts, users.c.id.label("owner"), func.coalesce(counted.c.upvotes, 0).label("upvotes"))
        .select_from(
            posts.outerjoin(users, users.c.id == posts.c.owner_id).outerjoin(counted, counted.c.post_id == posts.c.id)
        )
        .order_by(posts.c.id),
        "votes": select(votes, users.c.created_at.label("registered_at"), posts.c.created_at.label("written_at"))
        .select_from(
            votes.outerjoin(users, users.c.id == votes.c.user_id).outerjoin(posts, posts.c.id == votes.c.post_id)
        )
        .order_by(votes.c.post_id, votes.c.user_id),
    }


def _user(row: Row[Any]) -> User:
    _require(row, "id", "email", "password", "created_at")
    if not is_password_hash(row.password):
        raise Invalid("password", "unknown_hash", "its password is no hash that Agora can verify")
    user = User.register(email=row.email, username=None, role=Role.USER, now=_moment(row.created_at))
    return replace(user, id=row.id, password_hash=row.password)


def _post(row: Row[Any]) -> Post:
    _require(row, "id", "title", "content", "published", "created_at", "owner_id")
    if row.owner is None:
        raise Invalid("owner_id", "missing", f"its owner, user {row.owner_id}, does not exist")
    now = _moment(row.created_at)
    post = Post.restore(owner_id=row.owner_id, title=row.title, content=row.content, published=row.published, now=now)
    return replace(post, id=row.id, tally=Tally(upvotes=row.upvotes))


def _vote(row: Row[Any]) -> Vote:
    """Read a row as an upvote.

    Its time is unknown: the earliest is when both voter and post existed.
    """
    if row.registered_at is None or row.written_at is None:
        raise Invalid("vote", "missing", "the voter or the post does not exist")
    earliest = max(_moment(row.registered_at), _moment(row.written_at))
    return Vote(row.user_id, row.post_id, Direction.UP, earliest)


def _require(row: Row[Any], *names: str) -> None:
    for name in names:
        if getattr(row, name) is None:
            raise Invalid(name, "missing", f"it has no {name}")
    if not is_id(row.id):
        raise Invalid("id", "out_of_range", "ids begin with 1")


def _moment(moment: datetime) -> datetime:
    """Read a time without a zone as UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
