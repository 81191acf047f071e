"""What a refused request costs: no work beyond its length, and no memory once the response is sent."""

import gc
import json

import pytest
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request

from interfaces.http.middleware import SMALL_BODIES, SMALL_BODY_MAX
from tests.support.api import Api, Person, require_problem

REFUSED = {
    "malformed": ("application/json", b'{"title": "x" "y"}'),
    "not UTF-8": ("application/json", b'{"title": "\xff"}'),
    "too deep": ("application/json", b"[" * 10_000),
    "an overflowing number": ("application/json", b'{"title": 1e999}'),
    "a wrong field": ("application/json", b'{"title": 1, "content": null}'),
    "another content type": ("text/plain", b"title"),
    "a broken form": ("multipart/form-data; boundary=x", b"no part"),
}


@pytest.mark.parametrize("path", ["/posts", "/users", "/login", "/refresh"])
@pytest.mark.parametrize("kind", REFUSED)
def test_a_refused_body_is_in_no_reference_cycle(ann: Person, path: str, kind: str) -> None:
    content_type, body = REFUSED[kind]
    request = {"content": body, "headers": {"Content-Type": content_type}}
    ann("POST", path, **request)  # what the first request imports and caches is no refusal's
    gc.freeze()  # the second collection walks what the refusal left, not all that tests have imported
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        require_problem(ann("POST", path, **request), "validation")
        gc.collect()
        kept = [found for found in gc.garbage if isinstance(found, Exception | Request)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.unfreeze()
    kinds = (RequestValidationError, HTTPException, json.JSONDecodeError, UnicodeError, RecursionError, Request)
    assert [found for found in kept if isinstance(found, kinds)] == []


def test_malformed_json_is_refused_with_the_reason(ann: Person) -> None:
    response = ann("POST", "/posts", content=b'{"title": ', headers={"Content-Type": "application/json"})
    assert require_problem(response, "validation")["detail"] == "body.10: JSON decode error: Expecting value"


@pytest.mark.parametrize("path", sorted(SMALL_BODIES))
def test_paths_of_tokens_accept_small_bodies_only(api: Api, path: str) -> None:
    for size, is_accepted in ((SMALL_BODY_MAX, True), (SMALL_BODY_MAX + 1, False)):
        response = api.client.post(path, content=b" " * size, headers={"Content-Type": "application/json"})
        assert (response.status_code != 413) is is_accepted
        slashed = api.client.post(f"{path}/", content=b" " * size, headers={"Content-Type": "application/json"})
        assert slashed.status_code == response.status_code
    refusal = api.client.post(path, content=b" " * (SMALL_BODY_MAX + 1))
    assert "16,384 bytes" in require_problem(refusal, "body-too-large")["detail"]
