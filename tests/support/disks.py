"""Disks that are full, for a server on SQLite: a small file system of its own, or a limit where none can be mounted."""

import errno
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import URL

from tests.support.command import COMMAND
from tests.support.load import serve
from tests.support.servers import Server

APART: Final = ("unshare", "--mount", *(() if os.geteuid() == 0 else ("--user", "--map-root-user")))
"""How to start a process with private mounts; they end with it."""

MOUNT: Final = 'mount -t tmpfs -o size=4m none "$0" && cp "$1" "$0" && shift && exec "$@"'
BALLAST: Final = "ballast"


def can_mount() -> bool:
    """Tell whether we may mount a file system, which depends on the kernel and on what contains us."""
    tried = ("mount", "-t", "tmpfs", "none", "/tmp")
    with suppress(FileNotFoundError):
        return subprocess.run((*APART, *tried), capture_output=True, check=False).returncode == 0
    return False


class SmallDisk:
    """A file system with 4 MiB of room, for a server alone: it is full when nothing more can be written to it."""

    said = "database or disk is full"

    def __init__(self, file: Path) -> None:
        self._file = file
        self._folder = file.parent / "disk"
        self._folder.mkdir()

    @contextmanager
    def serve(self) -> Iterator[Server]:
        """Run the real server on a copy of the file, and take back what became of it."""
        at = URL.create("sqlite", database=str(self._folder / self._file.name))
        with serve(at, command=(*APART, "sh", "-c", MOUNT, self._folder, self._file, COMMAND)) as server:
            self._inside = os.open(f"/proc/{server.process.pid}/root{self._folder}", os.O_RDONLY)
            try:
                yield server
                with open(self._file.name, "rb", opener=self._open) as left, self._file.open("wb") as copy:
                    shutil.copyfileobj(left, copy)
            finally:
                os.close(self._inside)

    def fill(self) -> None:
        """Leave no room."""
        full = pytest.raises(OSError, match=os.strerror(errno.ENOSPC))
        with open(BALLAST, "wb", buffering=0, opener=self._open) as ballast, full:
            while True:
                ballast.write(bytes(4096))

    def clear(self) -> None:
        """Make room again."""
        os.unlink(BALLAST, dir_fd=self._inside)

    def _open(self, name: str, flags: int) -> int:
        return os.open(name, flags, dir_fd=self._inside)


class Limit:
    """No file of the server's may grow: what the system says then is EFBIG, not ENOSPC."""

    said = "disk I/O error"

    def __init__(self, file: Path) -> None:
        self._file = file

    @contextmanager
    def serve(self) -> Iterator[Server]:
        """Run the real server on the file."""
        with serve(URL.create("sqlite", database=str(self._file))) as server:
            self._process = server.process.pid
            self._before = resource.prlimit(self._process, resource.RLIMIT_FSIZE)
            yield server

    def fill(self) -> None:
        """Leave no room."""
        room = sum(part.stat().st_size for part in self._file.parent.glob(f"{self._file.name}*"))
        resource.prlimit(self._process, resource.RLIMIT_FSIZE, (room, self._before[1]))

    def clear(self) -> None:
        """Make room again."""
        resource.prlimit(self._process, resource.RLIMIT_FSIZE, self._before)
