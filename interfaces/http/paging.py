"""Paging over HTTP: list queries, signed cursors, Link headers (RFC 8288)."""

import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import urlencode

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError
from pydantic_core import PydanticCustomError

from application.paging import LIMIT_DEFAULT, LIMIT_MAX, SKIP_MAX, Page, PageCursor, Window
from interfaces.http.fields import query_integer
from interfaces.http.problems import Raises

MAC_BYTES: Final = 16
"""Bytes of a cursor's signature: 128 bits (RFC 2104, section 5)."""


class InvalidCursor(Exception):
    """The cursor was not signed for this list."""


class Cursors:
    """Signs positions in lists, and verifies them.

    A signature covers the URL of the list too, with its order and filters: in another list the position would mean
    something else. Signatures of the previous secret key stay valid, so clients can follow links during a rotation.
    """

    def __init__(self, secret_keys: Sequence[str]) -> None:
        self._keys = [sha256(b"cursor\0" + key.encode()).digest() for key in secret_keys]

    def write(self, of_list: str, position: PageCursor) -> str:
        """Encode a position as a cursor, in base64url."""
        key = position.key.isoformat() if isinstance(position.key, datetime) else position.key
        place = json.dumps([key, position.id]).encode()
        return urlsafe_b64encode(_mac(self._keys[0], of_list, place) + place).rstrip(b"=").decode()

    def read(self, of_list: str, cursor: str) -> PageCursor:
        """Decode a cursor of this list.

        Raises:
            InvalidCursor: the signature does not match.
        """
        try:
            whole = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        except ValueError:
            raise InvalidCursor from None
        mac, place = whole[:MAC_BYTES], whole[MAC_BYTES:]
        is_canonical = urlsafe_b64encode(whole).rstrip(b"=").decode() == cursor
        if not is_canonical or not any(hmac.compare_digest(mac, _mac(key, of_list, place)) for key in self._keys):
            raise InvalidCursor
        key, row_id = json.loads(place)
        return PageCursor(datetime.fromisoformat(key) if isinstance(key, str) else key, row_id)


def _mac(key: bytes, of_list: str, place: bytes) -> bytes:
    return hmac.digest(key, b"%s\0%s" % (of_list.encode(), place), "sha256")[:MAC_BYTES]


def _skip(skip: int) -> int:
    if skip > SKIP_MAX:
        raise PydanticCustomError(
            "less_than_equal", f"Input should be at most {SKIP_MAX}; a cursor, from the Link header, goes further"
        )
    return skip


class PageQuery(BaseModel):
    """The page of a list that a request selects. Lists with filters add theirs."""

    limit: Annotated[
        int,
        Field(
            ge=1, le=LIMIT_MAX, description="Rows in the response, at most. Empty is refused: it is not the default."
        ),
        BeforeValidator(query_integer),
    ] = LIMIT_DEFAULT
    skip: Annotated[
        int,
        Field(
            ge=0,
            description=f"Rows to skip, up to {SKIP_MAX}; a cursor goes further.",
            json_schema_extra={"maximum": SKIP_MAX},
        ),
        AfterValidator(_skip),
        BeforeValidator(query_integer),
    ] = 0
    cursor: Annotated[
        str | None,
        Field(description="The position to continue from, from the previous page's Link header; excludes skip."),
    ] = None

    def url(self, path: str) -> str:
        """Build the URL of the list with its order and filters; defaults are omitted."""
        given = self.model_dump(include=self.model_fields_set - PAGING, exclude_defaults=True)
        return _url(path, urlencode({name: _text(value) for name, value in given.items()})) if given else path

    def window(self, cursors: Cursors, of_list: str) -> Window:
        """Get the window of the list to read.

        Raises:
            InvalidCursor: the cursor does not belong to this list.
            RequestValidationError: `skip` is set besides `cursor`.
        """
        if self.cursor is None:
            return Window(self.limit, self.skip)
        if self.skip:
            where = {
                "loc": ("query", "skip"),
                "msg": "A cursor says where to go on; leave skip out",
                "type": "excluded",
            }
            raise RequestValidationError([where])
        return Window(self.limit, after=cursors.read(of_list, self.cursor))

    def links(self, cursors: Cursors, of_list: str, page: Page[Any]) -> dict[str, str]:
        """Build the Link header: the first page and, if there is one, the next."""
        first = of_list if self.limit == LIMIT_DEFAULT else _url(of_list, f"limit={self.limit}")
        if page.last is None:
            return {"Link": f'<{first}>; rel="first"'}
        following = _url(first, f"cursor={cursors.write(of_list, page.last)}")
        return {"Link": f'<{following}>; rel="next", <{first}>; rel="first"'}


PAGING: Final = frozenset(PageQuery.model_fields)
"""The parameters that every list has."""

Q = TypeVar("Q", bound=PageQuery)


def _url(url: str, query: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}{query}"


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value).lower() if isinstance(value, bool) else str(value)


def query_model(model: type[Q]) -> Any:
    """Depend on the query of a list, validated as one model.

    FastAPI would validate ten parameters one by one, which takes longer than all its other work; `openapi_parameters`
    documents them instead (docs/adr/0021-list-queries-as-one-model.md).
    """

    async def read(request: Request) -> Q:
        try:
            return model.model_validate(dict(request.query_params))
        except ValidationError as error:
            reasons = error.errors(include_url=False, include_context=False, include_input=False)
            raise RequestValidationError([reason | {"loc": ("query", *reason["loc"])} for reason in reasons]) from None

    return Depends(read)


def openapi_parameters(model: type[PageQuery]) -> dict[str, Any]:
    """Document the query of a list for OpenAPI."""
    parameters = []
    for name, schema in model.model_json_schema()["properties"].items():
        choices = schema.pop("anyOf", ())  # a value or null, which no query can write
        schema.update(next((choice for choice in choices if choice.get("type") != "null"), {}))
        description = schema.pop("description")
        parameters.append(
            {"name": name, "in": "query", "required": False, "description": description, "schema": schema}
        )
    return {"parameters": parameters}


LINKED: Final[dict[str, Any]] = {
    "headers": {"Link": {"description": "The first page and, if there is one, the next.", "schema": {"type": "string"}}}
}
"""The response of a list in the OpenAPI document."""

LIST_PROBLEMS: Final = Raises({"validation", "invalid-cursor"})
"""The problems of the query of a list."""
