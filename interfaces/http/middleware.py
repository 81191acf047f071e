"""ASGI middleware for every request and response; api.py states the order."""

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from logging import INFO
from random import Random
from typing import Final

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from interfaces.http.drain import Drain
from interfaces.http.problems import problem_response, request_id, unavailable_problem
from interfaces.http.proxies import Proxies, client

BODY_MAX: Final = 1_048_576
"""Bytes in the body of a request: 1 MiB."""

SMALL_BODY_MAX: Final = 16_384
SMALL_BODIES: Final = frozenset({"/login", "/refresh", "/logout"})
"""Bytes in the body of a request for tokens, 16 KiB, and the paths it applies to: these bodies are small, and
validating them costs more than their length suggests."""

DEFAULT_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "private, no-cache",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}
"""The headers from OWASP's HTTP Headers Cheat Sheet that concern an API."""

_DEFAULTS: Final = [(name.lower().encode(), value.encode()) for name, value in DEFAULT_HEADERS.items()]
_DEFAULT_NAMES: Final = frozenset(name for name, _ in _DEFAULTS)

_REQUEST_ID: Final = re.compile("[A-Za-z0-9._-]{1,128}")
_ids: Final = Random()  # noqa: S311 - an id is no secret, and asking the system for each takes longer than parsing

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Methods with a label of their own in the metrics: clients may invent any number of others."""

Observe = Callable[[Scope, int, float], None]
"""Takes the scope, the status and the seconds of a finished request."""

Begin = Callable[[], None]
"""Called at the start of a request, in the context of all its work."""

log: Final = structlog.get_logger()


class RequestContext:
    """Gives each request and its response an id, and notifies observers at its end."""

    def __init__(
        self, app: ASGIApp, proxies: Proxies, begin: Begin | None = None, observers: Sequence[Observe] = ()
    ) -> None:
        self._app = app
        self._proxies = proxies
        self._begin = begin
        self._observers = observers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        this_id = given if _REQUEST_ID.fullmatch(given) else f"{_ids.getrandbits(128):032x}"
        request_id.set(this_id)
        client.set(self._proxies.client(scope))
        if self._begin:
            self._begin()
        started, status = time.perf_counter(), 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"].append((b"x-request-id", this_id.encode()))
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            seconds = time.perf_counter() - started
            for observe in self._observers:
                observe(scope, status, seconds)


class AccessLog:
    """Logs one line per request.

    It names the route by its template: a path or a query may contain anything, secrets and line breaks included. In
    development, a line of status 404 has the path too.
    """

    def __init__(self, *, is_development: bool = False) -> None:
        self._is_development = is_development

    def __call__(self, scope: Scope, status: int, seconds: float) -> None:
        """Log a finished request."""
        if log.is_enabled_for(INFO):
            shows_path = self._is_development and status == HTTPStatus.NOT_FOUND
            log.info(
                "request",
                method=scope["method"],
                route=route_template(scope),
                status=status,
                duration_ms=round(seconds * 1000, 1),
                client=client.get(),
                user_id=scope.get("state", {}).get("user_id"),  # set by authentication, in deps.py
                **({"path": scope["path"]} if shows_path else {}),
            )


class RequestMetrics:
    """Counts and times requests by method, route template and status."""

    def __init__(self, count: Callable[[str, str, int, float], None]) -> None:
        self._count = count

    def __call__(self, scope: Scope, status: int, seconds: float) -> None:
        """Count a finished request."""
        method = scope["method"] if scope["method"] in METHODS else "other"
        self._count(method, route_template(scope), status, seconds)


def route_template(scope: Scope) -> str:
    """Get the template of a request's route, `/posts/{post_id}`, or "-"."""
    return getattr(scope.get("route"), "path", "-")


