"""Sessions in SQL: statements, and the repository that executes them."""

from datetime import datetime
from typing import Final

from sqlalchemy import Integer, bindparam, delete, insert, select, update

from domain.sessions import RefreshHashes, Session
from infrastructure.database.pipeline import Querier, Statement
from infrastructure.database.sql import columns_of, is_id
from infrastructure.database.tables import sessions

INSERT: Final = Statement(
    insert(sessions)
    .values({column.name: bindparam(column.name) for column in sessions.c if column is not sessions.c.id})
    .returning(sessions.c.id)
)
LOCK_FAMILY: Final = Statement(
    select(*columns_of(sessions, Session), sessions.c.refresh_family, sessions.c.refresh_secret)
    .where(sessions.c.refresh_family == bindparam("family"))
    .with_for_update()
)
SAVE: Final = Statement(
    update(sessions)
    .where(sessions.c.id == bindparam("session_id"))
    .values({name: bindparam(name) for name in ("created_at", "last_used_at", "ends_at", "refresh_secret")})
)
_OF_USER: Final = delete(sessions).where(sessions.c.user_id == bindparam("of_user"))
DELETE: Final = Statement(_OF_USER.where(sessions.c.id == bindparam("session_id")).returning(sessions.c.id))
DELETE_ALL_BUT: Final = Statement(_OF_USER.where(sessions.c.id != bindparam("session_id")))
DELETE_ENDED: Final = Statement(_OF_USER.where(sessions.c.ends_at <= bindparam("now")))
DELETE_IDLEST: Final = Statement(
    _OF_USER.where(
        sessions.c.id.in_(
            select(sessions.c.id)
            .where(sessions.c.user_id == bindparam("of_user"))
            .order_by(sessions.c.last_used_at.desc(), sessions.c.id.desc())
            .offset(bindparam("keep", type_=Integer))
        )
    )
)


class SqlSessionRepository:
    """Sessions inside one transaction."""

    def __init__(self, querier: Querier) -> None:
        self._querier = querier

    def add(self, session: Session) -> Session:
        """Store a new session."""
        row = {
            "user_id": session.user_id,
            "created_at": session.created_at,
            "last_used_at": session.last_used_at,
            "ends_at": session.ends_at,
            "user_agent": session.user_agent,
            "refresh_family": session.refresh.family,
            "refresh_secret": session.refresh.secret,
        }
        ((session_id,),) = self._querier.fetch_all(INSERT, row)
        return session.with_id(session_id)

    def lock_family(self, family: str) -> Session | None:
        """Return the session of a refresh token and lock it against changes."""
        row = self._querier.fetch_one(LOCK_FAMILY, {"family": family})
        if row is None:
            return None
        session_id, user_id, created_at, last_used_at, user_agent, family, secret = row
        return Session(session_id, user_id, created_at, last_used_at, user_agent, RefreshHashes(family, secret))

    def save(self, session: Session) -> None:
        """Store the rotation of a locked session."""
        self._querier.enqueue(
            SAVE,
            {
                "session_id": session.id,
                "created_at": session.created_at,
                "last_used_at": session.last_used_at,
                "ends_at": session.ends_at,
                "refresh_secret": session.refresh.secret,
            },
        )

    def remove(self, user_id: int, session_id: int) -> bool:
        """Remove one session of an account."""
        values = {"of_user": user_id, "session_id": session_id}
        return is_id(session_id) and self._querier.fetch_one(DELETE, values) is not None

    def remove_all(self, user_id: int, *, but: int = 0) -> None:
        """Remove every session of an account except one."""
        self._querier.enqueue(DELETE_ALL_BUT, {"of_user": user_id, "session_id": but})

    def remove_ended(self, user_id: int, now: datetime) -> None:
        """Remove the sessions of an account that have ended."""
        self._querier.enqueue(DELETE_ENDED, {"of_user": user_id, "now": now})

    def remove_idlest(self, user_id: int, *, keep: int) -> None:
        """Remove the sessions of an account except those used last."""
        self._querier.enqueue(DELETE_IDLEST, {"of_user": user_id, "keep": keep})
