"""The root, health, failures, and the pages and documents that explain the API."""

import json
import re
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from html import unescape
from html.parser import HTMLParser
from importlib.metadata import version
from typing import Any

import pytest
from sqlalchemy import URL
from structlog.testing import capture_logs

from application.errors import Unavailable
from domain.errors import Conflict, DomainError, Forbidden, Invalid, NotFound, Stale, TooManyRequests, Unauthenticated
from interfaces.http.problems import PROBLEMS
from tests.support.api import STATUSES, Api, Failing, Person, require_problem, running_api
from tests.support.openapi import operations
from tests.support.samples import errors_below

SECRET = "secret of /srv/agora in SELECT * FROM users"


def test_the_root_greets(api: Api) -> None:
    answer = api.client.get("/")

    assert answer.status_code == 200
    assert answer.json() == {"message": "Hello World!!", "docs": "/docs", "version": version("agora")}


BROWSERS = (
    "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "text/html",
    "TEXT/HTML; charset=utf-8; q=0.5, application/*;q=0.4",
    "text/*, */*;q=0.1",
)
OTHERS = (
    "*/*",
    "application/json",
    "application/json, text/html",
    "text/html;q=0, */*;q=0.5",
    "text/html;q=0.5, application/json",
    "text/html;q=x",
    ";;,q=1",
    "",
)


def test_accept_decides_whether_the_root_is_a_page(api: Api) -> None:
    for accept in BROWSERS:
        page = api.client.get("/", headers={"Accept": accept})
        assert page.headers["Content-Type"] == "text/html; charset=utf-8", accept
        assert {"Accept", "Authorization"} <= set(page.headers["Vary"].split(", "))
    for accept in OTHERS:
        answer = api.client.get("/", headers={"Accept": accept})
        assert answer.json() == api.client.get("/").json(), accept
        assert {"Accept", "Authorization"} <= set(answer.headers["Vary"].split(", "))


def test_of_accept_the_first_elements_count(api: Api) -> None:
    for others, is_page in ((19, True), (20, False)):
        accept = ",".join(["image/png"] * others + ["text/html"])
        response = api.client.get("/", headers={"Accept": accept})
        assert response.headers["Content-Type"].startswith("text/html") is is_page


def test_first_page_shows_links_and_a_first_request_that_works(api: Api) -> None:
    page = api.client.get("http://agora.test:8000/", headers={"Accept": "text/html"})

    assert page.status_code == 200
    links = {link for link in Links(page.text).loaded if link.startswith("/")}
    assert links == {"/", "/docs", "/redoc", "/openapi.json", "/problems", "/health/ready"}
    for link in links:
        assert api.client.get(link).status_code == 200, link
    body = re.search(r"curl http://agora.test:8000/users [^{]*'({.*})'", text_of(page.text))
    assert body is not None
    assert api.client.post("/users", json=json.loads(body[1])).status_code == 201
    form = {"username": "ada@example.com", "password": "correct horse"}
    assert "curl http://agora.test:8000/login -d username=ada@example.com -d 'password=correct horse'" in text_of(
        page.text
    )
    assert api.client.post("/login", data=form).status_code == 200


def test_first_page_repeats_no_host_that_is_none(api: Api) -> None:
    for host in ("a$(reboot)", "<script>", "a b", "a'b", ""):
        page = api.client.get("/", headers={"Accept": "text/html", "Host": host})
        assert "curl http://127.0.0.1:8000/users " in text_of(page.text), host


def test_first_page_omits_documentation_that_is_turned_off(url: URL) -> None:
    with running_api(url, api_docs=False) as api:
        page = api.client.get("/", headers={"Accept": "text/html"})
        links = {link for link in Links(page.text).loaded if link.startswith("/")}
        assert links == {"/", "/problems", "/health/ready"}


# Health and failures.


def test_healthy_server_reports_ready(api: Api) -> None:
    assert api.client.get("/health/live").json() == {"status": "ok"}
    ready = api.client.get("/health/ready")
    assert ready.status_code == 200
    assert ready.json() == {"status": "ok", "checks": {"database": "ok", "migrations": "ok"}}


@pytest.fixture
def cut_off(url: URL) -> Iterator[Api]:
    """The API whose database cannot be reached."""
    nowhere = {"database": "/nonexistent/agora.db"} if url.get_backend_name() == "sqlite" else {"port": 1}
    with running_api(url.set(**nowhere)) as api:
        yield api


