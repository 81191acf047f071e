"""Much data, many requests, and the end of the server."""

import os
import re
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import URL

from tests.support.preparations import finish_requests_soon
from tests.support.servers import Server
from tests.support.wire import GET, LIVE, POST, Wire, quick

MIB = 1_048_576
BODY = b'{"email": "late@example.com", "password": "it took a while"}'

needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells a process' memory")


def peak_bytes(server: Server) -> int:
    """Tell the most memory that the server ever had."""
    (kib,) = re.findall(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{server.process.pid}/status").read_text(), re.MULTILINE)
    return int(kib) * 1024


def named(name: int) -> bytes:
    return LIVE[:-2] + b"X-Request-ID: %d\r\n\r\n" % name


# Bodies.


@needs_proc
def test_300_mib_in_chunks_are_refused_and_not_kept(server: Server) -> None:
    before = peak_bytes(server)
    chunk = b"%x\r\n%s\r\n" % (MIB, b"x" * MIB)
    with Wire(server.port) as wire:
        wire.send(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(300):
            wire.send(chunk)
        wire.send(b"0\r\n\r\n" + LIVE)
        refusal = wire.answer()

        assert refusal.status == 413
        assert refusal.headers["Content-Type"] == "application/problem+json"
        assert wire.answer().status == 200
    assert peak_bytes(server) - before < 50 * MIB


@pytest.mark.parametrize("expecting", [b"", b"Expect: 100-continue\r\n"], ids=["", "asking first"])
def test_a_body_that_says_to_be_too_large_is_refused_unread(port: int, expecting: bytes) -> None:
    with Wire(port) as wire:
        wire.send(POST + expecting + b"Content-Length: %d\r\n\r\n" % (2 * MIB))
        assert wire.answer().status == 413


def test_a_body_may_be_as_large_as_the_limit_says(port: int) -> None:
    with Wire(port) as wire:
        for size, status in ((MIB, 422), (MIB + 1, 413)):
            wire.send(POST + b"Content-Length: %d\r\n\r\n%s" % (size, b" " * size))
            assert wire.answer().status == status


# Heads.


@needs_proc
@pytest.mark.parametrize(
    ("start", "more"),
    [
        (b"GET / HTTP/1.1\r\n", b"X-Flood: 1\r\n" * 1_000),
        (b"GET / HTTP/1.1\r\nX-Flood: ", b"1" * 10_000),
        (b"GET / HTTP/1.1\r\n", b"X-Flood" * 1_000),
        (b"GET /", b"a" * 10_000),
        (b"", b"\r\n" * 5_000),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-Flood: ", b"1" * 10_000),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X-Flood: 1\r\n" * 1_000),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n2;", b"a" * 10_000),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n", b"0" * 10_000),
    ],
    ids=["headers", "value", "name", "target", "empty lines", "trailer", "trailers", "extension", "size"],
)
def test_what_has_no_end_is_refused_soon(server: Server, start: bytes, more: bytes) -> None:
    before = peak_bytes(server)
    most = 50 * MIB
    with Wire(server.port) as wire:
        assert wire.flood(start, more, most) < most  # what lies in the system's buffers was sent, too
        assert wire.rest()[:12] in {b"", b"HTTP/1.1 400"}
    assert peak_bytes(server) - before < 10 * MIB


def test_a_head_may_be_large(port: int) -> None:
    with Wire(port) as wire:
        wire.send(LIVE[:-2] + b"X-Large: %s\r\n\r\n" % (b"a" * 60_000))
        assert wire.answer().status == 200
        wire.send(LIVE[:-2] + b"X-Large: %s\r\n\r\n" % (b"a" * 66_000))
        assert wire.answer().status == 400
        assert wire.rest() == b""


# Many requests.


def test_many_requests_in_turn_use_one_connection(port: int) -> None:
    with Wire(port) as wire:
        for name in range(500):
            wire.send(named(name))
            answer = wire.answer()
            assert (answer.status, answer.headers["X-Request-ID"]) == (200, str(name))


def test_requests_sent_at_once_are_answered_in_their_order(port: int) -> None:
    post = POST.replace(b"\r\nContent", b"\r\nX-Request-ID: %d\r\nContent", 1)
    requests = [post % name + b"Content-Length: 2\r\n\r\n{}" if name % 3 == 0 else named(name) for name in range(1_000)]
    with Wire(port) as wire:
        wire.send(b"".join(requests))
        answers = [wire.answer() for _ in requests]

    assert [answer.headers["X-Request-ID"] for answer in answers] == [str(name) for name in range(1_000)]
    assert [answer.status for answer in answers] == [422 if name % 3 == 0 else 200 for name in range(1_000)]


