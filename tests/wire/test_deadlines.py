"""Connections on which no request arrives whole are cut in time, and no other client notices."""

import sqlite3
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from itertools import chain, repeat
from typing import NamedTuple

import pytest
from sqlalchemy import URL

from tests.support.preparations import CONNECTIONS, REQUEST_SECONDS
from tests.support.servers import Server
from tests.support.wire import LIVE, POST, Wire

PACE_SECONDS = REQUEST_SECONDS / 5


class Unfinished(NamedTuple):
    """A request that is begun, and goes on without coming to an end."""

    start: bytes
    more: bytes = b""


OTHER_PROTOCOL = b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 100\r\n\r\n{"
NEVER_WHOLE = {
    "half a request line": Unfinished(b"GET /hea"),
    "a head without its end": Unfinished(LIVE[:-2]),
    "a head byte by byte": Unfinished(b"GET / HTTP/1.1\r\nX-Slow: ", b"a"),
    "headers one by one": Unfinished(b"GET / HTTP/1.1\r\n", b"X-Slow: a\r\n"),
    "empty lines before a request": Unfinished(b"\r\n", b"\r\n"),
    "an empty line and nothing else": Unfinished(b"\r\n"),
    "half a body": Unfinished(POST + b"Content-Length: 100\r\n\r\n{"),
    "a body byte by byte": Unfinished(POST + b"Content-Length: 100\r\n\r\n{", b" "),
    "a body chunk by chunk": Unfinished(POST + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "an endless trailer": Unfinished(POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X-Slow: a\r\n"),
    "a body after it was refused": Unfinished(POST + b"Content-Length: 2000000\r\n\r\n", b" "),
    "a body beside another protocol": Unfinished(POST + OTHER_PROTOCOL, b" "),
}


@pytest.mark.parametrize("before", [b"", LIVE], ids=["at first", "after another request"])
def test_what_never_becomes_whole_is_cut_while_others_are_served(hurried_server: Server, before: bytes) -> None:
    cut_after: dict[str, float] = {}
    with ExitStack() as stack:
        other, *wires = [stack.enter_context(Wire(hurried_server.port)) for _ in range(len(NEVER_WHOLE) + 1)]
        open_wires = dict(zip(NEVER_WHOLE, wires, strict=True))
        for wire in wires if before else []:
            wire.send(before)
            assert wire.answer().status == 200
        began = time.monotonic()
        for name, wire in open_wires.items():
            wire.send(NEVER_WHOLE[name].start)
        assert open_wires["a body after it was refused"].answer().status == 413

        while open_wires and time.monotonic() < began + REQUEST_SECONDS * 4:
            for name, wire in list(open_wires.items()):
                if wire.is_silent_for(PACE_SECONDS / len(open_wires)):
                    wire.send_if_open(NEVER_WHOLE[name].more)
                else:
                    cut_after[name] = time.monotonic() - began
                    assert open_wires.pop(name).rest() == b"", name
            other.send(LIVE)
            assert other.answer().status == 200

    assert open_wires == {}
    assert {name: seconds for name, seconds in cut_after.items() if not 0.9 < seconds / REQUEST_SECONDS < 3} == {}


def test_a_crowd_that_says_nothing_is_cut_while_others_are_served(hurried_server: Server) -> None:
    with ExitStack() as stack:
        other = stack.enter_context(Wire(hurried_server.port))
        other.send(LIVE)
        crowd = [stack.enter_context(Wire(hurried_server.port)) for _ in range(CONNECTIONS - 50)]
        assert other.answer().status == 200

        assert [wire.rest() for wire in crowd] == [b""] * len(crowd)

        other.send(LIVE)
        assert other.answer().status == 200


def test_a_whole_request_may_take_longer_to_answer_than_to_arrive(
    hurried_server: Server, database_of: Callable[[str], URL]
) -> None:
    body = b'{"email": "slow@example.com", "password": "a slow password"}'
    with (
        Wire(hurried_server.port) as wire,
        closing(sqlite3.connect(str(database_of("sqlite").database), isolation_level=None)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        wire.send(POST + b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        assert wire.is_silent_for(REQUEST_SECONDS * 2)
        other.execute("ROLLBACK")

        assert wire.answer().status == 201


def test_a_connection_in_use_is_not_cut_however_old_it_is(hurried_server: Server) -> None:
    with Wire(hurried_server.port) as wire:
        until = time.monotonic() + REQUEST_SECONDS * 2
        for request in chain([LIVE], repeat(b"\r\n" + LIVE)):
            wire.send(request)
            assert wire.answer().status == 200
            if time.monotonic() > until:
                break
