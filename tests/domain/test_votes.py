"""The rules for votes."""

import pytest

from domain.votes import Direction, Outcome, outcome

UP, DOWN, NONE = Direction.UP, Direction.DOWN, Direction.NONE


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