class SecurityHeaders:
    """Adds the headers that keep browsers and caches from misinterpreting a response.

    Headers that the response sets itself stay: the documentation pages have a policy of their own.
    """

    def __init__(self, app: ASGIApp, proxies: Proxies, drain: Drain) -> None:
        self._app = app
        self._proxies = proxies
        self._drain = drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.add(message["headers"], scope)
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def add(self, raw: list[tuple[bytes, bytes]], scope: Scope) -> None:
        """Add the headers of a response to those that it sets itself."""
        names = {name for name, _ in raw}
        raw.extend(_DEFAULTS if _DEFAULT_NAMES.isdisjoint(names) else [h for h in _DEFAULTS if h[0] not in names])
        if b"vary" in names:
            MutableHeaders(raw=raw).add_vary_header("Authorization")
        else:
            raw.append((b"vary", b"Authorization"))
        if self._drain.is_draining:
            raw.append((b"connection", b"close"))
        if self._proxies.is_secure(scope):
            raw.append((b"strict-transport-security", b"max-age=31536000"))


class Cors(CORSMiddleware):
    """CORS that refuses with problems, like every other error."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """Respond to a preflight request."""
        response = super().preflight_response(request_headers)
        if response.status_code < HTTPStatus.BAD_REQUEST:
            return response
        refusal = problem_response("forbidden", bytes(response.body).decode())
        for name in ("access-control-allow-origin", "vary"):
            if name in response.headers:
                refusal.headers[name] = response.headers[name]
        return refusal


class BodyLimit:
    """Refuses large and encoded bodies before anything else is validated.

    The limit is 1 MiB, and 16 KiB on the paths of tokens. Bytes are counted as they arrive; Content-Length counts only
    where it is too large. The body is collected here until it is whole, so the application never receives a part.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        headers = Headers(scope=scope) if scope["type"] == "http" else {}
        length = headers.get("content-length", "0")
        if length == "0" and "transfer-encoding" not in headers:
            await self._app(scope, receive, send)
            return
        if headers.get("transfer-encoding", "chunked").lower() != "chunked":  # the parser refuses what follows chunked
            await problem_response("transfer-coding")(scope, receive, send)
            return
        most = SMALL_BODY_MAX if scope["path"] in SMALL_BODIES else BODY_MAX
        body: Message | None = {"body": b""}
        is_too_large = length.isdecimal() and int(length[:20]) > most
        if not is_too_large:
            body = await whole_body(receive, most)
        if body is None:
            return
        if is_too_large or len(body["body"]) > most:
            await problem_response("body-too-large", f"a request body here has at most {most:,} bytes")(
                scope, receive, send
            )
            return
        await self._app(scope, replayed(body, receive), send)


async def whole_body(receive: Receive, most: int) -> Message | None:
    """Receive a body until it is whole, or has more bytes than allowed.

    None if the client has disconnected.
    """
    chunks: list[bytes] = []
    size, more = 0, True
    while more and size <= most:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        more = message.get("more_body", False)
    return {"type": "http.request", "body": b"".join(chunks), "more_body": False}


def replayed(message: Message, receive: Receive) -> Receive:
    """Receive a message once more, then what follows it."""
    messages = [message]

    async def receive_replayed() -> Message:
        return messages.pop() if messages else await receive()

    return receive_replayed


class PathNormalizer:
    """Drops one trailing slash from a path, and serves HEAD wherever GET is served.

    A redirect would lose the body or the Authorization header in many clients. A doubled slash stays another path.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        if len(path) > 1 and path.endswith("/") and not path.endswith("//"):
            scope["path"] = path[:-1]
        if scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        get = {**scope, "method": "GET"}  # a copy: the server reads the method from its own scope
        await self._app(get, receive, send_head)
        scope["route"] = get.get("route")


class ErrorBoundary:
    """Responds with 500 to an unexpected exception, which the log alone describes.

    A request that shutdown cancels gets 503.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        started = False

        async def send_observed(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, send_observed)
        except asyncio.CancelledError:
            if scope["type"] == "http" and not started:
                await cancelled_problem()(scope, receive, send)
            raise
        except Exception as error:
            if scope["type"] != "http" or started:
                raise
            await unexpected_problem(error)(scope, receive, send)


def cancelled_problem() -> Response:
    """Build the response to a request that shutdown cancels."""
    return unavailable_problem("the server is shutting down, and this request took too long")


def unexpected_problem(error: Exception) -> Response:
    """Build the response to a request whose error is unexpected, and log the error."""
    log.error("request failed", exc_info=error)
    return problem_response("internal")
