"""JSON as RFC 8259 has it, which is less than Python's own reader accepts."""

import json
import math
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number overflows")
    return number


_decoder = json.JSONDecoder(parse_float=_finite, parse_constant=_refuse_constant)


def parse(body: bytes) -> Any:
    """Read a JSON text in UTF-8.

    Raises:
        json.JSONDecodeError: it is malformed, in another encoding, begins with a byte order mark, or holds NaN,
            Infinity, a number that overflows, or more nesting or digits than Python reads.
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
    """A route that reads JSON strictly, and whose refusals keep no request body alive.

    FastAPI raises a refusal from a frame that refers to it and to the body: a cycle, which only the garbage
    collector's oldest generation would free.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Hand the route a request whose JSON is read by `parse`."""
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            try:
                return await handle(_StrictRequest(request.scope, request.receive))
            except (RequestValidationError, HTTPException) as error:
                error.__cause__ = error.__context__ = None
                raise error.with_traceback(None) from None

        return strict
