"""The system's clock."""

from datetime import UTC, datetime


class SystemClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        """Get the current time in UTC, to the microsecond."""
        return datetime.now(UTC)
