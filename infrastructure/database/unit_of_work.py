"""One connection, one transaction, all repositories."""

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
    "FOREIGN KEY constraint failed": InvalidToken,  # SQLite does not say which; posts are locked, so an account is gone
}
"""What the database's refusals mean, by the constraint's name on PostgreSQL, by the column on SQLite."""


class SqlUnitOfWork:
    """The repositories of one transaction."""

    def __init__(self, link: Link) -> None:
        self.users = SqlUserRepository(link)
        self.sessions = SqlSessionRepository(link)
        self.posts = SqlPostRepository(link)
        self.votes = SqlVoteRepository(link)
        self.idempotency = SqlIdempotencyStore(link)
        self.post_reader = SqlPostReader(lambda: nullcontext(link))


class SqlUnitOfWorkFactory:
    """Opens transactions on a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextmanager
    def __call__(self) -> Iterator[SqlUnitOfWork]:
        """Open a transaction: leaving the block commits, an exception undoes everything.

        Raises:
            DomainError: the database refuses what was stored.
            Unavailable: the database cannot answer now.
        """
        try:
            with self._database.write() as link:
                yield SqlUnitOfWork(link)
        except (IntegrityError, psycopg2.IntegrityError) as error:
            raise _refusal(error) from error


def _refusal(error: Exception) -> DomainError | Exception:
    refusal = REFUSALS.get(violated(error))
    return refusal() if refusal else error
