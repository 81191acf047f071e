"""Errors of ports that no rule of the domain raises."""


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
