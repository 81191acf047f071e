"""The supervisor of the server, and the workers that it starts and replaces."""

import signal
import sys
import time
from contextlib import suppress
from math import inf
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from pathlib import Path
from socket import socket
from typing import Final

import structlog
import uvicorn
from uvicorn.supervisors.multiprocess import Multiprocess, Process
from uvicorn.supervisors.statreload import StatReload

from infrastructure.settings import Settings
from infrastructure.timeouts import Timeouts
from interfaces.server.config import Config
from interfaces.server.worker import Server, build_api, stop_listening

log = structlog.get_logger()


SOURCES: Final = [
    Path(__file__).parents[2] / layer for layer in ("domain", "application", "infrastructure", "interfaces")
]
"""Folders of the files whose changes reload a server in development."""


def run_server(
    settings: Settings, timeouts: Timeouts, *, host: str, port: int, workers: int, reload: bool = False
) -> None:
    """Serve until a signal ends the process.

    With `reload` each change of the code replaces the process that serves.

    Raises:
        SystemExit: with 1, if nothing can be started; the log contains the reason.
    """
    config = Config(settings, timeouts, build_api, host=host, port=port, workers=workers)
    try:
        if reload:
            config.reload_dirs = SOURCES
            StatReload(config, Server(config).run, [config.bind_socket()]).run()
        elif workers == 1:
            Server(config).run()
        else:
            Supervisor(config, [config.bind_socket()]).run()
    except SystemExit as end:
        sys.exit(1 if end.code else 0)


class Worker(Process):
    """A worker process that the supervisor started."""

    config: Config

    has_started = False
    """Whether the server served when the process last replied."""

    _is_asked = False
    _heard_at = 0.0

    @property
    def server(self) -> uvicorn.Server:
        """The server that runs in the process."""
        if self._server is None:
            self._server = Server(self.config)
        return self._server

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended."""
        return not self.process.is_alive()

    def start(self) -> None:
        """Start the process; SIGINT waits until it can be handled.

        Ctrl-C reaches all processes; one that still imports would print a traceback.
        """
        resource_tracker.ensure_running()  # which unblocks SIGINT
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # the process inherits it
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        self.child_conn.close()  # as long as this process held it, the pipe would not end with the worker
        self._heard_at = time.monotonic()

    def target(self, sockets: list[socket] | None = None) -> None:
        """Run the server, in the process."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        super().target(sockets)

    def responds(self) -> bool:
        """Ping the worker without waiting; test that it runs and replied in time."""
        with suppress(OSError, EOFError):  # the process is ending; its sentinel says when
            if self.parent_conn.poll():
                self.has_started, self._is_asked = self.parent_conn.recv(), False
                if self.has_started:
                    self._heard_at = time.monotonic()
            if not self._is_asked:
                self._is_asked = True
                self.parent_conn.send(b"ping")
        bound = self.config.timeout_worker_healthcheck if self.has_started else self.config.timeouts.worker_start
        return not self.has_ended and time.monotonic() < self._heard_at + bound


