"""Adoption, in place, of the database of a public FastAPI course.

Its tables have names of Agora's and other columns. One transaction copies them to temporary tables, drops them, runs
the migrations, and loads the copies as entities of the domain.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from psycopg2.errors import InsufficientPrivilege
from sqlalchemy import URL, Connection, Row, column, func, inspect, select, table, text
from sqlalchemy.exc import IntegrityError, InternalError, ProgrammingError

from application.errors import Refused
from domain.errors import Invalid
from infrastructure.database.schema import Migrations, encoding_fault, is_course
from infrastructure.database.tables import metadata
from infrastructure.operations.bulk import (
    add_posts,
    add_users,
    add_votes,
    analyze,
    last_id,
    load,
    snapshot,
    stream,
    transaction,
)
from infrastructure.operations.course import (
    COURSE,
    course_statements,
    course_table,
    read_any_text,
    read_post,
    read_user,
    read_vote,
)

PHONE_NUMBER: Final = "phone_number"
"""A column of `users` from a late chapter; Agora stores no phone numbers."""

DEPENDENTS: Final = text("""
WITH course AS (
  SELECT oid, relname, reltype FROM pg_class
  WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p')
    AND relname IN ('users', 'posts', 'votes')
), parts AS (
  SELECT 'pg_rewrite'::regclass AS class, oid AS part, ev_class AS relation FROM pg_rewrite
  UNION ALL SELECT 'pg_constraint'::regclass, oid, conrelid FROM pg_constraint
  UNION ALL SELECT 'pg_class'::regclass, oid, oid FROM pg_class
)
SELECT DISTINCT CASE relation.relkind WHEN 'v' THEN 'view ' || relation.oid::regclass
    WHEN 'm' THEN 'materialized view ' || relation.oid::regclass ELSE pg_describe_object(classid, objid, objsubid) END,
  course.relname
FROM pg_depend JOIN course ON refclassid = 'pg_class'::regclass AND refobjid = course.oid
    OR refclassid = 'pg_type'::regclass AND refobjid = course.reltype
  LEFT JOIN parts ON class = classid AND part = objid LEFT JOIN pg_class AS relation ON relation.oid = parts.relation
WHERE deptype = 'n' AND (relation.oid IS NULL OR relation.oid NOT IN (SELECT oid FROM course))
  AND (classid <> 'pg_constraint'::regclass OR relation.relnamespace <> current_schema()::regnamespace)
ORDER BY 1, 2
""")
"""What keeps PostgreSQL from dropping the course's tables, besides foreign keys in their schema."""

