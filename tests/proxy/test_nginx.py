"""deploy/nginx.conf in a real nginx: compression, its own problems, limits, TLS and hosts."""

import gzip
import json
import secrets
import socket
import ssl
from collections.abc import Mapping
from contextlib import ExitStack
from http.client import HTTPResponse
from typing import Any

import pytest

from interfaces.http.middleware import BODY_MAX, DEFAULT_HEADERS
from interfaces.http.problems import MEDIA_TYPE, PROBLEMS
from tests.support.nginx import HOST, ORIGIN, Nginx, nginx
from tests.support.servers import Server

EXPOSED = {"Retry-After", "X-Request-ID"}
LONG = 8_400
"""Longer than one buffer of nginx, and short enough to be read whole before nginx closes."""

POST = {"title": "A title", "content": "Some content. " * 40}


class Response:
    """A response: its status, headers and body as they were sent."""

    def __init__(self, connection: socket.socket, method: str = "GET") -> None:
        received = HTTPResponse(connection, method=method)
        received.begin()
        self.status = received.status
        self.headers = received.headers
        self.raw = received.read()

    @property
    def is_compressed(self) -> bool:
        """Whether the body is compressed."""
        return self.headers["Content-Encoding"] == "gzip"

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(gzip.decompress(self.raw) if self.is_compressed else self.raw)

    @property
    def tag(self) -> str:
        """The tag of the post."""
        return str(self.headers["ETag"])


def exchange(connection: socket.socket, data: bytes) -> Response:
    with connection:
        connection.sendall(data)
        return Response(connection, data.split(maxsplit=1)[0].decode())


def head(line: str, headers: Mapping[str, str], host: str = HOST) -> bytes:
    lines = [f"{line} HTTP/1.1", f"Host: {host}", "Connection: close"]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items()), "", ""]).encode()


