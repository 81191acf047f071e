"""State of a whole process: log, hooks, signal handlers, descriptors."""

import logging
import os
import resource
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import structlog

LEVELS = ("alembic", "sqlalchemy.engine")
ENDS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def kept() -> Iterator[None]:
    """Restore logging, hooks for uncaught exceptions and signal handlers after the block."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    levels = {name: logging.getLogger(name).level for name in LEVELS}
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    ends = {end: signal.getsignal(end) for end in ENDS}
    events = structlog.get_config()
    structlog.reset_defaults()
    try:
        yield
    finally:
        for end, handler in ends.items():
            if signal.getsignal(end) != handler:
                signal.signal(end, handler)
        sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
        logging.captureWarnings(False)
        structlog.configure(**events)
        root.setLevel(level)
        root.handlers[:] = handlers
        for name, before in levels.items():
            logging.getLogger(name).setLevel(before)


def children(parent: int) -> list[int]:
    """List the processes that a process has started and not waited for, in the order of their ids."""
    with suppress(OSError):  # not every kernel has it
        return sorted(map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split()))
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            if int(status.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(status.parent.name))
    return sorted(found)


def wait_for_state(process: int, state: str) -> None:
    """Wait until a process is in a state, as in the third field of its stat file, or has ended."""
    with suppress(OSError):
        while Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != state:
            pass


@contextmanager
def low_numbers_taken() -> Iterator[None]:
    """Have files and sockets numbered beyond 1,023, which `select` cannot take, as on a server that many call."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1_200), hard))
    try:
        with ExitStack() as stack:
            while stack.enter_context(Path(os.devnull).open("rb")).fileno() < 1_024:
                pass
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
