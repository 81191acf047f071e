"""Throttle in the database: counts hold across workers and restarts."""

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from math import ceil
from typing import Any, Final

from sqlalchemy import ColumnElement, bindparam, case, delete, literal_column, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from application.views import Attempt
from infrastructure.database.engine import Database
from infrastructure.database.pipeline import Statement
from infrastructure.database.sql import delete_expired
from infrastructure.database.tables import attempts

ONE: Final[ColumnElement[int]] = literal_column("1")
_EXPIRED: Final = attempts.c.ends_at <= bindparam("now")


def _count(insert: Any, buckets: int) -> Any:
    """Count one more in each bucket, from 1 after its window, in one statement."""
    ends = [
        bindparam(f"end_{n}", type_=attempts.c.ends_at.type) for n in range(buckets)
    ]  # only the first would be typed
    new = insert(attempts).values(
        [{"bucket": bindparam(f"bucket_{n}"), "count": ONE, "ends_at": end} for n, end in enumerate(ends)]
    )
    is_future = attempts.c.ends_at > new.excluded.ends_at  # the window began before the clock was set back
    return new.on_conflict_do_update(
        index_elements=[attempts.c.bucket],
        set_={
            "count": case((_EXPIRED, ONE), else_=attempts.c.count + ONE),
            "ends_at": case((or_(_EXPIRED, is_future), new.excluded.ends_at), else_=attempts.c.ends_at),
        },
    ).returning(attempts.c.bucket, attempts.c.count, attempts.c.ends_at)


@lru_cache
def count_statement(buckets: int) -> Statement:
    """Build the statement that counts in this many buckets."""
    return Statement(_count(postgresql.insert, buckets), sqlite=_count(sqlite.insert, buckets))


@lru_cache
def read_statement(buckets: int) -> Statement:
    """Build the statement that reads this many buckets."""
    named = attempts.c.bucket.in_([bindparam(f"bucket_{number}") for number in range(buckets)])
    return Statement(select(attempts.c.bucket, attempts.c.count, attempts.c.ends_at).where(named, ~_EXPIRED))


DELETE: Final = Statement(delete(attempts).where(attempts.c.bucket == bindparam("bucket")))
DELETE_EXPIRED: Final = delete_expired(attempts)


class SqlThrottle:
    """Counts attempts in short transactions of its own."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def count(self, attempts: Sequence[Attempt], now: datetime) -> Sequence[int]:
        """Count an attempt against each limit, in their order: counts do not deadlock."""
        limited = [attempt for attempt in attempts if attempt.limit]
        if not limited:
            return [0] * len(attempts)
        ends = {f"end_{number}": now + attempt.window for number, attempt in enumerate(limited)}
        with self._database.write() as querier:
            values = {**_buckets(limited), **ends, "now": now}
            rows = querier.fetch_all(count_statement(len(limited)), values)
            querier.enqueue(DELETE_EXPIRED, {"now": now})
        return _seconds(attempts, rows, now, reached=1)

    def remaining(self, attempts: Sequence[Attempt], now: datetime) -> Sequence[int]:
        """Return for each limit the rest of its window if it is reached."""
        limited = [attempt for attempt in attempts if attempt.limit]
        if not limited:
            return [0] * len(attempts)
        with self._database.read() as querier:
            rows = querier.fetch_all(read_statement(len(limited)), {**_buckets(limited), "now": now})
        return _seconds(attempts, rows, now, reached=0)

    def reset(self, attempts: Sequence[Attempt]) -> None:
        """Reset the counts of limits."""
        limited = [attempt for attempt in attempts if attempt.limit]
        if limited:
            with self._database.write() as querier:
                for attempt in limited:
                    querier.enqueue(DELETE, {"bucket": attempt.bucket})


def _buckets(attempts: Sequence[Attempt]) -> dict[str, str]:
    return {f"bucket_{number}": attempt.bucket for number, attempt in enumerate(attempts)}


def _seconds(attempts: Sequence[Attempt], rows: Sequence[Any], now: datetime, reached: int) -> list[int]:
    """Return the rest of the window for each limit whose count is that much above it."""
    counts = {bucket: (count, ends_at) for bucket, count, ends_at in rows}
    found = [(attempt, *counts.get(attempt.bucket, (0, now))) for attempt in attempts]
    return [
        ceil((min(ends_at, now + attempt.window) - now).total_seconds())
        if attempt.limit and count >= attempt.limit + reached
        else 0
        for attempt, count, ends_at in found
    ]
