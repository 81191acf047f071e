"""The real server, as processes of its own."""

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Condition, Thread
from typing import IO, Any

from sqlalchemy import URL

from tests.support.command import environment, plain
from tests.support.forks import Forked

PATIENCE_SECONDS = 120
"""For the next line of a server, or for its end; a server that serves may run for as long as it likes."""


class Server:
    """A server, and what it says."""

    def __init__(self, process: "subprocess.Popen[bytes] | Forked", errors: IO[str], workers: int) -> None:
        self.process = process
        self._errors = errors
        self._lines: list[str] = []
        self._more = Condition()
        self._has_ended = False
        self._workers = workers
        self._listener = Thread(target=self._listen)
        self._listener.start()

    def wait_until_started(self) -> None:
        """Wait for every worker."""
        self.wait_until_it_says("Application startup complete", self._workers)
        if self._workers == 1:  # it listens only then; with several, their parent has listened all the time
            self.wait_until_it_says("Uvicorn running on")
        self.address = re.findall(r"http://[^\s\"]+:\d+", self.said)[0]
        self.port = int(self.address.rpartition(":")[2])
        self.workers = [int(worker) for worker in re.findall(r"Started server process \[(\d+)\]", self.said)]

    @property
    def said(self) -> str:
        """All that it said so far."""
        return "".join(self._lines)

    def wait_until_it_says(self, words: str, times: int = 1) -> None:
        """Wait until the output contains words this many times."""
        with self._more:
            while sum(words in line for line in self._lines) < times:
                assert not self._has_ended, f"the server ended:\n{self.said}"
                assert self._more.wait(PATIENCE_SECONDS), f"the server does not go on:\n{self.said}"

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end, as a supervisor of services does or as told, and give its exit code."""
        self.process.send_signal(how)
        return self.wait()

    def wait(self) -> int:
        """Wait for it to end, and give its exit code."""
        self._listener.join(PATIENCE_SECONDS)
        if self._listener.is_alive():
            self.kill()
        self._listener.join()
        return self.process.wait()

    def kill(self) -> None:
        """Kill all of its processes."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def _listen(self) -> None:
        for line in self._errors:
            with self._more:
                self._lines.append(line)
                self._more.notify_all()
        with self._more:
            self._has_ended = True
            self._more.notify_all()


@contextmanager
def serving(url: URL, workers: int = 1, **options: Any) -> Iterator[Server]:
    """Run the real command on a free port, from when it has started; the options are those of `starting`."""
    with starting(url, workers, **options) as server:
        server.wait_until_started()
        yield server


@contextmanager
def starting(
    url: URL,
    workers: int = 1,
    command: Sequence[str | Path] | None = None,
    port: int = 0,
    prepare: Callable[[], None] | None = None,
    options: Sequence[str] = (),
    **settings: str,
) -> Iterator[Server]:
    """Start a server: forked from a process that has imported it, or the given command in a new Python.

    None of its processes outlives the block. A forked server first calls what prepares it, a function of a module.
    """
    words = ["serve", "--port", str(port), "--workers", str(workers), *options]
    values = environment(**{"DATABASE_URL": plain(url), "DRAIN_SECONDS": "0"} | settings)
    reading, writing = os.pipe()
    try:
        process: subprocess.Popen[bytes] | Forked
        if command is None:
            process = Forked(words, values, (0, 1, writing), session=True, prepare=prepare)
        else:
            process = subprocess.Popen([*command, *words], env=values, stderr=writing, start_new_session=True)
    finally:
        os.close(writing)
    with open(reading, encoding="utf-8") as errors:  # noqa: PTH123 - it has no path
        server = Server(process, errors, workers)
        try:
            yield server
        finally:
            if process.poll() is None:
                server.kill()
            server.wait()
