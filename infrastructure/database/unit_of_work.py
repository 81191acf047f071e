"""Unit of work in SQL: one connection, one transaction, all repositories."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import psycopg2
from sqlalchemy.exc import IntegrityError

from domain.errors import QuotaExceeded
from infrastructure.database.engine import Database
from infrastructure.database.errors import QUOTA_CONSTRAINTS, constraint_error, violated_constraint
from infrastructure.database.idempotency import SqlIdempotencyStore
from infrastructure.database.pipeline import Querier
from infrastructure.database.posts import SqlPostReader, SqlPostRepository
from infrastructure.database.quotas import SqlQuotaStore
from infrastructure.database.sessions import SqlSessionRepository
from infrastructure.database.users import SqlUserRepository
from infrastructure.database.votes import SqlVoteRepository


class SqlUnitOfWork:
    """The repositories of one transaction, each made on demand."""

    def __init__(self, querier: Querier) -> None:
        self._querier = querier
        self.quotas = SqlQuotaStore(querier)

    @property
    def users(self) -> SqlUserRepository:
        """Accounts."""
        return SqlUserRepository(self._querier)

    @property
    def sessions(self) -> SqlSessionRepository:
        """Sessions."""
        return SqlSessionRepository(self._querier)

    @property
    def posts(self) -> SqlPostRepository:
        """Posts."""
        return SqlPostRepository(self._querier)

    @property
    def votes(self) -> SqlVoteRepository:
        """Votes."""
        return SqlVoteRepository(self._querier)

    @property
    def idempotency(self) -> SqlIdempotencyStore:
        """Responses stored under idempotency keys."""
        return SqlIdempotencyStore(self._querier)

    @property
    def post_reader(self) -> SqlPostReader:
        """Posts as the transaction sees them."""
        return SqlPostReader(lambda: nullcontext(self._querier))


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
            with self._database.write() as querier:
                unit = SqlUnitOfWork(querier)
                yield unit
        except (IntegrityError, psycopg2.IntegrityError) as error:
            if violated_constraint(error) in QUOTA_CONSTRAINTS:
                raise QuotaExceeded(unit.quotas.seconds_left) from None
            raise (constraint_error(error) or error) from error
