"""A shorter way to the endpoints that are asked most often, for requests with which nothing is wrong."""

from json import JSONDecodeError
from typing import Any, Final

from fastapi._compat import ModelField
from fastapi.dependencies.models import Dependant
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from interfaces.http.strict_json import StrictRoute, parse

JSON: Final = frozenset({b"application/json", b"application/json; charset=utf-8"})


class StraightRoute(StrictRoute):
    """A route whose endpoint is called as FastAPI would call it, without all that FastAPI could do on the way.

    Everything that is out of the ordinary takes FastAPI's own way, from the beginning: what does not validate, another
    content type, a header that an endpoint asks for. So there is one place that says what is wrong with a request.

    The endpoint returns a response. It takes path parameters, headers that may be absent, one body, and dependencies
    that take the request and nothing else; what it takes besides is a mistake that is found at start.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.app = _Straight(self, self.app)


class _Straight:
    """The application of a route."""

    def __init__(self, route: StraightRoute, usual: ASGIApp) -> None:
        self._usual = usual
        self._endpoint: Any = route.endpoint
        asked = route.dependant
        self._dependencies: list[tuple[Any, Any]] = [(each.name, each.call) for each in asked.dependencies]
        self._path = [(field.name, field) for field in asked.path_params]
        self._headers = frozenset(field.alias.lower().replace("_", "-").encode() for field in asked.header_params)
        self._body: ModelField | None = next(iter(asked.body_params), None)
        beyond = (
            *asked.query_params,
            *asked.cookie_params,
            *asked.body_params[1:],
            *(field for field in asked.header_params if field.field_info.is_required()),
            *(each for each in asked.dependencies if not _takes_the_request_alone(each)),
        )
        if beyond or asked.request_param_name or asked.response_param_name:
            raise TypeError(f"{route.path} asks for more than a StraightRoute gives: use StrictRoute")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        values: dict[str, Any] = {}
        is_plain = True
        for name, value in scope["headers"]:
            if name in self._headers or (name == b"content-type" and self._body is not None and value not in JSON):
                is_plain = False
        for name, field in self._path:
            values[name], errors = field.validate(scope["path_params"][name], {}, loc=())
            is_plain = is_plain and not errors
        if is_plain and self._body is not None:
            message = await receive()  # the whole body: BodyLimit saw to that
            receive = _again(message, receive)
            try:
                values[self._body.name], errors = self._body.validate(parse(message.get("body", b"")), {}, loc=())
            except JSONDecodeError:
                is_plain = False
            else:
                is_plain = not errors
        if not is_plain:
            await self._usual(scope, receive, send)
            return
        request = Request(scope)
        for name, dependency in self._dependencies:
            values[name] = await dependency(request=request)
        response = await self._endpoint(**values)
        await response(scope, receive, send)


def _takes_the_request_alone(dependency: Dependant) -> bool:
    asked = (*dependency.path_params, *dependency.query_params, *dependency.header_params, *dependency.cookie_params)
    is_flat = not (asked or dependency.body_params or dependency.dependencies)
    return is_flat and dependency.request_param_name == "request" and dependency.name is not None


def _again(message: Message, receive: Receive) -> Receive:
    """Receive a message as if it had not been received yet."""
    messages = [message]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again
