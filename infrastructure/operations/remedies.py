"""Remedies for a database that cannot be reached."""

import re
from typing import Final

from sqlalchemy import URL

UNREACHABLE: Final = (
    ('role ".*" does not exist', "create the role: CREATE ROLE {user} LOGIN PASSWORD '...'; or name another user"),
    (
        'database ".*" does not exist',
        "create the database: CREATE DATABASE {database} OWNER {user}; or name another one",
    ),
    (
        "too many clients|connection slots",
        "raise max_connections in postgresql.conf and restart PostgreSQL, or start fewer workers",
    ),
    (
        "password authentication failed",
        (
            "correct the user and the password; in DATABASE_URL write % as %25, or set DB_PASSWORD instead, which needs"
            " no escaping; in a shell or a .env file, put the value between single quotes; if there is no such role:"
            " CREATE ROLE {user} LOGIN PASSWORD '...'"
        ),
    ),
    (
        "unsupported startup parameter",
        "set ignore_startup_parameters = extra_float_digits, options in pgbouncer.ini and reload PgBouncer",
    ),
    ("Connection refused", "start PostgreSQL, or name the host and port where it listens"),
    ("timeout expired|respond in time|no response", "check the host, the port and the firewalls between"),
    ("translate host name", "correct the name of the host"),
    ("failed: No such file", "start PostgreSQL, or name the folder where its socket is"),
    ("not a database", "name another file in DATABASE_URL: this one is no SQLite database"),
)
"""Patterns of driver errors, each with its remedy; the first match counts."""


def remedy_for(reason: str, url: URL) -> str:
    """Choose what to do about a driver's message."""
    is_file = url.get_backend_name() == "sqlite"
    otherwise = "check that DATABASE_URL names a SQLite file" if is_file else "read the log of the database server"
    remedy = next((remedy for said, remedy in UNREACHABLE if re.search(said, reason)), otherwise)
    return remedy.format(user=_identifier(url.username), database=_identifier(url.database))


def _identifier(name: str | None) -> str:
    """Quote a name for SQL where needed."""
    if name is None or re.fullmatch("[a-z_][a-z0-9_]*", name):
        return name or "..."
    return '"{}"'.format(name.replace('"', '""'))
