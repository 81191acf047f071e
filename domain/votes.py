"""Votes: one per user and post, up or down; the tally of a post and its rank."""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import IntEnum, StrEnum
from math import copysign, log10
from typing import Final

from domain.errors import Conflict, NotFound
from domain.users import Actor


class AlreadyVoted(Conflict):
    code = "already-voted"

    def __init__(self, user_id: int, post_id: int) -> None:
        super().__init__(f"user {user_id} has already voted this way on post {post_id}")


class VoteNotFound(NotFound):
    code = "vote-not-found"

    def __init__(self, user_id: int, post_id: int) -> None:
        super().__init__(f"user {user_id} has no vote on post {post_id}")


class Direction(IntEnum):
    """Direction of a vote; NONE is no vote."""

    DOWN = -1
    NONE = 0
    UP = 1


class Outcome(StrEnum):
    """Effect of casting a vote, in the words that the voter reads."""

    ADDED = "successfully added vote"
    CHANGED = "successfully changed vote"
    DELETED = "successfully deleted vote"
    UNCHANGED = "vote unchanged"


HOT_SECONDS: Final = 45_000
"""Seconds of age that outweigh ten times the votes, in `hotness`: 12.5 hours."""


def hotness(votes: int, created_at: datetime) -> float:
    """Rank a post by its score and its age.

    sign(votes) * log10(max(|votes|, 1)) + seconds since 1970 / 45,000: the formula of Reddit as published in 2008, with
    the epoch of Unix. It does not depend on the current time: a rank holds until the next vote, so it can be stored
    and indexed.
    """
    return copysign(log10(max(abs(votes), 1)), votes) + created_at.timestamp() / HOT_SECONDS


@dataclass(frozen=True, slots=True)
class Tally:
    """Upvotes and downvotes of a post."""

    upvotes: int = 0
    downvotes: int = 0

    @property
    def votes(self) -> int:
        """Score: upvotes minus downvotes."""
        return self.upvotes - self.downvotes

    def after(self, earlier: Direction, later: Direction) -> "Tally":
        """Replace one user's vote: subtract the earlier one, add the later one."""
        return Tally(
            self.upvotes + (later is Direction.UP) - (earlier is Direction.UP),
            self.downvotes + (later is Direction.DOWN) - (earlier is Direction.DOWN),
        )


@dataclass(frozen=True, slots=True)
class Vote:
    """One user's vote on one post. A stored vote is UP or DOWN; NONE has no row."""

    user_id: int
    post_id: int
    direction: Direction
    created_at: datetime


@dataclass(frozen=True, slots=True)
class VoteContext:
    """State that a vote depends on: parts of the post, and the voter's vote so far."""

    voter: Actor
    post_id: int
    owner_id: int
    published: bool
    created_at: datetime
    tally: Tally
    direction: Direction = Direction.NONE

    def counting(self, vote: Vote) -> "VoteContext":
        """Count this vote in place of the voter's current one."""
        return replace(self, direction=vote.direction, tally=self.tally.after(self.direction, vote.direction))


def outcome(earlier: Direction, wanted: Direction) -> Outcome:
    """Return the effect of replacing the earlier vote by the wanted one."""
    if earlier is wanted:
        return Outcome.UNCHANGED
    if earlier is Direction.NONE:
        return Outcome.ADDED
    if wanted is Direction.NONE:
        return Outcome.DELETED
    return Outcome.CHANGED


class Count:
    """Votes of one transaction, counted in their order."""

    def __init__(self) -> None:
        self.votes: dict[tuple[int, int], Vote] = {}
        """The latest vote that changed something, by voter and post."""
        self.contexts: dict[int, VoteContext] = {}
        """The latest state of each post whose votes changed."""

    def cast(self, context: VoteContext, direction: Direction, now: datetime) -> tuple[Outcome, Tally]:
        """Count a vote after those before it; return its effect and the tally of the post."""
        key = context.voter.id, context.post_id
        if latest := self.contexts.get(context.post_id):
            context = replace(context, tally=latest.tally)
        if own := self.votes.get(key):
            context = replace(context, direction=own.direction)
        done = outcome(context.direction, direction)
        if done is not Outcome.UNCHANGED:
            self.votes[key] = vote = Vote(*key, direction, now)
            self.contexts[context.post_id] = context = context.counting(vote)
        return done, context.tally
