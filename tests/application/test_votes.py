"""Use cases of votes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from application.errors import TransactionAborted
from application.paging import Window
from application.ports.storage import UnitOfWork
from application.views import Recount, VoteCommand, VoteReceipt
from domain.posts import PostNotFound
from domain.votes import AlreadyVoted, Direction, Outcome, VoteNotFound, hotness
from tests.support.app import World

UP, DOWN, NONE = Direction.UP, Direction.DOWN, Direction.NONE


@pytest.fixture
def post_id(world: World) -> int:
    return world.app.commands.write_post(world.person("writer"), "A title", "Some content", True).id


def test_the_second_vote_replaces_the_first(world: World, post_id: int) -> None:
    ann = world.person("ann")

    first = world.app.commands.cast_vote(ann, post_id, UP)
    second = world.app.commands.cast_vote(ann, post_id, DOWN)
    third = world.app.commands.cast_vote(ann, post_id, NONE)

    assert first == VoteReceipt("successfully added vote", post_id, 1, upvotes=1, downvotes=0)
    assert second == VoteReceipt("successfully changed vote", post_id, -1, upvotes=0, downvotes=1)
    assert third == VoteReceipt("successfully deleted vote", post_id, 0, upvotes=0, downvotes=0)


def test_votes_of_different_people_add_up(world: World, post_id: int) -> None:
    for name, direction in (("ann", UP), ("bob", UP), ("cleo", DOWN)):
        receipt = world.app.commands.cast_vote(world.person(name), post_id, direction)

    assert (receipt.upvotes, receipt.downvotes) == (2, 1)


@pytest.mark.parametrize("direction", Direction)
def test_a_repeated_vote_changes_nothing(world: World, post_id: int, direction: Direction) -> None:
    ann = world.person("ann")
    first = world.app.commands.cast_vote(ann, post_id, direction)

    again = world.app.commands.cast_vote(ann, post_id, direction)

    assert again.message == "vote unchanged"
    assert (again.upvotes, again.downvotes) == (first.upvotes, first.downvotes)


def test_repeated_vote_is_refused_unless_repeatable(world: World, post_id: int) -> None:
    ann = world.person("ann")

    with pytest.raises(VoteNotFound):
        world.app.commands.cast_vote(ann, post_id, NONE, repeatable=False)
    world.app.commands.cast_vote(ann, post_id, UP, repeatable=False)
    with pytest.raises(AlreadyVoted):
        world.app.commands.cast_vote(ann, post_id, UP, repeatable=False)

    assert world.app.queries.get_post(ann, post_id).upvotes == 1


def test_meter_counts_votes_by_outcome_and_no_refused_ones(world: World, post_id: int) -> None:
    ann = world.person("ann")
    for direction in (UP, DOWN, DOWN, NONE):
        world.app.commands.cast_vote(ann, post_id, direction)
    with pytest.raises(VoteNotFound):
        world.app.commands.cast_vote(ann, post_id, NONE, repeatable=False)

    assert world.meter.votes == [Outcome.ADDED, Outcome.CHANGED, Outcome.UNCHANGED, Outcome.DELETED]


def test_a_vote_leaves_version_and_update_time_alone(world: World, post_id: int) -> None:
    ann = world.person("ann")
    before = world.app.queries.get_post(ann, post_id)

    world.app.commands.cast_vote(ann, post_id, UP)

    after = world.app.queries.get_post(ann, post_id)
    assert (after.version, after.updated_at) == (before.version, before.updated_at)


@pytest.mark.parametrize("direction", Direction)
def test_vote_on_an_invisible_post_is_refused(world: World, direction: Direction) -> None:
    writer, ann = world.person("writer"), world.person("ann")
    draft = world.app.commands.write_post(writer, "A title", "Some content", False)

    for post_id in (draft.id, draft.id + 1):
        with pytest.raises(PostNotFound):
            world.app.commands.cast_vote(ann, post_id, direction, repeatable=False)
    assert world.app.commands.cast_vote(writer, draft.id, UP).upvotes == 1


def test_vote_is_metered_once_its_transaction_is_committed(world: World, post_id: int) -> None:
    ann = world.person("ann")

    @contextmanager
    def aborted() -> Iterator[UnitOfWork]:
        with world.database.transaction() as tx:
            yield tx
            raise TransactionAborted

    for _ in range(2):
        with pytest.raises(TransactionAborted):
            replace(world.app.commands.cast_votes, uow=aborted)([VoteCommand(ann, post_id, UP)])
    assert world.meter.votes == []
    world.app.commands.cast_vote(ann, post_id, UP)

    assert world.meter.votes == [Outcome.ADDED]


@pytest.mark.parametrize(("difference", "agrees"), [(0.001, False), (-0.001, False), (1e-6, False), (1e-11, True)])
def test_rank_agrees_up_to_the_precision_of_a_logarithm(difference: float, agrees: bool) -> None:
    rank = hotness(5, datetime(2026, 1, 1, tzinfo=UTC))

    stored, counted = ({"upvotes": 5, "hot": hot} for hot in (rank, rank + difference))
    assert Recount(1, stored, counted).agrees is agrees
    assert not Recount(1, stored, counted | {"upvotes": 6}).agrees


def test_own_votes_are_listed_latest_first(world: World, post_id: int) -> None:
    ann = world.person("ann")
    second = world.app.commands.write_post(ann, "Another", "Some content", True).id
    world.app.commands.cast_vote(ann, post_id, UP)
    world.clock.advance(timedelta(seconds=1))
    world.app.commands.cast_vote(ann, second, DOWN)

    listed = world.app.queries.list_own_votes(ann, None, Window()).items

    assert [(vote.post_id, vote.direction) for vote in listed] == [(second, -1), (post_id, 1)]
    assert listed[0].created_at == world.clock.now()
    assert [vote.title for vote in world.app.queries.list_own_votes(ann, UP, Window()).items] == ["A title"]
