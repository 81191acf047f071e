"""Voting: one vote per person and post."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from application.paging import Page, Window
from application.ports.services import NO_METER, Clock, Meter
from application.ports.storage import PostReader, UnitOfWorkFactory, VoteReader
from application.views import OwnVote, Recount, VoteReceipt
from domain.posts import PostNotFound, is_visible
from domain.users import Actor
from domain.votes import AlreadyVoted, Direction, Outcome, Vote, VoteNotFound, outcome

BATCH: Final = 200
"""Posts that are counted in one statement, and repaired in one transaction: nobody waits long for either."""


@dataclass(frozen=True, slots=True)
class CastVote:
    """Record a person's one vote on a post they can see, replacing any earlier one; NONE takes it back.

    A vote that changes nothing is fine where the caller says `repeatable`, so that clients may try again without
    asking; otherwise it is refused.
    """

    uow: UnitOfWorkFactory
    clock: Clock
    meter: Meter = NO_METER

    def __call__(self, actor: Actor, post_id: int, direction: Direction, *, repeatable: bool = True) -> VoteReceipt:
        """Vote.

        Raises:
            PostNotFound: to this actor the post does not exist.
            AlreadyVoted: the vote stands this way already, and `repeatable` is false.
            VoteNotFound: there is no vote to take back, and `repeatable` is false.
            InvalidToken: the actor's account was removed a moment ago.
        """
        with self.uow() as tx:
            ballot = tx.votes.lock_context(actor.id, post_id)  # voters on one post take turns
            if not is_visible(ballot.published, ballot.owner_id, actor):
                raise PostNotFound(post_id)
            done = outcome(ballot.direction, direction)
            if done is not Outcome.UNCHANGED:
                vote = Vote(actor.id, post_id, direction, self.clock.now())
                ballot = ballot.counting(vote)  # the rule: domain/votes.py
                tx.votes.record(vote, ballot)
            elif not repeatable:
                refusal = VoteNotFound if direction is Direction.NONE else AlreadyVoted
                raise refusal(actor.id, post_id)
        self.meter.voted(done)
        return VoteReceipt(done.value, post_id, direction.value, ballot.tally.upvotes, ballot.tally.downvotes)


@dataclass(frozen=True, slots=True)
class ListOwnVotes:
    """Show people what they have voted on, as far as they can still see it."""

    votes: VoteReader

    def __call__(self, actor: Actor, direction: Direction | None, window: Window) -> Page[OwnVote]:
        """List votes, latest first; those one way only, if a direction is given."""
        return self.votes.list(actor, direction, window)


@dataclass(frozen=True, slots=True)
class VerifyVotes:
    """Compare what every post says about its votes with the votes: for operators, while people vote. Writes nothing."""

    posts: PostReader
    votes: VoteReader

    def last_id(self) -> int:
        """Tell the id that the last batch will end with, or a little less."""
        return self.posts.last_id()

    def __call__(self) -> Iterator[Sequence[Recount]]:
        """Go through all posts by ascending id, batch by batch."""
        after = 0
        while batch := self.votes.recount(after, BATCH):
            yield batch
            after = batch[-1].post_id


@dataclass(frozen=True, slots=True)
class RepairVotes:
    """Make every post say again what its votes say: for operators, while people vote.

    The rows of votes are the truth. Posts that disagree are locked by ascending id, a batch in one transaction, and
    counted anew under the lock: what was read before it may be old.
    """

    verify: VerifyVotes
    uow: UnitOfWorkFactory

    def __call__(self) -> Iterator[Sequence[Recount]]:
        """Go through all posts by ascending id, and hand out each batch as it was found, once it is repaired."""
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
                except PostNotFound:  # removed since
                    continue
                tx.votes.recount(post_id)
