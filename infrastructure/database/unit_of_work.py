"""One connection, one transaction, all repositories."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from sqlalchemy import Connection

from infrastructure.database.engine import Database
from infrastructure.database.posts import SqlPostReader, SqlPostRepository
from infrastructure.database.sessions import SqlSessionRepository
from infrastructure.database.users import SqlUserRepository
from infrastructure.database.votes import SqlVoteRepository


class SqlUnitOfWork:
    """The repositories of one transaction."""

    def __init__(self, connection: Connection) -> None:
        self.users = SqlUserRepository(connection)
        self.sessions = SqlSessionRepository(connection)
        self.posts = SqlPostRepository(connection)
        self.votes = SqlVoteRepository(connection)
        self.posts_seen = SqlPostReader(lambda: nullcontext(connection))


class SqlUnitOfWorkFactory:
    """Opens transactions on a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextmanager
    def __call__(self) -> Iterator[SqlUnitOfWork]:
        """Open a transaction: leaving the block commits, an exception undoes everything.

        Raises:
            Unavailable: the database cannot answer now.
        """
        with self._database.write() as connection:
            yield SqlUnitOfWork(connection)
