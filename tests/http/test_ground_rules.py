"""What holds for every request: errors, paths, methods, headers, limits, JSON and the order of judgement."""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from anyio import sleep_forever
from sqlalchemy import URL
from starlette.types import Message

from application.errors import Unavailable
from tests.support.api import SECURITY_HEADERS, Api, Person, as_json, but_its_id, require_problem, running_api
from tests.support.openapi import Caller, Operation, Slot, operations

MIB = 1_048_576
POST = {"title": "A title", "content": "Some content"}
OVERSIZED = b"[" + b" " * (MIB - 1) + b"]"

ERRORS: list[tuple[str, str, dict[str, Any], str]] = [
    ("GET", "/nowhere", {}, "not-found"),
    ("GET", "/problems/nothing", {}, "not-found"),
    ("GET", "/assets/nothing", {}, "not-found"),
    ("POST", "/", {}, "method-not-allowed"),
    ("GET", "/users/9", {}, "user-not-found"),
    ("GET", "/users/x", {}, "validation"),
    ("POST", "/users", {"json": {}}, "validation"),
    ("POST", "/users", {"content": b"{"}, "validation"),
    ("POST", "/login", {}, "validation"),
    ("POST", "/login", {"data": {"username": "a", "password": "b"}}, "invalid-credentials"),
    ("GET", "/profile", {}, "not-authenticated"),
    ("GET", "/profile", {"headers": {"Authorization": "Bearer x"}}, "invalid-token"),
    ("POST", "/refresh", {"json": {"refresh_token": "x"}}, "invalid-token"),
    ("POST", "/refresh", {"json": {}}, "validation"),
    ("POST", "/nowhere", {"content": OVERSIZED}, "body-too-large"),
]


def test_every_error_is_a_problem(api: Api) -> None:
    for method, path, options, slug in ERRORS:
        require_problem(api.client.request(method, path, **options), slug)


# Paths.


def test_an_unknown_path_is_not_found_whatever_the_method(api: Api, ann: Person) -> None:
    for path in ("/nowhere", "/posts/1/votes", "/users/1/2", "/Posts", "/%2e%2e", "/%00", "/%ff", "/POSTS", "/posts;x"):
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "BREW"):
            answers = [api.client.request(method, path), ann(method, path)]
            assert [answer.status_code for answer in answers] == [404, 404], (method, path)
        require_problem(ann("GET", path), "not-found")


def test_a_doubled_slash_is_another_path(ann: Person) -> None:
    post_id = ann.posts()
    for path in (
        "//",
        "//posts",
        "/posts//",
        f"/posts//{post_id}",
        f"/posts/{post_id}//",
        "/health//live",
        "/posts/%2F",
    ):
        require_problem(ann("GET", f"http://testserver{path}"), "not-found")


def test_one_trailing_slash_changes_nothing(ann: Person, root: Person) -> None:
    samples: dict[str, Any] = {"post_id": ann.posts(), "user_id": ann.id}

    def slashed(method: str, path: str, **options: Any) -> httpx2.Response:
        path, mark, query = path.partition("?")
        return root(method, f"{path.rstrip('/')}/{mark}{query}", **options)

    for operation in operations(root):
        if operation.method == "GET":
            with_slash, without = operation.send(slashed, **samples), operation.send(root, **samples)
            assert with_slash.status_code == without.status_code == 200, operation.path
            assert but_its_id(with_slash) == but_its_id(without), operation.path
    for path in ("/docs/", "/redoc/", "/openapi.json/"):
        assert root("GET", path, follow_redirects=False).status_code == 200


