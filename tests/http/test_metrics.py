"""The page of metrics: served only if enabled, without personal data."""

import pytest
from sqlalchemy import URL

from tests.support.api import Api, require_problem, running_api
from tests.support.metrics import Values, values


def counted(api: Api, name: str) -> Values:
    answer = api.client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    return values(answer.text, name)


def test_unless_enabled_there_is_nothing(api: Api) -> None:
    require_problem(api.client.get("/metrics"), "not-found")


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded"])
def test_forwarded_request_for_metrics_gets_404(url: URL, header: str) -> None:
    with running_api(url, metrics=True) as api:
        require_problem(api.client.get("/metrics", headers={header: "203.0.113.9"}), "not-found")


def test_requests_are_counted_by_route_method_and_status(url: URL) -> None:
    with running_api(url, metrics=True) as api:
        ann = api.person("ann")
        post_id = ann.posts()
        for path in (f"/posts/{post_id}", "/posts/99", "/posts/98", "/nowhere/secret"):
            ann("GET", path)
        ann("HEAD", f"/posts/{post_id}")
        api.client.request("BREW", "/")

        requests = counted(api, "agora_http_requests_total")
        durations = counted(api, "agora_http_request_duration_seconds_count")
    assert requests["GET", "/posts/{post_id}", "200"] == 1
    assert requests["GET", "/posts/{post_id}", "404"] == 2
    assert requests["HEAD", "/posts/{post_id}", "200"] == 1
    assert requests["GET", "-", "404"] == 1
    assert requests["other", "/", "405"] == 1
    assert durations["GET", "/posts/{post_id}"] == 3
    assert "secret" not in str(requests)


def test_votes_are_counted_by_outcome(url: URL) -> None:
    with running_api(url, metrics=True) as api:
        ann = api.person("ann")
        post_id = ann.posts()
        for direction in (1, -1, -1):
            ann("PUT", f"/posts/{post_id}/vote", json={"dir": direction})
        ann("POST", "/vote", json={"post_id": post_id, "dir": -1})  # refused: already voted

        votes = counted(api, "agora_votes_total")
    assert votes == {("added",): 1, ("changed",): 1, ("deleted",): 0, ("unchanged",): 1}


def test_who_is_slowed_down_is_counted(url: URL) -> None:
    with running_api(url, metrics=True, throttle=True, throttle_registrations=1) as api:
        api.person("ann")
        require_problem(
            api.client.post("/users", json={"email": "b@example.com", "password": "a password"}), "rate-limited"
        )

        assert counted(api, "agora_throttled_total") == {("password",): 0, ("registration",): 1}


def test_when_nothing_goes_on_the_gauges_say_so(url: URL) -> None:
    with running_api(url, metrics=True) as api:
        api.person("ann")("GET", "/posts")

        for name in ("connections_in_use", "connections_waiting"):
            assert counted(api, f"agora_database_{name}") == {(): 0}