def test_without_its_database_the_house_lives_but_is_not_ready(cut_off: Api) -> None:
    assert cut_off.client.get("/health/live").status_code == 200
    assert cut_off.client.get("/").status_code == 200
    answer = cut_off.client.get("/health/ready")
    problem = require_problem(answer, "unavailable", "checks")
    assert problem["checks"] == {"database": "unavailable", "migrations": "unknown"}
    assert int(answer.headers["Retry-After"]) > 0


def test_without_its_database_the_house_asks_for_patience(cut_off: Api) -> None:
    form = {"username": "ann@example.com", "password": "a password"}
    for answer in (
        cut_off.client.get("/users/1"),
        cut_off.client.post("/login", data=form),
        cut_off.client.post("/users", json={"email": "ann@example.com", "password": "a password"}),
    ):
        require_problem(answer, "unavailable")
        assert int(answer.headers["Retry-After"]) > 0
        assert not any(word in answer.text for word in ("nonexistent", "127.0.0.1", "sqlite", "psycopg2", "SELECT"))
    require_problem(cut_off.client.get("/profile"), "not-authenticated")


def test_a_schema_of_another_release_is_not_ready(api: Api) -> None:
    api.run_sql("UPDATE alembic_version SET version_num = '-' || version_num")
    try:
        answer = api.client.get("/health/ready")
    finally:
        api.run_sql("UPDATE alembic_version SET version_num = substr(version_num, 2)")

    problem = require_problem(answer, "unavailable", "checks")
    assert problem["checks"] == {"database": "ok", "migrations": "not at this release's schema"}
    assert "Retry-After" in answer.headers
    assert api.client.get("/health/ready").status_code == 200


def test_unexpected_exception_is_a_problem_without_details(url: URL) -> None:
    with running_api(url, {"posts": Failing(RuntimeError(SECRET))}) as api, capture_logs() as log:
        ann = api.person("ann")
        answer = ann("GET", "/posts", headers={"X-Request-ID": "my-request"})

    problem = require_problem(answer, "internal")
    assert problem["instance"] == "my-request"
    assert not any(word in answer.text for word in ("secret", "RuntimeError", "Traceback", "SELECT", ".py"))
    assert answer.headers["Cache-Control"] == "private, no-cache"
    (line,) = [line for line in log if line["event"] == "request failed"]
    assert (line["log_level"], repr(line["exc_info"])) == ("error", f"RuntimeError({SECRET!r})")


