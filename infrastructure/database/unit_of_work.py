"""One connection, one transaction, all repositories."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import psycopg2
from sqlalchemy.exc import IntegrityError

from infrastructure.database.answers import SqlAnswerRepository
from infrastructure.database.engine import Database
from infrastructure.database.errors import constraint_error
from infrastructure.database.pipeline import Querier
from infrastructure.database.posts import SqlPostReader, SqlPostRepository
from infrastructure.database.sessions import SqlSessionRepository
from infrastructure.database.users import SqlUserRepository
from infrastructure.database.votes import SqlVoteRepository


class SqlUnitOfWork:
    """The repositories of one transaction."""

    def __init__(self, querier: Querier) -> None:
        self.users = SqlUserRepository(querier)
        self.sessions = SqlSessionRepository(querier)
        self.posts = SqlPostRepository(querier)
        self.votes = SqlVoteRepository(querier)
        self.answers = SqlAnswerRepository(querier)
        self.posts_seen = SqlPostReader(lambda: nullcontext(querier))


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
            with self._database.write() as querier:
                yield SqlUnitOfWork(querier)
        except (IntegrityError, psycopg2.IntegrityError) as error:
            raise (constraint_error(error) or error) from error
