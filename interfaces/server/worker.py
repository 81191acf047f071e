"""A process that serves: its application, SIGTERM, and graceful shutdown."""

import asyncio
import gc
import os
import select
import signal
import time
from contextlib import suppress
from multiprocessing import parent_process
from socket import SHUT_RD, SO_ACCEPTCONN, SOL_SOCKET, socket
from types import FrameType
from typing import Any, Final

import structlog
import uvicorn

from infrastructure.container import Container
from infrastructure.logs import configure_logs
from interfaces.http.drain import Drain
from interfaces.http.unsent import UnsentBytes
from interfaces.server.config import Config

log = structlog.get_logger()

LAST_READS: Final = 10
"""How often accepted connections are read again before they are closed."""


def build_api(drain: Drain, unsent: UnsentBytes) -> Any:
    """Build the API from the settings, once per worker."""
    # Only processes that serve import the web framework.
    from interfaces.http.api import create_api  # noqa: PLC0415
    from interfaces.http.problems import request_id  # noqa: PLC0415
    from interfaces.http.proxies import client  # noqa: PLC0415

    container = Container()
    settings = container.settings()
    settings.require_servable()
    configure_logs(settings, request_id, client)
    api = create_api(container, drain, unsent)
    # What exists now lives as long as the process: without this, each full collection would traverse all of it.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    return api


class Server(uvicorn.Server):
    """uvicorn's server with a graceful shutdown that resets no connection.

    uvicorn closes its sockets, and each connection without a running request, at once. The kernel then resets clients
    that have just connected although their request is on its way, and a proxy may not send such a request again.
    """

    config: Config

    _ends_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """On SIGTERM, report not ready and drain; on SIGINT, stop at once.

        The drain takes `DRAIN_SECONDS`.
        """
        if sig != signal.SIGTERM or not self.started or not self.config.drain_seconds:
            super().handle_exit(sig, frame)
        elif self._ends_at is None:  # a worker gets SIGTERM twice when its process group and its supervisor send it
            self._ends_at = time.monotonic() + self.config.drain_seconds
            self.config.drain.is_draining = True

    async def on_tick(self, counter: int) -> bool:
        """End the drain when its time is over; uvicorn calls this ten times a second."""
        if self._ends_at is not None and time.monotonic() >= self._ends_at and not self.should_exit:
            super().handle_exit(signal.SIGTERM, None)
        return await super().on_tick(counter)

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Start serving, and stop when the supervisor ends.

        A killed supervisor cannot stop its workers.
        """
        if sockets is None and self.config.is_ipv6:  # uvicorn's own socket would refuse IPv4
            await super().startup([self.config.bind_ipv6()])
            self._log_started_message(self.servers[0].sockets)
        else:
            await super().startup(sockets)
        if (parent := parent_process()) is not None:
            asyncio.get_running_loop().add_reader(parent.sentinel, self._end_without_parent, parent.sentinel)

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Stop listening, read accepted connections a last time, then shut down.

        Sockets that are handed in are shared with other workers, which may serve on: the supervisor closes them.
        """
        timeouts = self.config.timeouts
        until = time.monotonic() + timeouts.socket_closing
        while sockets and any(map(_listens, sockets)) and time.monotonic() < until:  # noqa: ASYNC110 - another process's
            await asyncio.sleep(timeouts.last_read_pause)
        if sockets is None:
            for listener in [one for server in self.servers for one in server.sockets]:
                with socket(fileno=os.dup(listener.fileno())) as ours:
                    await asyncio.to_thread(stop_listening, ours, timeouts.backlog)
        for server in self.servers:  # where the shared sockets listen on, as after SIGHUP, this process accepts no more
            server.close()
        for _ in range(LAST_READS):  # several: a busy machine may run this process late
            await asyncio.sleep(timeouts.last_read_pause)
        await super().shutdown(sockets)
        if self.force_exit:  # uvicorn leaves both to the loop, whose cancellation is logged as an error
            for task in self.server_state.tasks:
                task.cancel()
            await self.lifespan.shutdown()

    def _end_without_parent(self, sentinel: int) -> None:
        asyncio.get_running_loop().remove_reader(sentinel)
        log.warning("the parent is gone")
        self.handle_exit(signal.SIGTERM, None)


def stop_listening(listener: socket, seconds: float) -> None:
    """Refuse new connections in all processes that share the socket.

    The call first waits until the backlog is accepted, for at most these seconds.
    """
    until = time.monotonic() + seconds
    backlog = select.poll()  # which takes descriptors above 1023, unlike select
    backlog.register(listener, select.POLLIN)
    while backlog.poll(0) and time.monotonic() < until:
        time.sleep(0.001)
    with suppress(OSError):  # not supported on every system: there, the last process closes it
        listener.shutdown(SHUT_RD)


def _listens(listener: socket) -> bool:
    try:
        return bool(listener.getsockopt(SOL_SOCKET, SO_ACCEPTCONN))
    except OSError:  # uvloop has closed it, because it no longer listened
        return False
