"""What is no HTTP, or may be read in two ways, is refused; what a client sends never becomes an answer of its own."""

import re

import httpx2
import pytest

from tests.support.servers import Server
from tests.support.wire import GET, LIVE, POST, Wire, talk

SMUGGLED = GET % b"/smuggled"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"
UPGRADE = POST + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"

REFUSED = {
    "a length and chunks": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + LAST,
    "chunks and a length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + LAST,
    "two lengths": POST + b"Content-Length: 0\r\nContent-Length: 36\r\n\r\n",
    "one length twice": POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "a list of lengths": POST + b"Content-Length: 2, 2\r\n\r\n{}",
    "a length with a sign": POST + b"Content-Length: +2\r\n\r\n{}",
    "a length below zero": POST + b"Content-Length: -2\r\n\r\n{}",
    "a length in hexadecimal": POST + b"Content-Length: 0x2\r\n\r\n{}",
    "a length past 64 bits": POST + b"Content-Length: 18446744073709551618\r\n\r\n{}",
    "an empty length": POST + b"Content-Length:\r\n\r\n",
    "a coding that is not chunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n" + LAST,
    "a coding after chunked": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n" + LAST,
    "two headers with codings": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + LAST,
    "chunked twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + LAST,
    "chunked after a tabulator": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + LAST,
    "no CR at all": LIVE.replace(b"\r\n", b"\n"),
    "a bare LF after a header": b"GET / HTTP/1.1\r\nHost: agora\nX: y\r\n\r\n",
    "a bare CR after a header": b"GET / HTTP/1.1\r\nHost: agora\rX: y\r\n\r\n",
    "a bare LF after the head": b"GET / HTTP/1.1\r\nHost: agora\r\n\n",
    "a folded header": b"GET / HTTP/1.1\r\nHost: agora\r\nX: a\r\n b\r\n\r\n",
    "a folded coding": POST + b"Transfer-Encoding:\r\n chunked\r\nContent-Length: 5\r\n\r\n" + LAST,
    "a space before the first header": b"GET / HTTP/1.1\r\n Host: agora\r\n\r\n",
    "a space before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n" + LAST,
    "a tabulator before the colon": POST + b"Content-Length\t: 2\r\n\r\n{}",
    "NUL in a name": b"GET / HTTP/1.1\r\nHo\0st: agora\r\n\r\n",
    "NUL in a value": b"GET / HTTP/1.1\r\nHost: ago\0ra\r\n\r\n",
    "no name": b"GET / HTTP/1.1\r\n: agora\r\n\r\n",
    "no colon": b"GET / HTTP/1.1\r\nHost\r\n\r\n",
    "a chunk's size with a prefix": CHUNKED + b"0x2\r\n{}\r\n" + LAST,
    "a chunk's size with a sign": CHUNKED + b"+2\r\n{}\r\n" + LAST,
    "a chunk's size below zero": CHUNKED + b"-1\r\n{}\r\n" + LAST,
    "a chunk's size past 64 bits": CHUNKED + b"10000000000000002\r\n{}\r\n" + LAST,
    "a chunk's size before a bare LF": CHUNKED + b"2\n{}\r\n" + LAST,
    "a chunk's size before a space": CHUNKED + b"2 \r\n{}\r\n" + LAST,
    "a chunk's extension before a bare LF": CHUNKED + b"2;a\n{}\r\n" + LAST,
    "a chunk without a size": CHUNKED + b"\r\n" + LAST,
    "a chunk before a bare LF": CHUNKED + b"2\r\n{}\n" + LAST,
    "a chunk longer than it says": CHUNKED + b"2\r\n{}xx" + LAST,
    "a path with a space": b"GET /a b HTTP/1.1\r\nHost: agora\r\n\r\n",
    "a path beyond ASCII": "GET /ü HTTP/1.1\r\nHost: agora\r\n\r\n".encode(),
    "a path without a slash": b"GET a HTTP/1.1\r\nHost: agora\r\n\r\n",
    "an unknown method": b"FOO / HTTP/1.1\r\nHost: agora\r\n\r\n",
    "a tunnel": b"CONNECT example.com:443 HTTP/1.1\r\nHost: agora\r\n\r\n",
    "HTTP/1.2": b"GET / HTTP/1.2\r\nHost: agora\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 32,
}

