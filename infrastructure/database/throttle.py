"""Throttle in the database: counts hold across workers and restarts."""

from collections.abc import Sequence
from datetime import datetime
from math import ceil
from typing import Any, Final

from sqlalchemy import ColumnElement, bindparam, case, delete, literal_column, select
from sqlalchemy.dialects import postgresql, sqlite

from application.views import Attempt
from infrastructure.database.engine import Database
from infrastructure.database.pipeline import Statement
from infrastructure.database.tables import attempts

DELETED_AT_ONCE: Final = 10
"""Expired buckets deleted with each count, so that they do not accumulate."""

ONE: Final[ColumnElement[int]] = literal_column("1")
_EXPIRED: Final = attempts.c.ends_at <= bindparam("now")


def _count(insert: Any) -> Any:
    """Count one more, from 1 after the window has ended, in one atomic statement."""
    new = insert(attempts).values(bucket=bindparam("bucket"), count=ONE, ends_at=bindparam("window_end"))
    return new.on_conflict_do_update(
        index_elements=[attempts.c.bucket],
        set_={
            "count": case((_EXPIRED, ONE), else_=attempts.c.count + ONE),
            "ends_at": case((_EXPIRED, new.excluded.ends_at), else_=attempts.c.ends_at),
        },
    ).returning(attempts.c.count, attempts.c.ends_at)


COUNT: Final = Statement(_count(postgresql.insert), sqlite=_count(sqlite.insert))
READ: Final = Statement(
    select(attempts.c.count, attempts.c.ends_at).where(
        attempts.c.bucket == bindparam("bucket"), attempts.c.ends_at > bindparam("now")
    )
)
DELETE: Final = Statement(delete(attempts).where(attempts.c.bucket == bindparam("bucket")))
DELETE_EXPIRED: Final = Statement(
    delete(attempts).where(
        attempts.c.bucket.in_(
            select(attempts.c.bucket)
            .where(_EXPIRED)
            .order_by(attempts.c.ends_at)
            .limit(literal_column(str(DELETED_AT_ONCE)))
            .with_for_update(skip_locked=True)
        )
    )
)


class SqlThrottle:
    """Counts attempts in short transactions of its own."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def count(self, attempts: Sequence[Attempt], now: datetime) -> int:
        """Count an attempt against each limit; return the seconds to wait, 0 if none."""
        limited = [attempt for attempt in attempts if attempt.limit]
        if not limited:
            return 0
        exceeded = []
        with self._database.write() as querier:
            for attempt in limited:
                values = {"bucket": attempt.bucket, "window_end": now + attempt.window, "now": now}
                ((count, ends_at),) = querier.fetch_all(COUNT, values)
                if count > attempt.limit:
                    exceeded.append(ends_at)
            querier.enqueue(DELETE_EXPIRED, {"now": now})
        return _seconds(now, exceeded)

    def remaining(self, attempts: Sequence[Attempt], now: datetime) -> int:
        """Return the seconds until no limit is reached; 0 if none is reached now."""
        limited = [attempt for attempt in attempts if attempt.limit]
        if not limited:
            return 0
        with self._database.read() as querier:
            rows = [(attempt, querier.fetch_one(READ, {"bucket": attempt.bucket, "now": now})) for attempt in limited]
        return _seconds(now, [row[1] for attempt, row in rows if row is not None and row[0] >= attempt.limit])

    def reset(self, attempt: Attempt) -> None:
        """Reset the count of a limit."""
        if attempt.limit:
            with self._database.write() as querier:
                querier.enqueue(DELETE, {"bucket": attempt.bucket})


def _seconds(now: datetime, ends: Sequence[datetime]) -> int:
    return ceil((max(ends, default=now) - now).total_seconds())
