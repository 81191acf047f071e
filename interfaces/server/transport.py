"""How a connection writes and stops reading."""

import asyncio

from uvicorn.protocols.http.flow_control import FlowControl


class OneWrite(asyncio.Transport):
    """Joins the head of a response with its body.

    uvicorn writes each by itself, and each write is a system call.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._held = b""
        self._written = 0

    @property
    def taken(self) -> int:
        """Bytes that the kernel has taken so far."""
        return self._written - self._transport.get_write_buffer_size()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Buffer a head; send anything else together with the buffer."""
        if not self._held and data[:9] == b"HTTP/1.1 " and data[9:10] != b"1":
            self._held = bytes(data)
        else:
            self._write(self._held + data if self._held else data)
            self._held = b""

    def flush(self) -> None:
        """Send the buffer: a response without a body."""
        if self._held and not self._transport.is_closing():
            self._write(self._held)
        self._held = b""

    def close(self) -> None:
        """Send the buffer, and close."""
        self.flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """Test whether the transport is closing."""
        return self._transport.is_closing()

    def _write(self, data: bytes | bytearray | memoryview) -> None:
        self._written += len(data)
        self._transport.write(data)


class Flow(FlowControl):
    """Pauses reading while data waits to be parsed."""

    _held = False

    def hold(self, held: bool) -> None:
        """Pause reading until released, regardless of other requests to resume."""
        self._held = held
        if held:
            self.pause_reading()

    def pause_reading(self) -> None:
        """Pause reading, unless the transport is closing: uvloop would raise."""
        if not self._transport.is_closing():
            super().pause_reading()

    def resume_reading(self) -> None:
        """Resume reading, unless held or closing."""
        if not self._held and not self._transport.is_closing():
            super().resume_reading()
