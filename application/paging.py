"""How a list is ordered and cut into pages."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, Generic, TypeVar

T = TypeVar("T")

LIMIT_MAX: Final = 100
LIMIT_DEFAULT: Final = 10
SKIP_MAX: Final = 10_000
"""Rows that may be skipped: a database walks over every one. Going on from a position costs the same anywhere."""


class SortBy(StrEnum):
    """What the order of a list of posts goes by."""

    DATE = "date"
    VOTES = "votes"
    HOT = "hot"


@dataclass(frozen=True, slots=True)
class Order:
    """A total order of posts: ties are broken by id, in the same direction."""

    by: SortBy = SortBy.DATE
    descending: bool = True


NEWEST_FIRST: Final = Order()


@dataclass(frozen=True, slots=True)
class PageCursor:
    """A place in a list: what the order goes by there, and the id that breaks ties.

    It stays where it is when the row that it was taken from goes. In a list by id alone both are the id.
    """

    key: datetime | float
    id: int


@dataclass(frozen=True, slots=True)
class Window:
    """Which part of a list is asked for: at most `limit` rows after a position, or after skipping `skip` rows."""

    limit: int = LIMIT_DEFAULT
    skip: int = 0
    after: PageCursor | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a list; `last` is the position of its last row if there is more behind it."""

    items: Sequence[T]
    last: PageCursor | None = None
