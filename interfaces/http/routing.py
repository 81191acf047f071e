"""Routes with strict JSON (RFC 8259), and a fast path for valid requests."""

import json
import math
from collections.abc import Callable, Coroutine
from json import JSONDecodeError
from typing import Any, Final, NoReturn

from fastapi._compat import ModelField
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from interfaces.http.problems import Responses, document_responses, is_oauth

FORM: Final = "application/x-www-form-urlencoded"
JSON_TYPES: Final = frozenset({b"application/json", b"application/json; charset=utf-8"})


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number overflows")
    return number


_decoder = json.JSONDecoder(parse_float=_finite, parse_constant=_refuse_constant)


def parse(body: bytes) -> Any:
    """Parse JSON text in UTF-8, more strictly than Python's own parser.

    Raises:
        json.JSONDecodeError: it is malformed, in another encoding, begins with a byte order mark, or contains NaN,
            Infinity, a number that overflows, or more nesting or digits than Python parses.
    """
    try:
        return _decoder.decode(body.decode())
    except json.JSONDecodeError as error:
        reason, position = error.msg, error.pos
    except (ValueError, RecursionError):
        reason, position = "Not JSON in UTF-8, or a number or its nesting is out of bounds", 0
    # Outside the handler: as its context, the decoder's error would keep the whole text alive.
    raise json.JSONDecodeError(reason, "", position)


class _StrictRequest(Request):
    async def json(self) -> Any:
        return parse(await self.body())


class StrictRoute(APIRoute):
    """A route that parses JSON strictly and documents its problems.

    Its id and summary in the OpenAPI document are the endpoint's name and the first line of its docstring.

    It frees the body of a refused request. FastAPI raises the refusal from a frame that refers to it and to the
    body: a cycle, which only the garbage collector's oldest generation would free.
    """

    is_oauth = False

    def __init__(
        self, path: str, endpoint: Callable[..., Any], *, responses: Responses | None = None, **options: Any
    ) -> None:
        words = endpoint.__name__.split("_")
        options["operation_id"] = options.get("operation_id") or words[0] + "".join(map(str.capitalize, words[1:]))
        options["summary"] = options.get("summary") or (endpoint.__doc__ or "").partition("\n")[0].removesuffix(".")
        documented = document_responses(endpoint, responses or {}, for_oauth=self.is_oauth)
        super().__init__(path, endpoint, responses=documented, **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Replace the request by one that parses JSON with `parse`."""
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            is_oauth.set(self.is_oauth)
            try:
                return await handle(_StrictRequest(request.scope, request.receive))
            except (RequestValidationError, HTTPException) as error:
                error.__cause__ = error.__context__ = None
                raise error.with_traceback(None) from None

        return strict


class OAuthRoute(StrictRoute):
    """A route of OAuth2's, whose errors have the members that its clients read."""

    is_oauth = True


class FormRoute(OAuthRoute):
    """A route for forms, before one of the same path and method for other bodies."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match a path, a method and a body that is a form."""
        headers = Headers(scope=scope)
        is_form = headers.get("Content-Type", "").lower().startswith(FORM) and headers.get("Content-Length") != "0"
        return super().matches(scope) if is_form else (Match.NONE, {})


class FastPathRoute(StrictRoute):
    """A route that calls its endpoint without FastAPI's general machinery.

    Every other request restarts on FastAPI's own path: one that does not validate, has another content type, or sends
    a header that the endpoint reads. So FastAPI alone reports what is wrong with a request.

    The endpoint returns a response. It takes path parameters, optional headers, one body, and dependencies that take
    the request alone; any other parameter is refused at startup.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.app = _FastPath(self, self.app)


class _FastPath:
    """The ASGI application of a `FastPathRoute`."""

    def __init__(self, route: FastPathRoute, fallback: ASGIApp) -> None:
        self._fallback = fallback
        self._endpoint: Any = route.endpoint
        dependant = route.dependant
        self._dependencies: list[tuple[Any, Any]] = [
            (each.name, getattr(each.call, "on_fast_path", each.call)) for each in dependant.dependencies
        ]
        self._path = [(field.name, field) for field in dependant.path_params]
        self._headers = frozenset(field.alias.lower().replace("_", "-").encode() for field in dependant.header_params)
        self._body: ModelField | None = next(iter(dependant.body_params), None)
        unsupported = (
            *dependant.query_params,
            *dependant.cookie_params,
            *dependant.body_params[1:],
            *(field for field in dependant.header_params if field.field_info.is_required()),
            *(each for each in dependant.dependencies if not _takes_request_alone(each)),
        )
        if unsupported or dependant.request_param_name or dependant.response_param_name:
            raise TypeError(f"{route.path} has parameters that FastPathRoute does not support: use StrictRoute")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        values: dict[str, Any] = {}
        is_plain = True
        for name, value in scope["headers"]:
            if name in self._headers or (
                name == b"content-type" and self._body is not None and value not in JSON_TYPES
            ):
                is_plain = False
        for name, field in self._path:
            values[name], errors = field.validate(scope["path_params"][name], {}, loc=())
            is_plain = is_plain and not errors
        if is_plain and self._body is not None:
            message = await receive()  # the whole body: BodyLimit collects it
            receive = _replay(message, receive)
            try:
                values[self._body.name], errors = self._body.validate(parse(message.get("body", b"")), {}, loc=())
            except JSONDecodeError:
                is_plain = False
            else:
                is_plain = not errors
        if not is_plain:
            await self._fallback(scope, receive, send)
            return
        request = Request(scope)
        for name, dependency in self._dependencies:
            values[name] = await dependency(request=request)
        response = await self._endpoint(**values)
        await response(scope, receive, send)


def _takes_request_alone(dependency: Dependant) -> bool:
    parameters = (
        *dependency.path_params,
        *dependency.query_params,
        *dependency.header_params,
        *dependency.cookie_params,
    )
    is_flat = not (parameters or dependency.body_params or dependency.dependencies)
    return is_flat and dependency.request_param_name == "request" and dependency.name is not None


def _replay(message: Message, receive: Receive) -> Receive:
    """Receive a message once more."""
    messages = [message]

    async def receive_replayed() -> Message:
        return messages.pop() if messages else await receive()

    return receive_replayed
