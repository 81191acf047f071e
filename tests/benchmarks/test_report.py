from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.load import Measured
from benchmarks.report import Bar, Finding, Sample, findings_table, machine, put_between, ratio, samples_table

OURS = Measured(requests=6000, per_second=2345.6, p50=6, p99=9.46)
THEIRS = Measured(requests=300, per_second=117.28, p50=100, p99=312.5)


def test_a_ratio_is_judged_by_its_bar() -> None:
    finding = ratio("list against naive", OURS, THEIRS, Bar(15, goal=30))

    assert finding.value == pytest.approx(20)
    assert finding.is_met
    assert finding.cells() == (
        "list against naive, rate",
        "2,346/s, p99 9.46 ms",
        "117/s, p99 312 ms",
        "20.0",
        "at least 15.0, goal 30.0",
        "met",
    )
    assert not ratio("list", THEIRS, OURS, Bar(1)).is_met


def test_other_figures_are_compared_with_their_units() -> None:
    ours, theirs = replace(OURS, database=30), replace(THEIRS, database=120)

    latency = ratio("get against bun", ours, theirs, Bar(0.1, at_most=True), "p50").cells()
    processor = ratio("get against bun", ours, theirs, Bar(0.2, at_most=True), "database").cells()

    assert latency == ("get against bun, p50", "6.00 ms", "100 ms", "0.06", "at most 0.10", "met")
    assert processor[0] == "get against bun, processor time of PostgreSQL"
    assert processor[1:] == ("30.0 us", "120 us", "0.25", "at most 0.20", "NOT MET")


def test_a_sample_shows_rate_latency_and_processor_time() -> None:
    sample = Sample("list", 16, "bun", replace(OURS, server=186.4, database=1_192))

    *_, row = samples_table([sample]).splitlines()

    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        "list",
        "16",
        "bun",
        "2,346",
        "6.00",
        "9.46",
        "186",
        "1,192",
    ]


@pytest.mark.parametrize(("value", "verdict"), [(50.0, "met"), (50.1, "NOT MET")])
def test_a_latency_may_reach_its_bar_and_not_exceed_it(value: float, verdict: str) -> None:
    cells = Finding("search, p99", "", "", value, Bar(50, at_most=True), " ms").cells()

    assert cells[3:] == (f"{value:.1f} ms", "at most 50.0 ms", verdict)


def test_the_table_is_markdown_with_its_columns_aligned() -> None:
    table = findings_table([ratio("list", OURS, THEIRS, Bar(15)), ratio("a longer name", OURS, THEIRS, Bar(1))])

    head, rule, *rows = table.splitlines()
    assert head.startswith("| Measured ")
    assert set(rule) == {"|", "-"}
    assert len(rows) == 2
    assert {len(line) for line in (head, rule, *rows)} == {len(head)}
    assert {line.count("|") for line in (head, rule, *rows)} == {7}


def test_results_replace_what_stood_between_the_markers(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Before\n\n<!-- results -->\n\nold\n\n<!-- end of results -->\n\nAfter\n", encoding="utf-8")

    put_between(page, "results", "new\n")
    put_between(page, "results", "newer\n")

    assert page.read_text(encoding="utf-8") == (
        "Before\n\n<!-- results -->\n\nnewer\n\n<!-- end of results -->\n\nAfter\n"
    )


def test_a_page_without_markers_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- results -->\nno end\n", encoding="utf-8")

    with pytest.raises(ValueError, match="end of results"):
        put_between(page, "results", "new")

    assert page.read_text(encoding="utf-8") == "<!-- results -->\nno end\n"


def test_the_machine_is_named_in_general_terms() -> None:
    said = machine("18")

    assert "cores" in said
    assert "PostgreSQL 18" in said
    assert "/" not in said
