"""Sessions: one per sign-in. Use prolongs a session, up to a fixed lifetime."""

import hmac
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from domain.errors import NotFound

LIFETIME: Final = timedelta(days=30)
IDLE: Final = timedelta(days=7)
USER_AGENT_MAX: Final = 200
SESSIONS_MAX: Final = 100
"""Sessions of one account: beyond it a sign-in ends the one that was used longest ago."""


class SessionNotFound(NotFound):
    code = "session-not-found"

    def __init__(self, session_id: int) -> None:
        super().__init__(f"session with id: {session_id} not found")


@dataclass(frozen=True, slots=True)
class RefreshHashes:
    """Hashes of a refresh token: of the session's family and of its own secret."""

    family: str
    secret: str


@dataclass(frozen=True, slots=True)
class Session:
    """One sign-in on one device. `refresh` is the only refresh token not used yet."""

    id: int
    user_id: int
    created_at: datetime
    last_used_at: datetime
    user_agent: str
    refresh: RefreshHashes

    @classmethod
    def open(cls, *, user_id: int, user_agent: str, refresh: RefreshHashes, now: datetime) -> "Session":
        """Make a session with id 0; storage assigns the id."""
        return cls(0, user_id, now, now, user_agent[:USER_AGENT_MAX], refresh)

    def with_id(self, session_id: int) -> "Session":
        """Return the session with the id that storage assigned."""
        return replace(self, id=session_id)

    @property
    def ends_at(self) -> datetime:
        """End of the session: 7 days after its last use, 30 after it was opened."""
        return min(self.created_at + LIFETIME, self.last_used_at + IDLE)

    def rotated(
        self, presented: RefreshHashes, fresh: RefreshHashes, now: datetime, overlap: timedelta = timedelta()
    ) -> "Session | None":
        """Replace the presented refresh token; None means that the session must end.

        A token of this session that is not the latest was used before: a copy of it exists, and Agora cannot tell
        the owner from the thief (RFC 9700, section 4.14.2). For the time of `overlap` it may be a request repeated or
        sent twice: if `fresh` is the latest token, and so its unused successor, the session stays as it is.

        A session opened in the future, before the clock was set back, counts from now.
        """
        if now >= self.ends_at:
            return None
        if hmac.compare_digest(self.refresh.secret, presented.secret):
            return replace(self, refresh=fresh, created_at=min(self.created_at, now), last_used_at=now)
        is_successor = hmac.compare_digest(self.refresh.secret, fresh.secret)
        # Absolute, since the token may have been used at a server whose clock is ahead.
        return self if is_successor and abs(now - self.last_used_at) < overlap else None
