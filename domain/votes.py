"""Votes: one per person and post, up or down; how they are counted, and how a post ranks by them."""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import IntEnum, StrEnum
from math import copysign, log10
from typing import Final

from domain.errors import Conflict, NotFound


class AlreadyVoted(Conflict):
    code = "already-voted"

    def __init__(self, user_id: int, post_id: int) -> None:
        super().__init__(f"user {user_id} has already voted this way on post {post_id}")


class VoteNotFound(NotFound):
    code = "vote-not-found"

    def __init__(self, user_id: int, post_id: int) -> None:
        super().__init__(f"user {user_id} has no vote on post {post_id}")


class Direction(IntEnum):
    """Which way a vote points; NONE is no vote at all."""

    DOWN = -1
    NONE = 0
    UP = 1


class Outcome(StrEnum):
    """What casting a vote did, in the words that the voter reads."""

    ADDED = "successfully added vote"
    CHANGED = "successfully changed vote"
    DELETED = "successfully deleted vote"
    UNCHANGED = "vote unchanged"


HOT_SECONDS: Final = 45_000
"""Seconds of age that outweigh ten times the votes, in `hotness`: twelve and a half hours."""


def hotness(votes: int, created_at: datetime) -> float:
    """Rank a post by its score and its age: sign(votes) * log10(max(|votes|, 1)) + seconds since 1970 / 45,000.

    The formula of Reddit as it was published in 2008, with the epoch of Unix. It does not depend on the present
    moment: a rank stays true until somebody votes, so it can be stored and indexed.
    """
    return copysign(log10(max(abs(votes), 1)), votes) + created_at.timestamp() / HOT_SECONDS


@dataclass(frozen=True, slots=True)
class Tally:
    """The votes on a post, counted."""

    upvotes: int = 0
    downvotes: int = 0

    @property
    def votes(self) -> int:
        """The score: upvotes less downvotes."""
        return self.upvotes - self.downvotes

    def after(self, earlier: Direction, later: Direction) -> "Tally":
        """Count one person's vote anew: take the earlier one out and the later one in."""
        return Tally(
            self.upvotes + (later is Direction.UP) - (earlier is Direction.UP),
            self.downvotes + (later is Direction.DOWN) - (earlier is Direction.DOWN),
        )


@dataclass(frozen=True, slots=True)
class Vote:
    """One person's vote on one post; stored ones point UP or DOWN, since no vote is no row."""

    user_id: int
    post_id: int
    direction: Direction
    created_at: datetime


@dataclass(frozen=True, slots=True)
class VoteContext:
    """What one person's vote on a post concerns: the post as far as voting goes, and their vote as it stands."""

    post_id: int
    owner_id: int
    published: bool
    created_at: datetime
    tally: Tally
    direction: Direction = Direction.NONE

    def counting(self, vote: Vote) -> "VoteContext":
        """Count this vote of the person instead of their earlier one."""
        return replace(self, direction=vote.direction, tally=self.tally.after(self.direction, vote.direction))

    @property
    def hot(self) -> float:
        """The rank of the post with these votes."""
        return hotness(self.tally.votes, self.created_at)


def outcome(earlier: Direction, wanted: Direction) -> Outcome:
    """Tell what replacing the earlier vote by the wanted one amounts to."""
    if earlier is wanted:
        return Outcome.UNCHANGED
    if earlier is Direction.NONE:
        return Outcome.ADDED
    if wanted is Direction.NONE:
        return Outcome.DELETED
    return Outcome.CHANGED
