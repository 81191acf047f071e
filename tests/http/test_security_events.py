"""Security events over HTTP: refused access, and the client of each event."""

from typing import Any

from sqlalchemy import URL
from structlog.testing import capture_logs

from application.views import SecurityEvent
from interfaces.http.problems import request_id
from interfaces.http.proxies import client
from tests.support.api import Api, require_problem, running_api


def security(log: list[Any]) -> list[dict[str, Any]]:
    return [dict(entry) for entry in log if entry["event"] == "security"]


def test_refused_access_is_reported_with_its_actor(api: Api) -> None:
    ann, bob = api.person("ann"), api.person("bob")
    post_id = ann.posts()
    with capture_logs() as log:
        require_problem(bob("DELETE", f"/posts/{post_id}"), "forbidden")
        require_problem(bob("PATCH", f"/posts/{post_id}", json={"title": "mine"}), "forbidden")
        require_problem(bob("GET", "/users"), "admins-only")
        require_problem(bob("PATCH", f"/users/{ann.id}", json={"role": "admin"}), "admins-only")
        require_problem(bob("GET", "/posts/7"), "post-not-found")

    refused = {"event": "security", "action": "access", "outcome": "refused", "log_level": "warning"}
    assert security(log) == [
        {**refused, "actor": bob.id, "subject": None, "reason": reason}
        for reason in ("forbidden", "forbidden", "admins-only", "admins-only")
    ]


def test_wrong_password_is_reported_once_and_not_as_refused_access(api: Api) -> None:
    ann = api.person("ann")
    with capture_logs() as log:
        answer = ann("DELETE", "/users/me", json={"current_password": "wrong"})
    require_problem(answer, "invalid-credentials")
    assert [(event["action"], event["outcome"]) for event in security(log)] == [("delete-account", "refused")]


class ClientRecorder:
    """Stands in for the security log, and keeps what the request's context adds to each line."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, int | None, str, str]] = []

    def record(self, event: SecurityEvent) -> None:
        self.events.append((event.action.value, event.outcome, event.subject, client.get(), request_id.get()))


def test_an_event_is_recorded_in_the_context_of_its_request(url: URL) -> None:
    log = ClientRecorder()
    with running_api(url, {"log": log}, trusted_proxies=("127.0.0.1",)) as api:
        ann = api.person("ann")
        headers = {"X-Forwarded-For": "203.0.113.9", "X-Request-ID": "this-request"}
        form = {"username": ann.email, "password": "a wrong password"}
        api.client.post("/login", data=form, headers=headers)
        api.client.post("/login", data=form | {"username": "missing@example.com"}, headers=headers)

    assert [event[:4] for event in log.events[:2]] == [
        ("register", "success", ann.id, "127.0.0.1"),
        ("sign-in", "success", ann.id, "127.0.0.1"),
    ]
    assert log.events[2:] == [
        ("sign-in", "refused", subject, "203.0.113.9", "this-request") for subject in (ann.id, None)
    ]
