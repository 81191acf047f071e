"""Pages of other sites: those of an allowed origin read every answer, those of another read none."""

import json

import pytest

from tests.support.browser import Browser
from tests.support.servers import Server

MIB = 1_048_576
TYPE = {"Content_Type": "application/json"}
ACCOUNT = {"email": "ann@example.com", "password": "Ann's password"}
REQUESTS = [
    ("GET", "/", None, {}, 200),
    ("GET", "/profile", None, {}, 401),
    ("GET", "/profile", None, {"Authorization": "Bearer x"}, 401),
    ("DELETE", "/posts/1", None, {"If_Match": '"1"'}, 401),
    ("PUT", "/posts/1", "{}", {**TYPE, "Idempotency_Key": "1"}, 401),
    ("GET", "/nowhere", None, {}, 404),
    ("DELETE", "/profile", None, {}, 405),
    ("POST", "/users", "x" * (MIB + 1), TYPE, 413),
    ("POST", "/users", "{", TYPE, 422),
]


@pytest.mark.parametrize(("method", "path", "body", "headers", "status"), REQUESTS)
def test_a_page_of_an_allowed_origin_reads_answers_errors_included(
    browser: Browser,
    server: Server,
    allowed_site: str,
    method: str,
    path: str,
    body: str | None,
    headers: dict[str, str],
    status: int,
) -> None:
    browser.driver.get(allowed_site)

    answer = browser.fetch(server.address + path, method, body, **headers)

    assert answer["status"] == status
    assert answer["headers"]["x-request-id"]
    if status >= 400:
        problem = json.loads(answer["body"])
        assert (problem["status"], problem["instance"]) == (status, answer["headers"]["x-request-id"])


@pytest.mark.parametrize(("method", "path", "body", "headers"), [request[:4] for request in REQUESTS])
def test_a_page_of_another_origin_reads_nothing(
    browser: Browser,
    server: Server,
    other_site: str,
    method: str,
    path: str,
    body: str | None,
    headers: dict[str, str],
) -> None:
    browser.driver.get(other_site)

    assert browser.fetch(server.address + path, method, body, **headers) == {"refusal": "TypeError"}


def test_a_page_of_an_allowed_origin_reads_the_headers_that_matter(
    browser: Browser, server: Server, allowed_site: str
) -> None:
    browser.driver.get(allowed_site)

    form = {"Content_Type": "application/x-www-form-urlencoded"}
    assert browser.fetch(f"{server.address}/users", "POST", json.dumps(ACCOUNT), **TYPE)["status"] == 201
    signed_in = browser.fetch(
        f"{server.address}/login", "POST", "username={email}&password={password}".format(**ACCOUNT), **form
    )
    mine = {"Authorization": f"Bearer {json.loads(signed_in['body'])['access_token']}"}
    post = json.dumps({"title": "From a browser", "content": "It works."})
    written = browser.fetch(f"{server.address}/posts", "POST", post, **TYPE, **mine, X_Request_ID="from-a-page")
    wrong = "username={email}&password=wrong".format(**ACCOUNT)
    refusals = [browser.fetch(f"{server.address}/login", "POST", wrong, **form) for _ in range(6)]

    assert written["status"] == 201
    assert written["headers"]["x-request-id"] == "from-a-page"
    assert written["headers"]["location"] == f"/posts/{json.loads(written['body'])['id']}"
    assert [refusal["status"] for refusal in refusals] == [403, 403, 403, 403, 403, 429]
    assert int(refusals[-1]["headers"]["retry-after"]) > 0