def send(proxy: Nginx, method: str, path: str, body: object = None, **headers: str) -> Response:
    """Send a request; the names of headers are written with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    content = b"" if body is None else json.dumps(body).encode()
    if content:
        named |= {"Content-Type": "application/json", "Content-Length": str(len(content))}
    return exchange(proxy.connect(), head(f"{method} {path}", named) + content)


def plain(port: int, data: bytes) -> Response:
    return exchange(socket.create_connection(("127.0.0.1", port), timeout=20), data)


def require_own_problem(response: Response, status: int, slug: str | None, *, secure: bool = True) -> None:
    assert response.status == status, response.raw
    assert response.headers["Content-Type"] == MEDIA_TYPE
    problem = response.json
    assert problem.keys() == {"type", "title", "status", "detail", "instance"}
    assert problem["type"] == ("about:blank" if slug is None else f"/problems/{slug}")
    assert problem["status"] == status
    if slug is not None:
        assert (problem["title"], status) == (PROBLEMS[slug].title, PROBLEMS[slug].status)
    assert problem["instance"] == response.headers["X-Request-ID"]
    assert {name: response.headers[name] for name in DEFAULT_HEADERS} == DEFAULT_HEADERS
    assert response.headers["Strict-Transport-Security"] == ("max-age=31536000" if secure else None)
    assert "Authorization, Origin" in (response.headers.get_all("Vary") or [])
    assert "/" not in response.headers["Server"]


def require_readable(response: Response) -> None:
    """Require that a page of the allowed origin may read a response."""
    assert response.headers.get_all("Access-Control-Allow-Origin") == [ORIGIN]
    assert set(response.headers["Access-Control-Expose-Headers"].split(", ")) >= EXPOSED


@pytest.fixture(scope="module")
def person(proxy: Nginx) -> dict[str, str]:
    """The headers of a user who signed in through nginx."""
    account = {"email": "ann@example.com", "password": "an unusual one"}
    assert send(proxy, "POST", "/users", account).status == 201
    form = b"username=ann%40example.com&password=an+unusual+one"
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": str(len(form))}
    token = exchange(proxy.connect(), head("POST /login", headers) + form).json["access_token"]
    return {"Authorization": f"Bearer {token}", "Accept_Encoding": "gzip"}


# Compression.


def test_tag_of_a_compressed_post_is_accepted_in_conditions(proxy: Nginx, person: dict[str, str]) -> None:
    path = send(proxy, "POST", "/posts", POST, **person).headers["Location"]
    read = send(proxy, "GET", path, **person)
    assert read.is_compressed
    assert read.tag.startswith('W/"1-')
    assert send(proxy, "GET", path, **person, If_None_Match=read.tag).status == 304

    assert send(proxy, "PATCH", path, {"title": "No"}, **person, If_None_Match=read.tag).status == 412
    edited = send(proxy, "PUT", path, POST, **person, If_Match=read.tag)
    assert (edited.status, edited.json["version"]) == (200, 2)
    stale = send(proxy, "PUT", path, POST, **person, If_Match=read.tag)
    assert (stale.status, stale.json["type"]) == (412, "/problems/version-mismatch")
    assert send(proxy, "DELETE", path, **person, If_Match=edited.tag).status == 204


def test_json_and_problems_are_compressed_for_those_that_accept_it(proxy: Nginx, person: dict[str, str]) -> None:
    send(proxy, "POST", "/posts", POST, **person)
    for path, status, kind in (("/posts", 200, "application/json"), ("/posts/4711", 404, MEDIA_TYPE)):
        response = send(proxy, "GET", path, **person, X_Request_ID="same")
        assert (response.status, response.headers["Content-Type"]) == (status, kind)
        assert response.is_compressed
        assert "Accept-Encoding" in ", ".join(response.headers.get_all("Vary") or [])
        identity = send(proxy, "GET", path, **person | {"Accept_Encoding": "identity"}, X_Request_ID="same")
        assert not identity.is_compressed
        assert identity.json == response.json


# What nginx responds itself.


def test_request_that_nginx_cannot_parse_is_a_problem(proxy: Nginx) -> None:
    origin = f"Origin: {ORIGIN}\r\n"
    for data in (
        b"GARBAGE\r\n\r\n",
        f"GET / HTTP/1.1\r\n{origin}Connection: close\r\n\r\n".encode(),
        head("GET /", {"X-Long": "x" * LONG}),
        head("POST /posts", {"Content-Length": "many"}),
    ):
        require_own_problem(exchange(proxy.connect(), data), 400, None)
    require_own_problem(exchange(proxy.connect(), head(f"GET /posts?search={'x' * LONG}", {})), 414, None)


def test_own_problems_carry_cors_headers_and_the_request_id(proxy: Nginx, orphan: Nginx) -> None:
    for each, line, headers, status, slug in (
        (proxy, "POST /posts", {"Content-Length": str(BODY_MAX + 1)}, 413, "body-too-large"),
        (proxy, "POST /posts", {"Content-Length": "many"}, 400, None),
        (proxy, "GET /metrics", {}, 404, "not-found"),
        (proxy, "GET /.agora-problem", {}, 404, "not-found"),
        (orphan, "GET /posts", {}, 503, "unavailable"),
        (orphan, "POST /posts", {"Content-Length": "0"}, 503, "unavailable"),
    ):
        response = exchange(each.connect(), head(line, {"Origin": ORIGIN, "X-Request-ID": "an.id-1_2"} | headers))
        require_own_problem(response, status, slug)
        require_readable(response)
        assert response.headers["X-Request-ID"] == "an.id-1_2"
        assert (response.headers["Retry-After"] is not None) is (status == 503)

    stranger = exchange(orphan.connect(), head("GET /", {"Origin": "https://evil.example", "X-Request-ID": 'x"y'}))
    require_own_problem(stranger, 503, "unavailable")
    assert stranger.headers["Access-Control-Allow-Origin"] is None
    assert stranger.headers["Access-Control-Expose-Headers"] is None
    assert len(stranger.headers["X-Request-ID"]) == 32


def test_head_gets_the_headers_of_a_problem_alone(orphan: Nginx) -> None:
    response = exchange(orphan.connect(), head("HEAD /posts", {"Origin": ORIGIN}))
    assert (response.status, response.raw) == (503, b"")
    require_readable(response)


def test_responses_of_agora_pass_with_their_own_headers(proxy: Nginx, server: Server) -> None:
    response = send(proxy, "GET", "/nowhere", Origin=ORIGIN, X_Request_ID="passed-on")
    assert (response.status, response.json["instance"]) == (404, "passed-on")
    require_readable(response)
    for name in ("X-Request-ID", "Strict-Transport-Security", *DEFAULT_HEADERS):
        assert len(response.headers.get_all(name) or []) == 1, name
    assert len(send(proxy, "GET", "/", X_Request_ID="x y").headers["X-Request-ID"]) == 32
    assert server.address


def test_forwarding_headers_of_clients_are_replaced(proxy: Nginx, server: Server) -> None:
    mark = secrets.token_hex(8)
    forged = {"X_Forwarded_For": "203.0.113.9", "Forwarded": "for=203.0.113.9", "X_Forwarded_Proto": "http"}
    response = send(proxy, "GET", "/", X_Request_ID=mark, X_Test_Address="198.51.100.7", **forged)
    assert response.headers["Strict-Transport-Security"]
    server.wait_until_it_says(mark)
    (line,) = [line for line in server.said.splitlines() if mark in line]
    assert "198.51.100.7" in line
    assert "203.0.113.9" not in line


# Limits.


def test_more_requests_than_the_limit_get_429(orphan: Nginx) -> None:
    def statuses(line: str, address: str, most: int) -> list[int]:
        found = []
        with orphan.connect() as connection:
            for _ in range(most):
                request = head(line, {"Origin": ORIGIN, "X-Test-Address": address}).replace(b"close", b"keep-alive")
                connection.sendall(request)
                found.append((response := Response(connection)).status)
                if response.status == 429:
                    require_own_problem(response, 429, "rate-limited")
                    require_readable(response)
                    assert response.headers["Retry-After"] == "1"
        return found

    login = "POST /login"
    assert set(statuses(login, "203.0.113.1", 60)) == {429, 503}
    assert set(statuses(login, "203.0.113.2", 15)) == {503}  # another client's limit is its own
    assert set(statuses("GET /login", "203.0.113.1", 15)) == {503}  # other requests have another limit
    assert set(statuses(f"{login}/", "203.0.113.1", 15)) & {429}
    statuses(login, "2001:db8:0:1::1", 60)
    assert 429 in statuses(login, "2001:db8:0:1:ffff::2", 15)  # a client has 64 bits of addresses
    assert set(statuses(login, "2001:db8:0:2::1", 15)) == {503}


def test_more_concurrent_requests_than_the_limit_get_429() -> None:
    with (
        socket.create_server(("127.0.0.1", 0), backlog=200) as silent,
        nginx(silent.getsockname()[1]) as proxy,
        ExitStack() as open_connections,
    ):
        silent.settimeout(20)

        def begin(address: str) -> socket.socket:
            connection = open_connections.enter_context(proxy.connect())
            connection.sendall(head("GET /posts", {"X-Test-Address": address}))
            return connection

        for _ in range(100):
            begin("203.0.113.1")
            open_connections.enter_context(silent.accept()[0])  # nginx has counted the request
        require_own_problem(Response(begin("203.0.113.1")), 429, "rate-limited")
        begin("203.0.113.2")
        open_connections.enter_context(silent.accept()[0])  # another client's limit is its own


# TLS and hosts.


def test_plain_http_is_refused_not_redirected(proxy: Nginx) -> None:
    for host in (HOST, "evil.example"):
        for line in ("GET /", "POST /login", "GET /posts/1"):
            response = plain(proxy.http, head(line, {"Authorization": "Bearer x", "Content-Length": "0"}, host))
            require_own_problem(response, 403, None, secure=False)
            assert response.headers["Location"] is None
    require_own_problem(plain(proxy.https, head("GET /", {})), 400, None, secure=False)


def test_foreign_hosts_are_refused(proxy: Nginx) -> None:
    for host in ("evil.example", "127.0.0.1", "x." + HOST, f"{HOST}.evil.example"):
        require_own_problem(exchange(proxy.connect(), head("GET /", {}, host)), 421, None)
    for name in ("evil.example", None):
        with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
            proxy.connect(name=name)
    assert exchange(proxy.connect(), head("GET /", {}, f"{HOST}:443")).status == 200


def test_only_ciphers_with_forward_secrecy_are_accepted(proxy: Nginx) -> None:
    with proxy.connect(version=ssl.TLSVersion.TLSv1_3) as connection:
        assert connection.version() == "TLSv1.3"
    for ciphers, accepted in (
        ("ECDHE+AESGCM", True),
        ("ECDHE+CHACHA20", True),
        ("kRSA", False),
        ("ECDHE+AES+SHA", False),
    ):
        context = ssl.create_default_context(cafile=str(proxy.certificate))
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(ciphers)
        with socket.create_connection(("127.0.0.1", proxy.https)) as connection:
            try:
                context.wrap_socket(connection, server_hostname=HOST).close()
            except ssl.SSLError:
                assert not accepted, ciphers
            else:
                assert accepted, ciphers
