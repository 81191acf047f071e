"""The types of what clients send: what is accepted where, said once, and shown so in the OpenAPI document."""

import re
from typing import Annotated, Any, Final, Literal

from fastapi import Path, Query
from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from application.paging import LIMIT_DEFAULT, LIMIT_MAX, SKIP_MAX, Window
from domain.posts import CONTENT_MAX, TITLE_MAX
from domain.text import is_storable
from domain.users import PASSWORD_MAX, PASSWORD_MIN, USERNAME_PATTERN
from interfaces.emails import require_email

INTEGER_MAX: Final = 2**63 - 1
_ID: Final = re.compile("0|[1-9][0-9]*")
_INTEGER: Final = re.compile("-?[0-9]{1,20}")


def _storable(text: str) -> str:
    if not is_storable(text):
        raise PydanticCustomError("text_unstorable", "Text may not hold U+0000 or a lone surrogate")
    return text


def _filled(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("string_too_short", "Text may not be blank")
    return text


def _email(text: str) -> str:
    try:
        return require_email(text)
    except ValueError:  # its message repeats parts of the value, which no answer may
        raise PydanticCustomError("email", "Input should be an e-mail address, like ann@example.com") from None


def _path_id(text: str) -> int:
    if not _ID.fullmatch(text):
        raise PydanticCustomError("id", "An id is 0, or digits that do not begin with 0")
    return int(text[:40])  # 40 digits are out of range already, and Python reads no more than 4,300


def json_integer(value: Any) -> Any:
    """Accept an integer and nothing that only equals one."""
    if type(value) is not int:  # true and 1.0 equal 1, and are no integers in JSON
        raise PydanticCustomError("int_type", "Input should be a valid integer")
    return value


def _query_integer(text: Any) -> Any:
    if isinstance(text, str) and not _INTEGER.fullmatch(text):
        raise PydanticCustomError("int_parsing", "Input should be a valid integer")
    return text


def _query_direction(text: Any) -> Any:
    return {"1": 1, "-1": -1}.get(text, text)


def _query_boolean(text: Any) -> Any:
    if isinstance(text, str) and text not in {"true", "false"}:
        raise PydanticCustomError("bool_parsing", "Input should be true or false")
    return text


def _skip(skip: int) -> int:
    if skip > SKIP_MAX:
        raise PydanticCustomError("less_than_equal", f"Input should be at most {SKIP_MAX}; narrow the list instead")
    return skip


# Constraints stand beside `str`, before the validators: after one, pydantic would count "items" instead of characters.
_STORABLE = AfterValidator(_storable)
_FILLED = AfterValidator(_filled)

Text = Annotated[str, StringConstraints(strict=True), _STORABLE]
Title = Annotated[
    str,
    StringConstraints(strict=True, strip_whitespace=True, min_length=1, max_length=TITLE_MAX),
    _STORABLE,
    _FILLED,
]
Content = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=CONTENT_MAX), _STORABLE, _FILLED]
Email = Annotated[Text, AfterValidator(_email), Field(json_schema_extra={"format": "email"})]
Password = Annotated[str, StringConstraints(strict=True, min_length=PASSWORD_MIN, max_length=PASSWORD_MAX), _STORABLE]
Username = Annotated[str, StringConstraints(strict=True, pattern=USERNAME_PATTERN)]
Flag = Annotated[bool, Field(strict=True)]
JsonInteger = Annotated[int, BeforeValidator(json_integer)]
JsonId = Annotated[JsonInteger, Field(ge=0, le=INTEGER_MAX)]

PostId = Annotated[int, BeforeValidator(_path_id), Path(description="The post's id.")]
SessionId = Annotated[int, BeforeValidator(_path_id), Path(description="The session's id.")]
UserId = Annotated[int, BeforeValidator(_path_id), Path(description="The account's id.")]

QueryId = Annotated[int, BeforeValidator(_query_integer), Field(ge=0, le=INTEGER_MAX)]
QueryDirection = Annotated[Literal[1, -1], BeforeValidator(_query_direction)]
QueryFlag = Annotated[bool, BeforeValidator(_query_boolean)]
Search = Annotated[
    str, Query(max_length=200, description="Text to look for, whatever the case; empty finds all."), _STORABLE
]


async def window(
    limit: Annotated[
        int, BeforeValidator(_query_integer), Query(ge=1, le=LIMIT_MAX, description="Rows in the answer, at most.")
    ] = LIMIT_DEFAULT,
    skip: Annotated[
        int,
        BeforeValidator(_query_integer),
        AfterValidator(_skip),
        Query(ge=0, description=f"Rows to leave out first, up to {SKIP_MAX}.", json_schema_extra={"maximum": SKIP_MAX}),
    ] = 0,
) -> Window:
    """Read which page is asked for."""
    return Window(limit, skip)
