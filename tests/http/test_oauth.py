"""OAuth2 as its clients know it: errors, grants and revocation (RFC 6749, RFC 7009)."""

from typing import Any

import pytest
from sqlalchemy import URL

from application.errors import Unavailable
from interfaces.http.problems import oauth_members
from tests.support.api import Api, Failing, Person, require_problem, running_api

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
