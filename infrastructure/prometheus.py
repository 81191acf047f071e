"""Metrics in Prometheus' text format."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from application.errors import Unavailable
from application.ports.services import Attempted
from domain.votes import Outcome
from infrastructure.metrics import Metrics, Span

FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that names the folder which workers share; prometheus-client reads it."""

BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds, from a vote on an idle machine to the longest wait for a database."""


class PrometheusMetrics(Metrics):
    """Records metrics in memory, or in files that all workers share.

    `PROMETHEUS_MULTIPROC_DIR` names the folder of these files.
    """

    def __init__(self) -> None:
        disable_created_metrics()  # they would double the page with creation times
        self._registry = CollectorRegistry()
        self._requests = self._counter("http_requests", "Finished requests.", "method", "route", "status")
        errors = self._counter("http_errors", "Responses with status 500 or 503.", "status")
        self._errors = {status: errors.labels(str(status)) for status in (500, 503)}
        self._seconds = Histogram(
            "agora_http_request_duration_seconds",
            "Seconds from the head of a request to the end of its response.",
            ("method", "route"),
            registry=self._registry,
            buckets=BUCKETS,
        )
        self._labelled: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self.connections_in_use = self._span("database_connections_in_use", "Database connections in use.")
        self.connections_waiting = self._span(
            "database_connections_waiting",
            "Requests that wait for a database connection, a slot for a row, or SQLite's writer.",
        )
        self.hashes_running = self._span("password_hashes_running", "Passwords being hashed or verified.")
        self.hashes_waiting = self._span(
            "password_hashes_waiting", "Requests that wait for a thread that hashes passwords."
        )
        throttled = self._counter("throttled", "Attempts refused by a rate limit.", "attempt")
        self._throttled = {attempt: throttled.labels(attempt) for attempt in ("password", "registration")}
        self._retried = self._counter("transactions_retried", "Transactions retried after a conflict.")
        votes = self._counter("votes", "Votes, by their effect on the voter's earlier vote.", "outcome")
        self._votes = {outcome: votes.labels(outcome.name.lower()) for outcome in Outcome}

    def responded(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count and time a finished request."""
        key = (method, route, status)
        if key not in self._labelled:  # looking labels up takes longer than counting
            self._labelled[key] = (self._requests.labels(*key), self._seconds.labels(method, route))
        requests, duration = self._labelled[key]
        requests.inc()
        duration.observe(seconds)
        if status in self._errors:
            self._errors[status].inc()

    def voted(self, outcome: Outcome) -> None:
        """Count a vote."""
        self._votes[outcome].inc()

    def throttled(self, attempt: Attempted) -> None:
        """Count a refusal."""
        self._throttled[attempt].inc()

    def retried(self) -> None:
        """Count a retry of a transaction."""
        self._retried.inc()

    def page(self) -> bytes:
        """Render the metrics of all workers, past ones included."""
        folder = os.environ.get(FOLDER)
        if not folder:
            return generate_latest(self._registry)
        _drop_dead_workers(Path(folder))
        registry = CollectorRegistry()
        MultiProcessCollector(registry, folder)
        return generate_latest(registry)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"agora_{name}_total", meaning, labels, registry=self._registry)

    def _span(self, name: str, meaning: str) -> Span:
        gauge = Gauge(f"agora_{name}", meaning, registry=self._registry, multiprocess_mode="livesum")
        return gauge.track_inprogress()


@contextmanager
def counting_together(workers: int) -> Iterator[None]:
    """Share a folder for metrics among workers started in the block, then remove it.

    Raises:
        Unavailable: the folder cannot be created.
    """
    if workers == 1:
        yield
        return
    try:
        folder = TemporaryDirectory(prefix="agora-metrics-")
    except OSError as error:
        raise Unavailable(
            f"the folder for metrics cannot be created: {error.strerror}; set TMPDIR to a writable folder"
        ) from None
    with folder as path:
        os.environ[FOLDER] = path
        try:
            yield
        finally:
            del os.environ[FOLDER]


def _drop_dead_workers(folder: Path) -> None:
    """Drop the gauges of killed workers, which stay up otherwise. Their totals remain."""
    for file in folder.glob("gauge_live*_*.db"):
        worker = int(file.stem.rpartition("_")[2])
        if not _is_alive(worker):
            with suppress(FileNotFoundError):  # another worker removed it first
                mark_process_dead(worker, str(folder))


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, PermissionError):  # PermissionError: the id belongs to another user's process by now
        return False
    return True
