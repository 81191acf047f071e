"""Services in memory: clock, hasher, tokens, meter, throttle and health."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from math import ceil
from threading import Condition, RLock

from application.ports.services import Attempted
from application.views import Attempt, Claims, FreshRefreshToken, SecurityEvent, SignedToken, Verification
from domain.sessions import RefreshHashes
from domain.users import InvalidToken
from domain.votes import Outcome


class FrozenClock:
    """A clock that moves only by `advance`."""

    def __init__(self, now: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def advance(self, by: timedelta) -> None:
        self._now += by


class MemoryTimer:
    """Waits for nothing, and keeps the seconds that it was asked to wait."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


class PlainHasher:
    """Hashes at no cost and keeps turns; `first:` marks outdated hashes, which cost 3 seconds more."""

    def __init__(self) -> None:
        self.verifications = 0
        self.turns: list[tuple[str, bool]] = []

    def hash(self, password: str, client: str = "") -> str:
        self.turns.append((client, False))
        return f"plain:{password}"

    def verify(
        self, password: str, password_hash: str | None, client: str = "", *, is_throttled: bool = False
    ) -> Verification:
        self.turns.append((client, is_throttled))
        self.verifications += 1
        is_right = password_hash in {f"plain:{password}", f"first:{password}"}
        return Verification(is_right, 0.0 if self.is_outdated(password_hash or "") else 3.0)

    def is_outdated(self, password_hash: str) -> bool:
        return password_hash.startswith("first:")

    def calibrate(self) -> None:
        pass


class PlainTokens:
    """Unsigned tokens, valid for an hour."""

    def issue(self, claims: Claims, now: datetime) -> SignedToken:
        return SignedToken(f"{claims.user_id}:{claims.session_id}:{now.isoformat()}", 3600)

    def read(self, token: str, now: datetime) -> Claims:
        try:
            user_id, session_id, issued = token.split(":", 2)
            if now - datetime.fromisoformat(issued) < timedelta(hours=1):
                return Claims(int(user_id), int(session_id))
        except ValueError:
            pass
        raise InvalidToken


class NumberedRefreshTokens:
    """Numbered refresh tokens: those of family 1 are 1.1, 1.2 and so on."""

    def __init__(self) -> None:
        self._families = 0

    def first(self) -> FreshRefreshToken:
        self._families += 1
        return self.successors(f"{self._families}.0")[0]

    def successors(self, token: str) -> Sequence[FreshRefreshToken]:
        spent = self.hashes(token)
        fresh = RefreshHashes(spent.family, str(int(spent.secret) + 1))
        return [FreshRefreshToken(f"{fresh.family}.{fresh.secret}", fresh)]

    def hashes(self, token: str) -> RefreshHashes:
        family, _, secret = token.partition(".")
        if not secret.isdecimal():
            raise InvalidToken
        return RefreshHashes(family, secret)


class MemoryMeter:
    """Keeps what was counted in lists."""

    def __init__(self) -> None:
        self.votes: list[Outcome] = []
        self.refusals: list[Attempted] = []

    def voted(self, outcome: Outcome) -> None:
        self.votes.append(outcome)

    def throttled(self, attempt: Attempted) -> None:
        self.refusals.append(attempt)


class MemorySecurityLog:
    """Keeps events in a list."""

    def __init__(self) -> None:
        self.events: list[SecurityEvent] = []

    def record(self, event: SecurityEvent) -> None:
        self.events.append(event)


class CountingSpan:
    """Counts the entries into a span, and those inside now."""

    def __init__(self) -> None:
        self.inside = 0
        self.entered = 0
        self._changed = Condition()

    def __enter__(self) -> None:
        with self._changed:
            self.inside += 1
            self.entered += 1
            self._changed.notify_all()

    def __exit__(self, *_raised: object) -> None:
        with self._changed:
            self.inside -= 1
            self._changed.notify_all()

    def wait_for(self, inside: int) -> None:
        """Wait until this number is inside."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.inside == inside, 30)


class MemoryThrottle:
    """Throttle in memory."""

    def __init__(self) -> None:
        self._counts: dict[str, tuple[int, datetime]] = {}
        self._lock = RLock()

    def count(self, attempts: Sequence[Attempt], now: datetime) -> Sequence[int]:
        with self._lock:
            for attempt in (attempt for attempt in attempts if attempt.limit):
                count, ends_at = self._current(attempt, now)
                self._counts[attempt.bucket] = (count + 1, ends_at)
            return [self._seconds(attempt, now, attempt.limit + 1) for attempt in attempts]

    def remaining(self, attempts: Sequence[Attempt], now: datetime) -> Sequence[int]:
        with self._lock:
            return [self._seconds(attempt, now, attempt.limit) for attempt in attempts]

    def reset(self, attempts: Sequence[Attempt]) -> None:
        with self._lock:
            for attempt in attempts:
                self._counts.pop(attempt.bucket, None)

    def _seconds(self, attempt: Attempt, now: datetime, reached: int) -> int:
        count, ends_at = self._current(attempt, now)
        return ceil((ends_at - now).total_seconds()) if attempt.limit and count >= reached else 0

    def _current(self, attempt: Attempt, now: datetime) -> tuple[int, datetime]:
        latest = now + attempt.window
        count, ends_at = self._counts.get(attempt.bucket, (0, latest))
        return (count, min(ends_at, latest)) if now < ends_at else (0, latest)


class StaticHealth:
    """Health with fixed checks."""

    def __init__(self, **checks: str) -> None:
        self._checks = checks

    def checks(self) -> Mapping[str, str]:
        return self._checks
