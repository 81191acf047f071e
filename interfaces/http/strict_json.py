"""JSON as RFC 8259 has it, which is less than Python's own reader accepts."""

import json
import math
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from fastapi.routing import APIRoute
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
        raise json.JSONDecodeError(error.msg, "", error.pos) from None
    except (ValueError, RecursionError):
        raise json.JSONDecodeError("Not JSON in UTF-8, or a number or its nesting is out of bounds", "", 0) from None


class _StrictRequest(Request):
    async def json(self) -> Any:
        return parse(await self.body())


class StrictRoute(APIRoute):
    """A route that reads JSON strictly."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Hand the route a request whose JSON is read by `parse`."""
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handle(_StrictRequest(request.scope, request.receive))

        return strict
