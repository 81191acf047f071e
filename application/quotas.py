"""Quotas: what an account may write in an hour."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from application.ports.storage import UnitOfWork

HOUR: Final = timedelta(hours=1)
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Quota:
    """Rows and bytes that an account may write in an hour of the clock; 0 is no limit."""

    rows: int = 0
    size: int = 0

    def charge(self, tx: UnitOfWork, user_id: int, now: datetime, *texts: str, copies: int = 1) -> None:
        """Charge an account for writing texts as one row, or as several copies of it.

        The transaction fails with `QuotaExceeded` beyond the quota, at its commit at the latest.
        """
        if self.rows or self.size:
            ends_at = now + HOUR - (now - _EPOCH) % HOUR
            size = copies * sum(len(text.encode()) for text in texts)
            tx.quotas.charge(user_id, (copies, size), (self.rows, self.size), now, ends_at)


NO_QUOTA: Final = Quota()
