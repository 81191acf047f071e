"""What is counted, and that it is counted once, by one worker and by several."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from application.errors import Unavailable
from domain.votes import Outcome
from infrastructure.metrics import Metrics
from infrastructure.prometheus import PrometheusMetrics, counting_together
from tests.support.metrics import values


def test_requests_are_counted_and_timed() -> None:
    metrics = PrometheusMetrics()
    for seconds in (0.002, 0.2):
        metrics.responded("GET", "/posts", 200, seconds)
    metrics.responded("GET", "/posts", 503, 2)

    page = metrics.page()
    counted = {("GET", "/posts", "200"): 2, ("GET", "/posts", "503"): 1}
    assert values(page, "agora_http_requests_total") == counted
    assert values(page, "agora_http_errors_total") == {("500",): 0, ("503",): 1}
    assert values(page, "agora_http_request_duration_seconds_count") == {("GET", "/posts"): 3}
    assert values(page, "agora_http_request_duration_seconds_sum") == {("GET", "/posts"): pytest.approx(2.202)}
    assert values(page, "agora_http_request_duration_seconds_bucket")["0.25", "GET", "/posts"] == 2


def test_counters_start_at_zero_on_the_page() -> None:
    page = PrometheusMetrics().page()
    assert values(page, "agora_http_errors_total") == {("500",): 0, ("503",): 0}
    assert values(page, "agora_votes_total") == {(outcome.name.lower(),): 0 for outcome in Outcome}
    assert values(page, "agora_throttled_total") == {("password",): 0, ("registration",): 0}
    assert values(page, "agora_transactions_retried_total") == {(): 0}


def test_votes_refusals_and_repetitions_are_counted() -> None:
    metrics = PrometheusMetrics()
    metrics.voted(Outcome.CHANGED)
    metrics.throttled("password")
    metrics.retried()

    page = metrics.page()
    assert values(page, "agora_votes_total")["changed",] == 1
    assert values(page, "agora_throttled_total")["password",] == 1
    assert values(page, "agora_transactions_retried_total") == {(): 1}


@pytest.mark.parametrize(
    ("name", "gauge"),
    [
        ("connections_in_use", "agora_database_connections_in_use"),
        ("connections_waiting", "agora_database_connections_waiting"),
        ("hashes_running", "agora_password_hashes_running"),
        ("hashes_waiting", "agora_password_hashes_waiting"),
    ],
)
def test_gauges_count_operations_in_progress(name: str, gauge: str) -> None:
    metrics = PrometheusMetrics()
    span = getattr(metrics, name)
    with span:
        with span:
            assert values(metrics.page(), gauge) == {(): 2}
        assert values(metrics.page(), gauge) == {(): 1}
    assert values(metrics.page(), gauge) == {(): 0}


def test_disabled_metrics_store_nothing() -> None:
    metrics = Metrics()
    metrics.responded("GET", "/posts", 200, 1)
    metrics.retried()
    with metrics.connections_in_use, metrics.hashes_waiting:
        assert metrics.page() is None


WORKER = """
import os, signal, sys
from domain.votes import Outcome
from infrastructure.prometheus import PrometheusMetrics

metrics = PrometheusMetrics()
metrics.responded("GET", "/posts", 200, 0.01)
metrics.voted(Outcome.ADDED)
with metrics.connections_in_use:
    if sys.argv[1] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    print(metrics.page().decode())
"""


def work(how: str) -> str:
    """Let another worker count something; it is killed in the midst of its work, or shows the page."""
    return subprocess.run([sys.executable, "-c", WORKER, how], capture_output=True, text=True, check=False).stdout


def test_workers_share_totals_and_drop_the_gauges_of_dead_ones() -> None:
    with counting_together(2):
        for _ in range(2):
            work("die")
        page = work("show")

    assert values(page, "agora_http_requests_total") == {("GET", "/posts", "200"): 3}
    assert values(page, "agora_http_request_duration_seconds_count") == {("GET", "/posts"): 3}
    assert values(page, "agora_votes_total")["added",] == 3
    assert values(page, "agora_database_connections_in_use") == {(): 1}


def folders() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("agora-metrics-*"))


def test_folder_for_metrics_exists_while_workers_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with counting_together(1):
        assert not folders()
    with counting_together(2):
        assert [str(folder) for folder in folders()] == [os.environ["PROMETHEUS_MULTIPROC_DIR"]]
    assert not folders()
    assert "PROMETHEUS_MULTIPROC_DIR" not in os.environ


def test_folder_that_cannot_be_created_is_reported_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(Unavailable, match="TMPDIR"), counting_together(2):
        pass
