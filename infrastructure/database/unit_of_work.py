"""Unit of work in SQL: one connection, one transaction, all repositories."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Final

import psycopg2
from sqlalchemy.exc import IntegrityError

from domain.errors import DomainError
from domain.posts import KeyInUse
from domain.users import EmailTaken, InvalidToken, UsernameTaken
from infrastructure.database.engine import Database, violated
from infrastructure.database.idempotency import SqlIdempotencyStore
from infrastructure.database.links import Link
from infrastructure.database.posts import SqlPostReader, SqlPostRepository
from infrastructure.database.sessions import SqlSessionRepository
from infrastructure.database.users import SqlUserRepository
from infrastructure.database.votes import SqlVoteRepository

REFUSALS: Final[dict[str, type[EmailTaken | UsernameTaken | InvalidToken | KeyInUse]]] = {
    "uq_users_email_key": EmailTaken,
    "users.email_key": EmailTaken,
    "uq_users_username_key": UsernameTaken,
    "users.username_key": UsernameTaken,
    "fk_posts_owner_id_users": InvalidToken,
    "fk_sessions_user_id_users": InvalidToken,
    "fk_votes_user_id_users": InvalidToken,
    "pk_answers": KeyInUse,
    "FOREIGN KEY constraint failed": InvalidToken,  # SQLite names no key; posts are locked, so the account is missing
}
"""Domain errors by violated constraint: its name, or on SQLite its column."""


class SqlUnitOfWork:
    """The repositories of one transaction, each made on demand."""

    def __init__(self, link: Link) -> None:
        self._link = link

    @property
    def users(self) -> SqlUserRepository:
        """Accounts."""
        return SqlUserRepository(self._link)

    @property
    def sessions(self) -> SqlSessionRepository:
        """Sessions."""
        return SqlSessionRepository(self._link)

    @property
    def posts(self) -> SqlPostRepository:
        """Posts."""
        return SqlPostRepository(self._link)

    @property
    def votes(self) -> SqlVoteRepository:
        """Votes."""
        return SqlVoteRepository(self._link)

    @property
    def idempotency(self) -> SqlIdempotencyStore:
        """Responses stored under idempotency keys."""
        return SqlIdempotencyStore(self._link)

    @property
    def post_reader(self) -> SqlPostReader:
        """Posts as the transaction sees them."""
        return SqlPostReader(lambda: nullcontext(self._link))


class SqlUnitOfWorkFactory:
    """Opens transactions on a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextmanager
    def __call__(self) -> Iterator[SqlUnitOfWork]:
        """Open a transaction: leaving the block commits, an exception rolls back.

        Raises:
            DomainError: a constraint refuses a row.
            Unavailable: the database cannot be reached or is busy.
        """
        try:
            with self._database.write() as link:
                yield SqlUnitOfWork(link)
        except (IntegrityError, psycopg2.IntegrityError) as error:
            raise _refusal(error) from error


def _refusal(error: Exception) -> DomainError | Exception:
    refusal = REFUSALS.get(violated(error))
    return refusal() if refusal else error