def test_a_trailing_slash_loses_neither_body_nor_token(api: Api, ann: Person) -> None:
    written = ann("POST", "/posts/", json=POST, follow_redirects=False)
    assert (written.status_code, written.headers["Location"]) == (201, "/posts/1")
    assert ann("PUT", "/posts/1/vote/", json={"dir": 1}, follow_redirects=False).status_code == 200
    assert ann("GET", "/posts/?limit=1", follow_redirects=False).json()[0]["votes"] == 1
    assert ann("DELETE", "/posts/1/", follow_redirects=False).status_code == 204
    form = {"username": ann.email, "password": ann.password}
    assert api.client.post("/login/", data=form, follow_redirects=False).status_code == 200
    require_problem(api.client.get("/posts/", follow_redirects=False), "not-authenticated")


# Methods.


def raw(api: Api, method: str, path: str, body: Iterator[bytes] | None = None) -> list[Message]:
    """Send a request as a server does, and collect what the application sends, a body after HEAD included."""
    sent: list[Message] = []
    whole = False

    async def receive() -> Message:
        nonlocal whole
        if whole:
            await sleep_forever()  # the client stays, and has no more to say
        chunk = b"" if body is None else next(body, b"")
        whole = not chunk
        return {"type": "http.request", "body": chunk, "more_body": not whole}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [] if body is None else [(b"transfer-encoding", b"chunked")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "state": {},
        "extensions": {},
    }
    api.portal.call(api.app, scope, receive, send)
    return sent


def test_head_is_answered_wherever_get_is(root: Person) -> None:
    samples = {"post_id": root.posts(), "user_id": root.id}
    paths = [
        re.sub(r"{(\w+)}", lambda name: str({**samples, "slug": "validation"}[name[1]]), operation.path)
        for operation in operations(root)
        if operation.method == "GET"
    ]
    assert len(paths) > 8
    paths += [
        "/docs",
        "/redoc",
        "/openapi.json",
        "/assets/docs.js",
        "/posts/",
        "/posts?limit=x",
        "/posts/9",
        "/nowhere",
    ]

    for path in paths:
        head, get = root("HEAD", path), root("GET", path)
        assert (head.status_code, head.content) == (get.status_code, b""), path
        assert but_its_id(head)[1] == but_its_id(get)[1], path
    assert int(root("HEAD", "/posts").headers["Content-Length"]) > 0


@pytest.mark.parametrize("path", ["/", "/profile", "/docs", "/assets/docs.js", "/nowhere"])
def test_no_body_follows_head(api: Api, path: str) -> None:
    sent = raw(api, "HEAD", path)

    assert b"".join(message.get("body", b"") for message in sent) == b""
    assert dict(sent[0]["headers"])[b"content-length"] != b"0"


def pattern_of(path: str) -> str:
    return re.sub(r"{\w+}", "[^/]+", path.replace(".", r"\."))


def test_any_other_method_is_told_all_that_are_allowed(api: Api) -> None:
    found = operations(api.client.request)
    for path in ("/docs", "/redoc", "/openapi.json", "/assets/docs.js"):
        found.append(Operation({}, "GET", path))
    for path in {operation.path for operation in found}:
        concrete = re.sub(r"{\w+}", "1", path)
        allowed = {operation.method for operation in found if re.fullmatch(pattern_of(operation.path), concrete)}
        if "GET" in allowed:
            allowed.add("HEAD")
        for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"} - allowed:
            answer = api.client.request(method, concrete)
            assert answer.status_code == 405, (method, path)
            assert set(answer.headers["Allow"].split(", ")) == allowed, (method, path)
            if method != "HEAD":
                require_problem(answer, "method-not-allowed")


# Headers.


def test_a_request_id_is_echoed_if_it_is_one_and_made_up_otherwise(api: Api) -> None:
    for good in ("a", "A-b_c.9", "x" * 128, "-", "..."):
        for path in ("/", "/nowhere", "/profile"):
            assert api.client.get(path, headers={"X-Request-ID": good}).headers["X-Request-ID"] == good
    made_up = set()
    for bad in ("", " ", "a b", "x" * 129, "a/b", "a;b", "a\tb", "ü", "\u0661", "{}", '"a"'):
        answer = api.client.get("/nowhere", headers={b"X-Request-ID": bad.encode()})
        assert re.fullmatch("[A-Za-z0-9._-]{1,128}", answer.headers["X-Request-ID"]), bad
        assert answer.headers["X-Request-ID"] == require_problem(answer, "not-found")["instance"] != bad
        made_up.add(answer.headers["X-Request-ID"])
    assert len(made_up) == 11


