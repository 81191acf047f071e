"""Routes with strict JSON (RFC 8259)."""

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, Final

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.datastructures import FormData, Headers, QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from interfaces.http.json_text import parse
from interfaces.http.problems import Responses, document_responses, is_oauth
from interfaces.http.urlencoded import FIELDS_MAX, TooManyFields, decoded_fields

FORM: Final = "application/x-www-form-urlencoded"
MEDIA_TYPE_MAX: Final = 256
"""Characters in the Content-Type of a form: the parser of its parameters is slow."""

_JSON: Final = "agora.json"
_QUERY: Final = "agora.query"
"""Members of a scope: parsed parts of the request."""


class StrictRequest(Request):
    """A request with strict JSON, which parses its body and its query once.

    The parsed parts are in the scope, since a request that the fast path leaves to FastAPI has several such objects.
    """

    @property
    def query_params(self) -> QueryParams:
        """Parse the query.

        Raises:
            RequestValidationError: it has too many fields.
        """
        if _QUERY not in self.scope:
            try:
                self.scope[_QUERY] = QueryParams([*decoded_fields(self.scope["query_string"])])
            except TooManyFields as error:
                where = {"loc": ("query",), "msg": str(error), "type": "too_many_fields"}
                raise RequestValidationError([where]) from None
        parsed: QueryParams = self.scope[_QUERY]
        return parsed

    async def form(self, **limits: Any) -> FormData:  # type: ignore[override]  # FastAPI awaits it
        """Parse the body as a form.

        Raises:
            HTTPException: it is unreadable, or has too many fields.
        """
        media_type = self.headers.get("Content-Type", "").lower()
        if len(media_type) > MEDIA_TYPE_MAX:
            raise HTTPException(HTTPStatus.BAD_REQUEST, f"The Content-Type has more than {MEDIA_TYPE_MAX} characters")
        if not media_type.startswith(FORM):
            return await super().form(**{**limits, "max_fields": FIELDS_MAX, "max_files": FIELDS_MAX})
        if self._form is None:
            try:
                self._form = FormData([*decoded_fields(await self.body())])
            except TooManyFields as error:
                raise HTTPException(HTTPStatus.BAD_REQUEST, str(error)) from None
        return self._form

    async def json(self) -> Any:
        """Parse the body."""
        return self.parsed(await self.body())

    def parsed(self, body: bytes) -> Any:
        """Parse a body that was read already.

        Raises:
            JSONDecodeError: as `parse` does.
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
