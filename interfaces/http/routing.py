"""Routes with strict JSON (RFC 8259)."""

import json
import math
from collections.abc import Callable, Coroutine
from typing import Any, Final, NoReturn

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.datastructures import Headers, QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from interfaces.http.problems import Responses, document_responses, is_oauth

FORM: Final = "application/x-www-form-urlencoded"


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


_JSON: Final = "agora.json"
_QUERY: Final = "agora.query"
"""Members of a scope: parsed parts of the request."""


class StrictRequest(Request):
    """A request with strict JSON, which parses its body and its query once.

    The parsed parts are in the scope, since a request that the fast path leaves to FastAPI has several such objects.
    """

    @property
    def query_params(self) -> QueryParams:
        """Parse the query: percent-decoding takes 50 microseconds per KiB."""
        if _QUERY not in self.scope:
            self.scope[_QUERY] = super().query_params
        parsed: QueryParams = self.scope[_QUERY]
        return parsed

    async def json(self) -> Any:
        """Parse the body."""
        return self.parsed(await self.body())

    def parsed(self, body: bytes) -> Any:
        """Parse a body that was read already.

        Raises:
            json.JSONDecodeError: as `parse` does.
        """
        if _JSON not in self.scope:
            self.scope[_JSON] = parse(body)
        return self.scope[_JSON]


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
                return await handle(StrictRequest(request.scope, request.receive))
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
