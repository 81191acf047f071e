"""How a list is cut into pages."""

from dataclasses import dataclass
from typing import Final

LIMIT_MAX: Final = 100
LIMIT_DEFAULT: Final = 10
SKIP_MAX: Final = 10_000
"""Rows that may be skipped: a database walks over every one of them."""


@dataclass(frozen=True, slots=True)
class Window:
    """A page: at most `limit` rows, after skipping `skip`."""

    limit: int = LIMIT_DEFAULT
    skip: int = 0
