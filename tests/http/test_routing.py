"""The fast path to an endpoint and FastAPI's own: clients cannot tell them apart."""

import json
import re
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Header, Response

from interfaces.http.routing import FastPathRoute
from tests.support.api import Api, Person

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


@pytest.mark.parametrize("path", ["/posts/1", "/posts/01", "/posts/9", "/posts"])
def test_a_header_that_changes_nothing_changes_nothing(ann: Person, path: str) -> None:
    ann.posts()
    assert told(ann("GET", path)) == told(ann("GET", path, headers={"If-None-Match": '"nothing"'}))


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
