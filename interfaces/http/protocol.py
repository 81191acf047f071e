"""HTTP as uvicorn speaks it, with bounds where uvicorn itself has none: on time, on heads and on what is pipelined."""

import asyncio
from typing import Any, Final

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.flow_control import FlowControl, service_unavailable
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from interfaces.http.addresses import Proxies
from interfaces.http.leaving import Leaving
from interfaces.http.middleware import DEFAULT_HEADERS, AnswerHeaders, RequestIds
from interfaces.http.problems import unavailable_problem

REQUEST_SECONDS: Final = 15
"""How long a request may take to arrive whole."""

HEAD_MAX: Final = 65_536
"""Bytes in a request's target and the names and values of its headers."""

PIECE: Final = 4_096
"""Bytes that are parsed at once: what a client pipelines within them is queued, what comes after it waits unparsed."""


class DeadlineProtocol(HttpToolsProtocol):
    """Cuts connections on which no request arrives whole in time, and refuses heads that have no end.

    The clock starts when somebody connects and when a request begins, and stops when it is whole; between requests
    uvicorn's keep-alive takes over. Other connections are not concerned.

    While one request waits behind another nothing more is read: however much a client pipelines, it costs us little.

    What asks for another protocol stays HTTP, its body included: we speak no other (RFC 9110, section 7.8). The parser
    takes for granted that we would, and left alone it reads the body as the next request.
    """

    flow: "_Flow"

    _at_work: RequestResponseCycle | None = None
    _wire: "_OneWrite"
    _deadline: asyncio.TimerHandle | None = None
    _in_head = False
    _in_repeated_head = False
    _head_size = 0
    _silence = 0
    _unparsed = memoryview(b"")

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock for the first request."""
        super().connection_made(transport)
        self.flow = _Flow(transport)
        self._start()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock for good.

        uvicorn tells the request that arrived last that its client is gone; the one at work may be an earlier one,
        and would write to a transport that is closed.
        """
        self._stop()
        self._unparsed = memoryview(b"")
        if self._at_work is not None and not self._at_work.response_complete:
            self._at_work.disconnected = True
            self._at_work.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what arrived."""
        self._unparsed = memoryview(bytes(self._unparsed) + data if self._unparsed else data)
        self._parse()

    def on_message_begin(self) -> None:
        """Start the clock anew."""
        if self._in_repeated_head:
            return
        super().on_message_begin()
        self._in_head, self._head_size, self._silence = True, 0, 0
        self._start()

    def on_url(self, url: bytes) -> None:
        """Count the head."""
        if self._in_repeated_head:
            return
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count the head, and leave out what comes after the body: a trailer is no header (RFC 9110, section 6.5.1).

        Neither are the blanks around a value part of it (section 5.5): the parser leaves those that follow it.
        """
        self._count(len(name) + len(value))
        if self._in_head:
            super().on_header(name, value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        """Note the end of the head."""
        if self._in_repeated_head:
            return
        self._in_head = False
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Hear from the parser."""
        self._silence = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Stop the clock: the request is whole."""
        if self._has_skipped_body():
            return
        super().on_message_complete()
        self._stop()

    def on_response_complete(self) -> None:
        """Send what is left of the answer, and go on with what waited."""
        self._wire.flush()
        super().on_response_complete()
        if self._unparsed and not self.transport.is_closing():
            self._parse()
            self.flow.resume_reading()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, with the headers that every answer has, and close."""
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
        self._at_work = cycle
        cycle.transport = self._wire = _OneWrite(self.transport)
        super()._start_asgi_task(cycle, overloaded if app is service_unavailable else app)

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
        if idle and self._deadline is None:  # it sent something, but no request began: no keep-alive for that
            self._start()

    def _feed(self, data: memoryview) -> None:
        self._silence += len(data)
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            if self._has_skipped_body():
                self._repeat_head()
            self._feed(data[upgrade.args[0] :])
        if self._silence > HEAD_MAX:  # the parser collects something, and reports it only when it ends
            raise HttpParserError("a line has no end")

    def _has_skipped_body(self) -> bool:
        return self.parser.should_upgrade() and bool(self._framing())

    def _framing(self) -> list[bytes]:
        names = {b"content-length", b"transfer-encoding"}
        return [b"%s: %s\r\n" % (name, value) for name, value in self.headers if name in names]

    def _repeat_head(self) -> None:
        """Bring a new parser to where the body begins, by a head that asks for no other protocol."""
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
        self._deadline = self.loop.call_later(REQUEST_SECONDS, self._cut)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _cut(self) -> None:
        self.transport.abort()


class _OneWrite(asyncio.Transport):
    """Sends the head of an answer together with its body: uvicorn writes each, and each write is a system call."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._held = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Hold a head back, and send anything else with what is held."""
        if not self._held and data[:9] == b"HTTP/1.1 " and data[9:10] != b"1":
            self._held = bytes(data)
        else:
            self._transport.write(self._held + data if self._held else data)
            self._held = b""

    def flush(self) -> None:
        """Send what is held: an answer without a body."""
        if self._held and not self._transport.is_closing():
            self._transport.write(self._held)
        self._held = b""

    def close(self) -> None:
        """Send what is held, and close."""
        self.flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """Tell whether nothing more will be sent."""
        return self._transport.is_closing()


class _Flow(FlowControl):
    """Reads on only when nothing waits to be parsed."""

    _held = False

    def hold(self, held: bool) -> None:
        """Stop reading, whoever asks to read on, or let them again."""
        self._held = held
        if held:
            self.pause_reading()

    def pause_reading(self) -> None:
        """Stop reading; a transport that is closing has stopped, and uvloop's would raise."""
        if not self._transport.is_closing():
            super().pause_reading()

    def resume_reading(self) -> None:
        """Read on, unless it is held or there is nothing left to read from."""
        if not self._held and not self._transport.is_closing():
            super().resume_reading()


async def _overloaded(scope: Scope, receive: Receive, send: Send) -> None:
    answer = unavailable_problem("too many connections are open at once")
    answer.headers["Connection"] = "close"
    await answer(scope, receive, send)


overloaded: Final[Any] = RequestIds(AnswerHeaders(_overloaded, Proxies(()), Leaving()), Proxies(()))
"""What answers in the application's stead when there are too many connections."""
