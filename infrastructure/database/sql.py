"""What every reader and repository needs: where questions go, which ids can exist, how text is searched."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final

from sqlalchemy import BindParameter, ColumnElement, CursorResult

from domain.text import search_key
from infrastructure.database.links import Link

Reading = Callable[[], AbstractContextManager[Link]]
"""Lends a connection for questions."""

MAX_ID: Final = 2**63 - 1
"""The largest `bigint`. A driver handed more would fail, or have PostgreSQL compare as `numeric`, row by row."""

_ESCAPE: Final = "!"


def is_id(number: int) -> bool:
    """Tell whether a row could have this id."""
    return 0 < number <= MAX_ID


def inserted_id(result: CursorResult[Any]) -> int:
    """Tell the id of the row that was just inserted."""
    key = result.inserted_primary_key
    if key is None:  # pragma: no cover - only for statements that insert no row
        raise TypeError("this statement inserted no single row")
    number: int = key[0]
    return number


def holds(column: ColumnElement[Any], needle: BindParameter[str]) -> ColumnElement[bool]:
    """Find rows whose search key holds a text; hand the text over as `pattern(text)`."""
    return column.like(needle, escape=_ESCAPE)


def pattern(text: str) -> str:
    """Say "holds this text" in LIKE's language, in which `%` and `_` would otherwise mean more than themselves."""
    needle = search_key(text)
    for special in (_ESCAPE, "%", "_"):
        needle = needle.replace(special, _ESCAPE + special)
    return f"%{needle}%"