def test_failing_adapter_is_unavailable(url: URL) -> None:
    unavailable = Unavailable("the database cannot answer now")
    unavailable.__cause__ = TimeoutError("a value")
    with running_api(url, {"posts": Failing(unavailable)}) as api, capture_logs() as log:
        ann = api.person("ann")
        answer = ann("GET", "/posts")

    require_problem(answer, "unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    why = {"reason": "the database cannot answer now", "cause": "TimeoutError"}
    assert {"event": "unavailable", "log_level": "warning", **why} in log


KINDS = {
    Invalid: 422,
    Unauthenticated: 401,
    Forbidden: 403,
    NotFound: 404,
    Conflict: 409,
    Stale: 412,
    TooManyRequests: 429,
}


@pytest.mark.parametrize("error", list(errors_below(DomainError)), ids=lambda error: error.__name__)
def test_each_domain_error_has_a_problem_of_its_status(error: type[DomainError]) -> None:
    if hasattr(error, "code"):
        status = next(KINDS[kind] for kind in error.__mro__ if kind in KINDS)
        assert (PROBLEMS[error.code].status, STATUSES[error.code]) == (status, status)
    else:  # a kind of errors
        assert error in KINDS


def test_nothing_is_said_about_the_software(api: Api) -> None:
    for path in ("/", "/nowhere", "/docs"):
        assert not {"Server", "X-Powered-By"} & set(api.client.get(path).headers)


# Pages.


class Links(HTMLParser):
    """Collects what a page loads."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.inline = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        loaded = [value for name, value in attrs if name in {"src", "href", "srcset", "data", "action"} and value]
        self.loaded += loaded
        self.inline += tag == "script" and not loaded


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_the_documentation_loads_from_its_own_host_only(api: Api, path: str) -> None:
    answer = api.client.get(path)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/html")
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert not re.search(r"https?:|//|\*|unsafe-eval|script-src[^;]*unsafe-inline", policy)

    links = Links(answer.text)
    assert len(links.loaded) >= 3
    assert links.inline == 0
    started = []
    for link in links.loaded:
        assert re.match(r"/\w", link)
        file = api.client.get(link)
        assert file.status_code == 200, link
        kind = {"js": "javascript", "css": "text/css", "png": "image/png"}[link.rpartition(".")[2]]
        assert kind in file.headers["Content-Type"]
        assert file.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        if re.fullmatch(r"/assets/(docs|redoc)\.[0-9a-f]{12}\.js", link):
            assert "/openapi.json" in file.text
            assert "http" not in file.text
            started.append(link)
    assert len(started) == 1


def test_assets_are_compressed_for_clients_that_accept_it(api: Api) -> None:
    plain = api.client.get("/assets/swagger-ui.css", headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in plain.headers
    tags = {plain.headers["ETag"]}
    for accepted in ("gzip", "deflate, br, GZIP;q=0.5", "*"):
        small = api.client.get("/assets/swagger-ui.css", headers={"Accept-Encoding": accepted})
        assert small.headers["Content-Encoding"] == "gzip", accepted
        assert int(small.headers["Content-Length"]) < len(plain.content) / 4
        assert small.content == plain.content  # as the client decodes it
        assert "Accept-Encoding" in small.headers["Vary"].split(", ")
        tags.add(small.headers["ETag"])
    assert len(tags) == 2
    for refused in ("", "br", "gzip;q=0", "*;q=0", "identity, gzip;q=0, *"):
        headers = {"Accept-Encoding": refused}
        assert "Content-Encoding" not in api.client.get("/assets/swagger-ui.css", headers=headers).headers, refused
    assert "Content-Encoding" not in api.client.get("/assets/favicon.png").headers


def test_assets_are_not_sent_again_to_clients_that_have_them(api: Api) -> None:
    for accepted in ("gzip", "identity"):
        first = api.client.get("/assets/docs.js", headers={"Accept-Encoding": accepted})
        assert first.headers["Cache-Control"] == "private, no-cache"
        tag = first.headers["ETag"]
        for known in (tag, f'"x", W/{tag}'):
            again = api.client.get("/assets/docs.js", headers={"Accept-Encoding": accepted, "If-None-Match": known})
            assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag)
        for unknown in ('"x"', tag.strip('"'), ""):
            headers = {"Accept-Encoding": accepted, "If-None-Match": unknown}
            assert api.client.get("/assets/docs.js", headers=headers).status_code == 200


def test_page_of_another_release_gets_this_ones_asset_for_now(api: Api) -> None:
    answer = api.client.get("/assets/docs.0123456789ab.js")

    assert answer.text == api.client.get("/assets/docs.js").text
    assert answer.headers["Cache-Control"] == "private, no-cache"


def test_redoc_is_served_without_its_foreign_logo(api: Api) -> None:
    script = api.client.get("/assets/redoc.standalone.js").text

    assert "cdn.redoc.ly" not in script
    assert 'alt:"redocly logo",' in script  # else the logo is another one now, and nothing was replaced
    assert """src:"data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg'/%3E\"""" in script


def test_documentation_can_be_turned_off(url: URL) -> None:
    with running_api(url, api_docs=False) as api:
        for path in ("/docs", "/redoc", "/openapi.json", "/assets/docs.js"):
            require_problem(api.client.get(path), "not-found")
        assert api.client.get("/").json()["docs"] is None
        assert api.client.get("/health/live").status_code == 200


def test_an_asset_in_parts_is_sent_whole_or_refused_like_anything_else(api: Api) -> None:
    for ranges in ("bytes=0-1", "bytes=x", "bytes=99999999-", "bytes=5-1", "lines=1-2", "", "ü"):
        answer = api.client.get("/assets/docs.js", headers={b"Range": ranges.encode()})
        assert answer.status_code == 200, ranges
    for name in ("..%2fsystem.py", "%2e%2e%2fsystem.py", "docs.js%00", "__init__.py", "DOCS.JS"):
        require_problem(api.client.get(f"/assets/{name}"), "not-found")


def text_of(page: str) -> str:
    """What a reader of a page sees, without its style and its markup."""
    return unescape(re.sub(r"<style>.*?</style>|<[^>]*>", "", page, flags=re.DOTALL))


def test_every_problem_has_a_page_for_people(api: Api) -> None:
    assert {slug: problem.status for slug, problem in PROBLEMS.items()} == STATUSES
    for slug, problem in PROBLEMS.items():
        answer = api.client.get(f"/problems/{slug}")
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("text/html")
        shown = text_of(answer.text)
        for part in (problem.title, problem.cause, problem.remedy, str(problem.status), f"/problems/{slug}"):
            assert part.replace("`", "") in shown, (slug, part)
        assert "`" not in shown


def test_problems_page_lists_every_problem(api: Api) -> None:
    answer = api.client.get("/problems")

    assert answer.status_code == 200
    shown = text_of(answer.text)
    for slug, problem in PROBLEMS.items():
        assert f"/problems/{slug}" in Links(answer.text).loaded
        assert problem.title in shown
        assert problem.cause.replace("`", "") in shown
    assert "`" not in shown


@pytest.mark.parametrize("path", ["/", "/problems", "/problems/validation"])
def test_pages_for_people_may_use_their_own_stylesheet_only(api: Api, path: str) -> None:
    answer = api.client.get(path, headers={"Accept": "text/html"})

    (style,) = re.findall("<style>(.*?)</style>", answer.text, re.DOTALL)
    digest = b64encode(sha256(style.encode()).digest()).decode()
    assert answer.headers["Content-Security-Policy"] == (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:;"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    assert "prefers-color-scheme: dark" in style
    assert 'name="viewport" content="width=device-width, initial-scale=1"' in answer.text
    assert not re.search(" style=|<script", answer.text)
    assert [link for link in Links(answer.text).loaded if not re.match(r"/(\w|$)|data:,$", link)] == []


def test_an_unknown_problem_has_no_page(api: Api) -> None:
    for slug in ("unknown", "NOT-FOUND", "404", "%3Cscript%3E", "validation%20"):
        require_problem(api.client.get(f"/problems/{slug}"), "not-found")


def test_type_of_a_problem_is_the_path_of_its_page(api: Api, ann: Person) -> None:
    problem = require_problem(ann("GET", "/posts/9"), "post-not-found")

    page = api.client.get(problem["type"])
    assert page.status_code == 200
    assert problem["title"] in page.text


# The OpenAPI document.


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(reference := part.get("$ref"), str):
            yield reference
        part = list(part.values())
    if isinstance(part, list):
        for each in part:
            yield from references(each)


def test_every_operation_documents_its_errors_as_problems(api: Api) -> None:
    for operation in operations(api.client.request):
        where = f"{operation.method} {operation.path}"
        assert not (len(operation.path) > 1 and operation.path.endswith("/")), where
        assert operation.answers.keys() >= {413, 500}, where
        assert min(operation.answers) in {200, 201, 204}, where
        assert not any(300 <= status < 400 and status != 304 for status in operation.answers), where
        for status, media_types in operation.answers.items():
            if status >= 400:
                assert media_types == {"application/problem+json"}, (where, status)
                assert operation.details["responses"][str(status)]["description"], (where, status)
        if operation.body or any(True for _ in operation.slots()):
            assert 422 in operation.answers, where
        takes_a_token = (
            operation.details["security"] != [] or operation.path == "/refresh"
        )  # whose token is in the body
        assert takes_a_token == (401 in operation.answers), where


def test_the_document_holds_together(api: Api) -> None:
    document = api.client.get("/openapi.json").json()

    assert "HTTPValidationError" not in json.dumps(document)
    for reference in set(references(document)):
        part = document
        for step in reference.removeprefix("#/").split("/"):
            part = part[step]
    ids = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    assert len(ids) == len(set(ids))
    flow = document["components"]["securitySchemes"]["Bearer"]["flows"]["password"]
    assert flow["tokenUrl"] == "login"


def test_documentation_says_that_username_is_the_email(api: Api) -> None:
    scheme = api.client.get("/openapi.json").json()["components"]["securitySchemes"]["Bearer"]

    assert "the e-mail of the account as `username`" in scheme["description"]  # Swagger UI shows it above its form


ROUTES = {
    "GET /",
    "GET /health/live",
    "GET /health/ready",
    "POST /users",
    "POST /login",
    "POST /refresh",
    "POST /logout",
    "GET /users/{user_id}",
    "PATCH /users/{user_id}",
    "GET /users",
    "GET /profile",
    "GET /users/me",
    "PATCH /users/me",
    "DELETE /users/me",
    "PUT /users/me/password",
    "GET /users/me/sessions",
    "DELETE /users/me/sessions/{session_id}",
    "GET /users/me/votes",
    "GET /users/me/export",
    "GET /posts",
    "POST /posts",
    "GET /posts/{post_id}",
    "PUT /posts/{post_id}",
    "PATCH /posts/{post_id}",
    "DELETE /posts/{post_id}",
    "POST /vote",
    "PUT /posts/{post_id}/vote",
    "DELETE /posts/{post_id}/vote",
    "GET /admin-dashboard",
    "GET /problems",
    "GET /problems/{slug}",
}


def test_the_document_lists_every_route(api: Api) -> None:
    assert {f"{operation.method} {operation.path}" for operation in operations(api.client.request)} == ROUTES
