"""The dashboard in SQL."""

from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, func, literal_column, select

from application.views import Dashboard, EntityCounts, TopPost
from infrastructure.database.pipeline import Statement
from infrastructure.database.sql import ConnectionProvider
from infrastructure.database.tables import COUNTED, posts

TOP: Final = 10

_COUNTED: Final = [select(func.count()).select_from(table) for table in COUNTED]
_NEW: Final = [
    counted.where(table.c.created_at >= bindparam("since")) for counted, table in zip(_COUNTED, COUNTED, strict=True)
]
COUNTS: Final = Statement(select(*(counted.scalar_subquery() for counted in (*_COUNTED, *_NEW))))
TOP_POSTS: Final = Statement(
    select(posts.c.id, posts.c.title, posts.c.score)
    .where(posts.c.published)
    .order_by(posts.c.score.desc(), posts.c.id.desc())
    .limit(literal_column(str(TOP)))
)


class SqlDashboardReader:
    """Query for the dashboard. It counts whole tables, so only for administrators."""

    def __init__(self, connect: ConnectionProvider) -> None:
        self._connect = connect

    def get(self, since: datetime) -> Dashboard:
        """Count all rows and those created since; rank the posts with most votes."""
        with self._connect() as querier:
            ((*counts,),) = querier.fetch_all(COUNTS, {"since": since})
            top = querier.fetch_all(TOP_POSTS, {})
        names, half = [table.name for table in COUNTED], len(COUNTED)
        total, new = (EntityCounts(**dict(zip(names, part, strict=True))) for part in (counts[:half], counts[half:]))
        return Dashboard(total, new, tuple(TopPost(*row) for row in top))
