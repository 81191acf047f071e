"""Telling a database of somebody else's from one of ours: tables of our names that we have not made."""

from typing import Final

from sqlalchemy import Connection, inspect

from infrastructure.database.tables import metadata

COURSE_TABLES: Final = frozenset({"users", "posts", "votes"})
"""What the application of the public course calls its tables, and what we call three of ours."""


def is_course(connection: Connection) -> bool:
    """Tell whether the three tables are there and, as only theirs is, `users` is without our key of e-mails."""
    return set(inspect(connection).get_table_names()) >= COURSE_TABLES and not _has_our_users(connection)


def in_the_way(connection: Connection, *, is_numbered: bool) -> str | None:
    """Say which tables stand where ours would be made and, after a semicolon, what to do; None if none does.

    To be asked where no step of ours has been taken. `is_numbered` tells that somebody's has: a later release's, if
    the tables are ours.
    """
    tables = sorted(set(inspect(connection).get_table_names()) & metadata.tables.keys())
    if not tables or (is_numbered and _has_our_users(connection)):
        return None
    if is_course(connection):
        return "the tables users, posts and votes are those of the public course's application; run: agora adopt"
    named = f"a table {tables[0]}" if len(tables) == 1 else f"tables {', '.join(tables)}"
    return f"the database has {named} that Agora has not made; name another database, or rename what is there"


def _has_our_users(connection: Connection) -> bool:
    inspector = inspect(connection)
    return inspector.has_table("users") and "email_key" in {found["name"] for found in inspector.get_columns("users")}
