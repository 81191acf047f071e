"""The types of request fields: what each accepts, also in the OpenAPI document."""

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal

from fastapi import Path
from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError, PydanticKnownError

from application.ports.storage import ID_MAX
from domain.posts import CONTENT_MAX, TITLE_INPUT_MAX, TITLE_MAX
from domain.text import has_control, is_blank, is_storable
from domain.users import PASSWORD_MAX, PASSWORD_MIN, USERNAME_PATTERN
from interfaces.emails import require_email
from interfaces.http.problems import Raises

_ID: Final = re.compile("0|[1-9][0-9]*")
MOMENT: Final = "2026-01-31T12:00:00Z"
"""An example."""

_INTEGER: Final = re.compile("-?[0-9]{1,20}")
_MOMENT: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


def _storable(text: str) -> str:
    if not is_storable(text):
        raise PydanticCustomError("text_unstorable", "Text may not hold U+0000 or a lone surrogate")
    return text


def _filled(text: str) -> str:
    if is_blank(text):
        raise PydanticCustomError("string_too_short", "Text may not be blank")
    return text


def _bounded_title(text: Any) -> Any:
    if isinstance(text, str) and len(text) > TITLE_INPUT_MAX:  # stripping it takes longer than parsing it
        raise PydanticKnownError("string_too_long", {"max_length": TITLE_MAX})
    return text


def _one_line(text: str) -> str:
    if has_control(text):
        raise PydanticCustomError("text_control", "This may not hold control characters or line separators")
    return text


def _email(text: str) -> str:
    try:
        return require_email(text)
    except ValueError:  # its message quotes the value, which no response may
        raise PydanticCustomError("email", "Input should be an e-mail address, like ann@example.com") from None


def _path_id(text: str) -> int:
    if not _ID.fullmatch(text):
        raise PydanticCustomError("id", "An id is 0, or digits that do not begin with 0")
    return int(text[:40])  # 40 digits are out of range already, and Python parses at most 4,300


def json_integer(value: Any) -> Any:
    """Accept integers, and no other type that equals one."""
    if type(value) is not int:  # true and 1.0 equal 1, and are not integers in JSON
        raise PydanticCustomError("int_type", "Input should be a valid integer")
    return value


def query_integer(text: Any) -> Any:
    """Accept the digits of an integer; Python alone would parse more forms."""
    if isinstance(text, str) and not _INTEGER.fullmatch(text):
        raise PydanticCustomError("int_parsing", "Input should be a valid integer")
    return text


def _query_direction(text: Any) -> Any:
    return {"1": 1, "-1": -1}.get(text, text)


def _query_boolean(text: Any) -> Any:
    if isinstance(text, str) and text not in {"true", "false"}:
        raise PydanticCustomError("bool_parsing", "Input should be true or false")
    return text


def _moment(text: Any) -> Any:
    """Parse a moment of RFC 3339 to UTC; a fraction of a microsecond is rounded up."""
    if isinstance(text, str) and _MOMENT.fullmatch(text.replace(" ", "+")) and " " in text:
        raise PydanticCustomError(
            "datetime_parsing", "The + of the offset arrived as a space; write it as %2B, like 12:00:00%2B01:00"
        )
    found = _MOMENT.fullmatch(text) if isinstance(text, str) else None
    if found is not None:
        day, time, fraction, offset = found.groups()
        with suppress(ValueError):
            moment = datetime.fromisoformat(f"{day}T{time}{(fraction or '.')[:7]:0<7}{offset.upper()}")
            return _utc(moment, rest=(fraction or "")[7:])
    raise PydanticCustomError(
        "datetime_parsing", "Input should be a moment of RFC 3339 with an offset, like 2026-01-31T12:00:00Z"
    )


def _utc(moment: datetime, rest: str) -> datetime:
    try:
        return moment.astimezone(UTC) + timedelta(microseconds=1 if rest.strip("0") else 0)
    except OverflowError:  # the offset or the microsecond leaves the calendar: use its end
        return datetime.min.replace(tzinfo=UTC) if moment.year == 1 else datetime.max.replace(tzinfo=UTC)


def about(description: str, example: object, **more: Any) -> Any:
    """Describe a property in the OpenAPI document, with an example."""
    return Field(description=description, examples=[example], json_schema_extra=more or None)


NAMED_UP_DOWN: Final[Mapping[str, Any]] = {"x-enum-varnames": ["up", "down"]}
NAMED_UP_DOWN_NONE: Final[Mapping[str, Any]] = {"x-enum-varnames": ["up", "down", "none"]}
"""Names for generators of clients, in the order of the enum."""

UP_DOWN: Final[Mapping[str, Any]] = {"enum": [1, -1], **NAMED_UP_DOWN}
UP_DOWN_NONE: Final[Mapping[str, Any]] = {"enum": [1, -1, 0], **NAMED_UP_DOWN_NONE}

# Constraints stand beside the type, before the validators: after one, pydantic would count "items" instead of
# characters, and write `ge` into the OpenAPI document instead of `minimum`.
_STORABLE = AfterValidator(_storable)
_FILLED = AfterValidator(_filled)

Text = Annotated[str, StringConstraints(strict=True), _STORABLE]
Title = Annotated[
    str,
    StringConstraints(strict=True, strip_whitespace=True, min_length=1, max_length=TITLE_MAX),
    _STORABLE,
    _FILLED,
    AfterValidator(_one_line),
    BeforeValidator(_bounded_title),
]
Content = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=CONTENT_MAX), _STORABLE, _FILLED]
Email = Annotated[Text, AfterValidator(_email), Field(json_schema_extra={"format": "email"})]
Password = Annotated[str, StringConstraints(strict=True, min_length=PASSWORD_MIN, max_length=PASSWORD_MAX), _STORABLE]
Username = Annotated[str, StringConstraints(strict=True, pattern=USERNAME_PATTERN)]
Flag = Annotated[bool, Field(strict=True)]
JsonId = Annotated[int, Field(ge=0, le=ID_MAX), BeforeValidator(json_integer)]


def _path(description: str) -> Any:
    """Describe an id in a path; one beyond the bounds is valid and not found."""
    return Path(description=description, examples=[1], json_schema_extra={"minimum": 0, "maximum": ID_MAX})


PostId = Annotated[int, BeforeValidator(_path_id), _path("The post's id."), Raises({"post-not-found"})]
SessionId = Annotated[int, BeforeValidator(_path_id), _path("The session's id."), Raises({"session-not-found"})]
UserId = Annotated[int, BeforeValidator(_path_id), _path("The account's id."), Raises({"user-not-found"})]
Slug = Annotated[Text, Path(description="The last part of the problem's `type`.", examples=["validation"])]

QueryId = Annotated[int, Field(ge=0, le=ID_MAX), BeforeValidator(query_integer)]
QueryDirection = Annotated[
    Literal[1, -1], BeforeValidator(_query_direction), Field(json_schema_extra={**NAMED_UP_DOWN})
]
QueryMoment = Annotated[datetime, BeforeValidator(_moment)]
QueryFlag = Annotated[bool, BeforeValidator(_query_boolean)]
Search = Annotated[
    str,
    Field(
        max_length=200, examples=["budget"], description="Text to search for, ignoring case; empty matches everything."
    ),
    _STORABLE,
]
