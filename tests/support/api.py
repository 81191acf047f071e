"""The API in the process of the tests, on a real database, and the clients that call it."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any, NoReturn

import httpx2
from anyio.from_thread import BlockingPortal, start_blocking_portal
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import URL, text

from infrastructure.container import Container
from infrastructure.settings import Settings
from interfaces.http.api import create_api
from interfaces.http.unsent import UnsentBytes
from tests.fakes.services import MemoryTimer, PlainHasher
from tests.support.app import container_with
from tests.support.connections import connection_of
from tests.support.documented import Documented
from tests.support.openapi import FORM

SECRET_KEY = "a key of sixty-four bytes or more, so that any algorithm can be tried with it"


DOCUMENTED: dict[bool, Documented] = {}
"""The document by PUBLIC_READS, the only setting that changes it: made once, as it takes as long as the API itself."""

STATUSES = {
    "not-authenticated": 401,
    "invalid-token": 401,
    "invalid-credentials": 403,
    "account-inactive": 403,
    "forbidden": 403,
    "admins-only": 403,
    "post-not-found": 404,
    "user-not-found": 404,
    "vote-not-found": 404,
    "session-not-found": 404,
    "not-found": 404,
    "method-not-allowed": 405,
    "email-taken": 409,
    "username-taken": 409,
    "already-voted": 409,
    "last-admin": 409,
    "idempotency-key-in-use": 409,
    "version-mismatch": 412,
    "body-too-large": 413,
    "validation": 422,
    "idempotency-key-reused": 422,
    "invalid-cursor": 422,
    "rate-limited": 429,
    "internal": 500,
    "transfer-coding": 501,
    "unavailable": 503,
}
"""The status of every problem, as promised to clients."""


OAUTH_ERRORS = {401: {"invalid_grant"}, 403: {"invalid_grant"}, 422: {"invalid_request", "unsupported_grant_type"}}
"""What problems for OAuth2 clients have as `error`, by status (RFC 6749, section 5.2)."""

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
}
"""What keeps browsers from misreading or misusing an answer; on every one, the documentation pages' policy aside."""


def is_oauth(request: httpx2.Request) -> bool:
    """Tell whether OAuth2 clients send such a request."""
    has_form = request.headers.get("Content-Type", "").lower().startswith(FORM)
    is_empty = request.headers.get("Content-Length") == "0"
    path = request.url.path.rstrip("/")
    return path in {"/login", "/refresh"} or (path == "/logout" and has_form and not is_empty)


