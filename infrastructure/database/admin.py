"""The whole at a glance, in SQL."""

from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, desc, func, select

from application.views import Counts, Dashboard, TopPost
from infrastructure.database.sql import Reading
from infrastructure.database.tables import posts, users, votes

TOP: Final = 10


COUNTS: Final = select(
    select(func.count()).select_from(users).scalar_subquery().label("users"),
    select(func.count()).select_from(posts).scalar_subquery().label("posts"),
    select(func.count()).select_from(votes).scalar_subquery().label("votes"),
    *(
        select(func.count())
        .select_from(table)
        .where(table.c.created_at >= bindparam("since"))
        .scalar_subquery()
        .label(f"new_{table.name}")
        for table in (users, posts, votes)
    ),
)
_SCORE: Final = (posts.c.upvotes - posts.c.downvotes).label("votes")
TOP_POSTS: Final = (
    select(posts.c.id, posts.c.title, _SCORE)
    .where(posts.c.published)
    .order_by(desc(_SCORE), posts.c.id.desc())
    .limit(TOP)
)


class SqlDashboardReader:
    """Counts and ranks. It reads whole tables: meant for a few administrators, not for every visitor."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def get(self, since: datetime) -> Dashboard:
        """Count everything, and what was made since, and rank the posts with the most votes."""
        with self._reading() as link:
            row = link.execute(COUNTS, {"since": since}).one()
            top = link.execute(TOP_POSTS).all()
        return Dashboard(
            total=Counts(row.users, row.posts, row.votes),
            last_24h=Counts(row.new_users, row.new_posts, row.new_votes),
            top_posts=tuple(TopPost(post.id, post.title, post.votes) for post in top),
        )
