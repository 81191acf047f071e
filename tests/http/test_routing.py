"""The fast path to an endpoint and FastAPI's own: clients cannot tell them apart."""

import json
import re
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Header, Response
from sqlalchemy import URL

from interfaces.http.fast_path import FastPathRoute
from interfaces.http.middleware import PathNormalizer
from interfaces.http.routing import StrictRequest
from interfaces.http.unsent import UnsentBytes
from tests.support import citus
from tests.support.api import Api, Person, require_problem, running_api
from tests.support.round_trips import round_trips

USUAL = {"Content-Type": "application/json; charset=UTF-8"}
"""A content type that means the same, and is left to FastAPI."""

BODIES: list[tuple[str, str, bytes]] = [
    (method, path, body if isinstance(body, bytes) else json.dumps(body).encode())
    for method, path, bodies in (
        ("POST", "/posts", [{"title": " A title ", "content": "Some content", "published": False, "more": 1}]),
        (
            "POST",
            "/posts",
            [{"title": "A title"}, {"title": 7, "content": "x"}, [], 7, None, b"", b"{", b"\xff", b"nul"],
        ),
        ("POST", "/vote", [{"post_id": 1, "dir": 1}, {"post_id": "1", "dir": 1}, {"post_id": 9, "dir": 0}, {"dir": 2}]),
        ("PUT", "/posts/1/vote", [{"dir": -1}, {"dir": 0}, {"dir": True}, {}]),
        ("PUT", "/posts/x/vote", [{"dir": 1}, {"dir": 7}]),
        ("PUT", "/posts/1", [{"title": "B", "content": "C"}, {"title": "B"}]),
        ("PATCH", "/posts/1", [{}, {"published": "yes"}, {"published": None}]),
    )
    for body in bodies
]


OWN = {"x-request-id", "etag", "location"}
"""Headers that differ from one answer to the next, as do some members."""


def told(answer: Any) -> tuple[object, ...]:
    """Tell what an answer says, but for what differs each time."""
    headers = {name: value for name, value in answer.headers.items() if name not in OWN}
    text = answer.text.replace(answer.headers["X-Request-ID"], "")
    return answer.status_code, headers, re.sub(r'"(id|version)":[0-9]+|"(created|updated)_at":"[^"]*"', "", text)


@pytest.mark.parametrize(("method", "path", "body"), BODIES)
def test_both_paths_respond_the_same(api: Api, method: str, path: str, body: bytes) -> None:
    ann = api.person("ann")
    ann.posts()
    for person in (ann, api.client.request):
        found = []
        for headers in ({"Content-Type": "application/json"}, USUAL):
            ann("DELETE", "/posts/1/vote")
            found.append(told(person(method, path, content=body, headers=headers)))
        assert found[0] == found[1]