UNUSUAL = {
    "an old version": b"GET / HTTP/1.0\r\n\r\n",
    "a very old version": b"GET /\r\n\r\n",
    "chunks in an old version": CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + LAST,
    "no host": b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n",
    "a whole address": b"GET http://other.example/ HTTP/1.1\r\nHost: agora\r\nConnection: close\r\n\r\n",
    "an asterisk": b"OPTIONS * HTTP/1.1\r\nHost: agora\r\nConnection: close\r\n\r\n",
    "a trace": b"TRACE / HTTP/1.1\r\nHost: agora\r\nConnection: close\r\n\r\n",
    "two slashes": b"GET //other.example/ HTTP/1.1\r\nHost: agora\r\nConnection: close\r\n\r\n",
    "percents that are no escapes": b"GET /%zz%ff%c0%af%00 HTTP/1.1\r\nHost: agora\r\nConnection: close\r\n\r\n",
    "a chunk with an extension": CHUNKED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    + b"2;a=b\r\n{}\r\n"
    + LAST,
    "more after the end": b"GET / HTTP/1.1\r\nHost: agora\r\nConnection: close\r\n\r\n",
}


def statuses(said: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3})", said)]


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_what_can_be_misread_is_refused_and_nothing_after_it_is_read(port: int, data: bytes) -> None:
    said = talk(port, data + SMUGGLED)

    assert statuses(said) == [400]
    head, _, body = said.partition(b"\r\n\r\n")
    assert b"\r\nx-content-type-options: nosniff\r\n" in head
    assert b"\r\nconnection: close" in head
    assert b"\r\ncontent-length: %d" % len(body) in head


@pytest.mark.parametrize("data", UNUSUAL.values(), ids=UNUSUAL)
def test_what_is_unusual_gets_one_answer(port: int, data: bytes) -> None:
    (status,) = statuses(talk(port, data + SMUGGLED))
    assert status < 500


@pytest.mark.parametrize("codings", [b" gzip, chunked", b" gzip\r\nTransfer-Encoding: chunked", b" GZIP ,chunked"])
def test_transfer_coding_that_is_not_decoded_is_501(port: int, codings: bytes) -> None:
    with Wire(port) as wire:
        wire.send(CHUNKED.replace(b" chunked", codings) + b"2\r\n{}\r\n" + LAST + LIVE)
        refusal = wire.answer()
        assert (refusal.status, refusal.headers["Content-Type"]) == (501, "application/problem+json")
        assert wire.answer().status == 200
        wire.send(CHUNKED.replace(b" chunked", b" Chunked") + b"2\r\n{}\r\n" + LAST)
        assert wire.answer().status == 422


# Another protocol.


def test_who_asks_for_a_websocket_gets_the_page(port: int) -> None:
    ask = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AA==\r\n\r\n"
    with Wire(port) as wire:
        wire.send(LIVE[:-2] + ask + LIVE)
        assert [wire.answer().status, wire.answer().status] == [200, 200]
        wire.send(LIVE)
        assert wire.answer().status == 200


def test_a_body_is_a_body_whatever_protocol_is_asked_for(port: int) -> None:
    body = b'{"email": "java@example.com", "password": "its default client asks for HTTP/2"}'
    with Wire(port) as wire:
        for status in (201, 409):
            wire.send(UPGRADE + b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
            assert wire.answer().status == status
        wire.send(UPGRADE + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(body), body) + LAST + LIVE)
        assert [wire.answer().status, wire.answer().status] == [409, 200]
        wire.send(UPGRADE + b"Content-Length: 0\r\n\r\n" + LIVE)
        assert [wire.answer().status, wire.answer().status] == [422, 200]


