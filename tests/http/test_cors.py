"""Pages of other origins: which may call the API, and that they can read its errors too."""

from collections.abc import Iterator, Mapping

import httpx2
import pytest
from sqlalchemy import URL

from tests.support.api import Api, Failing, require_problem, running_api

FRIEND, STRANGER = "https://a.example", "https://b.example"
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}
ALLOWED = {"authorization", "content-type", "if-match", "if-none-match", "idempotency-key", "x-request-id"}
ALLOWED |= {"baggage", "sentry-trace", "traceparent", "tracestate", "x-requested-with"}
EXPOSED = {"ETag", "Idempotency-Replayed", "Link", "Location", "Retry-After", "X-Request-ID"}


@pytest.fixture
def friendly(url: URL) -> Iterator[Api]:
    """The API that pages of one origin may call, and in which posts cannot be read."""
    with running_api(url, {"posts": Failing(RuntimeError("boom"))}, cors_origins=(FRIEND,), public_reads=True) as api:
        yield api


def names(headers: Mapping[str, str], name: str) -> set[str]:
    return set(headers.get(name, "").split(", "))


def ask_first(api: Api, origin: str, method: str = "PUT", headers: str = "authorization") -> httpx2.Response:
    question = {"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
    return api.client.options("/posts", headers=question)


def test_a_page_of_an_allowed_origin_may_ask_for_all_that_is_in_use(friendly: Api) -> None:
    for method in METHODS:
        answer = ask_first(friendly, FRIEND, method, ", ".join(sorted(ALLOWED)))
        assert answer.status_code == 200
        assert answer.headers["Access-Control-Allow-Origin"] == FRIEND
        assert names(answer.headers, "Access-Control-Allow-Methods") == METHODS
        allowed = {name.lower() for name in names(answer.headers, "Access-Control-Allow-Headers")}
        assert allowed - ALLOWED == {"accept", "accept-language", "content-language"}  # these are always allowed
        assert allowed >= ALLOWED
        assert "Origin" in names(answer.headers, "Vary")
        assert "X-Request-ID" in answer.headers


@pytest.mark.parametrize(
    ("origin", "method", "headers"),
    [
        (STRANGER, "PUT", "authorization"),
        ("null", "GET", ""),
        (FRIEND + ".evil.example", "GET", ""),
        (FRIEND + ":8443", "GET", ""),
        ("http://a.example", "GET", ""),
        (FRIEND, "BREW", "authorization"),
        (FRIEND, "PUT", "x-secret"),
    ],
)
def test_other_origins_methods_and_headers_are_refused(friendly: Api, origin: str, method: str, headers: str) -> None:
    answer = ask_first(friendly, origin, method, headers)

    require_problem(answer, "forbidden")
    assert answer.headers.get("Access-Control-Allow-Origin") == (FRIEND if origin == FRIEND else None)


def answers_to(api: Api, origin: str) -> dict[int, httpx2.Response]:
    headers = {"Origin": origin}
    answers = [
        api.client.get("/", headers=headers),
        api.client.get("/profile", headers=headers),
        api.client.get("/nowhere", headers=headers),
        api.client.post("/", headers=headers),
        api.client.post("/users", content=b"x" * 1_048_577, headers=headers),
        api.client.post("/users", json={}, headers=headers),
        api.client.get("/posts", headers=headers),
    ]
    found = {answer.status_code: answer for answer in answers}
    assert set(found) == {200, 401, 404, 405, 413, 422, 500}
    return found


def test_page_of_an_allowed_origin_can_read_every_response(friendly: Api) -> None:
    for status, answer in answers_to(friendly, FRIEND).items():
        assert answer.headers["Access-Control-Allow-Origin"] == FRIEND, status
        assert names(answer.headers, "Access-Control-Expose-Headers") == EXPOSED, status
        assert names(answer.headers, "Vary") >= {"Origin", "Authorization"}, status
        assert "Access-Control-Allow-Credentials" not in answer.headers


def test_a_page_of_another_origin_can_read_none(friendly: Api) -> None:
    for origin in (STRANGER, "null", FRIEND.upper()):
        for status, answer in answers_to(friendly, origin).items():
            assert "Access-Control-Allow-Origin" not in answer.headers, status
            assert "Origin" in names(answer.headers, "Vary"), status


def test_settings_allow_further_request_headers(url: URL) -> None:
    with running_api(url, cors_origins=(FRIEND,), cors_headers=("X-Client-Version",)) as api:
        assert ask_first(api, FRIEND, headers="authorization, traceparent, x-client-version").status_code == 200
        require_problem(ask_first(api, FRIEND, headers="x-other"), "forbidden")


def test_no_page_of_another_origin_may_call_unless_the_settings_say_so(api: Api) -> None:
    assert "Access-Control-Allow-Origin" not in api.client.get("/", headers={"Origin": FRIEND}).headers
    require_problem(ask_first(api, FRIEND), "forbidden")


def test_a_star_lets_every_page_call(url: URL) -> None:
    with running_api(url, cors_origins=("*",)) as api:
        for answer in (ask_first(api, STRANGER), api.client.get("/profile", headers={"Origin": STRANGER})):
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
            assert "Access-Control-Allow-Credentials" not in answer.headers