READS = [
    "/posts",
    "/posts?limit=2&sort_by=hot",
    "/posts?limit=0",
    "/posts?skip=1&cursor=x",
    "/posts?cursor=x",
    "/posts/1",
    "/posts/01",
    "/posts/9",
    "/posts/x",
    "/users/me/votes",
    "/users/me/votes?dir=7",
]
CONDITIONS: list[dict[str, str]] = [
    {},
    {"If-None-Match": '"nothing"'},
    {"If-None-Match": "*"},
    {"X-Request-ID": "mine"},
    {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"},
    {"Content-Length": "0"},
    {"Authorization": "Bearer nonsense"},
    {"Authorization": "Basic YTpi"},
]


@pytest.mark.parametrize("path", READS)
@pytest.mark.parametrize("headers", CONDITIONS, ids=str)
def test_both_paths_read_the_same(ann: Person, path: str, headers: dict[str, str]) -> None:
    ann.posts()
    bare, mark, query = path.partition("?")

    assert told(ann("GET", path, headers=headers)) == told(ann("GET", f"{bare}/{mark}{query}", headers=headers))


def test_parts_of_a_request_are_parsed_once() -> None:
    scope = {"type": "http", "query_string": b"search=%C3%A9"}
    first, later = StrictRequest(scope), StrictRequest(scope)

    assert first.query_params["search"] == "é"
    assert later.query_params is first.query_params
    assert later.parsed(b"[]") is first.parsed(b"[]")


def test_session_that_has_ended_is_refused_before_the_request_is_judged(ann: Person) -> None:
    assert ann("POST", "/logout").status_code == 204
    for method, path, body in (
        ("GET", "/posts?limit=0", None),
        ("GET", "/posts?cursor=x", None),
        ("GET", "/posts/9", None),
        ("POST", "/posts", {"title": ""}),
        ("PUT", "/posts/9/vote", {"dir": 1}),
    ):
        assert ann(method, path, json=body).json()["type"].endswith("invalid-token"), path


@pytest.mark.parametrize("url", ["postgres"], indirect=True)
def test_read_costs_one_round_trip_and_a_change_two(url: URL) -> None:
    with round_trips() as sent, running_api(url) as api:
        ann = api.person("ann")
        post = ann.posts()
        costs = {}
        for name, method, path, more in (
            ("get", "GET", f"/posts/{post}", {}),
            ("conditional get", "GET", f"/posts/{post}", {"headers": {"If-None-Match": "*"}}),
            ("list", "GET", "/posts", {}),
            ("vote", "PUT", f"/posts/{post}/vote", {"json": {"dir": 1}}),
            ("write", "POST", "/posts", {"json": {"title": "A title", "content": "Some content"}}),
        ):
            sent.clear()
            assert ann(method, path, **more).status_code < 400
            costs[name] = len(sent)

    check = 1 if citus.BINARIES else 0  # of the bearer, before a query of distributed posts
    assert costs == {"get": 1 + check, "conditional get": 1 + check, "list": 1 + check, "vote": 2 + check, "write": 2}


def test_both_paths_refuse_a_response_without_room_the_same(url: URL) -> None:
    with running_api(url, unsent=UnsentBytes(0)) as api:
        ann = api.person("ann")
        for _ in range(4):
            ann.posts(content="x" * 20_000)
        require_problem(ann("GET", "/posts"), "unavailable")
        assert told(ann("GET", "/posts")) == told(ann("GET", "/posts/"))


@pytest.mark.parametrize("path", ["/posts/9", "/posts/1/vote", "/posts/x"])
def test_both_paths_delete_the_same(ann: Person, path: str) -> None:
    ann.posts()
    assert told(ann("DELETE", path)) == told(ann("DELETE", f"{path}/"))


def test_plain_requests_skip_the_other_middleware(ann: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    post = ann.posts()
    monkeypatch.setattr(PathNormalizer, "__call__", None)

    statuses = [
        ann("GET", "/posts").status_code,
        ann("GET", f"/posts/{post}", headers={"If-None-Match": "*"}).status_code,
        ann("PUT", f"/posts/{post}/vote", json={"dir": 1}).status_code,
        ann("POST", "/vote", json={"post_id": post, "dir": 0}).status_code,
        ann("POST", "/posts", json={"title": "A title", "content": "Some content"}).status_code,
        ann("PATCH", f"/posts/{post}", json={"title": "Another"}).status_code,
        ann("DELETE", f"/posts/{post}").status_code,
        ann("GET", f"/posts/{post}").status_code,
    ]

    assert statuses == [200, 304, 200, 201, 201, 200, 204, 404]


async def asks_for_a_query(limit: int = 1) -> Response:
    return Response(str(limit))


async def requires_a_header(name: Annotated[str, Header()]) -> Response:
    return Response(name)


async def writes_headers(response: Response) -> Response:
    return response


@pytest.mark.parametrize("endpoint", [asks_for_a_query, requires_a_header, writes_headers])
def test_unsupported_parameter_is_refused_at_startup(endpoint: Any) -> None:
    router = APIRouter(route_class=FastPathRoute)
    with pytest.raises(TypeError, match="use StrictRoute"):
        router.get("/")(endpoint)
