"""The supervisor of the server, and the workers that it starts and replaces."""

import sys
import time
from math import inf
from socket import socket

import structlog
import uvicorn
from uvicorn.supervisors.multiprocess import Multiprocess, Process

from infrastructure.settings import Settings
from infrastructure.timeouts import Timeouts
from interfaces.server.config import Config
from interfaces.server.worker import Server, build_api, stop_listening

log = structlog.get_logger()


def run_server(settings: Settings, timeouts: Timeouts, *, host: str, port: int, workers: int) -> None:
    """Serve until a signal ends the process.

    Raises:
        SystemExit: with 1, if nothing can be started; the log contains the reason.
    """
    config = Config(settings, timeouts, build_api, host=host, port=port, workers=workers)
    try:
        if workers == 1:
            Server(config).run()
        else:
            Supervisor(config, [config.bind_socket()]).run()
    except SystemExit as end:
        sys.exit(1 if end.code else 0)


class Worker(Process):
    """A worker process that the supervisor started."""

    config: Config

    @property
    def server(self) -> uvicorn.Server:
        """The server that runs in the process."""
        if self._server is None:
            self._server = Server(self.config)
        return self._server


class Supervisor(Multiprocess):
    """Start several workers and replace those that end.

    uvicorn's supervisor replaces a worker that cannot start at once and forever, or stops all others with it. This one
    keeps the others running and retries after a delay: a release may be in the middle of its installation. When no
    worker is left, the server exits and leaves the decision to systemd or Docker.
    """

    config: Config

    def __init__(self, config: Config, sockets: list[socket]) -> None:
        super().__init__(config, sockets)
        self._restart_at: dict[Process, float] = {}

    def run(self) -> None:
        """Serve until a signal ends the process.

        Raises:
            SystemExit: with 1, if no worker is left.
        """
        super().run()
        if self._is_none_left():
            sys.exit(1)

    def init_processes(self) -> None:
        """Start all workers."""
        self.processes = [self._start() for _ in range(self.processes_num)]

    def restart_all(self) -> None:
        """On SIGHUP, replace one worker after the other, each when its successor is ready."""
        for place, old in enumerate(self.processes):
            new = self._start()
            if not new.wait_until_ready(self.config.timeout_worker_healthcheck, self.should_exit):
                self._note_end(new)
                del self._restart_at[new]
                return
            old.terminate()
            old.join()
            self.processes[place] = new

    def handle_ttin(self) -> None:
        """On SIGTTIN, start one more worker."""
        self.processes_num += 1
        self.processes.append(self._start())

    def join_all(self) -> None:
        """Wait for the workers to end; close the shared sockets after the drain."""
        until = time.monotonic() + self.config.drain_seconds
        for worker in self.processes:
            worker.process.join(max(0, until - time.monotonic()))
        for listener in self.sockets:
            stop_listening(listener, self.config.timeouts.backlog)
        super().join_all()

    def keep_subprocess_alive(self) -> None:
        """Replace workers that ended."""
        for place, worker in enumerate(self.processes):
            if worker not in self._restart_at and not worker.is_alive(self.config.timeout_worker_healthcheck):
                self._note_end(worker)
            if time.monotonic() >= self._restart_at.get(worker, inf):
                del self._restart_at[worker]
                self.processes[place] = self._start()
        if self._is_none_left():
            log.error("no worker is left")
            self.should_exit.set()

    def _start(self) -> Worker:
        worker = Worker(self.config, self.sockets)
        worker.start()
        return worker

    def _note_end(self, worker: Process) -> None:
        worker.kill()  # it may be alive and hang
        worker.join()
        self._restart_at[worker] = time.monotonic()
        if worker.exitcode and worker.exitcode > 0:
            log.error("a worker failed", worker=worker.pid, exit_code=worker.exitcode)
            self._restart_at[worker] += self.config.timeouts.worker_restart
        else:
            log.warning("a worker ended", worker=worker.pid, exit_code=worker.exitcode)

    def _is_none_left(self) -> bool:
        return self._restart_at.keys() >= set(self.processes)
