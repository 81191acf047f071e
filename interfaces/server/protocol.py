"""uvicorn's HTTP protocol, with limits on time, heads, pipelining and responses."""

import asyncio
import socket
from functools import partial
from typing import Any, Final

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser, parse_url
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.flow_control import service_unavailable
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from interfaces.http.drain import Drain
from interfaces.http.middleware import DEFAULT_HEADERS, AccessLog, RequestContext, SecurityHeaders
from interfaces.http.problems import unavailable_problem
from interfaces.http.proxies import Proxies
from interfaces.http.unsent import UNRESERVED_MAX
from interfaces.http.urlencoded import decoded
from interfaces.server.transport import Flow, OneWrite

HEAD_MAX: Final = 65_536
"""Bytes in a request's target and the names and values of its headers."""

HEADERS_MAX: Final = 100
"""Headers of a request, as in Apache; each costs as much as some 100 bytes of a long one."""

PIECE: Final = 4_096
"""Bytes parsed at once: requests pipelined within them are queued, later ones wait unparsed."""

RESPONSE_PIECE: Final = 262_144
"""Bytes of a body that are written at once, and wait in the transport until the kernel takes them."""

KERNEL_BUFFER: Final = 131_072
"""Bytes that the kernel buffers for a client (SO_SNDBUF, which Linux doubles); by default it takes up to 4 MiB."""

SENT_MIN: Final = 65_536
"""Bytes that a client must take within `Timeouts.send` while more wait."""


