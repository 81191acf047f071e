"""End the processes and remove the folders that a run of the tests leaves behind, however it ends.

A run that is killed cannot clean up after itself. A process of its own waits for its end: processes of the run have a
mark in their environment, and folders outside pytest's own are named to it.
"""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

MARK = "AGORA_TEST_RUN"
POSTGRES_SECONDS = 5
"""For PostgreSQL to end by itself, which also frees its shared memory."""


class Reaper:
    """The process that waits for the end of this one."""

    def __init__(self) -> None:
        self.mark = os.environ[MARK] = secrets.token_hex(8)  # what this process starts inherits it
        self.folders: list[Path] = []
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-E", __file__, self.mark],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env={},
            start_new_session=True,
        )

    def watch(self, folder: Path) -> None:
        """Have a folder removed, if it is still there at the end."""
        self.folders.append(folder)
        assert self._process.stdin is not None
        self._process.stdin.write(os.fsencode(folder) + b"\n")
        self._process.stdin.flush()

    def close(self) -> None:
        """End what is left, now."""
        self._process.communicate()


@cache
def reaper() -> Reaper:
    """The one of this process, from its first use on."""
    return Reaper()


def reaper_mark() -> dict[str, str]:
    """What has to be in the environment of every process that may outlive the run."""
    return {MARK: reaper().mark}


@contextmanager
def passing_folder(prefix: str, parent: Path) -> Iterator[Path]:
    """Make a folder, and remove it after the block or at the end of the run."""
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    reaper().watch(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def marked(mark: str) -> list[int]:
    """List the processes with a mark in their environment."""
    found = []
    for file in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # it has ended, or is another user's
            if f"{MARK}={mark}".encode() in file.read_bytes().split(b"\0"):
                found.append(int(file.parent.name))
    return found


def _send(which: signal.Signals, processes: Iterable[int]) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, which)


def _is_postgres(process: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{process}/comm").read_text() == "postgres\n"
    return False


def _main(mark: str) -> None:
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    folders = [os.fsdecode(line.rstrip(b"\n")) for line in sys.stdin.buffer]  # until the run has ended
    until = time.monotonic() + POSTGRES_SECONDS
    while left := marked(mark):
        databases = [process for process in left if _is_postgres(process) and time.monotonic() < until]
        _send(signal.SIGQUIT, databases)
        _send(signal.SIGCONT, databases)  # tests stop some
        _send(signal.SIGKILL, set(left).difference(databases))
        time.sleep(0.05)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    _main(sys.argv[1])
