"""Every SQLSTATE and driver error that Agora knows, and what it means.

No other module interprets them.
"""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg2
from sqlalchemy.exc import DatabaseError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from application.errors import TransactionAborted, Unavailable
from domain.errors import DomainError
from domain.posts import KeyInUse
from domain.users import EmailTaken, InvalidToken, UsernameTaken
from infrastructure.database.wait_callback import ResponseTimeout

# SQLSTATEs: PostgreSQL's manual, appendix A.
RETRYABLE_SQLSTATES: Final = frozenset({"40001", "40P01", "55P03"})
"""serialization_failure, deadlock_detected, lock_not_available: another transaction was in conflict."""

DISCONNECT_SQLSTATES: Final = frozenset({"57P01", "57P02", "57P03", "57P05", "25P03"})
"""admin_shutdown, crash_shutdown, cannot_connect_now, idle_session_timeout, idle_in_transaction_session_timeout:
the server disconnects after these."""

PREPARED_SQLSTATES: Final = frozenset({"26000", "42P05"})
"""invalid_sql_statement_name, duplicate_prepared_statement: a pooler has changed the session under the connection."""

READ_ONLY_SQLSTATE: Final = "25006"
"""read_only_sql_transaction: the server is a standby, or became one."""

CONSTRAINTS: Final[dict[str, type[EmailTaken | UsernameTaken | InvalidToken | KeyInUse]]] = {
    "uq_users_email_key": EmailTaken,
    "users.email_key": EmailTaken,
    "uq_users_username_key": UsernameTaken,
    "users.username_key": UsernameTaken,
    "fk_posts_owner_id_users": InvalidToken,
    "fk_sessions_user_id_users": InvalidToken,
    "fk_votes_user_id_users": InvalidToken,
    "pk_answers": KeyInUse,
    # SQLite does not name the key. Posts are locked while they are written to, so the account was deleted.
    "FOREIGN KEY constraint failed": InvalidToken,
}
"""The domain error of each violated constraint: by its name on PostgreSQL, by table.column on SQLite."""

NEVER_VIOLATED: Final = {
    "fk_answers_user_id_users": "a response is stored after its post, which locks the account in the same transaction",
}
"""Foreign keys to accounts that need no domain error, each with its reason."""

QUOTA_CONSTRAINTS: Final = frozenset({"ck_quotas_limit", "CHECK constraint failed: ck_quotas_limit"})
"""The constraint that refuses what exceeds a quota, on PostgreSQL and SQLite."""

OF_SHARD: Final = re.compile(r"([a-z_]+)_[0-9]{6,}\b")
"""Names of tables and constraints in messages of Citus, which appends the number of the shard."""

DRIVER_ERRORS: Final = (DBAPIError, psycopg2.Error, sqlite3.Error)
"""Errors of database drivers, raw and wrapped by SQLAlchemy."""

DATA_EXCEPTION: Final = "22"
"""The class of SQLSTATEs whose messages quote values."""

DISCONNECTED: Final = psycopg2.OperationalError | psycopg2.InterfaceError
"""The driver's kinds of error for failures of a connection."""

NOT_YET: Final = re.compile(
    "FATAL: +(the database system is (starting up|shutting down|in recovery mode|not yet accepting)"
    "|sorry, too many clients|too many connections|remaining connection slots|terminating connection)"
)
"""Refusals that pass by themselves (57P03, 53300, 57P01); the driver gives no SQLSTATE while it connects or waits."""

NO_RESPONSE: Final = re.compile(
    "Connection refused|timed out|timeout expired|No route to host|(Network|Host) is (unreachable|down)"
    "|could not translate host name|failed: No such file|Connection reset|Broken pipe"
    "|closed the connection|connection has been closed|connection already closed|EOF detected|unexpected eof"
)
"""What the driver reports where no server responds, or a response ends early: this may pass by itself."""


@contextmanager
def translate_errors() -> Iterator[None]:
    """Raise driver errors that mean "not now" as Unavailable.

    Errors in statements are raised unchanged.
    """
    try:
        yield
    except Exception as error:
        raise_translated(error)
        raise


def raise_translated(error: Exception) -> None:
    """Raise what a driver error means to the application.

    An error without such a meaning raises nothing.

    Raises:
        TransactionAborted: the transaction was rolled back, and may be run again.
        Unavailable: the database cannot respond now.
    """
    cause = driver_error(error)
    sqlstate = getattr(cause, "pgcode", None)
    if sqlstate in RETRYABLE_SQLSTATES:
        raise TransactionAborted("other transactions keep changing the same rows; try again") from error
    if sqlstate == READ_ONLY_SQLSTATE:
        raise Unavailable("the database accepts no changes now; try again") from error
    if sqlstate in PREPARED_SQLSTATES or is_stale_plan(error):
        raise TransactionAborted("the prepared statements of the connection have changed") from error
    if is_disconnect(cause):
        # COMMIT has no statement either, but it invalidates its connection.
        if isinstance(error, DBAPIError) and error.statement is None and not error.connection_invalidated:
            raise Unavailable("the database accepts no connection; try again") from error
        raise Unavailable("the connection to the database was lost; try again") from error
    if isinstance(error, OperationalError | InterfaceError | PoolTimeoutError | DISCONNECTED):
        raise Unavailable("the database does not respond; try again") from error
    if isinstance(error, DBAPIError):
        if error.connection_invalidated:
            raise Unavailable("the connection to the database was lost; try again") from error
        # DatabaseError itself is SQLite's word for a damaged or foreign file; a DSN is the operator's.
        if type(error) is DatabaseError or "invalid dsn" in str(error.orig):
            raise Unavailable("the database does not respond; try again") from error


