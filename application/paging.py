"""Order and pages of lists."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, Generic, TypeVar

T = TypeVar("T")

LIMIT_MAX: Final = 100
"""Rows of a page, at most, that a client may request."""

LIMIT_DEFAULT: Final = 10
SKIP_MAX: Final = 10_000
"""Rows that a client may skip. The database reads each; a cursor reads none."""


class SortBy(StrEnum):
    """Key that orders a list of posts."""

    DATE = "date"
    VOTES = "votes"
    HOT = "hot"


@dataclass(frozen=True, slots=True)
class Order:
    """A total order of posts: by key, then by id in the same direction."""

    by: SortBy = SortBy.DATE
    descending: bool = True


NEWEST_FIRST: Final = Order()


@dataclass(frozen=True, slots=True)
class PageCursor:
    """A position in a list: the key and the id of a row, which may be deleted since.

    In a list by id alone both are the id.
    """

    key: datetime | float
    id: int


@dataclass(frozen=True, slots=True)
class Window:
    """Part of a list: `limit` rows at most, after a cursor or after `skip` rows."""

    limit: int = LIMIT_DEFAULT
    skip: int = 0
    after: PageCursor | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Rows of a window; `last` is the cursor of the last row if more rows follow."""

    items: Sequence[T]
    last: PageCursor | None = None
