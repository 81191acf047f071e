"""Sessions in SQL: statements, then the repository that sends them."""

from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, bindparam, delete, insert, select, update

from domain.sessions import RefreshHashes, Session
from infrastructure.database.links import Link
from infrastructure.database.sql import inserted_id, is_id
from infrastructure.database.tables import sessions

INSERT: Final = insert(sessions)
LOCK_FAMILY: Final = (
    select(
        sessions.c.id,
        sessions.c.user_id,
        sessions.c.created_at,
        sessions.c.last_used_at,
        sessions.c.user_agent,
        sessions.c.refresh_family,
        sessions.c.refresh_secret,
    )
    .where(sessions.c.refresh_family == bindparam("family"))
    .with_for_update()
)
SAVE: Final = (
    update(sessions)
    .where(sessions.c.id == bindparam("session_id"))
    .values({name: bindparam(name) for name in ("last_used_at", "ends_at", "refresh_secret")})
)
_OF_USER: Final = delete(sessions).where(sessions.c.user_id == bindparam("of_user"))
DELETE: Final = _OF_USER.where(sessions.c.id == bindparam("session_id"))
DELETE_ALL_BUT: Final = _OF_USER.where(sessions.c.id != bindparam("session_id"))
DELETE_ENDED: Final = _OF_USER.where(sessions.c.ends_at <= bindparam("now"))


class SqlSessionRepository:
    """Writes sessions inside one transaction."""

    def __init__(self, link: Link) -> None:
        self._link = link

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
        return session.with_id(inserted_id(self._link.execute(INSERT, row)))

    def lock_family(self, family: str) -> Session | None:
        """Find the session of a refresh token, and keep everybody else from changing it."""
        row = self._link.execute(LOCK_FAMILY, {"family": family}).first()
        return None if row is None else _session(row)

    def save(self, session: Session) -> None:
        """Store the rotation of a locked session."""
        self._link.execute(
            SAVE,
            {
                "session_id": session.id,
                "last_used_at": session.last_used_at,
                "ends_at": session.ends_at,
                "refresh_secret": session.refresh.secret,
            },
        )

    def remove(self, user_id: int, session_id: int) -> bool:
        """End one session of an account."""
        values = {"of_user": user_id, "session_id": session_id}
        return is_id(session_id) and self._link.execute(DELETE, values).rowcount > 0

    def remove_all(self, user_id: int, *, but: int = 0) -> None:
        """End every session of an account, but for one."""
        self._link.execute(DELETE_ALL_BUT, {"of_user": user_id, "session_id": but})

    def remove_ended(self, user_id: int, now: datetime) -> None:
        """Forget the sessions of an account that have come to their end."""
        self._link.execute(DELETE_ENDED, {"of_user": user_id, "now": now})


def _session(row: Row[*tuple[Any, ...]]) -> Session:
    return Session(
        id=row.id,
        user_id=row.user_id,
        created_at=row.created_at,
        last_used_at=row.last_used_at,
        user_agent=row.user_agent,
        refresh=RefreshHashes(row.refresh_family, row.refresh_secret),
    )
