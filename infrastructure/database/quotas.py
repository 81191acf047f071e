"""Quotas in SQL: a constraint refuses what exceeds them, so no count is read."""

from datetime import datetime
from math import ceil
from typing import Any, Final

from sqlalchemy import bindparam, case, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from application.ports.storage import ID_MAX
from infrastructure.database.pipeline import Querier, Statement
from infrastructure.database.tables import quotas


def _charge(insert: Any) -> Any:
    """Add to the counts of the window, or begin those of another one."""
    new = insert(quotas)
    is_same = quotas.c.ends_at == new.excluded.ends_at
    counts = {
        name: case((is_same, quotas.c[name] + new.excluded[name]), else_=new.excluded[name])
        for name in ("rows", "bytes")
    }
    given = {name: new.excluded[name] for name in ("ends_at", "max_rows", "max_bytes")}
    return new.on_conflict_do_update(index_elements=[quotas.c.user_id], set_=counts | given)


CHARGE: Final = Statement(_charge(postgresql.insert), sqlite=_charge(sqlite.insert))
DELETE: Final = Statement(
    delete(quotas).where(
        quotas.c.user_id.in_(
            select(quotas.c.user_id)
            .where(quotas.c.user_id == bindparam("of_user"))
            .with_for_update(skip_locked=True)  # a writer that holds it waits for the account, which is locked
        )
    )
)


class SqlQuotaStore:
    """Quotas inside one transaction."""

    def __init__(self, querier: Querier) -> None:
        self._querier = querier
        self.seconds_left = 0
        """Of the window that was charged last."""

    def charge(
        self, user_id: int, written: tuple[int, int], limits: tuple[int, int], now: datetime, ends_at: datetime
    ) -> None:
        """Count rows and bytes against their limits."""
        self.seconds_left = ceil((ends_at - now).total_seconds())
        (rows, size), (max_rows, max_size) = written, limits
        values = {"user_id": user_id, "rows": rows, "bytes": size, "ends_at": ends_at}
        self._querier.enqueue(CHARGE, values | {"max_rows": max_rows or ID_MAX, "max_bytes": max_size or ID_MAX})
