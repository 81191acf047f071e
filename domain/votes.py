"""Votes: one per person and post, up or down."""

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum

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


@dataclass(frozen=True, slots=True)
class Vote:
    """One person's vote on one post. Its direction is UP or DOWN: no vote is no row."""

    user_id: int
    post_id: int
    direction: Direction
    created_at: datetime


def outcome(earlier: Direction, wanted: Direction) -> Outcome:
    """Tell what replacing the earlier vote by the wanted one amounts to."""
    if earlier is wanted:
        return Outcome.UNCHANGED
    if earlier is Direction.NONE:
        return Outcome.ADDED
    if wanted is Direction.NONE:
        return Outcome.DELETED
    return Outcome.CHANGED
