"""The system's clock."""

from datetime import UTC, datetime


class SystemClock:
    """Tells the time of this machine."""

    def now(self) -> datetime:
        """Tell the present moment in UTC, to the microsecond."""
        return datetime.now(UTC)
