"""Voting: one vote per person and post."""

from collections.abc import Sequence
from dataclasses import dataclass

from application.paging import Window
from application.ports import Clock, UnitOfWorkFactory, VoteReader
from application.views import OwnVote, VoteReceipt
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

    def __call__(self, actor: Actor, post_id: int, direction: Direction, *, repeatable: bool = True) -> VoteReceipt:
        """Vote.

        Raises:
            PostNotFound: to this actor the post does not exist.
            AlreadyVoted: the vote stands this way already, and `repeatable` is false.
            VoteNotFound: there is no vote to take back, and `repeatable` is false.
            InvalidToken: the actor's account was removed a moment ago.
        """
        with self.uow() as tx:
            post = tx.posts.lock(post_id)  # voters on one post take turns
            post.require_visible_to(actor)
            earlier = tx.votes.find(actor.id, post_id)
            before = earlier.direction if earlier else Direction.NONE
            done = outcome(before, direction)
            vote = Vote(actor.id, post_id, direction, self.clock.now())
            match done:
                case Outcome.ADDED:
                    tx.votes.add(vote)
                case Outcome.CHANGED:
                    tx.votes.save(vote)
                case Outcome.DELETED:
                    tx.votes.remove(actor.id, post_id)
                case Outcome.UNCHANGED if not repeatable:
                    refusal = VoteNotFound if direction is Direction.NONE else AlreadyVoted
                    raise refusal(actor.id, post_id)
            tally = post.tally_after(before, direction)  # the rule: domain/posts.py
            if tally != post.tally:
                tx.posts.save_tally(post_id, tally)
        return VoteReceipt(done.value, post_id, direction.value, tally.upvotes, tally.downvotes)


@dataclass(frozen=True, slots=True)
class ListOwnVotes:
    """Show people what they have voted on, as far as they can still see it."""

    votes: VoteReader

    def __call__(self, actor: Actor, direction: Direction | None, window: Window) -> Sequence[OwnVote]:
        """List votes, latest first; those one way only, if a direction is given."""
        return self.votes.list(actor, direction, window)
