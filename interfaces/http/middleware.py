"""What happens to every request and answer: pure ASGI, outermost first in api.py."""

import asyncio
import re
import secrets
import time
from collections.abc import Callable
from http import HTTPStatus
from logging import INFO
from typing import Final

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from interfaces.http.addresses import Proxies
from interfaces.http.leaving import Leaving
from interfaces.http.problems import problem_response, request_id, unavailable_problem

BODY_MAX: Final = 1_048_576
"""Bytes in a request's body: 1 MiB."""

SMALL_BODY_MAX: Final = 16_384
SMALL_BODIES: Final = frozenset({"/login", "/refresh", "/logout"})
"""Bytes in the body of a request for tokens, 16 KiB, and the paths that take no more: these bodies are small, and what
they hold costs more than its length to judge."""

DEFAULT_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "private, no-cache",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}
"""Those of OWASP's HTTP Headers Cheat Sheet that concern an API."""

_DEFAULTS: Final = [(name.lower().encode(), value.encode()) for name, value in DEFAULT_HEADERS.items()]
_DEFAULT_NAMES: Final = frozenset(name for name, _ in _DEFAULTS)

_REQUEST_ID: Final = re.compile("[A-Za-z0-9._-]{1,128}")

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Those that are measured under their own names: clients may make up any number of others."""

Observe = Callable[[str, str, int, float], None]
"""Takes the method, the route's template, the status and the seconds of a request that is over."""

Begin = Callable[[], None]
"""Told that a request begins, in the context that all its work runs in."""

log: Final = structlog.get_logger()


class RequestIds:
    """Gives every request an id, which its answer carries, and tells log and metrics of it when it is over.

    They name the route by its template: a path or a query may hold anything, secrets and line breaks included.
    """

    def __init__(
        self, app: ASGIApp, proxies: Proxies, begin: Begin | None = None, observe: Observe | None = None
    ) -> None:
        self._app = app
        self._proxies = proxies
        self._begin = begin
        self._observe = observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        this_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
        request_id.set(this_id)
        if self._begin:
            self._begin()
        method, started, status = scope["method"], time.perf_counter(), 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"].append((b"x-request-id", this_id.encode()))
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            seconds, route = time.perf_counter() - started, route_template(scope)
            if self._observe:
                self._observe(method if method in METHODS else "other", route, status, seconds)
            if log.is_enabled_for(INFO):
                log.info(
                    "request",
                    method=method,
                    route=route,
                    status=status,
                    duration_ms=round(seconds * 1000, 1),
                    client=self._proxies.client(scope),
                    user_id=scope.get("state", {}).get("user_id"),  # interfaces/http/deps.py found out
                )


def route_template(scope: Scope) -> str:
    """Name the route of a request as it is declared, `/posts/{post_id}`; "-" where there is none."""
    return getattr(scope.get("route"), "path", "-")


class AnswerHeaders:
    """Puts on every answer the headers that keep browsers and caches from misreading it.

    What an answer says itself stands: the documentation pages have a policy of their own.
    """

    def __init__(self, app: ASGIApp, proxies: Proxies, leaving: Leaving) -> None:
        self._app = app
        self._proxies = proxies
        self._leaving = leaving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                raw = message["headers"]
                said = {name for name, _ in raw}
                raw.extend(_DEFAULTS if _DEFAULT_NAMES.isdisjoint(said) else [h for h in _DEFAULTS if h[0] not in said])
                if b"vary" in said:
                    MutableHeaders(raw=raw).add_vary_header("Authorization")
                else:
                    raw.append((b"vary", b"Authorization"))
                if self._leaving.has_begun:
                    raw.append((b"connection", b"close"))
                if self._proxies.is_secure(scope):
                    raw.append((b"strict-transport-security", b"max-age=31536000"))
            await send(message)

        await self._app(scope, receive, send_with_headers)


class Cors(CORSMiddleware):
    """CORS whose refusals are problems, like every other error."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer a browser that asks beforehand what a page of its origin may do."""
        response = super().preflight_response(request_headers)
        if response.status_code < HTTPStatus.BAD_REQUEST:
            return response
        refusal = problem_response("forbidden", bytes(response.body).decode())
        for name in ("access-control-allow-origin", "vary"):
            if name in response.headers:
                refusal.headers[name] = response.headers[name]
        return refusal


class BodyLimit:
    """Refuses a body over 1 MiB, or over 16 KiB on the paths of tokens, before anything else is judged.

    Bytes are counted as they come; Content-Length is believed only where it admits to too much. A body is held
    here until it is whole, so what follows never sees half of one.
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
        chunks: list[bytes] = []
        most = SMALL_BODY_MAX if scope["path"] in SMALL_BODIES else BODY_MAX
        size, more = 0, not (length.isdecimal() and int(length[:20]) > most)
        too_large = not more
        while more and not too_large:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            more, too_large = message.get("more_body", False), size > most
        if too_large:
            await problem_response("body-too-large", f"a request body here has at most {most:,} bytes")(
                scope, receive, send
            )
            return
        body: Message | None = {"type": "http.request", "body": b"".join(chunks), "more_body": False}

        async def receive_whole() -> Message:
            nonlocal body
            if body is None:
                return await receive()
            message, body = body, None
            return message

        await self._app(scope, receive_whole, send)


class Paths:
    """Makes a path with one trailing slash the same as without, and answers HEAD wherever GET is answered.

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

        get = {**scope, "method": "GET"}  # a copy: the server goes by the method in its own
        await self._app(get, receive, send_head)
        scope["route"] = get.get("route")


class Unexpected:
    """Answers 500 where everything else failed, without a word about what it was: that goes to the log.

    A request that the server has no more time for when it ends is answered with 503.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        started = False

        async def send_noting(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, send_noting)
        except asyncio.CancelledError:
            if scope["type"] == "http" and not started:
                await unavailable_problem("the server ends, and this took too long")(scope, receive, send)
            raise
        except Exception:
            if scope["type"] != "http" or started:
                raise
            log.exception("request failed")
            await problem_response("internal")(scope, receive, send)
