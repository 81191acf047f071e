"""OAuth2 as its clients know it: errors, grants and revocation (RFC 6749, RFC 7009)."""

import json
from typing import Any
from urllib.parse import urlencode

import httpx2
import pytest
from sqlalchemy import URL
from structlog.testing import capture_logs

from application.errors import Unavailable
from interfaces.http.problems import oauth_members
from tests.support.api import Api, Failing, Person, require_problem, running_api
from tests.support.openapi import FORM

ERRORS: list[tuple[str, dict[str, Any], str, str]] = [
    ("/login", {"data": {"username": "ann@example.com", "password": "wrong"}}, "invalid-credentials", "invalid_grant"),
    ("/login", {"data": {"username": "bob@example.com", "password": "wrong"}}, "invalid-credentials", "invalid_grant"),
    ("/login", {"data": {"username": "ann@example.com"}}, "validation", "invalid_request"),
    ("/login", {"json": {}}, "validation", "invalid_request"),
    (
        "/login",
        {"files": {"x": b"x"}, "headers": {"Content-Type": "multipart/form-data"}},
        "validation",
        "invalid_request",
    ),
    ("/login/", {"data": {"grant_type": "password"}}, "validation", "invalid_request"),
    ("/login", {"data": {"grant_type": "refresh_token"}}, "validation", "unsupported_grant_type"),
    ("/refresh", {"json": {"refresh_token": "x"}}, "invalid-token", "invalid_grant"),
    ("/refresh", {"json": {}}, "validation", "invalid_request"),
    ("/refresh", {"content": b"{"}, "validation", "invalid_request"),
    ("/refresh", {}, "validation", "invalid_request"),
]


@pytest.mark.parametrize(("path", "options", "slug", "error"), ERRORS)
@pytest.mark.usefixtures("ann")
def test_problems_have_the_error_that_oauth2_clients_read(
    api: Api, path: str, options: dict[str, Any], slug: str, error: str
) -> None:
    problem = require_problem(api.client.post(path, **options), slug)

    assert problem["error"] == error
    assert problem["error_description"].replace("'", "") == problem["detail"].replace("'", "").replace('"', "")


def test_inactive_account_is_an_invalid_grant(api: Api, ann: Person) -> None:
    api.run_sql("UPDATE users SET is_active = false WHERE id = :id", id=ann.id)
    form = {"username": ann.email, "password": ann.password}

    problem = require_problem(api.client.post("/login", data=form), "account-inactive")

    assert problem["error"] == "invalid_grant"


def test_errors_that_a_retry_may_settle_have_no_oauth2_error(url: URL) -> None:
    form = {"username": "ann@example.com", "password": "wrong"}
    with running_api(url, throttle=True, throttle_address_failures=1) as api:
        require_problem(api.client.post("/login", data=form), "invalid-credentials")
        problems = [require_problem(api.client.post("/login", data=form), "rate-limited")]
    with running_api(url, {"users": Failing(Unavailable("no")), "uow": Failing(Unavailable("no"))}) as api:
        problems.append(require_problem(api.client.post("/login", data=form), "unavailable"))
        token = {"refresh_token": "r" * 86}
        problems.append(require_problem(api.client.post("/refresh", json=token), "unavailable"))

    assert [problem.keys() & {"error", "error_description"} for problem in problems] == [set()] * 3


def test_other_paths_have_no_oauth2_error(api: Api, ann: Person) -> None:
    require_problem(api.client.post("/login"), "validation")

    for problem in (
        require_problem(api.client.post("/users"), "validation"),
        require_problem(api.client.get("/posts"), "not-authenticated"),
        require_problem(api.client.get("/profile"), "not-authenticated"),
        require_problem(ann("GET", "/users"), "admins-only"),
        require_problem(ann("GET", "/login"), "method-not-allowed"),
    ):
        assert not problem.keys() & {"error", "error_description"}