def raise_aborted(error: Exception) -> None:
    """Raise TransactionAborted where a statement lost its connection.

    Nothing was committed then. Callers must not use this once COMMIT was sent: its outcome is unknown.
    """
    is_connecting = isinstance(error, DBAPIError) and error.statement is None
    if not is_connecting and is_disconnect(driver_error(error)):
        raise TransactionAborted("the connection to the database was lost; try again") from error


def driver_error(error: BaseException | None) -> BaseException | None:
    """Give the driver's own error."""
    return error.orig if isinstance(error, DBAPIError) else error


def is_disconnect(error: BaseException | None) -> bool:
    """Tell whether a driver error means a closed connection.

    After a timeout the server may still be working.
    """
    if not isinstance(error, psycopg2.Error):
        return False
    if error.pgcode is None:
        return isinstance(error, DISCONNECTED) and not isinstance(error, ResponseTimeout)
    return error.pgcode in DISCONNECT_SQLSTATES


def is_read_only(error: BaseException | None) -> bool:
    """Tell whether the server refuses changes."""
    return getattr(driver_error(error), "pgcode", None) == READ_ONLY_SQLSTATE


def is_stale_plan(error: BaseException | None) -> bool:
    """Tell whether a prepared statement no longer fits its tables.

    This happens when a migration changes a type.
    """
    cause = driver_error(error)
    return getattr(cause, "pgcode", None) == "0A000" and "cached plan" in str(cause)


def is_prepared_conflict(error: BaseException | None) -> bool:
    """Tell whether a prepared statement was missing, or there already.

    This happens when a pooler shares the server's sessions.
    """
    return getattr(driver_error(error), "pgcode", None) in PREPARED_SQLSTATES


def is_transient(error: Unavailable) -> bool:
    """Tell whether the database may respond a little later by itself.

    It may if it is not up, out of reach, or locked (SQLite). A database that refuses the credentials will refuse them
    again.
    """
    cause = driver_error(error.__cause__)
    if isinstance(cause, sqlite3.OperationalError):
        return cause.sqlite_errorname.startswith("SQLITE_BUSY")
    if not isinstance(cause, psycopg2.Error):
        return False
    if isinstance(cause, ResponseTimeout) or cause.pgcode is not None:
        return isinstance(cause, ResponseTimeout) or is_disconnect(cause)
    attempts = re.split("\n(?=connection to server)", str(cause))  # one for each address, with and without TLS
    return all((NOT_YET if "FATAL" in attempt else NO_RESPONSE).search(attempt) for attempt in attempts)


def violated_constraint(error: Exception) -> str:
    """Name the violated constraint.

    PostgreSQL reports its name; Citus in its message alone, after that of the table. SQLite reports table.column, and
    does not name foreign keys: "FOREIGN KEY constraint failed" stands for any of them.
    """
    cause: Any = driver_error(error)
    diagnosis: Any = getattr(cause, "diag", None)
    if diagnosis is not None:
        named = str(diagnosis.constraint_name or diagnosis.message_primary)
        found: list[str] = OF_SHARD.findall(named)
        return found[-1] if found else named
    return str(cause).removeprefix("UNIQUE constraint failed: ")


def constraint_error(error: Exception) -> DomainError | None:
    """Give the domain error of a violated constraint, where it has one."""
    kind = CONSTRAINTS.get(violated_constraint(error))
    return kind() if kind else None


def driver_message(error: BaseException) -> str:
    """Get the driver's message of an error in one line, for operators, without values.

    PostgreSQL quotes values in the details after its message, and in the message itself for data exceptions.
    """
    cause: Any = driver_error(error)
    if (getattr(cause, "pgcode", None) or "").startswith(DATA_EXCEPTION):
        return type(cause).__name__
    message = getattr(getattr(cause, "diag", None), "message_primary", None) or str(cause)
    return " ".join(re.sub(r"\n\t(?=[A-Z])", ". ", message).split())  # libpq's hints are sentences after a tab


def cause_of(error: Exception) -> str | None:
    """Describe the cause of an error in one line.

    The line has the error's type and the first line of a driver's own message. A message from PostgreSQL is left out,
    as it may quote values.
    """
    cause = driver_error(error.__cause__)
    if cause is None:
        return None
    is_of_driver = isinstance(cause, psycopg2.Error | sqlite3.Error) and not getattr(cause, "pgcode", None)
    message = str(cause).strip().partition("\n")[0] if is_of_driver else ""
    return ": ".join(filter(None, (type(cause).__name__, message)))