class DeadlineProtocol(HttpToolsProtocol):
    """Aborts connections without a whole request in time, refuses endless heads.

    The deadline starts with the connection and with each request, and stops when the request is whole; between
    requests, uvicorn's keep-alive timeout applies. Clients that take less than 64 KiB of a response within the deadline
    of sending are cut too.

    Sending ends when the kernel has taken the whole message, so what waits is known to the application.

    At the limit of connections, the idlest are closed; those with a whole request go on.

    While a request is queued behind another, reading pauses: pipelining costs a bounded amount of memory.

    A request that asks for another protocol is served as HTTP, its body included (RFC 9110, section 7.8). The parser
    assumes an upgrade instead, and would parse the body as the next request.
    """

    config: Any  # Agora's Config, which adds to uvicorn's
    flow: Flow

    _running: RequestResponseCycle | None = None
    _wire: OneWrite
    _deadline: asyncio.TimerHandle | None = None
    _send_deadline: asyncio.TimerHandle | None = None
    _taken = 0
    _in_head = False
    _in_repeated_head = False
    _head_size = 0
    _silence = 0
    _unparsed = memoryview(b"")

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Bound what waits to be sent, and start the deadline of the first request."""
        super().connection_made(transport)
        self.flow = Flow(transport)
        self._wire = OneWrite(transport)
        transport.set_write_buffer_limits(high=0)  # paused means: something waits
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BUFFER)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux: for what the kernel still holds of a closed connection
            seconds = self.config.timeouts.send
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1_000))
        self._make_room()
        self.config.idle[self] = None
        self._start()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the deadlines.

        uvicorn notifies the request that arrived last of the disconnect; the running one may be an earlier one, and
        would write to a closed transport.
        """
        self.config.idle.pop(self, None)
        self._stop()
        if self._send_deadline is not None:
            self._send_deadline.cancel()
        self._unparsed = memoryview(b"")
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse new data, or queue it."""
        self._unparsed = memoryview(bytes(self._unparsed) + data if self._unparsed else data)
        self._parse()

    def on_message_begin(self) -> None:
        """Restart the deadline."""
        if self._in_repeated_head:
            return
        super().on_message_begin()
        self._in_head, self._head_size, self._silence = True, 0, 0
        self._start()

    def on_url(self, url: bytes) -> None:
        """Count the size of the head."""
        if self._in_repeated_head:
            return
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count the size of the head, and drop trailers.

        Trailers are not headers (RFC 9110, section 6.5.1).

        Whitespace after a value is not part of it (section 5.5); the parser keeps it.
        """
        self._count(len(name) + len(value))
        if self._in_head:
            super().on_header(name, value.rstrip(b" \t"))
            if len(self.headers) > HEADERS_MAX:
                raise HttpParserError("there are too many headers")

    def on_headers_complete(self) -> None:
        """End the head, and make room for its request."""
        if self._in_repeated_head:
            return
        self._in_head = False
        self._make_room()
        if b"%" in self.url:
            self._complete_encoded()
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Reset the count of bytes without a parser event."""
        self._silence = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Stop the deadline: the request is whole."""
        if self._has_skipped_body():
            return
        super().on_message_complete()
        self._stop()
        if not self._is_idle():
            self.config.idle.pop(self, None)

    def on_response_complete(self) -> None:
        """Flush the response, and parse the data that waited."""
        self._wire.flush()
        super().on_response_complete()
        if self._is_idle():
            self.config.idle.pop(self, None)  # it becomes the least idle
            self.config.idle[self] = None
        if self._unparsed and not self.transport.is_closing():
            self._parse()
            self.flow.resume_reading()

    def evict(self) -> None:
        """Close the connection for the sake of others."""
        del self.config.idle[self]
        self.connections.discard(self)
        self._cut()

    def pause_writing(self) -> None:
        """Start the deadline of sending, unless it is running."""
        super().pause_writing()
        if self._send_deadline is None:
            self._start_sending()

    def send_400_response(self, msg: str) -> None:
        """Refuse malformed HTTP, with the headers of every response, and close."""
        headers = {
            **DEFAULT_HEADERS,
            "Content-Type": "text/plain; charset=utf-8",
            "Content-Length": str(len(msg)),
            "Connection": "close",
        }
        lines = ["HTTP/1.1 400 Bad Request", *(f"{name.lower()}: {value}" for name, value in headers.items())]
        self.transport.write("\r\n".join([*lines, "", msg]).encode())
        self.transport.close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        cycle.transport = self._wire
        app = overloaded if app is service_unavailable else app
        super()._start_asgi_task(cycle, partial(self._serve, app, cycle))

    async def _serve(self, app: ASGIApp, cycle: RequestResponseCycle, scope: Scope, receive: Receive, _: Send) -> None:
        try:
            await app(scope, receive, partial(self._send, cycle))
        except asyncio.CancelledError:  # at shutdown; uvicorn would log a traceback
            cycle.disconnected = True
            cycle.transport.close()

    async def _send(self, cycle: RequestResponseCycle, message: Message) -> None:
        """Send a message, a large body in pieces, and wait until the kernel has taken it."""
        send: Send = cycle.send  # type: ignore[assignment]  # uvicorn has types of its own for messages
        size = len(message.get("body", b""))
        if size > RESPONSE_PIECE:
            body = memoryview(message["body"])
            last = range(0, size, RESPONSE_PIECE)[-1]
            for start in range(0, last, RESPONSE_PIECE):
                piece = body[start : start + RESPONSE_PIECE]
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            message = {**message, "body": body[last:]}
        await send(message)
        if self.flow.write_paused:
            await self._drain(0 if size > UNRESERVED_MAX else self.transport.get_write_buffer_size())

    async def _drain(self, size: int) -> None:
        """Wait until nothing waits to be sent; these bytes have no reservation yet."""
        unsent = self.config.unsent
        if not unsent.try_reserve(size):
            self._cut()
            return
        try:
            await self.flow.drain()
        finally:
            unsent.release(size)

    def _is_idle(self) -> bool:
        """Test whether no whole request is at work: an unfinished one counts as idle."""
        return self._running is None or self._running.response_complete or self._running.more_body

    def _make_room(self) -> None:
        """Close the idlest other connections while there are too many."""
        while len(self.connections) >= self.config.limit_concurrency:
            idlest = next((each for each in self.config.idle if each is not self), None)
            if idlest is None:
                return
            idlest.evict()

    def _parse(self) -> None:
        self._unset_keepalive_if_required()
        try:
            while self._unparsed and not self.pipeline:
                piece, self._unparsed = self._unparsed[:PIECE], self._unparsed[PIECE:]
                self._feed(piece)
        except HttpParserError:
            self._unparsed = memoryview(b"")
            self.logger.warning("Invalid HTTP request received.")
            self.send_400_response("Invalid HTTP request received.")
            return
        self.flow.hold(bool(self._unparsed))
        idle = self.cycle is None or self.cycle.response_complete
        if idle and self._deadline is None:  # data without a request does not extend the keep-alive
            self._start()

    def _feed(self, data: memoryview) -> None:
        self._silence += len(data)
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            if self._has_skipped_body():
                self._repeat_head()
            self._feed(data[upgrade.args[0] :])
        if self._silence > HEAD_MAX:  # the parser buffers a line and reports it only at its end
            raise HttpParserError("a line has no end")

    def _complete_encoded(self) -> None:
        """Decode the path, in place of uvicorn and its slow decoder."""
        target, self.url = parse_url(self.url), b"/"
        super().on_headers_complete()
        self.scope["path"], self.scope["raw_path"] = decoded(target.path), target.path
        self.scope["query_string"] = target.query or b""

    def _has_skipped_body(self) -> bool:
        return self.parser.should_upgrade() and bool(self._framing())

    def _framing(self) -> list[bytes]:
        names = {b"content-length", b"transfer-encoding"}
        return [b"%s: %s\r\n" % (name, value) for name, value in self.headers if name in names]

    def _repeat_head(self) -> None:
        """Start a new parser at the body, with a head that asks for no other protocol."""
        self.parser = HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self._in_repeated_head = True
        self.parser.feed_data(b"POST / HTTP/1.1\r\n%s\r\n" % b"".join(self._framing()))
        self._in_repeated_head = False

    def _count(self, size: int) -> None:
        self._silence = 0
        self._head_size += size
        if self._head_size > HEAD_MAX:
            raise HttpParserError("the head is too large")

    def _start(self) -> None:
        self._stop()
        self._deadline = self.loop.call_later(self.config.timeouts.receive, self._cut)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _start_sending(self) -> None:
        self._taken = self._wire.taken
        seconds = self.config.timeouts.send
        self._send_deadline = self.loop.call_later(seconds, self._require_progress)

    def _require_progress(self) -> None:
        self._send_deadline = None
        if not self.flow.write_paused:
            return
        if self._wire.taken - self._taken < SENT_MIN:
            self._cut()
        else:
            self._start_sending()

    def _cut(self) -> None:
        self.transport.abort()


async def _overloaded(scope: Scope, receive: Receive, send: Send) -> None:
    response = unavailable_problem("too many connections are open at once")
    response.headers["Connection"] = "close"
    await response(scope, receive, send)


_UNTRUSTED: Final = Proxies(())

overloaded: Final[Any] = RequestContext(
    SecurityHeaders(_overloaded, _UNTRUSTED, Drain()), _UNTRUSTED, observers=[AccessLog()]
)
"""The application that serves connections above the limit."""