@pytest.mark.parametrize(
    ("detail", "description"),
    [
        ("plain text, with (brackets) [too]!", "plain text, with (brackets) [too]!"),
        ('a "quoted" C:\\path', "a 'quoted' C:'path"),
        ("d\u00e9j\u00e0\tvu\r\n\x7f\U0001f98a", "d'j''vu''''"),
    ],
)
def test_description_holds_no_character_that_oauth2_excludes(detail: str, description: str) -> None:
    assert oauth_members({"status": 422, "detail": detail}) == {
        "error": "invalid_request",
        "error_description": description,
    }


@pytest.mark.parametrize("grant_type", ["refresh_token", "client_credentials", "Password", "password ", "\u0661"])
def test_sign_in_takes_the_password_grant_only(api: Api, ann: Person, grant_type: str) -> None:
    form = {"username": ann.email, "password": ann.password, "grant_type": grant_type}

    problem = require_problem(api.client.post("/login", data=form), "validation")

    assert problem["error"] == "unsupported_grant_type"
    (error,) = problem["errors"]
    assert (error["loc"], error["code"]) == (["body", "grant_type"], "unsupported_grant_type")
    assert grant_type not in problem["error_description"].split("'")


@pytest.mark.parametrize("grant_type", ["", "password"])
def test_grant_type_of_a_sign_in_may_be_absent_or_empty(api: Api, ann: Person, grant_type: str) -> None:
    form = {"username": ann.email, "password": ann.password, "grant_type": grant_type}

    assert api.client.post("/login", data=form).status_code == 200


# Refreshing with a form.


def refresh_form(api: Api, token: str, grant_type: str = "refresh_token", **options: Any) -> httpx2.Response:
    form = {"grant_type": grant_type, "refresh_token": token}
    return api.client.post("/refresh", data=form, **options)


def test_refresh_takes_the_form_of_its_grant(api: Api, ann: Person) -> None:
    answer = refresh_form(api, ann.refresh_token)

    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    tokens = answer.json()
    assert tokens.keys() == {"access_token", "token_type", "expires_in", "refresh_token", "refresh_expires_in"}
    assert api.client.post("/refresh", json={"refresh_token": tokens["refresh_token"]}).status_code == 200
    problem = require_problem(refresh_form(api, ann.refresh_token), "invalid-token")
    assert problem["error"] == "invalid_grant"


def test_refresh_by_form_ignores_clients_and_their_secrets(api: Api, ann: Person) -> None:
    form = {"grant_type": "refresh_token", "refresh_token": ann.refresh_token, "client_id": "x", "scope": "a b"}
    headers = {"Authorization": "Basic YTpi", "Content-Type": "Application/X-WWW-Form-URLencoded; charset=UTF-8"}

    assert api.client.post("/refresh/", content=urlencode(form), headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("form", "error", "wrong"),
    [
        ({}, "invalid_request", ["refresh_token", "grant_type"]),
        ({"refresh_token": "r" * 86}, "invalid_request", ["grant_type"]),
        ({"refresh_token": "r" * 86, "grant_type": ""}, "invalid_request", ["grant_type"]),
        ({"grant_type": "refresh_token"}, "invalid_request", ["refresh_token"]),
        ({"grant_type": "refresh_token", "refresh_token": ""}, "invalid_request", ["refresh_token"]),
        ({"grant_type": "refresh_token", "refresh_token": "x" * 4_097}, "invalid_request", ["refresh_token"]),
        ({"grant_type": "password", "refresh_token": "r" * 86}, "unsupported_grant_type", ["grant_type"]),
        ({"grant_type": "password"}, "unsupported_grant_type", ["refresh_token", "grant_type"]),
    ],
)
def test_refresh_by_form_needs_grant_and_token(api: Api, form: dict[str, str], error: str, wrong: list[str]) -> None:
    headers = {"Content-Type": FORM}

    problem = require_problem(
        api.client.post("/refresh", content=urlencode(form) or "x=", headers=headers), "validation"
    )

    assert problem["error"] == error
    assert [each["loc"] for each in problem["errors"]] == [["body", name] for name in wrong]


