"""Rules for votes, tallies and ranks."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.users import Actor
from domain.votes import HOT_SECONDS, Count, Direction, Outcome, Tally, Vote, VoteContext, hotness, outcome

UP, DOWN, NONE = Direction.UP, Direction.DOWN, Direction.NONE
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - UTC follows
SCORES = st.integers(-1_000_000, 1_000_000)


@pytest.mark.parametrize(
    ("earlier", "wanted", "result"),
    [
        (NONE, UP, Outcome.ADDED),
        (NONE, DOWN, Outcome.ADDED),
        (NONE, NONE, Outcome.UNCHANGED),
        (UP, UP, Outcome.UNCHANGED),
        (UP, DOWN, Outcome.CHANGED),
        (UP, NONE, Outcome.DELETED),
        (DOWN, UP, Outcome.CHANGED),
        (DOWN, DOWN, Outcome.UNCHANGED),
        (DOWN, NONE, Outcome.DELETED),
    ],
)
def test_each_way_from_one_vote_to_the_next(earlier: Direction, wanted: Direction, result: Outcome) -> None:
    assert outcome(earlier, wanted) is result


@pytest.mark.parametrize(
    ("votes", "created_at", "rank"),
    [
        (0, EPOCH, 0),
        (1, EPOCH, 0),
        (-1, EPOCH, 0),
        (10, EPOCH, 1),
        (-10, EPOCH, -1),
        (100_000, EPOCH, 5),
        (-1_000, EPOCH, -3),
        (2, EPOCH, 0.301_029_995_663_981_2),
        (0, EPOCH + timedelta(seconds=45_000), 1),
        (0, EPOCH - timedelta(seconds=22_500), -0.5),
        (0, EPOCH + timedelta(microseconds=4_500), 1e-7),
        (0, NOON, 39_272.64),  # 1,767,268,800 seconds
        (100, NOON, 39_274.64),
        (-100, NOON, 39_270.64),
        (10, NOON.astimezone(timezone(timedelta(hours=-7))), 39_273.64),
    ],
)
def test_the_rank_is_the_magnitude_of_the_score_and_the_moment(votes: int, created_at: datetime, rank: float) -> None:
    assert hotness(votes, created_at) == pytest.approx(rank, rel=1e-15, abs=1e-15)


@given(SCORES, st.integers(1, 1_000), MOMENTS)
def test_more_votes_are_hotter_unless_there_are_hardly_any(votes: int, more: int, created_at: datetime) -> None:
    lower, higher = hotness(votes, created_at), hotness(votes + more, created_at)

    if votes >= -1 and votes + more <= 1:  # log10 of one vote is 0
        assert lower == higher
    else:
        assert lower < higher


@given(SCORES, MOMENTS)
def test_rank_is_symmetric_in_up_and_down(votes: int, created_at: datetime) -> None:
    none = hotness(0, created_at)

    assert hotness(votes, created_at) - none == pytest.approx(none - hotness(-votes, created_at), abs=1e-9)


@given(SCORES, MOMENTS, st.integers(1, 10**9))
def test_younger_post_of_equal_score_is_hotter(votes: int, created_at: datetime, seconds: int) -> None:
    assert hotness(votes, created_at) < hotness(votes, created_at + timedelta(seconds=seconds))


@given(st.integers(1, 100_000), MOMENTS)
def test_ten_times_the_votes_outweigh_half_a_day(votes: int, created_at: datetime) -> None:
    younger = created_at + timedelta(seconds=HOT_SECONDS)

    assert hotness(10 * votes, created_at) == pytest.approx(hotness(votes, younger), abs=1e-9)


VOTER = Actor(2)


def context(direction: Direction = NONE, upvotes: int = 3, downvotes: int = 1) -> VoteContext:
    return VoteContext(
        VOTER, 7, 1, published=True, created_at=NOON, tally=Tally(upvotes, downvotes), direction=direction
    )


@pytest.mark.parametrize(
    ("earlier", "wanted", "tally"),
    [
        (NONE, UP, Tally(4, 1)),
        (NONE, DOWN, Tally(3, 2)),
        (UP, DOWN, Tally(2, 2)),
        (UP, NONE, Tally(2, 1)),
        (DOWN, UP, Tally(4, 0)),
        (DOWN, NONE, Tally(3, 0)),
        (UP, UP, Tally(3, 1)),
        (NONE, NONE, Tally(3, 1)),
    ],
)
def test_a_vote_is_counted_in_place_of_the_earlier_one(earlier: Direction, wanted: Direction, tally: Tally) -> None:
    counted = context(earlier).counting(Vote(2, 7, wanted, NOON + timedelta(days=1)))

    assert counted == VoteContext(VOTER, 7, 1, published=True, created_at=NOON, tally=tally, direction=wanted)


def test_votes_of_one_transaction_count_in_their_order() -> None:
    count, ann, bob = Count(), context(), replace(context(DOWN), voter=Actor(3))

    done = [
        count.cast(ann, UP, NOON),
        count.cast(bob, UP, NOON),
        count.cast(ann, UP, NOON),
        count.cast(ann, NONE, NOON),
    ]

    assert done == [
        (Outcome.ADDED, Tally(4, 1)),
        (Outcome.CHANGED, Tally(5, 0)),
        (Outcome.UNCHANGED, Tally(5, 0)),
        (Outcome.DELETED, Tally(4, 0)),
    ]
    assert {key: vote.direction for key, vote in count.votes.items()} == {(2, 7): NONE, (3, 7): UP}
    assert [latest.tally for latest in count.contexts.values()] == [Tally(4, 0)]
