"""Votes: cast, list, verify, repair. One vote per user and post."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from application.paging import Page, Window
from application.ports.services import NO_METER, Clock, Meter
from application.ports.storage import UnitOfWorkFactory, VoteReader
from application.quotas import NO_QUOTA, Quota
from application.views import OwnVote, Recount, VoteReceipt
from domain.posts import PostNotFound, is_visible
from domain.users import Actor
from domain.votes import AlreadyVoted, Direction, Outcome, Vote, VoteNotFound, outcome

BATCH: Final = 200
"""Posts counted per statement and repaired per transaction, to keep both short."""


@dataclass(frozen=True, slots=True)
class CastVote:
    """Record a user's vote on a post in place of an earlier one; NONE removes it.

    With `repeatable`, a vote that changes nothing succeeds, so that a client may retry; otherwise it is refused.
    """

    uow: UnitOfWorkFactory
    clock: Clock
    meter: Meter = NO_METER
    quota: Quota = NO_QUOTA

    def __call__(self, actor: Actor, post_id: int, direction: Direction, *, repeatable: bool = True) -> VoteReceipt:
        """Vote.

        Raises:
            PostNotFound: the actor may not see the post, or it does not exist.
            AlreadyVoted: the vote has this direction already, and `repeatable` is false.
            VoteNotFound: there is no vote to remove, and `repeatable` is false.
            InvalidToken: the actor's account was just removed.
            QuotaExceeded: the actor wrote too much in this hour.
        """
        with self.uow() as tx:
            context = tx.votes.lock_context(actor, post_id)  # concurrent votes on the post wait here
            if not is_visible(context.published, context.owner_id, actor):
                raise PostNotFound(post_id)
            done = outcome(context.direction, direction)
            if done is not Outcome.UNCHANGED:
                vote = Vote(actor.id, post_id, direction, self.clock.now())
                context = context.counting(vote)  # the rule: domain/votes.py
                tx.votes.record(vote, context)
                self.quota.charge(tx, actor.id, vote.created_at)
            elif not repeatable:
                refusal = VoteNotFound if direction is Direction.NONE else AlreadyVoted
                raise refusal(actor.id, post_id)
        self.meter.voted(done)
        return VoteReceipt(done.value, post_id, direction.value, context.tally.upvotes, context.tally.downvotes)


@dataclass(frozen=True, slots=True)
class ListOwnVotes:
    """List the actor's votes on posts that they can still see."""

    votes: VoteReader

    def __call__(self, actor: Actor, direction: Direction | None, window: Window) -> Page[OwnVote]:
        """List votes, latest first; only those of a direction, if one is given."""
        return self.votes.list(actor, direction, window)


@dataclass(frozen=True, slots=True)
class VerifyVotes:
    """Compare the tally and rank of every post with its votes, for operators.

    Writes nothing and runs while users vote.
    """

    votes: VoteReader

    def __call__(self) -> Iterator[Sequence[Recount]]:
        """Yield all posts by ascending id, in batches."""
        after = 0
        while batch := self.votes.recount(after, BATCH):
            yield batch
            after = batch[-1].post_id


@dataclass(frozen=True, slots=True)
class RepairVotes:
    """Correct the tally and rank of every post from its votes, for operators.

    Runs while users vote. The rows of votes are the truth. Posts that disagree are locked by ascending id, a batch per
    transaction, and counted again under the lock, since the first count may be outdated.
    """

    verify: VerifyVotes
    uow: UnitOfWorkFactory

    def __call__(self) -> Iterator[Sequence[Recount]]:
        """Yield all posts by ascending id as they were found, each batch after its repair."""
        for batch in self.verify():
            wrong = [recount.post_id for recount in batch if not recount.agrees]
            if wrong:
                self._repair(wrong)
            yield batch

    def _repair(self, post_ids: Sequence[int]) -> None:
        with self.uow() as tx:
            for post_id in post_ids:
                try:
                    tx.posts.lock(post_id)
                except PostNotFound:  # deleted since
                    continue
                tx.votes.recount(post_id)