def test_refresh_takes_no_form_in_json_and_no_json_in_a_form(api: Api, ann: Person) -> None:
    token = {"grant_type": "refresh_token", "refresh_token": ann.refresh_token}
    for content, media_type in ((json.dumps(token), FORM), (urlencode(token), "application/json")):
        answer = api.client.post("/refresh", content=content, headers={"Content-Type": media_type})
        require_problem(answer, "validation")
    multipart = {name: (None, value) for name, value in token.items()}
    require_problem(api.client.post("/refresh", files=multipart), "validation")
    assert refresh_form(api, ann.refresh_token).status_code == 200


# Revoking.


def revoke(api: Api, token: str, **form: str) -> httpx2.Response:
    return api.client.post("/logout", data={"token": token, **form})


def works(api: Api, access_token: str) -> bool:
    headers = {"Authorization": f"Bearer {access_token}"}
    return api.client.get("/profile", headers=headers).status_code == 200


@pytest.mark.parametrize("hint", ["", "access_token", "refresh_token", "unknown"])
@pytest.mark.parametrize("kind", ["token", "refresh_token"])
def test_revocation_of_a_token_ends_its_session_and_no_other(api: Api, ann: Person, kind: str, hint: str) -> None:
    elsewhere = ann.token
    ann.sign_in()

    answer = revoke(api, getattr(ann, kind), token_type_hint=hint)

    assert (answer.status_code, answer.content) == (200, b"")
    assert not works(api, ann.token)
    require_problem(refresh_form(api, ann.refresh_token), "invalid-token")
    assert works(api, elsewhere)
    assert revoke(api, getattr(ann, kind)).status_code == 200


def test_revocation_of_anything_else_is_answered_alike(api: Api, ann: Person, bob: Person) -> None:
    ended = bob.token, bob.refresh_token
    assert bob("DELETE", "/users/me", json={"current_password": bob.password}).status_code == 204
    spent = ann.refresh_token[:43]
    for token in (*ended, "x", "r" * 86, ann.token[:-1], f"{spent} {spent}", "x" * 10_000, "\u0661", " "):
        answer = revoke(api, token)
        assert (answer.status_code, answer.content) == (200, b""), token
    assert works(api, ann.token)
    assert refresh_form(api, ann.refresh_token).status_code == 200


def test_revocation_ignores_the_authorization_header(api: Api, ann: Person, bob: Person) -> None:
    for header in ("Bearer forged", "Basic YTpi", "", f"Bearer {ann.token}"):
        answer = api.client.post("/logout", data={"token": bob.token}, headers={"Authorization": header})
        assert answer.status_code == 200, header
    assert works(api, ann.token)
    assert not works(api, bob.token)


def test_revocation_needs_a_token(api: Api, ann: Person) -> None:
    for form in ({"token_type_hint": "access_token"}, {"token": ""}, {"token": "a\0b"}):
        problem = require_problem(ann("POST", "/logout", data=form), "validation")
        assert problem["error"] == "invalid_request"
        assert [error["loc"] for error in problem["errors"]] == [["body", "token"]]
    assert works(api, ann.token)


def test_empty_form_signs_out_by_its_header(api: Api, ann: Person) -> None:
    require_problem(api.client.post("/logout", content=b"", headers={"Content-Type": FORM}), "not-authenticated")

    assert ann("POST", "/logout", content=b"", headers={"Content-Type": FORM}).status_code == 204

    assert not works(api, ann.token)


def test_revocation_is_reported_without_an_actor(api: Api, ann: Person) -> None:
    with capture_logs() as log:
        assert revoke(api, ann.refresh_token).status_code == 200
        assert revoke(api, ann.refresh_token).status_code == 200

    reported = [entry for entry in log if entry["event"] == "security"]
    assert [(entry["action"], entry["outcome"], entry["actor"], entry["subject"]) for entry in reported] == [
        ("sign-out", "success", None, ann.id)
    ]
