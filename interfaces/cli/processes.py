"""The processes that serve: uvicorn's, which write our log from the start, and do not start in vain for ever."""

import sys
import time
from math import inf
from socket import socket
from typing import Any, Final, NoReturn

import structlog
import uvicorn
from uvicorn.supervisors.multiprocess import Multiprocess, Process

from infrastructure.logs import configure_logs
from infrastructure.settings import Settings
from interfaces.cli.common import EXPECTED, reason

log = structlog.get_logger()

AGAIN_SECONDS: Final = 5
"""How long after a worker that failed another one takes its place. One that was killed is replaced at once."""


def give_up(error: Exception) -> NoReturn:
    """Say in the log why the server cannot serve, and end."""
    if isinstance(error, EXPECTED):
        log.error("cannot serve", reason=reason(error))
    else:
        sys.excepthook(type(error), error, error.__traceback__)
    sys.exit(1)


class Config(uvicorn.Config):
    """What every process of the server is started with."""

    def __init__(self, settings: Settings, app: str, **options: Any) -> None:
        self._settings = settings
        super().__init__(app, **options)

    def configure_logging(self) -> None:
        """Set the log up: a worker begins with this."""
        super().configure_logging()
        configure_logs(self._settings)

    def load(self) -> None:
        """Build the application.

        Raises:
            SystemExit: it cannot be built; the log says why.
        """
        try:
            super().load()
        except Exception as error:  # noqa: BLE001 - what a worker raises would be printed, past the log
            give_up(error)


def run_server(config: Config) -> None:
    """Serve until told to end.

    Raises:
        SystemExit: with 1, if nothing can be started; the log says why.
    """
    try:
        if config.workers == 1:
            uvicorn.Server(config).run()
        else:
            Workers(config, [config.bind_socket()]).run()
    except SystemExit as end:
        sys.exit(1 if end.code else 0)


class Workers(Multiprocess):
    """Several processes that serve, and their parent, which replaces those that end.

    uvicorn's own parent replaces one that cannot start at once and for ever, or ends all the others with it. Here the
    others serve on, and the next is tried a little later: maybe a release is just being installed. When none is left
    the server ends, and whoever supervises it decides.
    """

    def __init__(self, config: Config, sockets: list[socket]) -> None:
        super().__init__(config, sockets)
        self._ended: dict[Process, float] = {}  # and when they are replaced

    def run(self) -> None:
        """Serve until told to end.

        Raises:
            SystemExit: with 1, if no worker is left.
        """
        super().run()
        if self._is_none_left():
            sys.exit(1)

    def keep_subprocess_alive(self) -> None:
        """Replace those that ended."""
        for place, worker in enumerate(self.processes):
            if worker not in self._ended and not worker.is_alive(self.config.timeout_worker_healthcheck):
                self._note_end(worker)
            if time.monotonic() >= self._ended.get(worker, inf):
                del self._ended[worker]
                self.processes[place] = Process(self.config, self.sockets)
                self.processes[place].start()
        if self._is_none_left():
            log.error("no worker is left")
            self.should_exit.set()

    def _note_end(self, worker: Process) -> None:
        worker.kill()  # maybe it lives, and does not answer
        worker.join()
        self._ended[worker] = time.monotonic()
        if worker.exitcode and worker.exitcode > 0:
            log.error("a worker failed", worker=worker.pid, exit_code=worker.exitcode)
            self._ended[worker] += AGAIN_SECONDS
        else:
            log.warning("a worker ended", worker=worker.pid, exit_code=worker.exitcode)

    def _is_none_left(self) -> bool:
        return self._ended.keys() >= set(self.processes)
