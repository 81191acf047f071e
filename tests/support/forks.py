"""Start `agora` from a process that has imported it: tens of milliseconds of processor time instead of seconds.

The parent is the fork server of `multiprocessing`. A command has its own words, environment, folder, streams and, if
asked for, session; its exit code is that of a real process. The workers of a server are forked from their supervisor.
"""

import atexit
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import chdir, suppress
from multiprocessing import forkserver, util
from multiprocessing.reduction import DupFd
from pathlib import Path
from threading import Lock
from typing import Any

from uvicorn import _subprocess

from interfaces.cli import main as command_line
from interfaces.http import api
from tests.support.process import ENDS

ROOT = Path(__file__).parents[2]
SHORT_WAIT_SECONDS = 0.001
STARTING = Lock()

assert api  # a server imports it by its name


class Forked:
    """A process that runs `agora`, with as much of `subprocess.Popen` as tests use."""

    def __init__(
        self,
        words: Sequence[str],
        environment: Mapping[str, str],
        streams: tuple[int, int, int],
        *,
        session: bool,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        with STARTING:  # the current folder is the whole process's
            folder = str(Path.cwd())
            with chdir(ROOT):  # where the fork server finds this module
                forkserver.ensure_running()
        descriptors = _Descriptors(streams)
        self._process = context.Process(
            target=_main,
            args=(words, dict(environment), folder, descriptors, prepare),
            kwargs={"session": session},
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid
        with suppress(ProcessLookupError):  # it has ended already
            while session and os.getsid(self.pid) != self.pid:
                time.sleep(SHORT_WAIT_SECONDS)

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, seconds: float | None = None) -> int:
        """Wait for the end, and return the exit code; kill the process when the seconds have passed."""
        self._process.join(seconds)
        self.kill()
        self._process.join()
        assert self._process.exitcode is not None
        return self._process.exitcode

    def send_signal(self, which: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, which)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class _Descriptors:
    """Standard input, output and error, which the new process gets from this one."""

    def __init__(self, streams: Sequence[int]) -> None:
        self._streams = streams

    def __reduce__(self) -> tuple[Any, ...]:
        return _open, tuple(DupFd(stream) for stream in self._streams)


def _open(*streams: Any) -> list[int]:
    return [stream.detach() for stream in streams]


def _reset_signals(_of: object) -> None:
    for which in ENDS:
        signal.signal(which, signal.SIG_DFL)


def _main(
    words: Sequence[str],
    environment: Mapping[str, str],
    folder: str,
    descriptors: Sequence[int],
    prepare: Callable[[], None] | None,
    *,
    session: bool,
) -> None:
    if session:
        os.setsid()
    for target, descriptor in enumerate(descriptors):
        os.dup2(descriptor, target)
        os.close(descriptor)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # TMPDIR may name another
    sys.argv = ["agora", *words]
    _subprocess.spawn = multiprocessing.get_context("fork")  # type: ignore[assignment]  # it starts the workers
    util.register_after_fork(_main, _reset_signals)
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    try:
        if prepare is not None:
            prepare()
        command_line.main()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