class Supervisor(Multiprocess):
    """Start several workers and replace those that end.

    uvicorn's supervisor waits for one worker after the other, and meanwhile replaces none. It also replaces a worker
    that cannot start at once and forever, or stops all others with it. This one never waits for a single worker; it
    keeps the others running and retries after a delay: a release may be in the middle of its installation. When no
    worker is left, the server exits and leaves the decision to systemd or Docker.
    """

    config: Config
    processes: list[Worker]  # type: ignore[assignment]

    def __init__(self, config: Config, sockets: list[socket]) -> None:
        super().__init__(config, sockets)
        self._restart_at: dict[Worker, float] = {}
        self._kill_at: dict[Worker, float] = {}
        self._outdated: list[Worker] = []
        self._successor: Worker | None = None

    def run(self) -> None:
        """Serve until a signal ends the process.

        Raises:
            SystemExit: with 1, if no worker is left.
        """
        self.init_processes()
        while not self.should_exit.is_set():
            self._wait(self.config.timeouts.worker_ping)
            self.handle_signals()
            self.keep_subprocess_alive()
        self.terminate_all()
        self.join_all()
        if self._is_none_left:
            sys.exit(1)

    def init_processes(self) -> None:
        """Start all workers."""
        self.processes = [self._start() for _ in range(self.processes_num)]

    def restart_all(self) -> None:
        """On SIGHUP, replace one worker after the other, each when its successor is ready."""
        self._outdated = self.processes.copy()

    def handle_ttin(self) -> None:
        """On SIGTTIN, start one more worker."""
        self.processes_num += 1
        self.processes.append(self._start())

    def handle_ttou(self) -> None:
        """On SIGTTOU, stop one worker, unless it is the only one."""
        if self.processes_num > 1:
            self.processes_num -= 1
            self._stop(self.processes.pop())

    def terminate_all(self) -> None:
        """Stop all workers."""
        for worker in self._running - self._kill_at.keys():
            self._stop(worker)

    def join_all(self) -> None:
        """Wait for the workers to end, and kill those that hang.

        The shared sockets are closed after the drain.
        """
        until = time.monotonic() + self.config.drain_seconds
        while self._kill_at and (remaining := until - time.monotonic()) > 0:
            self._wait(remaining)
            self._reap()
        for listener in self.sockets:
            stop_listening(listener, self.config.timeouts.backlog)
        while self._kill_at:
            self._wait(self.config.timeouts.worker_ping)
            self._reap()

    def keep_subprocess_alive(self) -> None:
        """Replace workers that ended or hang."""
        for place, worker in enumerate(self.processes):
            if worker not in self._restart_at and not worker.responds():
                self._note_end(worker)
            if time.monotonic() >= self._restart_at.get(worker, inf):
                del self._restart_at[worker]
                self.processes[place] = self._start()
        self._reap()
        self._reload()
        if self._is_none_left:
            log.error("no worker is left")
            self.should_exit.set()

    def _reload(self) -> None:
        """Take the next step of what SIGHUP began."""
        self._outdated = [worker for worker in self._outdated if worker in self.processes]  # others were replaced
        new = self._successor
        if new is None:
            if self._outdated and not self._kill_at:  # at most one worker more than asked for
                self._successor = self._start()
        elif not new.responds():
            self._successor, self._outdated = None, []
            self._note_end(new)
            del self._restart_at[new]
        elif new.has_started:
            self._successor = None
            if self._outdated:
                place = self.processes.index(self._outdated[0])
                self._stop(self.processes[place])
                self.processes[place] = new
            else:
                self._stop(new)

    def _start(self) -> Worker:
        worker = Worker(self.config, self.sockets)
        worker.start()
        return worker

    def _stop(self, worker: Worker) -> None:
        worker.terminate()
        self._restart_at.pop(worker, None)
        self._kill_at[worker] = time.monotonic() + self.config.drain_seconds + self.config.timeouts.worker_stop

    def _reap(self) -> None:
        """Forget stopped workers that ended, and kill those that hang."""
        for worker, deadline in [*self._kill_at.items()]:
            if worker.has_ended or time.monotonic() >= deadline:
                if not worker.has_ended:
                    log.error("a worker did not stop", worker=worker.pid)
                worker.kill()
                worker.join()
                del self._kill_at[worker]

    def _wait(self, seconds: float) -> None:
        """Wait until a worker ends, for at most these seconds."""
        wait([worker.process.sentinel for worker in self._running], seconds)

    def _note_end(self, worker: Worker) -> None:
        worker.kill()  # it may be alive and hang
        worker.join()
        self._restart_at[worker] = time.monotonic()
        if worker.exitcode and worker.exitcode > 0:
            log.error("a worker failed", worker=worker.pid, exit_code=worker.exitcode)
            self._restart_at[worker] += self.config.timeouts.worker_restart
        else:
            log.warning("a worker ended", worker=worker.pid, exit_code=worker.exitcode)

    @property
    def _running(self) -> set[Worker]:
        return {*self.processes, *self._kill_at, *filter(None, [self._successor])} - self._restart_at.keys()

    @property
    def _is_none_left(self) -> bool:
        return self._successor is None and self._restart_at.keys() >= set(self.processes)
