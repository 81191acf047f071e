"""Errors of ports that are no refusal by the domain's rules."""


class Unavailable(Exception):
    """Something that Agora stands on cannot answer now; trying again later may help."""


class Refused(Exception):
    """Something that operators asked for cannot be done as things are; it says why, and what helps."""


class TransactionAborted(Unavailable):
    """A transaction was undone because others were in its way, or because its connection broke before it committed.

    Nothing has happened. Whoever runs use cases runs this one again, whole.
    """
