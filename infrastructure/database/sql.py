"""SQL that readers and repositories share: ids, keyset paging, text search."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from typing import Any, Final, TypeVar

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Column,
    ColumnElement,
    Table,
    bindparam,
    delete,
    literal_column,
    select,
    tuple_,
)

from application.paging import Page, PageCursor, Window
from application.ports.storage import ID_MAX
from domain.text import fold
from infrastructure.database.pipeline import Querier, Statement

T = TypeVar("T")
Row = Sequence[Any]

ConnectionProvider = Callable[[], AbstractContextManager[Querier]]
"""Opens a connection for queries."""

DELETED_AT_ONCE: Final = 10
"""Rows past their end that are deleted with each new one, so that they do not accumulate."""

_ESCAPE: Final = "!"


def is_id(number: int) -> bool:
    """Return whether a row can have this id.

    A larger number fails in a driver, or makes PostgreSQL compare as `numeric`, row by row.
    """
    return 0 < number <= ID_MAX


def columns_of(table: Table, kind: type[Any]) -> list[Column[Any]]:
    """Return the columns named as the fields of a dataclass, in their order."""
    return [table.c[field.name] for field in fields(kind) if field.name in table.c]


def delete_expired(table: Table) -> Statement:
    """Build the statement that deletes some rows past their end, the earliest first.

    It skips those that another transaction deletes.
    """
    key = table.primary_key.columns
    expired = select(*key).where(table.c.ends_at <= bindparam("now")).order_by(table.c.ends_at)
    limited = expired.limit(literal_column(str(DELETED_AT_ONCE))).with_for_update(skip_locked=True)
    return Statement(delete(table).where(tuple_(*key).in_(limited)))


@dataclass(frozen=True, slots=True)
class Keyset:
    """Order of a list by a key and then by id, or by id alone."""

    id: ColumnElement[int]
    key: ColumnElement[Any] | None = None
    descending: bool = True

    @property
    def order(self) -> list[ColumnElement[Any]]:
        """Columns for ORDER BY."""
        columns = (self.id,) if self.key is None else (self.key, self.id)
        return [column.desc() if self.descending else column.asc() for column in columns]

    @property
    def is_after_cursor(self) -> ColumnElement[bool]:
        """Condition of the rows after the cursor; its values come from `window_values`."""
        row: ColumnElement[Any] = self.id
        cursor: ColumnElement[Any] = bindparam("after_id")
        if self.key is not None:
            row = tuple_(self.key, self.id)
            cursor = tuple_(bindparam("after_key", type_=self.key.type), bindparam("after_id"))
        return row < cursor if self.descending else row > cursor


@dataclass(frozen=True, slots=True)
class WindowShape:
    """Parts of a window that change the text of a statement: a key for caches.

    The number of rows stands in the text itself: a plan for any number would be one for a tenth of all rows.
    """

    limit: int
    skip: bool = False
    after: bool = False

    @classmethod
    def of(cls, window: Window) -> "WindowShape":
        """Return the shape of a window."""
        return cls(window.limit, window.skip > 0, window.after is not None)

    @property
    def rows(self) -> ColumnElement[int]:
        """Rows to fetch: those of the page, and one that tells whether more follow."""
        return literal_column(str(self.limit + 1))

    @property
    def reach(self) -> ColumnElement[int]:
        """Rows from the first one of the list to the last one of `rows`."""
        return bindparam("skip", type_=BigInteger) + self.rows if self.skip else self.rows

    def cut(self, statement: Any) -> Any:
        """Limit an ordered statement to the window."""
        limited = statement.limit(self.rows)
        return limited.offset(bindparam("skip")) if self.skip else limited


def window_values(window: Window) -> dict[str, object]:
    """Return the values of a statement that a window cut."""
    values: dict[str, object] = {"skip": window.skip} if window.skip else {}
    if window.after is not None:
        values |= {"after_key": window.after.key, "after_id": window.after.id}
    return values


def page_of(
    rows: Sequence[Row], window: Window, view: Callable[[Row], T], cursor: Callable[[Row], PageCursor]
) -> Page[T]:
    """Make the page of a window from its rows and the one after them, if it exists."""
    items = [view(row) for row in rows[: window.limit]]
    return Page(items, cursor(rows[window.limit - 1]) if len(rows) > window.limit else None)


def contains(column: ColumnElement[Any], needle: BindParameter[str]) -> ColumnElement[bool]:
    """Condition of rows whose search key contains a text, given as `pattern(text)`."""
    return column.like(needle, escape=_ESCAPE)


def pattern(text: str) -> str:
    """Return the LIKE pattern for values that contain a text; wildcards are escaped."""
    needle = fold(text)
    for special in (_ESCAPE, "%", "_"):
        needle = needle.replace(special, _ESCAPE + special)
    return f"%{needle}%"
