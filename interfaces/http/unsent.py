"""Bound on the responses that wait in memory until clients read them."""

from typing import Final

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from interfaces.http.problems import unavailable_problem

UNSENT_MAX: Final = 67_108_864
"""Bytes of responses that are not yet sent, in one worker: 64 MiB."""

UNRESERVED_MAX: Final = 65_536
"""Bytes of a body that is sent without a reservation.

The kernel takes it at once if the client reads, so slow clients do not make the others get 503.
"""

REASON: Final = "too many responses wait until their clients read them"

log = structlog.get_logger()


class UnsentBytes:
    """Counts the bytes of responses that are not yet sent, in one worker."""

    def __init__(self, most: int = UNSENT_MAX) -> None:
        self._most = most
        self._bytes = 0

    def try_reserve(self, size: int) -> bool:
        """Count these bytes, unless they would exceed the bound."""
        has_room = self._bytes + size <= self._most
        self._bytes += size * has_room
        return has_room

    def release(self, size: int) -> None:
        """Discount bytes that were sent or dropped."""
        self._bytes -= size


class _Full(Exception):
    """A started response does not fit."""


class ResponseLimit:
    """Refuses responses with 503 while too many bytes wait to be sent.

    After its first byte, a response that does not fit ends with its connection.

    The server sends a body piece by piece as the client reads, and `send` returns at its end; until then the whole body
    is in memory.
    """

    def __init__(self, app: ASGIApp, unsent: UnsentBytes) -> None:
        self._app = app
        self._unsent = unsent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        start: Message | None = None
        refused = False

        async def send_within(message: Message) -> None:
            nonlocal start, refused
            if message["type"] == "http.response.start":
                start = message  # held back until its body has room
                return
            size = len(message.get("body", b""))
            reserved = size if size > UNRESERVED_MAX else 0
            if refused:
                return
            if not self._unsent.try_reserve(reserved):
                if start is None:
                    raise _Full
                refused = True
                log.warning("unavailable", reason=REASON)
                await unavailable_problem(REASON)(scope, receive, send)
                return
            try:
                if start is not None:
                    held, start = start, None
                    await send(held)
                await send(message)
            finally:
                self._unsent.release(reserved)

        try:
            await self._app(scope, receive, send_within if scope["type"] == "http" else send)
        except _Full:
            log.warning("response cut", reason=REASON)
