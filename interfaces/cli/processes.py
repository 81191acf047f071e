"""The processes that serve: uvicorn's, which write our log from the start, and do not start in vain for ever."""

import asyncio
import os
import select
import sys
import time
from contextlib import suppress
from math import inf
from socket import SHUT_RD, SO_ACCEPTCONN, SOL_SOCKET, socket
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

LAST_LOOKS: Final = 10
LAST_PAUSE_SECONDS: Final = 0.03
"""How often, and how long apart, a process that ends still reads what those send whom it has let in."""

CLOSED_SECONDS: Final = 2
"""How long a worker that ends lets people in until its parent stops that. If it ends alone, nobody does."""

LET_IN_SECONDS: Final = 1
"""How long those who have connected may take to be let in, before the others are refused."""


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

    @property
    def drain_seconds(self) -> int:
        """How long a process that is told to end serves on."""
        return self._settings.drain_seconds

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


class Server(uvicorn.Server):
    """A process that serves, and cuts nobody off when it ends.

    uvicorn's own closes its sockets and every connection on which no request has begun, at once. The system resets
    who has connected just then, although their request is on its way: no proxy dares send that to another server.
    """

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Stop listening, read what those send who are in, and then end as uvicorn does.

        Sockets that are given are other processes' too, which may serve on: it is their parent that stops them.
        """
        until = time.monotonic() + CLOSED_SECONDS
        while sockets and any(map(_listens, sockets)) and time.monotonic() < until:  # noqa: ASYNC110 - another process's
            await asyncio.sleep(LAST_PAUSE_SECONDS)
        if sockets is None:
            for listener in [one for server in self.servers for one in server.sockets]:
                with socket(fileno=os.dup(listener.fileno())) as ours:
                    await asyncio.to_thread(stop_listening, ours)
        for _ in range(LAST_LOOKS):  # not in one go: however late a busy machine lets us run, we look in between
            await asyncio.sleep(LAST_PAUSE_SECONDS)
        await super().shutdown(sockets)


class Worker(Process):
    """One of several such processes."""

    @property
    def server(self) -> uvicorn.Server:
        """What runs in it."""
        if self._server is None:
            self._server = Server(self.config)
        return self._server


def stop_listening(listener: socket) -> None:
    """Refuse newcomers, in every process that shares the socket, as soon as all who have come are let in."""
    until = time.monotonic() + LET_IN_SECONDS
    waiting = select.poll()  # which takes any number of a socket, unlike select
    waiting.register(listener, select.POLLIN)
    while waiting.poll(0) and time.monotonic() < until:
        time.sleep(0.001)
    with suppress(OSError):  # not every system can: there, the last process to end closes it
        listener.shutdown(SHUT_RD)


def _listens(listener: socket) -> bool:
    try:
        return bool(listener.getsockopt(SOL_SOCKET, SO_ACCEPTCONN))
    except OSError:  # uvloop has closed it, because it did not listen any more
        return False


def run_server(config: Config) -> None:
    """Serve until told to end.

    Raises:
        SystemExit: with 1, if nothing can be started; the log says why.
    """
    try:
        if config.workers == 1:
            Server(config).run()
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

    config: Config

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

    def init_processes(self) -> None:
        """Start all of them."""
        self.processes = [self._start() for _ in range(self.processes_num)]

    def join_all(self) -> None:
        """Wait for the end of all, and let in nobody any more once they have served on for as long as they shall."""
        until = time.monotonic() + self.config.drain_seconds
        for worker in self.processes:
            worker.process.join(max(0, until - time.monotonic()))
        for listener in self.sockets:
            stop_listening(listener)
        super().join_all()

    def keep_subprocess_alive(self) -> None:
        """Replace those that ended."""
        for place, worker in enumerate(self.processes):
            if worker not in self._ended and not worker.is_alive(self.config.timeout_worker_healthcheck):
                self._note_end(worker)
            if time.monotonic() >= self._ended.get(worker, inf):
                del self._ended[worker]
                self.processes[place] = self._start()
        if self._is_none_left():
            log.error("no worker is left")
            self.should_exit.set()

    def _start(self) -> Worker:
        worker = Worker(self.config, self.sockets)
        worker.start()
        return worker

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
