"""What can go wrong, said in the words of the domain.

A few kinds, so that an interface can decide once what a kind means to its callers; the concrete errors live
beside the rules that raise them and carry a `code`, which never changes once published.
"""

from typing import ClassVar


class DomainError(Exception):
    """A request that the rules refuse.

    `code` names the error for programs, `detail` says it to people and never repeats a secret.
    """

    code: ClassVar[str]

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class Invalid(DomainError):
    """A value breaks a rule; `field` names it and `reason` is the rule's own short code."""

    code = "validation"

    def __init__(self, field: str, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.field = field
        self.reason = reason


class Unauthenticated(DomainError):
    """Nobody we know is asking."""


class Forbidden(DomainError):
    """We know who is asking, and they may not."""

    code = "forbidden"


class NotFound(DomainError):
    """There is no such thing, or not for this person."""


class Conflict(DomainError):
    """The present state does not allow it."""


class Stale(DomainError):
    """What was to be changed is not any more as the caller knew it."""


class TooManyRequests(DomainError):
    """Somebody asked too often; it may be asked again after `retry_after` seconds."""

    code = "rate-limited"

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"too many attempts; try again in {retry_after} seconds")
        self.retry_after = retry_after
