"""Reports of what use cases do to accounts, to the security log."""

from dataclasses import dataclass
from types import TracebackType
from typing import Self

from application.ports.services import SecurityLog
from application.views import Action, SecurityEvent
from domain.errors import Conflict, Forbidden, TooManyRequests
from domain.users import Actor


@dataclass(slots=True)
class Audited:
    """A block whose outcome is reported when it ends: outside the transaction.

    It reports nothing if the block fails otherwise than by a rule: a transaction that is aborted runs again.
    """

    log: SecurityLog
    actor: Actor | None
    subject: int | None
    actions: tuple[Action, ...]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: TracebackType | None) -> None:
        for action in self.actions:
            if error is None:
                self.log.record(SecurityEvent(action, "success", self.actor, self.subject))
            elif isinstance(error, TooManyRequests):
                self.log.record(SecurityEvent(action, "throttled", self.actor, self.subject, error.code))
            elif isinstance(error, (Forbidden, Conflict)):
                self.log.record(SecurityEvent(action, "refused", self.actor, self.subject, error.code))
