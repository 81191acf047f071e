"""What is measured while serving, and the implementation that measures nothing."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final

from application.ports.services import NoMeter

Span = AbstractContextManager[object]
"""A gauge of operations in progress: entered and left by any number of threads."""

UNMEASURED: Final[Span] = nullcontext()


@dataclass(eq=False)
class Metrics(NoMeter):
    """The metrics of Agora; this implementation records nothing."""

    connections_in_use: Span = UNMEASURED
    connections_waiting: Span = UNMEASURED
    hashes_running: Span = UNMEASURED
    hashes_waiting: Span = UNMEASURED

    def responded(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count and time a finished request, by the template of its route."""

    def retried(self) -> None:
        """Count a retry of a transaction."""

    def page(self) -> bytes | None:
        """Render the metrics in Prometheus' text format; None without metrics."""
        return None


NO_METRICS: Final = Metrics()
