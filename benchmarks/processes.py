"""Processor time and memory of processes, from /proc."""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.process import children

PROC: Final = Path("/proc")
TICKS: Final = os.sysconf("SC_CLK_TCK")
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


def processor_seconds(process: int, proc: Path = PROC) -> float:
    """Return the processor time of a process; its ended children count as its own.

    Threads count to the nanosecond; children that it has waited for, in ticks of the kernel.
    """
    threads = (proc / str(process) / "task").glob("*/schedstat")
    nanoseconds = sum(int(thread.read_text().split()[0]) for thread in threads)
    fields = (proc / str(process) / "stat").read_text().rpartition(")")[2].split()
    ended_children = sum(map(int, fields[13:15]))  # cutime and cstime
    return nanoseconds / 1e9 + ended_children / TICKS


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
    return int((PROC / str(process) / "stat").read_text().rpartition(")")[2].split()[1])
