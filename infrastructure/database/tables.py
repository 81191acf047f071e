"""The tables. Migrations build the same tables; a test compares both.

Keys and counters are derived columns: `*_key` and `*_folded` make uniqueness and search ignore case equally on every
database; the counters and rank of a post let a reader count no votes and sort no posts.

Each table states by `uses` what exports, imports and the dashboard do with it; a test refuses one that does not.
"""

from datetime import UTC, datetime
from typing import Any, Final, Literal

from sqlalchemy import (
    DDL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    event,
)
from sqlalchemy.types import TypeDecorator

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)


class UtcDateTime(TypeDecorator[datetime]):
    """A time in UTC: `timestamptz` on PostgreSQL, sortable text on SQLite."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert to UTC for SQLite, which stores no zone."""
        if value is None or dialect.name != "sqlite":
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Add the zone that SQLite does not store; PostgreSQL sessions are set to UTC."""
        return value.replace(tzinfo=UTC) if value is not None and dialect.name == "sqlite" else value


# SQLite generates ids only for the type name INTEGER. AUTOINCREMENT, below, never reuses the id of a deleted row, which
# would give its tokens, links and votes to another account.
Id = BigInteger().with_variant(Integer, "sqlite")


def uses(
    *,
    archive: Literal["lines", "derived", "omitted"],
    export: str | None,
    counted: bool = False,
    why: str = "",
    counters: tuple[str, ...] = (),
    numbers: tuple[str, ...] = (),
) -> dict[str, object]:
    """State what becomes of a table's rows outside requests.

    An archive holds each row as a line, an import derives it from lines, or it is omitted. `export` names the member of
    an account's own export that holds its rows. The dashboard counts the table if `counted`. `why` is the reason for
    what is omitted and not exported.

    `counters` are the columns that are computed from other rows: an operator's command verifies and repairs them.
    `numbers` are the other numeric columns.
    """
    return {
        "archive": archive,
        "export": export,
        "counted": counted,
        "why": why,
        "counters": counters,
        "numbers": numbers,
    }


def _trigrams(column: str) -> Index:
    """Index a column for `LIKE '%...%'` on PostgreSQL.

    SQLite has no such index for a plain column. `fastupdate` is off: searches would read its list of pending entries
    from end to end.
    """
    index = Index(
        None,
        column,
        postgresql_using="gin",
        postgresql_ops={column: "gin_trgm_ops"},
        postgresql_with={"fastupdate": "off"},
    )
    index.ddl_if(dialect="postgresql")
    index.info["dialect"] = "postgresql"
    return index


event.listen(
    metadata,
    "before_create",
    DDL("CREATE EXTENSION IF NOT EXISTS pg_trgm").execute_if(dialect="postgresql"),  # type: ignore[no-untyped-call]
)

users = Table(
    "users",
    metadata,
    Column("id", Id, Identity(), primary_key=True),
    Column("email", Text, nullable=False),
    Column("email_key", Text, nullable=False, unique=True),
    Column("username", Text),
    Column("username_key", Text, unique=True),
    Column("search_key", Text, nullable=False),
    Column("password_hash", Text, nullable=False),
    Column("role", String(16), nullable=False),
    Column("is_active", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("search_folded", Text),
    CheckConstraint("role in ('user', 'admin')", name="role"),
    Index(None, "created_at"),
    _trigrams("search_key"),
    _trigrams("search_folded"),
    sqlite_autoincrement=True,
    info=uses(archive="lines", export="profile", counted=True),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", Id, Identity(), primary_key=True),
    Column("user_id", Id, ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("last_used_at", UtcDateTime, nullable=False),
    Column("ends_at", UtcDateTime, nullable=False),
    Column("user_agent", Text, nullable=False),
    Column("refresh_family", Text, nullable=False, unique=True),
    Column("refresh_secret", Text, nullable=False),
    Index(None, "user_id"),
    sqlite_autoincrement=True,
    info=uses(archive="omitted", export=None, why="an import would revive sessions; their owner lists them"),
)

# Attempts per limit: one row per bucket, counted from 1 again after its window has ended.
attempts = Table(
    "attempts",
    metadata,
    Column("bucket", Text, primary_key=True),
    Column("count", Integer, nullable=False),
    Column("ends_at", UtcDateTime, nullable=False),
    Index(None, "ends_at"),
    info=uses(archive="omitted", export=None, why="counters of minutes, under hashes", numbers=("count",)),
)

posts = Table(
    "posts",
    metadata,
    Column("id", Id, Identity(), primary_key=True),
    Column("owner_id", Id, ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("title", Text, nullable=False),
    Column("content", Text, nullable=False),
    Column("published", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("version", Integer, nullable=False),
    Column("upvotes", Integer, nullable=False),
    Column("downvotes", Integer, nullable=False),
    CheckConstraint("version >= 1", name="version"),
    CheckConstraint("upvotes >= 0", name="upvotes"),
    Column("score", Integer, nullable=False),
    Column("hot", Double, nullable=False),
    CheckConstraint("downvotes >= 0", name="downvotes"),
    CheckConstraint("score = upvotes - downvotes", name="score"),
    # A list scans one of these: columns compared for equality first, then those of its order. Ranked indexes end in the
    # date, so that a condition on dates needs no access to the table.
    Index(None, "published", "created_at", "id"),
    Index(None, "published", "score", "id", "created_at"),
    Index(None, "published", "hot", "id", "created_at"),
    Index(None, "owner_id", "published", "created_at", "id"),
    Index(None, "owner_id", "published", "score", "id", "created_at"),
    Index(None, "owner_id", "published", "hot", "id", "created_at"),
    sqlite_autoincrement=True,
    info=uses(
        archive="lines",
        export="posts",
        counted=True,
        counters=("upvotes", "downvotes", "score", "hot"),
        numbers=("version",),
    ),
)

# Titles for searches. In a table of their own, because a vote writes a new version of its post into every index of the
# table, and a trigram index has dozens of entries per row.
titles = Table(
    "titles",
    metadata,
    Column("post_id", Id, ForeignKey("posts.id", ondelete="CASCADE"), primary_key=True),
    Column("title_key", Text, nullable=False),
    Column("title_folded", Text),
    _trigrams("title_key"),
    _trigrams("title_folded"),
    info=uses(archive="derived", export=None, why="the titles of posts, folded"),
)

# Responses to requests with an idempotency key, until `ends_at`.
answers = Table(
    "answers",
    metadata,
    Column("user_id", Id, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("answer", Text, nullable=False),
    Column("ends_at", UtcDateTime, nullable=False),
    Index(None, "ends_at"),
    info=uses(archive="omitted", export=None, why="responses of a day; the posts in them are exported"),
)

# What accounts have written in the window until `ends_at`. No foreign key: an account's removal would wait for a
# writer's row while the writer waits for the account.
quotas = Table(
    "quotas",
    metadata,
    Column("user_id", Id, primary_key=True, autoincrement=False),
    Column("rows", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("max_rows", BigInteger, nullable=False),
    Column("max_bytes", BigInteger, nullable=False),
    Column("ends_at", UtcDateTime, nullable=False),
    CheckConstraint("rows <= max_rows and bytes <= max_bytes", name="limit"),
    info=uses(
        archive="omitted",
        export=None,
        why="counters of an hour",
        numbers=("rows", "bytes", "max_rows", "max_bytes"),
    ),
)

votes = Table(
    "votes",
    metadata,
    Column("post_id", Id, ForeignKey("posts.id", ondelete="CASCADE"), primary_key=True),
    Column("user_id", Id, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("dir", SmallInteger, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    CheckConstraint("dir in (-1, 1)", name="dir"),
    Index(None, "user_id", "dir", "created_at", "post_id"),
    info=uses(archive="lines", export="votes", counted=True, numbers=("dir",)),
)

ARCHIVED: Final = tuple(table for table in metadata.sorted_tables if table.info["archive"] == "lines")
"""Tables whose rows are lines of an archive, each after the tables that it refers to."""

FILLED: Final = tuple(table for table in metadata.sorted_tables if table.info["archive"] != "omitted")
"""Tables that bulk writes fill."""

NUMBERED: Final = tuple(table for table in metadata.sorted_tables if any(column.identity for column in table.c))
"""Tables that generate ids."""

COUNTED: Final = tuple(table for table in metadata.sorted_tables if table.info["counted"])
"""Tables that the dashboard counts."""


def _references(to: Table) -> tuple[tuple[Table, Column[Any]], ...]:
    """Return the columns that refer to the id of a table, each after its table."""
    columns = [(table, column) for table in metadata.sorted_tables for column in table.c]
    return tuple((table, column) for table, column in columns if column.references(to.c.id))


OF_ACCOUNT: Final = _references(users)
"""Tables with a column that holds the id of an account."""

ON_POST: Final = {posts: posts.c.id, **dict(_references(posts))}
"""Tables whose rows are on one post each, with the column that holds its id."""
