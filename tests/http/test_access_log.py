"""The line that is logged for each request, and what it never holds."""

from typing import Any

import pytest
from sqlalchemy import URL
from structlog.testing import capture_logs

from tests.support.api import Failing, Person, running_api


def access_line(log: list[Any]) -> dict[str, Any]:
    """Give the one line, without how long it took."""
    (line,) = [dict(entry) for entry in log if entry["event"] == "request"]
    assert line.pop("duration_ms") >= 0
    assert line.pop("event") == "request"
    assert line.pop("log_level") == "info"
    return line


def test_a_line_has_the_client_the_request_and_its_status(ann: Person) -> None:
    post_id = ann.posts()
    with capture_logs() as log:
        ann("GET", f"/posts/{post_id}?search=secret")
    assert access_line(log) == {
        "method": "GET",
        "route": "/posts/{post_id}",
        "status": 200,
        "client": "127.0.0.1",
        "user_id": ann.id,
    }


@pytest.mark.parametrize(
    ("method", "path", "route", "status"),
    [
        ("GET", "/health/live", "/health/live", 200),
        ("GET", "/posts/7", "/posts/{post_id}", 401),
        ("GET", "/posts/secret", "/posts/{post_id}", 401),
        ("GET", "/secret", "-", 404),
        ("POST", "/users", "/users", 422),
    ],
)
def test_anonymous_request_logs_no_user_and_the_template_of_its_path(
    url: URL, method: str, path: str, route: str, status: int
) -> None:
    with running_api(url, fastapi_env="production") as api, capture_logs() as log:
        api.client.request(method, path)
    line = access_line(log)
    assert (line["method"], line["route"], line["status"], line["user_id"]) == (method, route, status, None)
    assert "secret" not in str(log)


def test_development_logs_the_path_of_a_404_only(ann: Person) -> None:
    for path, shown in (("/nowhere/x%0Ay?q=1", "/nowhere/x\ny"), ("/posts/9", "/posts/9"), ("/posts/x", None)):
        with capture_logs() as log:
            ann("GET", path)
        assert access_line(log).get("path") == shown


def test_head_request_is_logged(ann: Person) -> None:
    with capture_logs() as log:
        ann("HEAD", "/profile")
    line = access_line(log)
    assert (line["method"], line["route"], line["status"], line["user_id"]) == ("HEAD", "/profile", 200, ann.id)


def test_client_behind_a_trusted_proxy_is_logged(url: URL) -> None:
    with running_api(url, trusted_proxies=("127.0.0.1",)) as api, capture_logs() as log:
        api.client.get("/", headers={"X-Forwarded-For": "203.0.113.9\\r\\nevil, 198.51.100.7"})
    assert access_line(log)["client"] == "198.51.100.7"


def test_a_line_is_written_also_when_everything_failed(url: URL) -> None:
    with running_api(url, {"posts": Failing(RuntimeError())}) as api:
        ann = api.person("ann")
        with capture_logs() as log:
            ann("GET", "/posts")
    line = access_line(log)
    assert (line["route"], line["status"], line["user_id"]) == ("/posts", 500, ann.id)