@pytest.mark.parametrize("pause", [False, True], ids=["at once", "later"])
@pytest.mark.parametrize("is_chunked", [False, True], ids=["with a length", "in chunks"])
def test_a_body_never_becomes_the_next_request(port: int, is_chunked: bool, pause: bool) -> None:
    if is_chunked:
        head, body = b"Transfer-Encoding: chunked\r\n\r\n", b"%x\r\n%s\r\n" % (len(SMUGGLED), SMUGGLED) + LAST
    else:
        head, body = b"Content-Length: %d\r\n\r\n" % len(SMUGGLED), SMUGGLED
    with Wire(port) as wire:
        wire.send(UPGRADE + (b"Expect: 100-continue\r\n" if pause else b"") + head)
        if pause:
            assert wire.line() == b"HTTP/1.1 100 Continue\r\n"
            assert wire.line() == b"\r\n"
        wire.send(body + LIVE)
        answers = [wire.answer(), wire.answer()]
        assert [answer.status for answer in answers] == [422, 200]
        assert answers[1].body == b'{"status":"ok"}'
        assert wire.is_silent_for(0.05)


# Headers.


def test_what_comes_after_the_body_is_no_header(port: int) -> None:
    trailer = b"X-Request-ID: from-the-trailer\r\nAuthorization: Bearer x\r\nContent-Type: text/plain\r\n"
    with Wire(port) as wire:
        wire.send(CHUNKED.replace(b"/users", b"/posts") + b"2\r\n{}\r\n0\r\n" + trailer + b"\r\n")
        answer = wire.answer()
    assert answer.status == 401
    assert answer.headers["X-Request-ID"] != "from-the-trailer"
    assert answer.headers["WWW-Authenticate"] == "Bearer"  # as if none was sent


BREAK = b"%0d%0aX-Injected:%201%0d%0a%0d%0aHTTP/1.1%20200%20OK"
ENDED = b" HTTP/1.1\r\nHost: agora\r\nConnection: close\r\n"


@pytest.mark.parametrize(
    "data",
    [
        b"GET /" + BREAK + ENDED + b"\r\n",
        b"GET /problems/" + BREAK + ENDED + b"\r\n",
        b"GET /assets/" + BREAK + ENDED + b"\r\n",
        b"GET /users/1" + BREAK + ENDED + b"\r\n",
        b"GET /docs?" + BREAK + ENDED + b"\r\n",
        b"GET /" + ENDED + b"X-Request-ID: a" + BREAK + b"\r\n\r\n",
        b"GET /" + ENDED + b"X-Forwarded-For: " + BREAK + b"\r\nX-Forwarded-Proto: " + BREAK + b"\r\n\r\n",
        b"GET /" + ENDED + b"Origin: http://a" + BREAK + b"\r\n\r\n",
        b"OPTIONS /" + ENDED + b"Origin: x\r\nAccess-Control-Request-Method: " + BREAK + b"\r\n\r\n",
        *(
            b"POST /login"
            + ENDED
            + b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s" % (len(form), form)
            for form in (b"username=" + BREAK + b"&password=x", b"username=x&password=" + BREAK)
        ),
    ],
    ids=[
        "path",
        "slug",
        "asset",
        "id",
        "query",
        "request id",
        "forwarding",
        "origin",
        "preflight",
        "e-mail",
        "password",
    ],
)
def test_line_breaks_in_a_value_never_begin_a_header_or_an_answer(port: int, data: bytes) -> None:
    said = talk(port, data)
    head, _, _ = said.partition(b"\r\n\r\n")

    assert len(statuses(head)) == 1
    assert b"x-injected" not in head.lower()
    assert int(head[9:12]) < 500


def test_line_breaks_in_a_search_never_begin_a_header(server: Server) -> None:
    account = {"email": "search@example.com", "password": "a password to search with"}
    with httpx2.Client(base_url=server.address) as client:
        client.post("/users", json=account).raise_for_status()
        tokens = client.post("/login", data={"username": account["email"], "password": account["password"]}).json()
        client.headers["Authorization"] = f"Bearer {tokens['access_token']}"
        answer = client.get("/posts", params={"limit": 1, "search": "\r\nX-Injected: 1\r\n"})

        assert answer.json() == []
        assert "%0D%0AX-Injected" in answer.headers["Link"]
        assert "X-Injected" not in answer.headers
