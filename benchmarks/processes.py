"""Processor time and memory of processes, from /proc."""

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.process import children

PROC: Final = Path("/proc")
TICKS: Final = os.sysconf("SC_CLK_TCK")
CPUCLOCK_SCHED: Final = 2
"""Linux's kind of clock in `~pid << 3 | kind`: the processor time of a process, see clock_getcpuclockid(3)."""

KIB_A_PAGE: Final = os.sysconf("SC_PAGE_SIZE") // 1_024


@dataclass(frozen=True, slots=True)
class ProcessorTime:
    """Seconds of processor time that a server and its database have used."""

    server: float
    database: float

    def per_request(self, earlier: "ProcessorTime", requests: int) -> tuple[float, float]:
        """Return the microseconds per request since then, of server and database."""
        return (self.server - earlier.server) / requests * 1e6, (self.database - earlier.database) / requests * 1e6


def family(process: int) -> list[int]:
    """List a process and its descendants."""
    return [process, *(each for child in children(process) for each in family(child))]


def processor_seconds(process: int) -> float:
    """Return the processor time of a process, of ended threads and children too.

    The clock of the process counts nanoseconds; children that it has waited for count in ticks of the kernel.
    """
    return time.clock_gettime(~process << 3 | CPUCLOCK_SCHED) + ended_children_seconds(_stat(process))


def ended_children_seconds(stat: str) -> float:
    """Return the time of children that were waited for, from a process's `stat`."""
    return sum(map(int, _fields(stat)[13:15])) / TICKS  # cutime and cstime


def family_seconds(process: int) -> float:
    """Return the processor time of a process and its descendants, ended ones included."""
    total = 0.0
    for each in family(process):
        with suppress(OSError):  # it ended meanwhile, and counts for its parent from now on
            total += processor_seconds(each)
    return total


def resident_kib(process: int) -> int:
    """Return the resident memory of a process in KiB."""
    return int((PROC / str(process) / "statm").read_text().split()[1]) * KIB_A_PAGE


def parent(process: int) -> int:
    """Return the id of a process's parent."""
    return int(_fields(_stat(process))[1])


def _stat(process: int) -> str:
    return (PROC / str(process) / "stat").read_text()


def _fields(stat: str) -> list[str]:
    """Return the fields from the third on."""
    # The second is a name, in parentheses, which may hold blanks.
    return stat.rpartition(")")[2].split()
