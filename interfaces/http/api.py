"""The composition root of the HTTP interface."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from application.errors import MissingDatabase, Unavailable
from application.views import Action, SecurityEvent
from domain.errors import DomainError, Forbidden
from domain.users import Actor, AdminsOnly
from infrastructure.container import Container
from infrastructure.database.errors import cause_of
from infrastructure.execution.deadline import clear_deadline
from infrastructure.execution.limiter import current_client
from interfaces.http import admin, middleware, posts, sessions, system, users, votes
from interfaces.http.deps import ApiState
from interfaces.http.drain import Drain
from interfaces.http.fast_path import FastPaths
from interfaces.http.openapi import complete_document
from interfaces.http.paging import Cursors, InvalidCursor
from interfaces.http.problems import (
    domain_problem,
    is_oauth,
    problem_response,
    unavailable_problem,
    validation_problem,
)
from interfaces.http.proxies import Proxies
from interfaces.http.routing import FORM
from interfaces.http.unsent import ResponseLimit, UnsentBytes

CORS_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
CORS_ALLOWED = ("Authorization", "Content-Type", "If-Match", "If-None-Match", "Idempotency-Key", "X-Request-ID")
CORS_TRACING = ("baggage", "sentry-trace", "traceparent", "tracestate", "X-Requested-With")
"""Request headers that libraries in a page add by themselves, such as OpenTelemetry's and Sentry's."""

CORS_EXPOSED = ("ETag", "Idempotency-Replayed", "Link", "Location", "Retry-After", "X-Request-ID")

log = structlog.get_logger()

NOT_JSON = "The body is not JSON by its Content-Type; send Content-Type: application/json"


NOT_A_FORM = (
    "The body is not a form by its Content-Type; send Content-Type: application/x-www-form-urlencoded, and in it"
    " username, which is the e-mail, and password"
)
FORMS = (FORM, "multipart/form-data")


def create_api(container: Container, drain: Drain | None = None, unsent: UnsentBytes | None = None) -> FastAPI:
    """Build the API around a container."""
    settings, metrics = container.settings(), container.metrics()
    drain, unsent = drain or Drain(), unsent or UnsentBytes()

    @asynccontextmanager
    async def lifespan(_api: FastAPI) -> AsyncIterator[None]:
        await asyncio.create_task(container.executor().run(container.hasher().calibrate))  # its deadline ends with it
        yield
        for closing in (container.executor(), container.database(), container.health_database()):
            closing.close()

    api = FastAPI(
        title="Agora",
        summary="Posts and votes.",
        version=system.VERSION,
        lifespan=lifespan,
        openapi_url="/openapi.json" if settings.api_docs else None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={
            DomainError: _refuse,
            Unavailable: _unavailable,
            RequestValidationError: _invalid,
            InvalidCursor: _invalid_cursor,
            HTTPException: _http_error,
        },
        telemetry={
            "tracing": False,
            "metrics": False,
            "logs": False,
            "operation_spans": False,
        },  # its logs contain values
    )
    proxies = Proxies(settings.trusted_proxies, settings.forwarded_header)
    api.state.api = ApiState(
        app=container.app(),
        run=container.executor().run,
        cursors=Cursors(settings.signing_keys()),
        proxies=proxies,
        public_reads=settings.public_reads,
        drain=drain,
        renew_deadline=clear_deadline,
        serve=current_client.set,
    )
    api.state.metrics = metrics
    api.state.security_log = container.log()

    # Most used first. Not by include_router: it would match each request against every router twice.
    for feature in (posts, votes, system, users, sessions, admin):
        api.router.routes.extend(feature.router.routes)
    if settings.api_docs:
        api.router.routes.extend(system.documentation.routes)

    # The first is the innermost.
    api.add_middleware(middleware.BodyLimit)
    api.add_middleware(middleware.ErrorBoundary)
    api.add_middleware(ResponseLimit, unsent=unsent)
    api.add_middleware(middleware.PathNormalizer)
    api.add_middleware(
        middleware.Cors,
        allow_origins=settings.cors_origins,
        allow_methods=CORS_METHODS,
        allow_headers=CORS_ALLOWED + CORS_TRACING + settings.cors_headers,
        expose_headers=CORS_EXPOSED,
    )
    api.add_middleware(middleware.SecurityHeaders, proxies=proxies, drain=drain)
    api.add_middleware(
        FastPaths,
        routes=api.router.routes,
        headers=middleware.SecurityHeaders(api, proxies, drain),
        unsent=unsent,
        handlers={DomainError: _refuse, Unavailable: _unavailable},
    )
    api.add_middleware(
        middleware.RequestContext,
        proxies=proxies,
        begin=_begin,
        observers=[
            middleware.RequestMetrics(metrics.responded),
            middleware.AccessLog(is_development=settings.fastapi_env != "production"),
        ],
    )

    complete_document(api)
    return api


def _begin() -> None:
    """Begin a request without the deadline, client and kind of the previous one."""
    clear_deadline()
    current_client.set(None)
    is_oauth.set(False)


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, DomainError)
    if error.code in {Forbidden.code, AdminsOnly.code}:  # other refusals are reported by their use case
        actor = Actor(request.state.user_id)
        request.app.state.security_log.record(SecurityEvent(Action.ACCESS, "refused", actor, None, error.code))
    return domain_problem(error)


async def _unavailable(_request: Request, error: Exception) -> Response:
    log.warning("unavailable", reason=str(error), cause=cause_of(error))
    return unavailable_problem("the database is missing" if isinstance(error, MissingDatabase) else str(error))


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    if isinstance(error.body, FormData) and not request.headers.get("Content-Type", FORMS[0]).lower().startswith(FORMS):
        return validation_problem([{"loc": ["body"], "message": NOT_A_FORM, "code": "content_type"}])
    if isinstance(error.body, bytes):  # the body was not parsed as JSON
        where = {"loc": ["body"], "message": NOT_JSON, "code": "content_type"}
        return validation_problem([where])
    return validation_problem(
        [{"loc": each["loc"], "message": _message(each), "code": each["type"]} for each in error.errors()]
    )


def _message(invalid: Mapping[str, Any]) -> str:
    """Return why a part of a request is invalid."""
    if invalid["type"] == "json_invalid":  # the parser's reason is beside the message
        return f"{invalid['msg']}: {invalid['ctx']['error']}"
    return str(invalid["msg"])


async def _invalid_cursor(_request: Request, _error: Exception) -> Response:
    where = {"loc": ["query", "cursor"], "message": "The cursor does not belong to this list", "code": "invalid_cursor"}
    return validation_problem([where], "invalid-cursor")


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.NOT_FOUND:
        return problem_response("not-found")
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return problem_response("method-not-allowed", headers={"Allow": ", ".join(_methods(request))})
    return validation_problem([{"loc": ["body"], "message": str(error.detail), "code": "body_unreadable"}])


def _methods(request: Request) -> list[str]:
    """Collect the methods of all routes of a path; the framework reports one route's."""
    methods: set[str] = set()
    for context in iter_route_contexts(request.app.router.routes):
        match, _ = context.original_route.matches(request.scope)
        if match is not Match.NONE:
            methods |= context.methods or set()
    return sorted(methods | ({"HEAD"} if "GET" in methods else set()))
