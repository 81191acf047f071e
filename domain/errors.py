"""Kinds of domain errors, which an interface maps to its own.

The concrete errors stand beside the rules that raise them. Their `code` never changes once published.
"""

from typing import ClassVar


class DomainError(Exception):
    """A request that a rule refuses.

    `code` identifies the error to programs. `detail` describes it to people and never contains a secret.
    """

    code: ClassVar[str]

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class Invalid(DomainError):
    """A value breaks a rule: `field` names the value, `reason` the rule."""

    code = "validation"

    def __init__(self, field: str, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.field = field
        self.reason = reason


class Unauthenticated(DomainError):
    """The request carries no identity that Agora knows."""


class Forbidden(DomainError):
    """The actor is known and has no right to do this."""

    code = "forbidden"


class NotFound(DomainError):
    """The object does not exist, or this actor has no right to see it."""


class Conflict(DomainError):
    """The current state does not allow the change."""


class Stale(DomainError):
    """The resource changed since the caller read it."""


class TooManyRequests(DomainError):
    """A limit on attempts is exceeded. `retry_after` is the number of seconds to wait."""

    code = "rate-limited"

    reason: ClassVar[str] = "too many attempts"

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"{self.reason}; try again in {retry_after} seconds")
        self.retry_after = retry_after


class QuotaExceeded(TooManyRequests):
    """An account wrote more than its quota of the hour."""

    reason = "you wrote more than an account may in an hour"
