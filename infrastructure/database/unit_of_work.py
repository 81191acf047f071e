"""Unit of work in SQL: one connection, one transaction, all repositories."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import psycopg2
from sqlalchemy.exc import IntegrityError

from application.ports.storage import UnitOfWork
from domain.errors import QuotaExceeded
from infrastructure.database.engine import Database
from infrastructure.database.errors import QUOTA_CONSTRAINTS, constraint_error, violated_constraint
from infrastructure.database.idempotency import SqlIdempotencyStore
from infrastructure.database.posts import SqlPostReader, SqlPostRepository
from infrastructure.database.quotas import SqlQuotaStore
from infrastructure.database.sessions import SqlSessionRepository
from infrastructure.database.users import SqlUserRepository
from infrastructure.database.votes import SqlVoteRepository


class SqlUnitOfWorkFactory:
    """Opens transactions on a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextmanager
    def __call__(self) -> Iterator[UnitOfWork]:
        """Open a transaction: leaving the block commits, an exception rolls back.

        Raises:
            DomainError: a constraint refuses a row.
            Unavailable: the database cannot be reached or is busy.
        """
        try:
            with self._database.write() as querier:
                quotas = SqlQuotaStore(querier)
                yield UnitOfWork(
                    users=SqlUserRepository(querier),
                    sessions=SqlSessionRepository(querier),
                    posts=SqlPostRepository(querier),
                    votes=SqlVoteRepository(querier),
                    idempotency=SqlIdempotencyStore(querier),
                    quotas=quotas,
                    post_reader=SqlPostReader(lambda: nullcontext(querier)),
                )
        except (IntegrityError, psycopg2.IntegrityError) as error:
            if violated_constraint(error) in QUOTA_CONSTRAINTS:
                raise QuotaExceeded(quotas.seconds_left) from None
            raise (constraint_error(error) or error) from error