def require_problem(answer: httpx2.Response, slug: str, *also: str) -> dict[str, Any]:
    """Require an answer to be this problem, with all that every problem has; `also` names further members."""
    assert answer.status_code == STATUSES[slug], answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    members: dict[str, Any] = answer.json()
    extra = {"errors"} if STATUSES[slug] == 422 else set()
    if STATUSES[slug] in OAUTH_ERRORS and is_oauth(answer.request):
        extra |= {"error", "error_description"}
        assert members["error"] in OAUTH_ERRORS[STATUSES[slug]]
        assert re.fullmatch(r"[\x20-\x21\x23-\x5b\x5d-\x7e]+", members["error_description"])
    assert members.keys() == {"type", "title", "status", "detail", "instance", *extra, *also}
    assert members["type"] == f"/problems/{slug}"
    assert members["status"] == STATUSES[slug]
    assert members["instance"] == answer.headers["X-Request-ID"]
    assert all(members[name] and isinstance(members[name], str) for name in ("title", "detail"))
    assert all(error.keys() == {"loc", "message", "code"} for error in members.get("errors", []))
    assert {name: answer.headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS
    assert ("Retry-After" in answer.headers) == (STATUSES[slug] in {429, 503} or slug == "idempotency-key-in-use")
    assert ("WWW-Authenticate" in answer.headers) == (STATUSES[slug] == 401)
    return members


def but_its_id(answer: httpx2.Response) -> tuple[bytes, dict[str, str]]:
    """Give the body and the headers of an answer without the request's id, which no two answers share."""
    this_id = answer.headers["X-Request-ID"]
    headers = {name: value for name, value in answer.headers.items() if value != this_id}
    return answer.content.replace(this_id.encode(), b"<id>"), headers


class Failing:
    """Stands in for any adapter, and fails whatever it is asked."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        def fail(*_args: object, **_options: object) -> NoReturn:
            raise self._error

        return fail

    def __call__(self) -> NoReturn:
        raise self._error


def as_json(body: object) -> dict[str, Any]:
    """Give the options of a request with a JSON body in ASCII, which can hold what UTF-8 cannot: "\\ud800"."""
    return {"content": json.dumps(body).encode(), "headers": {"Content-Type": "application/json"}}


class Person:
    """A user with an account, and their requests."""

    def __init__(self, client: httpx2.Client, name: str) -> None:
        self.name = name
        self.email = f"{name}@example.com"
        self.password = f"{name}'s password"
        answer = client.post("/users", json={"email": self.email, "password": self.password, "username": name})
        assert answer.status_code == 201, answer.text
        self.id: int = answer.json()["id"]
        self._client = client
        self.sign_in()

    def sign_in(self) -> None:
        form = {"username": self.email, "password": self.password}
        answer = self._client.post("/login", data=form)
        assert answer.status_code == 200, answer.text
        self.token: str = answer.json()["access_token"]
        self.refresh_token: str = answer.json()["refresh_token"]

    def __call__(self, method: str, path: str, **options: Any) -> httpx2.Response:
        headers = httpx2.Headers(options.pop("headers", None))
        if "Authorization" not in headers:
            headers["Authorization"] = f"Bearer {self.token}"
        return self._client.request(method, path, headers=headers, **options)

    def posts(self, **fields: Any) -> int:
        """Write a post and tell its id."""
        answer = self("POST", "/posts", json={"title": "A title", "content": "Some content", **fields})
        assert answer.status_code == 201, answer.text
        post_id: int = answer.json()["id"]
        return post_id


class InProcess(httpx2.BaseTransport):
    """Calls an application in the thread of its event loop, once for each request.

    Starlette's client, which can stream, does so seven times: two thirds of the time of a small request.
    """

    def __init__(self, app: FastAPI, portal: BlockingPortal, peer: str) -> None:
        async def with_state(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
            await app({**scope, "state": {}}, receive, send)  # as servers do

        self._asgi = httpx2.ASGITransport(with_state, client=(peer, 50_000))
        self._portal = portal

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        request.read()
        return self._portal.call(self._respond, request)

    async def _respond(self, request: httpx2.Request) -> httpx2.Response:
        response = await self._asgi.handle_async_request(request)
        stream = httpx2.ByteStream(b"".join([part async for part in response.aiter_raw()]))  # as it was sent
        return httpx2.Response(response.status_code, headers=response.headers, stream=stream)


class Api:
    """The API in this process, with ways to people it."""

    def __init__(self, app: FastAPI, portal: BlockingPortal, client: httpx2.Client, container: Container) -> None:
        self.app = app
        self.portal = portal
        self.client = client
        self.container = container

    def person(self, name: str) -> Person:
        return Person(self.client, name)

    def admin(self, name: str = "ruth") -> Person:
        """Register a user and make them an administrator, which no request can."""
        person = self.person(name)
        self.run_sql("UPDATE users SET role = 'admin' WHERE id = :id", id=person.id)
        return person

    def run_sql(self, statement: str, **values: Any) -> None:
        with self.container.database().write() as connection:
            connection_of(connection).execute(text(statement), values)


@contextmanager
def running_api(
    url: URL,
    stand_ins: Mapping[str, object] | None = None,
    *,
    peer: str = "127.0.0.1",
    unsent: UnsentBytes | None = None,
    **settings: Any,
) -> Iterator[Api]:
    """Build the real API on a database; hasher and timer are fakes, and nothing is throttled unless asked for.

    `stand_ins` puts other adapters in the places that the container names; `peer` is where requests come from,
    `unsent` counts what waits until clients read it. Each response must be one that the OpenAPI document promises.
    """
    chosen = Settings(
        database_url=SecretStr(url.render_as_string(hide_password=False)),
        **{"secret_key": SecretStr(SECRET_KEY), "throttle": False, **settings},
    )
    fakes = {"hasher": PlainHasher(), "timer": MemoryTimer()}
    container = container_with(settings=chosen, **fakes | dict(stand_ins or {}))
    app = create_api(container, unsent=unsent)
    if chosen.public_reads not in DOCUMENTED:
        DOCUMENTED[chosen.public_reads] = Documented(app.openapi())
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(app.router.lifespan_context(app)),
        httpx2.Client(
            transport=InProcess(app, portal, peer),
            base_url="http://testserver",
            headers={"User-Agent": "testclient"},
            follow_redirects=True,
            event_hooks={"response": [DOCUMENTED[chosen.public_reads].require]},
        ) as client,
    ):
        yield Api(app, portal, client, container)
