"""A fast path for plain requests: one pass instead of all other middleware."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from json import JSONDecodeError
from typing import Any, Final

from fastapi._compat import ModelField
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from interfaces.http.middleware import (
    BODY_MAX,
    SecurityHeaders,
    cancelled_problem,
    replayed,
    unexpected_problem,
    whole_body,
)
from interfaces.http.paging import InvalidCursor
from interfaces.http.routing import StrictRequest, StrictRoute
from interfaces.http.unsent import UNRESERVED_MAX, ResponseLimit, UnsentBytes

JSON_TYPES: Final = frozenset({b"application/json", b"application/json; charset=utf-8"})

UNUSUAL: Final = frozenset({b"origin", b"transfer-encoding"})
"""Headers that other middleware reads."""

Handler = Callable[[Request, Exception], Coroutine[Any, Any, Response]]


class FastPathRoute(StrictRoute):
    """A route whose plain requests are served in one pass.

    The endpoint returns a response. It takes at most one path parameter, optional headers, one body, and dependencies
    that take the request alone; any other parameter is refused at startup.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fast_path = FastPath(self)


class FastPath:
    """How a route reads a plain request, and calls its endpoint.

    A dependency with a method `on_fast_path` is called by it.
    """

    def __init__(self, route: FastPathRoute) -> None:
        self.route = route
        self._endpoint: Any = route.endpoint
        dependant = route.dependant
        self._dependencies: list[tuple[Any, Any]] = [
            (each.name, getattr(each.call, "on_fast_path", each.call)) for each in dependant.dependencies
        ]
        self._path: ModelField | None = next(iter(dependant.path_params), None)
        self._body: ModelField | None = next(iter(dependant.body_params), None)
        headers = {field.alias.lower().replace("_", "-").encode(): field for field in dependant.header_params}
        # Of a change, such as If-Match and Idempotency-Key, only FastAPI's own path reads headers.
        self._headers = headers if route.methods == {"GET"} else {}
        self._unusual = UNUSUAL.union(headers.keys() - self._headers.keys())
        unsupported = (
            *dependant.query_params,
            *dependant.cookie_params,
            *dependant.path_params[1:],
            *dependant.body_params[1:],
            *(field for field in dependant.header_params if field.field_info.is_required()),
            *(each for each in dependant.dependencies if not _takes_request_alone(each)),
        )
        if unsupported or dependant.request_param_name or dependant.response_param_name:
            raise TypeError(f"{route.path} has parameters that FastPathRoute does not support: use StrictRoute")

    @property
    def has_body(self) -> bool:
        """Whether the endpoint takes a body."""
        return self._body is not None

    def has_usual_head(self, headers: Sequence[tuple[bytes, bytes]]) -> bool:
        """Test whether a request has a head that nothing but the endpoint reads."""
        length = b"0"
        for name, value in headers:
            if name in self._unusual or (
                name == b"content-type" and self._body is not None and value not in JSON_TYPES
            ):
                return False
            if name == b"content-length":
                length = value
        if self._body is None:
            return length == b"0"
        return length.isdigit() and 0 < int(length[:20]) <= BODY_MAX

    def read(self, parameter: str, request: StrictRequest, body: bytes) -> dict[str, Any] | None:
        """Validate a request; None if FastAPI has to say what is wrong with it."""
        values: dict[str, Any] = {}
        fields: list[tuple[ModelField, Any]] = [] if self._path is None else [(self._path, parameter)]
        for alias, field in self._headers.items():
            if given := [value.decode("latin-1") for name, value in request.scope["headers"] if name == alias]:
                fields.append((field, given))
        if self._body is not None:
            try:
                fields.append((self._body, request.parsed(body)))
            except JSONDecodeError:
                return None
        for field, given_value in fields:
            values[field.name], errors = field.validate(given_value, {}, loc=())
            if errors:
                return None
        return values

    async def call(self, request: Request, values: dict[str, Any]) -> Response:
        """Call dependencies and endpoint."""
        for name, dependency in self._dependencies:
            values[name] = await dependency(request=request)
        response: Response = await self._endpoint(**values)
        return response


class FastPaths:
    """Serves plain requests to `FastPathRoute`s, and leaves all others to the app.

    Every other request restarts on FastAPI's own path: one that does not validate, has another content type or an
    origin, or sends a header that changes what it does. So FastAPI alone reports what is wrong with a request.
    """

    def __init__(
        self,
        app: ASGIApp,
        routes: Sequence[BaseRoute],
        headers: SecurityHeaders,
        unsent: UnsentBytes,
        handlers: Mapping[type[Exception], Handler],
    ) -> None:
        self._app = app
        self._headers = headers
        self._unsent = unsent
        self._handlers = handlers
        self._paths = {
            (method, *_shape(route.path)): route.fast_path
            for route in routes
            if isinstance(route, FastPathRoute)
            for method in route.methods or ()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        path, parameter = self._find(scope)
        if path is None or not path.has_usual_head(scope["headers"]):
            await self._app(scope, receive, send)
            return
        body = b""
        if path.has_body:
            message = await whole_body(receive, BODY_MAX)
            if message is None:
                return
            body, receive = message["body"], replayed(message, receive)
        request = StrictRequest(scope)
        values = path.read(parameter, request, body)
        if values is None:
            await self._app(scope, receive, send)
            return
        try:
            response = await path.call(request, values)
        except (RequestValidationError, InvalidCursor):
            await self._app(scope, receive, send)
            return
        except asyncio.CancelledError:
            await self._send(path, scope, receive, send, cancelled_problem())
            raise
        except Exception as error:  # noqa: BLE001 - as in FastAPI's stack
            response = await self._refusal(request, error)
        await self._send(path, scope, receive, send, response)

    async def _refusal(self, request: Request, error: Exception) -> Response:
        for kind in type(error).__mro__:
            if handler := self._handlers.get(kind):
                return await handler(request, error)
        return unexpected_problem(error)

    async def _send(self, path: FastPath, scope: Scope, receive: Receive, send: Send, response: Response) -> None:
        scope["route"] = path.route

        async def send_with_headers(message: Message) -> None:  # of this response or the refusal of `ResponseLimit`
            if message["type"] == "http.response.start":
                message["headers"].append((b"vary", b"Origin"))  # as CORS adds it to a response without an origin
                self._headers.add(message["headers"], scope)
            await send(message)

        limited = ResponseLimit(response, self._unsent) if len(response.body) > UNRESERVED_MAX else response
        await limited(scope, receive, send_with_headers)

    def _find(self, scope: Scope) -> tuple[FastPath | None, str]:
        if scope["type"] != "http":
            return None, ""
        method, path = scope["method"], scope["path"]
        if found := self._paths.get((method, path, None)):
            return found, ""
        first, _, rest = path[1:].partition("/")
        parameter, slash, last = rest.partition("/")
        return self._paths.get((method, first, slash + last)), parameter


def _shape(template: str) -> tuple[str, str | None]:
    """Split the template of a path at its parameter, the second segment, if any."""
    before, brace, after = template[1:].partition("/{")
    if not brace:
        return template, None
    return before, after.partition("}")[2]


def _takes_request_alone(dependency: Dependant) -> bool:
    parameters = (
        *dependency.path_params,
        *dependency.query_params,
        *dependency.header_params,
        *dependency.cookie_params,
    )
    is_flat = not (parameters or dependency.body_params or dependency.dependencies)
    return is_flat and dependency.request_param_name == "request" and dependency.name is not None
