"""State of a whole process: log, hooks, signal handlers, descriptors."""

import logging
import os
import resource
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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
    structlog.reset_defaults()
    try:
        yield
    finally:
        for end, handler in ends.items():
            if signal.getsignal(end) != handler:
                signal.signal(end, handler)
        sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
        logging.captureWarnings(False)
        structlog.reset_defaults()
        root.setLevel(level)
        root.handlers[:] = handlers
        for name, before in levels.items():
            logging.getLogger(name).setLevel(before)


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