def test_shared_caches_store_no_authenticated_response(ann: Person) -> None:
    answers = [
        ann("POST", "/posts", json=POST),
        ann("GET", "/posts/1"),
        ann("HEAD", "/posts"),
        ann("PUT", "/posts/1/vote", json={"dir": 1}),
        ann("DELETE", "/posts/1/vote"),
        ann("DELETE", "/posts/1"),
        ann("GET", "/posts/1"),
        ann("GET", "/posts/x"),
        ann("GET", "/users"),
        ann("GET", "/nowhere"),
        ann("GET", f"/users/{ann.id}"),
        ann("GET", "/profile", headers={"Authorization": "Bearer x"}),
        ann("POST", "/posts", content=OVERSIZED),
    ]

    assert [answer.status_code for answer in answers] == [
        201,
        200,
        200,
        200,
        204,
        204,
        404,
        422,
        403,
        404,
        200,
        401,
        413,
    ]
    for answer in answers:
        assert answer.headers["Cache-Control"] == "private, no-cache"
        assert "Authorization" in answer.headers["Vary"].split(", ")


def test_no_browser_misreads_or_misuses_an_answer(url: URL) -> None:
    with running_api(url, throttle=True, throttle_registrations=1, cors_origins=("https://pages.example",)) as api:
        ann = api.person("ann")
        paths = ("/", "/openapi.json", "/assets/docs.js", "/health/live", "/health/ready")
        answers = [api.client.get(path) for path in (*paths, "/nowhere", "/profile", "/users/9", "/users/x")]
        preflight = {"Origin": "https://pages.example", "Access-Control-Request-Method": "PUT"}
        answers += [
            ann("GET", "/profile"),
            ann("DELETE", f"/posts/{ann.posts()}"),
            ann("GET", "/admin-dashboard"),
            ann("HEAD", "/posts"),
            api.client.post("/"),
            api.client.post("/login", data={"username": ann.email, "password": ann.password}),
            api.client.post("/users", content=OVERSIZED),
            api.client.post("/users", content=b"{"),
            api.client.post("/users", json={"email": "bob@example.com", "password": "bob's password"}),
            api.client.options("/posts", headers=preflight),
            api.client.options("/posts", headers=preflight | {"Origin": "https://evil.example"}),
        ]

    statuses = [200] * 5 + [404, 401, 404, 422, 200, 204, 403, 200, 405, 200, 413, 422, 429, 200, 403]
    assert [answer.status_code for answer in answers] == statuses
    for answer in answers:
        assert {name: answer.headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS, answer.request.url
        assert "Server" not in answer.headers
        assert "Strict-Transport-Security" not in answer.headers  # this is no TLS


@pytest.mark.parametrize(
    ("failure", "slug"), [(RuntimeError("s3cret"), "internal"), (Unavailable("no"), "unavailable")]
)
def test_a_failure_of_our_own_is_a_problem_like_any_other(url: URL, failure: Exception, slug: str) -> None:
    class Broken:
        def __getattr__(self, _name: str) -> Any:
            raise failure

    with running_api(url, {"users": Broken()}, cors_origins=("https://pages.example",)) as api:
        answer = api.client.get("/users/1", headers={"Origin": "https://pages.example"})

    require_problem(answer, slug)
    assert answer.headers["Cache-Control"] == "private, no-cache"
    assert answer.headers["Access-Control-Allow-Origin"] == "https://pages.example"
    assert "s3cret" not in answer.text


def test_the_documentation_pages_load_from_their_own_host_only(api: Api) -> None:
    for path in ("/docs", "/redoc"):
        headers = api.client.get(path).headers
        policy = dict(rule.split(" ", 1) for rule in headers["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
        assert policy["script-src"] == policy["connect-src"] == "'self'"
        assert not re.search(r"https?:|\*|unsafe-eval", headers["Content-Security-Policy"])
        others = {name: value for name, value in SECURITY_HEADERS.items() if name != "Content-Security-Policy"}
        assert {name: headers.get(name) for name in others} == others


OVER_TLS = "max-age=31536000"


@pytest.mark.parametrize(
    ("peer", "url_scheme", "forwarded", "expected"),
    [
        ("203.0.113.7", "http", None, None),
        ("203.0.113.7", "https", None, OVER_TLS),
        ("203.0.113.7", "http", "https", None),  # anybody can say so
        ("203.0.113.7", "https", "http", OVER_TLS),
        ("10.1.2.3", "http", None, None),
        ("10.1.2.3", "http", "https", OVER_TLS),
        ("10.1.2.3", "http", "http", None),
        ("10.1.2.3", "https", "http", None),  # our own proxy knows how it was reached
    ],
)
def test_browsers_are_told_to_stay_with_tls_where_there_is_some(
    url: URL, peer: str, url_scheme: str, forwarded: str | None, expected: str | None
) -> None:
    headers = {} if forwarded is None else {"X-Forwarded-Proto": forwarded}
    with running_api(url, peer=peer, trusted_proxies=("10.0.0.0/8",)) as api:
        for path in ("/", "/nowhere", "/profile", "/docs"):
            answer = api.client.get(f"{url_scheme}://testserver{path}", headers=headers)
            assert answer.headers.get("Strict-Transport-Security") == expected, path


def test_setting_chooses_the_header_of_proxies(url: URL) -> None:
    headers = {"Forwarded": "for=203.0.113.7;proto=https"}
    for chosen, expected in (("Forwarded", OVER_TLS), ("X-Forwarded-For", None)):
        with running_api(url, peer="10.1.2.3", trusted_proxies=("10.0.0.0/8",), forwarded_header=chosen) as api:
            assert api.client.get("/", headers=headers).headers.get("Strict-Transport-Security") == expected


def test_pages_of_allowed_origins_read_answers_and_no_others_do(url: URL) -> None:
    with running_api(url, cors_origins=("https://pages.example",)) as api:
        for path in ("/", "/nowhere", "/profile", "/users/x"):
            allowed = api.client.get(path, headers={"Origin": "https://pages.example"}).headers
            assert allowed["Access-Control-Allow-Origin"] == "https://pages.example"
            exposed = set(allowed["Access-Control-Expose-Headers"].split(", "))
            assert exposed == {"ETag", "Idempotency-Replayed", "Link", "Location", "Retry-After", "X-Request-ID"}
            assert {"Origin", "Authorization"} <= set(allowed["Vary"].split(", "))
            for origin in ("https://pages.example.evil.example", "http://pages.example", "null"):
                assert "Access-Control-Allow-Origin" not in api.client.get(path, headers={"Origin": origin}).headers


# Bodies.


def sized(size: int) -> bytes:
    """Make a registration of this many bytes."""
    body = json.dumps({"email": "ann@example.com", "password": "a password", "padding": ""}).encode()
    return body[:-2] + b"x" * (size - len(body)) + body[-2:]


def streamed(body: bytes) -> Iterator[bytes]:
    yield body[: len(body) // 2]
    yield body[len(body) // 2 :]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_of_one_mebibyte_fits_and_not_a_byte_more(api: Api, chunked: bool) -> None:
    def send(size: int) -> httpx2.Response:
        body = sized(size)
        assert len(body) == size
        return api.client.post("/users", content=streamed(body) if chunked else body)

    require_problem(send(MIB + 1), "body-too-large")
    assert send(MIB).status_code == 201


@pytest.mark.parametrize("chunked", [False, True])
def test_the_limit_comes_before_everything_else(api: Api, ann: Person, chunked: bool) -> None:
    post_id = ann.posts()
    for method, path in (
        ("GET", "/"),
        ("GET", "/posts"),
        ("GET", "/nowhere"),
        ("POST", "/"),
        ("POST", "/users"),
        ("POST", "/login"),
        ("GET", "/admin-dashboard"),
        ("PUT", f"/posts/{post_id}"),
        ("DELETE", f"/posts/{post_id}"),
        ("BREW", "/nowhere"),
    ):
        for caller in (ann, api.client.request):
            body = streamed(OVERSIZED) if chunked else OVERSIZED
            require_problem(
                caller(method, path, content=body, headers={"Content-Type": "text/plain"}), "body-too-large"
            )
            body = streamed(OVERSIZED[1:]) if chunked else OVERSIZED[1:]
            if method in {"GET", "POST"} and path != "/login":  # which takes less: test_refused_bodies.py
                assert caller(method, path, content=body).status_code != 413
    assert ann("GET", f"/posts/{post_id}").status_code == 200


def test_content_length_is_believed_only_where_it_admits_to_too_much(api: Api) -> None:
    def send(length: str, body: bytes) -> httpx2.Response:
        return api.client.post("/users", content=body, headers={"Content-Length": length})

    for length in ("1", str(MIB), "-1", "x", ""):
        require_problem(send(length, OVERSIZED), "body-too-large")
    for length in (str(MIB + 1), "9" * 5_000):
        require_problem(send(length, b"{}"), "body-too-large")


def test_an_endless_body_is_not_read_to_its_end(api: Api) -> None:
    read = 0

    def endless() -> Iterator[bytes]:
        nonlocal read
        while read <= 2 * MIB:
            read += 65_536
            yield b"x" * 65_536

    sent = raw(api, "POST", "/users", endless())

    assert sent[0]["status"] == 413
    assert read == MIB + 65_536


# JSON.

BEYOND_JSON = {
    "half": b"{",
    "blank": b" ",
    "text": b"title",
    "trailing comma": b'{"title": "t",}',
    "single quotes": b"{'title': 't'}",
    "comment": b"{} // {}",
    "two documents": b"{}{}",
    "leading zero": b'{"x": 01}',
    "bare control character": b'{"x": "\n"}',
    "NaN": b'{"x": NaN}',
    "Infinity": b'{"x": Infinity}',
    "-Infinity": b'{"x": [-Infinity]}',
    "1e999": b'{"x": 1e999}',
    "-1e999": b'{"x": {"y": -1e999}}',
    "5000 digits": b'{"x": ' + b"9" * 5_000 + b"}",
    "100000 lists": b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "100000 objects": b'{"x":' * 100_000 + b"1" + b"}" * 100_000,
    "byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"x": 1}'.encode("utf-16"),
    "UTF-16 without mark": '{"x": 1}'.encode("utf-16-le"),
    "UTF-32": '{"x": 1}'.encode("utf-32"),
    "Latin-1": '{"x": "ü"}'.encode("latin-1"),
    "a surrogate in UTF-8": b'{"x": "\xed\xa0\x80"}',
}


def test_what_is_no_json_is_refused_before_the_caller_is_judged(api: Api, ann: Person) -> None:
    member = json.dumps(POST).encode()[:-1] + b", "
    for name, body in BEYOND_JSON.items():
        whole = member + body[1:] if body.startswith(b'{"x"') else body  # beside all that is required
        for caller in (ann, api.client.request):
            answer = caller("POST", "/posts", content=whole, headers={"Content-Type": "application/json"})
            assert answer.status_code == 422, name
            assert len(require_problem(answer, "validation")["errors"]) == 1
    assert ann("GET", "/posts").json() == []


def test_no_operation_reads_what_is_no_json(api: Api) -> None:
    takers = [operation for operation in operations(api.client.request) if operation.takes == "json"]
    assert len(takers) >= 12
    for operation in takers:
        path = re.sub(r"{\w+}", "1", operation.path)
        for body in (b"{", b'{"x": NaN}', b"\xef\xbb\xbf{}"):
            require_problem(api.client.request(operation.method, path, content=body), "validation")


def test_of_equal_keys_the_last_wins(ann: Person) -> None:
    body = b'{"title": 1, "content": "c", "title": "first", "title": "last"}'

    assert ann("POST", "/posts", content=body).json()["title"] == "last"


def test_a_body_is_json_if_it_says_so_or_says_nothing(ann: Person) -> None:
    body = json.dumps(POST).encode()
    for good in ("application/json", "Application/JSON; charset=utf-8", None):
        headers = {"Content-Type": good} if good else {}
        assert ann("POST", "/posts", content=body, headers=headers).status_code == 201, good
    for bad in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "text/json",
        "application/xml",
    ):
        require_problem(ann("POST", "/posts", content=body, headers={"Content-Type": bad}), "validation")


def test_a_body_that_is_not_there_or_no_object_is_invalid(ann: Person) -> None:
    post_id = ann.posts()
    for method, path in (
        ("POST", "/posts"),
        ("POST", "/vote"),
        ("PUT", f"/posts/{post_id}"),
        ("PATCH", f"/posts/{post_id}"),
    ):
        problem = require_problem(ann(method, path), "validation")
        assert [error["loc"] for error in problem["errors"]] == [["body"]]
        for body in (None, [], [POST], "text", 1, True):
            require_problem(ann(method, path, **as_json(body)), "validation")


# Values.


def slots(caller: Caller, *places: str) -> list[tuple[Operation, Slot]]:
    return [(operation, slot) for operation in operations(caller) for slot in operation.slots() if slot.place in places]


def test_no_text_holds_a_nul_or_a_lone_surrogate(root: Person) -> None:
    samples = {"post_id": root.posts(), "user_id": root.id}
    texts = [pair for pair in slots(root, "json", "form", "query", "path") if "string" in pair[1].types]
    assert len(texts) >= 18

    for operation, slot in texts:
        # A surrogate cannot be written in a form or a URL: it has no UTF-8 form, and what looks like one is mended.
        for bad in ("\0", "sample\0text") + (("\ud800", "sample\udfff") if slot.place == "json" else ()):
            slug = "invalid-cursor" if slot.name == "cursor" else "validation"
            problem = require_problem(operation.send(root, slot, bad, **samples), slug)
            place = "body" if slot.place in {"json", "form"} else slot.place
            assert [error["loc"] for error in problem["errors"]] == [[place, slot.name]], (operation, slot)


def test_integers_past_64_bits_are_refused_in_bodies_and_queries(root: Person) -> None:
    integers = [pair for pair in slots(root, "json", "query") if "integer" in pair[1].types]
    assert len(integers) >= 7

    for operation, slot in integers:
        for bad in (2**63, -(2**63) - 1, 2**64 + 1, 10**30, 10**4_000):
            require_problem(operation.send(root, slot, bad, post_id=root.posts()), "validation")


def test_id_in_a_path_is_valid_and_found_or_refused(root: Person) -> None:
    ids = [pair for pair in slots(root, "path") if pair[1].name.endswith("_id")]
    assert len(ids) >= 8

    for operation, slot in ids:
        for unused in ("0", "99", 2**63 - 1, 2**63, 2**64 + 1, "9" * 5_000):
            answer = operation.send(root, slot, unused)
            require_problem(answer, slot.name.replace("_id", "-not-found"))
        for bad in (
            "01",
            "00",
            "-1",
            "+1",
            "1.0",
            "1e0",
            "1_0",
            "abc",
            "\0",
            "1\0",
            " 1",
            "1 ",
            "1\n",
            "\u0661",
            "²",
            "0x1",
        ):
            problem = require_problem(operation.send(root, slot, bad), "validation")
            assert [error["loc"] for error in problem["errors"]] == [["path", slot.name]], (operation, bad)


def marked(slot: Slot) -> list[object]:
    """Give values with a mark in them, most of which some rule refuses."""
    values: list[object] = [
        "m4rk",
        "m4rk\0",
        "m4rk@x_m4rk.example",
        "a@m4rk\u2603.example",
        "a@xn--m4rk.example",
        "m4rk " * 80,
    ]
    return values if slot.place in {"path", "query", "form"} else [*values, ["m4rk"], {"m4rk": "m4rk"}, "m4rk\ud800"]


def test_no_refusal_repeats_the_value(root: Person) -> None:
    refused = 0
    for operation, slot in slots(root, "path", "query", "json", "form"):
        for value in marked(slot):
            answer = operation.send(root, slot, value)
            if answer.status_code == 422:
                refused += 1
                assert "m4rk" not in answer.text.lower(), (operation, slot, value, answer.text)
    assert refused > 80
    for body in (b'{"m4rk": m4rk}', b'"m4rk"', b"m4rk", b'{"title": "m4rk\xff"}', b'["m4rk"]'):
        for media_type in ("application/json", "text/m4rk", "multipart/form-data; boundary=m4rk"):
            for path in ("/users", "/login"):
                answer = root("POST", path, content=body, headers={"Content-Type": media_type})
                require_problem(answer, "validation")
                assert "m4rk" not in answer.text


# The order of judgement.


def test_caller_is_judged_before_the_request(api: Api) -> None:
    def forger(method: str, path: str, headers: dict[bytes, bytes], **options: Any) -> httpx2.Response:
        return api.client.request(method, path, headers={**headers, b"Authorization": b"Bearer x"}, **options)

    needing = [operation for operation in operations(api.client.request) if operation.needs_a_token]
    assert len(needing) >= 22
    for operation in needing:
        for slot in operation.slots():
            bad = 7.5 if slot.place == "json" else "\0"
            require_problem(operation.send(api.client.request, slot, bad), "not-authenticated")
            require_problem(operation.send(forger, slot, bad), "invalid-token")


def test_administrators_are_told_apart_before_the_request_is_read(ann: Person, root: Person) -> None:
    for query in ("limit=0", "skip=x", "search=%00"):
        require_problem(ann("GET", f"/users?{query}"), "admins-only")
        require_problem(root("GET", f"/users?{query}"), "validation")


def test_fields_are_judged_before_the_post_is_looked_for(ann: Person, bob: Person) -> None:
    others = bob.posts()
    for post_id in (99, others):
        for method in ("PUT", "PATCH"):
            bodies: tuple[Any, ...] = (
                {"title": ""},
                {"title": "t", "content": " \n "},
                {"title": "\x1c", "content": "c"},
                [],
            )
            for body in bodies:
                require_problem(ann(method, f"/posts/{post_id}", json=body), "validation")
            require_problem(ann(method, f"/posts/{post_id}"), "validation")
        require_problem(ann("PUT", f"/posts/{post_id}/vote", json={"dir": 0}), "validation")
    require_problem(ann("POST", "/vote", json={"post_id": 99, "dir": 7}), "validation")


def test_a_post_out_of_sight_is_not_found_before_it_is_forbidden(ann: Person, bob: Person) -> None:
    draft = bob.posts(published=False)
    bodies: tuple[tuple[str, object], ...] = (("PUT", POST), ("PATCH", POST), ("PATCH", {}), ("DELETE", None))
    for method, body in bodies:
        require_problem(ann(method, f"/posts/{draft}", json=body), "post-not-found")
