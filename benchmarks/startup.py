"""Processor time of commands, as a multiple of what `import typer` takes."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks.report import Bar, Finding

AGORA: Final = str(Path(sys.executable).with_name("agora"))
COMMANDS: Final = {
    ("--help",): Bar(2.5, goal=1.5, at_most=True),
    ("--version",): Bar(2.5, at_most=True),
    ("users", "list"): Bar(8, goal=5, at_most=True),
}
"""Commands, with bars for their multiples."""


def startup(rounds: int) -> Iterator[Finding]:
    """Compare the processor time of each command with that of `import typer`."""
    with TemporaryDirectory(prefix="agora-bench-") as folder:
        values = {**os.environ, "DATABASE_URL": f"sqlite:///{folder}/agora.db"}
        _processor_seconds([AGORA, "migrate"], values, 1)
        base = _processor_seconds([sys.executable, "-c", "import typer"], values, rounds)
        for words, bar in COMMANDS.items():
            seconds = _processor_seconds([AGORA, *words], values, rounds)
            what = f"processor time of `agora {' '.join(words)}` against `import typer`"
            yield Finding(what, f"{seconds * 1e3:.0f} ms", f"{base * 1e3:.0f} ms", seconds / base, bar)


def _processor_seconds(command: Sequence[str], values: dict[str, str], rounds: int) -> float:
    """Return the least processor time of a command in these rounds."""
    found = []
    for _ in range(rounds):
        before = getrusage(RUSAGE_CHILDREN)
        subprocess.run(command, env=values, check=True, capture_output=True)
        after = getrusage(RUSAGE_CHILDREN)
        found.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(found)
