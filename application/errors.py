"""Errors of ports that no rule of the domain raises, and errors as results."""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Unavailable(Exception):
    """A service or storage cannot serve the request now; a later try may succeed."""


class MissingDatabase(Unavailable):
    """There is no database where the settings name one.

    The text names the place, so it is for operators only.
    """


class Refused(Exception):
    """An operation cannot run in the current state; the text says why and what helps."""


class TransactionAborted(Unavailable):
    """A transaction was rolled back: by a conflict, or by loss of its connection.

    Nothing was committed, so the use case may run again.
    """


class RowLocked(TransactionAborted):
    """Another transaction holds the row that one command of a group is about.

    The command may run again, with others about the same row, which wait for it.
    """


def only(results: Sequence[T | Exception]) -> T:
    """Return the only result of a batch of one, or raise it if it is an error."""
    (result,) = results
    if isinstance(result, Exception):
        raise result
    return result
