"""Processor time of commands, as a multiple of what `import typer` takes."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from tempfile import TemporaryDirectory
from typing import Final

AGORA: Final = str(Path(sys.executable).with_name("agora"))
COMMANDS: Final = {("--help",): 2.5, ("--version",): 2.5, ("users", "list"): 8.0}
"""Commands, with the largest multiple that each may take."""


def startup(rounds: int) -> list[tuple[str, float, float]]:
    """Return for each command its name, its multiple and the largest multiple allowed."""
    with TemporaryDirectory(prefix="agora-bench-") as folder:
        values = {**os.environ, "DATABASE_URL": f"sqlite:///{folder}/agora.db"}
        _processor_seconds([AGORA, "migrate"], values, 1)
        base = _processor_seconds([sys.executable, "-c", "import typer"], values, rounds)
        return [
            (" ".join(("agora", *words)), _processor_seconds([AGORA, *words], values, rounds) / base, limit)
            for words, limit in COMMANDS.items()
        ]


def _processor_seconds(command: Sequence[str], values: dict[str, str], rounds: int) -> float:
    """Return the least processor time of a command in these rounds."""
    found = []
    for _ in range(rounds):
        before = getrusage(RUSAGE_CHILDREN)
        subprocess.run(command, env=values, check=True, capture_output=True)
        after = getrusage(RUSAGE_CHILDREN)
        found.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(found)
