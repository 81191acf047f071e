"""Voting: one vote per person and post."""

from dataclasses import dataclass

from application.paging import Page, Window
from application.ports import NO_METER, Clock, Meter, UnitOfWorkFactory, VoteReader
from application.views import OwnVote, VoteReceipt
from domain.posts import PostNotFound, is_visible
from domain.users import Actor
from domain.votes import AlreadyVoted, Direction, Outcome, Vote, VoteNotFound, outcome


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
            ballot = tx.votes.lock_ballot(actor.id, post_id)  # voters on one post take turns
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