@needs_proc
def test_pipelined_requests_of_a_silent_reader_are_bounded(server: Server) -> None:
    before = peak_bytes(server)
    with Wire(server.port) as greedy, Wire(server.port) as other:
        request = b"GET / HTTP/1.1\r\n\r\n"
        sent = greedy.press(request * 10_000, seconds=0.5)
        for _ in range(500):
            assert greedy.answer().status == 200
        sent += greedy.press(request * 10_000, seconds=0.5)
        other.send(LIVE)
        assert other.answer().status == 200
    assert sent > 10_000 * len(request)
    assert peak_bytes(server) - before < 10 * MIB


@pytest.mark.parametrize("path", [b"/", b"/docs", b"/health/live", b"/posts", b"/nowhere"])
def test_head_says_what_get_says_without_a_body(port: int, path: bytes) -> None:
    with Wire(port) as wire:
        wire.send(GET % path)
        got = wire.answer()
        wire.send((GET % path).replace(b"GET", b"HEAD") + LIVE)
        head = wire.answer(to_head=True)
        assert wire.answer().status == 200  # nothing stood before it
    assert head.status == got.status
    assert head.headers["Content-Length"] == got.headers["Content-Length"]


@pytest.mark.parametrize("path", [b"/", b"/docs", b"/nowhere", b"/posts", b"no path"])
def test_no_answer_says_what_the_server_is(port: int, path: bytes) -> None:
    with Wire(port) as wire:
        wire.send(GET % path)
        headers = wire.answer().headers
    assert not {"Server", "X-Powered-By", "Via"} & set(headers)
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_client_that_disconnects_early_leaves_no_trace(server: Server) -> None:
    body = BODY.replace(b"late", b"gone")
    register = POST + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    for _ in range(20):
        with Wire(server.port) as wire:
            wire.send(register + LIVE)  # the second waits behind the first
            wire.reset()
    with Wire(server.port) as other:
        other.send(LIVE)
        assert other.answer().status == 200
    assert "Traceback" not in server.said, server.said.partition("Traceback")[2]


@pytest.mark.parametrize("blanks", [b"", b" ", b"\t \t"])
def test_blanks_around_a_value_are_no_part_of_it(port: int, blanks: bytes) -> None:
    with Wire(port) as wire:
        wire.send(LIVE[:-2] + b"X-Request-ID:%sa-name%s\r\n\r\n" % (blanks, blanks))
        assert wire.answer().headers["X-Request-ID"] == "a-name"


# The end.


def require_quiet(server: Server) -> None:
    """Require a log without errors: nothing that was cancelled is one."""
    errors = [line for line in server.said.splitlines() if "Traceback" in line or "[error" in line]
    assert [line for line in errors if "timeout graceful shutdown exceeded" not in line] == []


def test_a_request_at_work_is_finished_before_the_server_ends(database_of: Callable[[str], URL]) -> None:
    with quick(database_of("sqlite")) as server, Wire(server.port) as wire, Wire(server.port) as idle:
        idle.send(LIVE)
        assert idle.answer().status == 200
        wire.send(POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(BODY))
        assert wire.line() == b"HTTP/1.1 100 Continue\r\n"  # it is at work, and waits for the body
        assert wire.line() == b"\r\n"
        server.process.terminate()
        assert idle.rest() == b""  # it heard
        wire.send(BODY)
        answer = wire.answer()

        assert answer.status == 201
        assert answer.headers["Connection"] == "close"
        assert wire.rest() == b""
        assert server.wait() == 0
    require_quiet(server)


@pytest.mark.parametrize("is_whole", [True, False], ids=["which waits for the database", "which waits for its body"])
def test_a_request_that_the_server_cannot_wait_for_is_told_to_come_back(
    database_of: Callable[[str], URL], is_whole: bool
) -> None:
    url = database_of("sqlite")
    with (
        quick(url, prepare=finish_requests_soon) as server,
        Wire(server.port) as wire,
        closing(sqlite3.connect(str(url.database))) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        wire.send(POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(BODY))
        assert wire.line() == b"HTTP/1.1 100 Continue\r\n"
        assert wire.line() == b"\r\n"
        if is_whole:
            wire.send(BODY)
        server.process.terminate()
        answer = wire.answer()

        assert (answer.status, answer.headers["Content-Type"]) == (503, "application/problem+json")
        assert answer.headers["Retry-After"] == "2"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert wire.rest() == b""
        assert server.wait() == 0
    require_quiet(server)


@pytest.mark.parametrize("workers", [1, 2])
def test_second_sigint_cancels_the_request_at_work_quietly(database_of: Callable[[str], URL], workers: int) -> None:
    with quick(database_of("sqlite"), workers) as server, Wire(server.port) as wire:
        wire.send(POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(BODY))
        assert wire.line() == b"HTTP/1.1 100 Continue\r\n"
        assert wire.line() == b"\r\n"
        os.killpg(server.process.pid, signal.SIGINT)
        server.wait_until_it_says("Waiting for connections to close")
        os.killpg(server.process.pid, signal.SIGINT)
        assert wire.answer().status == 503
        assert wire.rest() == b""
        assert server.wait() == 0
    require_quiet(server)
