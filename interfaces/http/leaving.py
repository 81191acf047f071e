"""How a worker leaves when it is told to end: it says so, serves on for a while, and only then closes its doors."""

import asyncio
import signal
import threading
from multiprocessing import parent_process
from typing import Final

import structlog

log: Final = structlog.get_logger()


class Leaving:
    """Answers SIGTERM: from then on `has_begun`, and so many seconds later the server ends as it would have at once.

    A proxy that looks at `/health/ready` turns to other workers meanwhile, and no connection that it holds is closed
    just when it sends a request over it. Whoever cannot wait sends SIGINT.
    """

    def __init__(self, seconds: int = 0) -> None:
        self.has_begun = False
        self._seconds = seconds

    def prepare(self) -> None:
        """Take SIGTERM over from the server that runs us, and leave, too, when the parent of its workers is gone."""
        if threading.current_thread() is not threading.main_thread():
            return
        loop, end = asyncio.get_running_loop(), signal.getsignal(signal.SIGTERM)
        if (parent := parent_process()) is not None:  # killed alone, it tells nobody, and nobody would end us
            loop.add_reader(parent.sentinel, _end_without_parent, loop, parent.sentinel)
        if not self._seconds:
            return

        def leave() -> None:
            if not self.has_begun and callable(end):  # a worker may be told twice: by its parent as well
                loop.call_later(self._seconds, end, signal.SIGTERM, None)
            self.has_begun = True

        loop.add_signal_handler(signal.SIGTERM, leave)


def _end_without_parent(loop: asyncio.AbstractEventLoop, sentinel: int) -> None:
    loop.remove_reader(sentinel)
    log.warning("the parent is gone")
    signal.raise_signal(signal.SIGTERM)