RIGHTS: Final = text("""
SELECT format('table %I: it belongs to %I; run this as its owner', relname, pg_get_userbyid(relowner)) FROM pg_class
WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p')
  AND relname IN ('users', 'posts', 'votes', 'alembic_version') AND NOT pg_has_role(relowner, 'USAGE')
UNION ALL SELECT format('schema %1$I: %2$I may not create tables in it; run: GRANT CREATE ON SCHEMA %1$I TO %2$I',
  current_schema(), current_user) WHERE NOT has_schema_privilege(current_schema(), 'CREATE')
UNION ALL SELECT format('database %1$I: %2$I may not create temporary tables in it; run: GRANT TEMPORARY ON DATABASE'
  ' %1$I TO %2$I', current_database(), current_user) WHERE NOT has_database_privilege(current_database(), 'TEMPORARY')
ORDER BY 1
""")
"""What the adoption does and the role may not do."""


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
        with transaction(self._url) as connection:
            try:
                _require_course(connection)
                if connection.dialect.name == "postgresql":
                    connection.execute(text("LOCK TABLE users, posts, votes IN ACCESS EXCLUSIVE MODE"))
                survey = _survey(connection)
                if survey.obstacles:
                    return survey
                self._adopt(connection, sum(survey.counts.values()), progress)
            except (IntegrityError, InternalError, ProgrammingError) as error:
                if isinstance(error, ProgrammingError) and not isinstance(error.orig, InsufficientPrivilege):
                    raise
                refusal = str(error.orig).partition("\n")[0]
                raise Refused(f"the database refuses, and nothing was changed: {refusal}") from error
        analyze(self._url)
        return survey

    def _adopt(self, connection: Connection, total: int, progress: Callable[[int, int], None]) -> None:
        last = {name: last_id(connection, name) for name in ("users", "posts")}
        aside = {name: f"course_{name}" for name in COURSE}
        for name in COURSE:
            connection.execute(select(course_table(name, name)).into(aside[name], temporary=True))
        for name in reversed(COURSE):
            connection.execute(text(f"DROP TABLE {name}"))
        connection.execute(text("DROP TABLE IF EXISTS alembic_version"))
        self._migrations.upgrade_on(connection)
        statements = course_statements(aside, connection.dialect.name)
        parts = (
            (add_users, map(read_user, stream(connection, statements["users"]))),
            (add_posts, map(read_post, stream(connection, statements["posts"]))),
            (add_votes, map(read_vote, stream(connection, statements["votes"]))),
        )
        load(connection, parts, last, lambda done: progress(done, total))


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
    read_any_text(connection)
    statements = course_statements({name: name for name in COURSE}, connection.dialect.name)
    spellings = defaultdict[str, list[tuple[int, str]]](list)
    for row in stream(connection, statements["users"]):
        survey.counts["users"] += 1
        user = _validated(read_user, row, f"user {row.id}", survey)
        if user is not None:
            spellings[user.email_key].append((row.id, row.email))
    for same in spellings.values():
        if len(same) > 1:
            ids, emails = (", ".join(map(str, parts)) for parts in zip(*same, strict=True))
            survey.obstacles.append(f"users {ids}: they have the same e-mail in several spellings: {emails}")
    for row in stream(connection, statements["posts"]):
        survey.counts["posts"] += 1
        _validated(read_post, row, f"post {row.id}", survey)
    for row in stream(connection, statements["votes"]):
        survey.counts["votes"] += 1
        _validated(read_vote, row, f"vote of user {row.user_id} on post {row.post_id}", survey)
    return survey


def _survey_tables(connection: Connection, survey: Survey) -> bool:
    """Record obstacles in the tables; return whether their rows can be read."""
    inspector = inspect(connection)
    is_typed = connection.dialect.name == "postgresql"
    is_readable = True
    for name, columns in COURSE.items():
        found = {each["name"]: each["type"] for each in inspector.get_columns(name)}
        if name == "users" and found.pop(PHONE_NUMBER, None) is not None:
            survey.phone_numbers = (
                connection.scalar(select(func.count(column(PHONE_NUMBER))).select_from(table(name))) or 0
            )
        unreadable = [f"it has no column {missing}" for missing in sorted(columns.keys() - found.keys())]
        unreadable += [
            f"column {each} has the type {kind}, and Agora needs {columns[each]()}; convert it"
            for each, kind in found.items()
            if is_typed and each in columns and not isinstance(kind, columns[each])
        ]
        is_readable = is_readable and not unreadable
        survey.obstacles += [f"table {name}: {reason}" for reason in unreadable]
        survey.obstacles += [
            f"table {name}: Agora has no column {other}; drop it if it is not needed"
            for other in sorted(found.keys() - columns.keys())
        ]
    for other in sorted(set(inspector.get_table_names()) - set(COURSE)):
        if other in metadata.tables:
            survey.obstacles.append(f"table {other}: Agora creates a table of this name; rename or drop this one")
        referred = {key["referred_table"] for key in inspector.get_foreign_keys(other)} & set(COURSE)
        survey.obstacles += [
            f"table {other}: it refers to {name}, which is replaced; drop its foreign key" for name in sorted(referred)
        ]
    views = inspector.get_view_names() + (inspector.get_materialized_view_names() if is_typed else [])
    for other in sorted(set(views) & metadata.tables.keys()):
        survey.obstacles.append(f"view {other}: Agora creates a table of this name; rename or drop it")
    if is_typed:
        survey.obstacles += [
            f"{what}: it depends on {name}, which is replaced; drop it" for what, name in connection.execute(DEPENDENTS)
        ]
        survey.obstacles += connection.scalars(RIGHTS)
    return is_readable


def _validated(read: Callable[[Row[Any]], Any], row: Row[Any], which: str, survey: Survey) -> Any:
    try:
        return read(row)
    except Invalid as error:
        survey.obstacles.append(f"{which}: {error.detail}")
        return None
