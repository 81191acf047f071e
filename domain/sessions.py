"""Sessions: what signing in opens. A session lives as long as it is used, and never beyond its end."""

import hmac
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from domain.errors import NotFound

LIFETIME: Final = timedelta(days=30)
IDLE: Final = timedelta(days=7)
USER_AGENT_MAX: Final = 200


class SessionNotFound(NotFound):
    code = "session-not-found"

    def __init__(self, session_id: int) -> None:
        super().__init__(f"session with id: {session_id} not found")


@dataclass(frozen=True, slots=True)
class RefreshHashes:
    """A refresh token as storage knows it: hashes of the part that stays with its session and of the part spent."""

    family: str
    secret: str


@dataclass(frozen=True, slots=True)
class Session:
    """One sign-in on one device. `refresh` is the one refresh token that is not spent yet."""

    id: int
    user_id: int
    created_at: datetime
    last_used_at: datetime
    user_agent: str
    refresh: RefreshHashes

    @classmethod
    def open(cls, *, user_id: int, user_agent: str, refresh: RefreshHashes, now: datetime) -> "Session":
        """Open a session; storage gives it its id."""
        return cls(0, user_id, now, now, user_agent[:USER_AGENT_MAX], refresh)

    def with_id(self, session_id: int) -> "Session":
        """Give the session the id that storage chose."""
        return replace(self, id=session_id)

    @property
    def ends_at(self) -> datetime:
        """When it ends unless it is used: 7 days after its last use, and 30 after it was opened whatever happens."""
        return min(self.created_at + LIFETIME, self.last_used_at + IDLE)

    def rotated(self, shown: RefreshHashes, fresh: RefreshHashes, now: datetime) -> "Session | None":
        """Exchange the refresh token that was shown for a fresh one; None means that the session must end.

        A token of this session that is not the latest has been spent before: somebody has a copy, and nobody can
        tell who (RFC 9700, section 4.14.2).
        """
        if now >= self.ends_at or not hmac.compare_digest(self.refresh.secret, shown.secret):
            return None
        return replace(self, refresh=fresh, last_used_at=now)
