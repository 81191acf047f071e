"""Report: a table of figures and bars, and the measuring machine."""

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.load import Measured

GIB: Final = 2**30


@dataclass(frozen=True, slots=True)
class Bar:
    """Bound of a figure, lower or upper; `goal` is the long-term target."""

    limit: float
    goal: float | None = None
    at_most: bool = False

    def met_by(self, value: float) -> bool:
        """Judge a figure."""
        return value <= self.limit if self.at_most else value >= self.limit


@dataclass(frozen=True, slots=True)
class Finding:
    """One figure and its bar: a ratio, or a latency in milliseconds."""

    what: str
    ours: str
    theirs: str
    value: float
    bar: Bar
    unit: str = ""

    @property
    def is_met(self) -> bool:
        """Whether the bar is met."""
        return self.bar.met_by(self.value)

    def cells(self) -> tuple[str, ...]:
        """Show it as a row."""
        goal = "" if self.bar.goal is None else f", goal {_short(self.bar.goal)}"
        side = "at most" if self.bar.at_most else "at least"
        return (
            self.what,
            self.ours,
            self.theirs,
            _short(self.value) + self.unit,
            f"{side} {_short(self.bar.limit)}{self.unit}{goal}",
            "met" if self.is_met else "NOT MET",
        )


HEAD: Final = ("Measured", "Agora", "Against", "Result", "Bar", "")


FIGURES: Final = {"per_second": "rate", "p50": "p50", "p99": "p99", "database": "processor time of PostgreSQL"}
"""Figures that are compared, by their field of `Measured`."""


def ratio(what: str, ours: Measured, theirs: Measured, bar: Bar, figure: str = "per_second") -> Finding:
    """Compare one figure of two servers."""
    value = getattr(ours, figure) / getattr(theirs, figure)
    return Finding(f"{what}, {FIGURES[figure]}", shown(ours, figure), shown(theirs, figure), value, bar)


def shown(figures: Measured, figure: str = "per_second") -> str:
    """Show a figure; a rate with its latency."""
    if figure == "per_second":
        return f"{figures.per_second:,.0f}/s, p99 {_short(figures.p99)} ms"
    return f"{_short(getattr(figures, figure))} {'us' if figure == 'database' else 'ms'}"


@dataclass(frozen=True, slots=True)
class Sample:
    """What a server did in a scenario."""

    scenario: str
    connections: int
    server: str
    measured: Measured

    def cells(self) -> tuple[str, ...]:
        """Show it as a row."""
        it = self.measured
        figures = f"{it.per_second:,.0f}", _short(it.p50), _short(it.p99), f"{it.server:,.0f}", f"{it.database:,.0f}"
        return (self.scenario, str(self.connections), self.server, *figures)


SAMPLE_HEAD: Final = ("Scenario", "Connections", "Server", "Requests/s", "p50 ms", "p99 ms", "Server us", "Database us")


def samples_table(samples: Sequence[Sample]) -> str:
    """Show every rate with its latency and processor time."""
    return table(SAMPLE_HEAD, [sample.cells() for sample in samples])


def findings_table(findings: Sequence[Finding]) -> str:
    """Show every figure against its bar."""
    return table(HEAD, [finding.cells() for finding in findings])


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table that is Markdown and can be read as it is."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |\n"

    return line(head) + "|" + "|".join("-" * (width + 2) for width in widths) + "|\n" + "".join(map(line, rows))


def machine(postgres: str) -> str:
    """Describe the machine in general terms."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    parts = [
        f"{os.cpu_count()} cores",
        f"{memory:.0f} GiB of memory",
        platform.system(),
        f"Python {platform.python_version()}",
        f"PostgreSQL {postgres}",
    ]
    node = shutil.which("node")
    if node is not None:
        said = subprocess.run([node, "--version"], capture_output=True, text=True, check=True)
        parts.append(f"Node {said.stdout.strip().removeprefix('v')}")
    return ", ".join(parts)


def put_between(file: Path, name: str, text: str) -> None:
    """Replace the text between `<!-- name -->` and `<!-- end of name -->` in a file.

    Raises:
        ValueError: the file has no such markers.
    """
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    whole = file.read_text(encoding="utf-8")
    before, opened, rest = whole.partition(begin)
    _, closed, after = rest.partition(end)
    if not opened or not closed:
        raise ValueError(f"{file.name} has no lines {begin.strip()} and {end.strip()} to write between")
    file.write_text(f"{before}{begin}\n{text.strip()}\n\n{end}{after}", encoding="utf-8")


def _short(value: float) -> str:
    """Show three digits of a number, and none fewer before its point."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2  # noqa: PLR2004 - three digits
    return f"{value:,.{digits}f}"
