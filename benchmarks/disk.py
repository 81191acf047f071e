"""Writes that are flushed to a disk, on PostgreSQL and on SQLite."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Final

from sqlalchemy import URL

from benchmarks.databases import databases_on_disk, fill_sqlite, migrate
from benchmarks.load import Load, Measured, Rounds
from benchmarks.peers import PeerError, agora
from benchmarks.stage import Stage
from tests.support.reaper import passing_folder

FOLDER: Final = Path("/var/tmp")  # noqa: S108 - a parent of private folders
"""On a disk, by the Filesystem Hierarchy Standard: its files outlive a restart."""

IN_MEMORY: Final = frozenset({"ramfs", "tmpfs"})
POSTS: Final = 30_000
FLUSHES: Final = 200
BLOCK: Final = b"0" * 8_192


def on_postgres(stage: Stage, peers: tuple[str, ...], content: str, rounds: Rounds) -> None:
    """Measure votes and new posts of peers on a PostgreSQL with fsync."""
    require_disk(FOLDER)
    with ExitStack() as stack, _folder() as folder:
        databases = stack.enter_context(databases_on_disk(FOLDER))
        flushed = Stage(stack, folder, databases, replace(stage.data, posts=POSTS), peers, stage.connections)
        for action in ("vote", "create"):
            trials = {peer: (Load(action, POSTS, content), flushed.server(peer)) for peer in peers}
            stage.measure(f"{action}, disk", trials, rounds)


def on_sqlite(stage: Stage, commands: Mapping[str, Path], rounds: Rounds) -> dict[str, Measured]:
    """Measure votes of editions of Agora, given their commands, on SQLite."""
    require_disk(FOLDER)
    data = replace(stage.data, posts=POSTS)
    with ExitStack() as stack, _folder() as folder:
        trials = {}
        for name, command in commands.items():
            url = URL.create("sqlite", database=str(folder / f"{name}.db"))
            migrate(url, command)
            fill_sqlite(folder / f"{name}.db", data)
            server = stack.enter_context(agora(url, folder, name=name, command=command))
            trials[name] = (Load("vote", POSTS), server)
        return stage.measure("vote, SQLite, disk", trials, rounds)


def require_disk(folder: Path, mounts: str | None = None) -> None:
    """Require a folder on a disk.

    Raises:
        PeerError: its file system is in memory.
    """
    lines = (Path("/proc/self/mounts").read_text() if mounts is None else mounts).splitlines()
    types = {Path(fields[1]): fields[2] for fields in map(str.split, lines)}  # the last mount of a place is in force
    kind = next(types[place] for place in (folder, *folder.parents) if place in types)
    if kind in IN_MEMORY:
        raise PeerError(f"{folder} is in memory ({kind}): flushes to a disk cannot be measured there")


def flush_milliseconds() -> float:
    """Return the median time of writing and flushing one block."""
    found = []
    with _folder() as folder, (folder / "blocks").open("wb", buffering=0) as file:
        for _ in range(FLUSHES):
            began = time.perf_counter()
            file.write(BLOCK)
            os.fdatasync(file.fileno())
            found.append(time.perf_counter() - began)
    return median(found) * 1_000


@contextmanager
def _folder() -> Iterator[Path]:
    with passing_folder("agora-bench-", FOLDER) as folder:
        yield folder
