"""Throttling, counted in the application's own database: it holds across workers and restarts."""

from collections.abc import Sequence
from datetime import datetime
from math import ceil
from typing import Any, Final

from sqlalchemy import bindparam, case, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from application.views import Attempt
from domain.errors import TooManyRequests
from infrastructure.database.engine import Database
from infrastructure.database.pipeline import Querier
from infrastructure.database.tables import attempts

FORGOTTEN_AT_ONCE: Final = 10
"""Passed buckets that counting clears away: more than it makes, so they never pile up."""

_PASSED: Final = attempts.c.ends_at <= bindparam("now")


def _count(insert: Any) -> Any:
    """Count one more, or begin anew where the window has passed: one statement, exact whoever else counts."""
    new = insert(attempts).values(bucket=bindparam("bucket"), count=1, ends_at=bindparam("window_end"))
    return new.on_conflict_do_update(
        index_elements=[attempts.c.bucket],
        set_={
            "count": case((_PASSED, 1), else_=attempts.c.count + 1),
            "ends_at": case((_PASSED, new.excluded.ends_at), else_=attempts.c.ends_at),
        },
    ).returning(attempts.c.count, attempts.c.ends_at)


COUNT: Final = {"postgresql": _count(postgresql.insert), "sqlite": _count(sqlite.insert)}
READ: Final = select(attempts.c.count.label("tried"), attempts.c.ends_at).where(
    attempts.c.bucket == bindparam("bucket"), attempts.c.ends_at > bindparam("now")
)
FORGET: Final = delete(attempts).where(attempts.c.bucket == bindparam("bucket"))
FORGET_PASSED: Final = delete(attempts).where(
    attempts.c.bucket.in_(
        select(attempts.c.bucket)
        .where(_PASSED)
        .order_by(attempts.c.ends_at)
        .limit(FORGOTTEN_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
)


class SqlThrottle:
    """Counts attempts in short transactions of their own."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def count(self, tried: Sequence[Attempt], now: datetime) -> None:
        """Count one attempt against each limit."""
        with self._database.write() as querier:
            rows = [(attempt, self._counted(querier, attempt, now)) for attempt in tried if attempt.limit]
            querier.execute(FORGET_PASSED, {"now": now})
        over = [ends_at for attempt, (count, ends_at) in rows if count > attempt.limit]
        if over:
            raise TooManyRequests(_seconds(now, max(over)))

    def require_open(self, tried: Sequence[Attempt], now: datetime) -> None:
        """Refuse where a limit is reached already."""
        with self._database.read() as querier:
            rows = [
                (attempt, querier.execute(READ, {"bucket": attempt.bucket, "now": now}).first())
                for attempt in tried
                if attempt.limit
            ]
        full = [row.ends_at for attempt, row in rows if row is not None and row.tried >= attempt.limit]
        if full:
            raise TooManyRequests(_seconds(now, max(full)))

    def forget(self, attempt: Attempt) -> None:
        """Forget what was counted against a limit."""
        with self._database.write() as querier:
            querier.execute(FORGET, {"bucket": attempt.bucket})

    @staticmethod
    def _counted(querier: Querier, attempt: Attempt, now: datetime) -> tuple[int, datetime]:
        values = {"bucket": attempt.bucket, "window_end": now + attempt.window, "now": now}
        connection = querier.connection
        count, ends_at = connection.execute(COUNT[connection.dialect.name], values).one()
        return count, ends_at


class NoThrottle:
    """Counts nothing and refuses nothing."""

    def count(self, tried: Sequence[Attempt], now: datetime) -> None:
        """Count nothing."""

    def require_open(self, tried: Sequence[Attempt], now: datetime) -> None:
        """Let everybody pass."""

    def forget(self, attempt: Attempt) -> None:
        """Forget nothing: there is nothing."""


def _seconds(now: datetime, until: datetime) -> int:
    return max(1, ceil((until - now).total_seconds()))
