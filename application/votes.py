"""Votes: cast and list. One vote per user and post."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from application.errors import RowLocked, only
from application.paging import Page, Window
from application.ports.services import NO_METER, Clock, Meter
from application.ports.storage import UnitOfWorkFactory, VoteReader
from application.quotas import NO_QUOTA, Quota
from application.views import Caller, OwnVote, VoteCommand, VoteReceipt
from domain.errors import DomainError
from domain.posts import PostNotFound, is_visible
from domain.users import Actor
from domain.votes import AlreadyVoted, Count, Direction, Outcome, VoteContext, VoteNotFound


@dataclass(frozen=True, slots=True)
class CastVotes:
    """Record votes of several callers in one transaction.

    Each takes the place of an earlier one; NONE removes it.
    """

    uow: UnitOfWorkFactory
    clock: Clock
    meter: Meter = NO_METER
    quota: Quota = NO_QUOTA

    def __call__(
        self, commands: Sequence[VoteCommand], *, wait: bool = True
    ) -> Sequence[VoteReceipt | DomainError | RowLocked]:
        """Vote, and return for each command what `CastVote` returns or raises.

        Votes count in their order, and each is refused alone. Unless `wait`, one on a post that another transaction has
        locked gets `RowLocked`.

        Raises:
            TransactionAborted: all commands are for one post, which is locked, and `wait` is false.
            InvalidToken: a voter's account was just removed; no vote is recorded.
            QuotaExceeded: a voter wrote too much in this hour; no vote is recorded.
        """
        count, now = Count(), self.clock.now()
        with self.uow() as tx:
            contexts = tx.votes.lock_contexts([(command.caller, command.post_id) for command in commands], wait=wait)
            results = [_cast(count, *each, now) for each in zip(commands, contexts, strict=True)]
            tx.votes.record_all(list(count.votes.values()), list(count.contexts.values()))
            for user_id, _ in sorted(count.votes):
                self.quota.charge(tx, user_id, now)
        for result in results:
            if isinstance(result, VoteReceipt):
                self.meter.voted(Outcome(result.message))
        return results


def _cast(
    count: Count, command: VoteCommand, found: VoteContext | DomainError | RowLocked, now: datetime
) -> VoteReceipt | DomainError | RowLocked:
    if not isinstance(found, VoteContext):
        return found
    if not is_visible(found.published, found.owner_id, found.voter):
        return PostNotFound(command.post_id)
    done, tally = count.cast(found, command.direction, now)
    if done is Outcome.UNCHANGED and not command.repeatable:
        refusal = VoteNotFound if command.direction is Direction.NONE else AlreadyVoted
        return refusal(found.voter.id, command.post_id)
    return VoteReceipt(done.value, command.post_id, command.direction.value, tally.upvotes, tally.downvotes)


@dataclass(frozen=True, slots=True)
class CastVote:
    """Record a caller's vote on a post in place of an earlier one; NONE removes it.

    With `repeatable`, a vote that changes nothing succeeds, so that a client may retry; otherwise it is refused.
    """

    cast_votes: CastVotes

    def __call__(self, caller: Caller, post_id: int, direction: Direction, *, repeatable: bool = True) -> VoteReceipt:
        """Vote.

        Raises:
            PostNotFound: the caller may not see the post, or it does not exist.
            AlreadyVoted: the vote has this direction already, and `repeatable` is false.
            VoteNotFound: there is no vote to remove, and `repeatable` is false.
            InvalidToken: the caller's account is not active any more, or the session has ended.
            QuotaExceeded: the caller wrote too much in this hour.
        """
        return only(self.cast_votes([VoteCommand(caller, post_id, direction, repeatable)]))


@dataclass(frozen=True, slots=True)
class ListOwnVotes:
    """List the actor's votes on posts that they can still see."""

    votes: VoteReader

    def __call__(self, actor: Actor, direction: Direction | None, window: Window) -> Page[OwnVote]:
        """List votes, latest first; only those of a direction, if one is given."""
        return self.votes.list(actor, direction, window)
