"""Contract of storages of votes."""

from dataclasses import replace
from datetime import timedelta

import pytest

from application.paging import Order, SortBy, Window
from application.views import OwnVote, PostFilter, VoteCommand, VoteReceipt
from application.votes import CastVotes
from domain.posts import Post, PostNotFound
from domain.users import Actor, InvalidToken, Role
from domain.votes import Direction, Tally, Vote, VoteContext
from tests.fakes.services import FrozenClock
from tests.support.backends import Backend
from tests.support.samples import NO_IDS, NOW, add_post, add_user, lock_context
from tests.support.samples import record as store

WHOLE = Window(limit=100)


def record(backend: Backend, vote: Vote) -> VoteContext:
    """Record a vote; return the context that counts it."""
    with backend.uow() as tx:
        counted = lock_context(tx, Actor(vote.user_id), vote.post_id).counting(vote)
        store(tx, vote, counted)
    return counted


def context(backend: Backend, voter: Actor, post: Post) -> VoteContext:
    with backend.uow() as tx:
        return lock_context(tx, voter, post.id)


def test_vote_context_holds_post_and_current_vote(backend: Backend) -> None:
    ann = add_user(backend.uow, "ann")
    post = add_post(backend.uow, ann, published=False)
    root = add_user(backend.uow, "root", Role.ADMIN)

    for voter in (ann, root):
        expected = VoteContext(voter, post.id, ann.id, published=False, created_at=NOW, tally=Tally())
        assert context(backend, voter, post) == expected


@pytest.mark.parametrize("post_id", NO_IDS)
def test_vote_context_of_a_missing_post_is_not_found(backend: Backend, post_id: int) -> None:
    ann = add_user(backend.uow, "ann")
    with pytest.raises(PostNotFound, match=str(post_id)), backend.uow() as tx:
        lock_context(tx, ann, post_id)


def test_recorded_vote_is_counted_and_ranked(backend: Backend) -> None:
    ann, bob = add_user(backend.uow, "ann"), add_user(backend.uow, "bob")
    post = add_post(backend.uow, ann)

    for voter in (ann, bob):
        counted = record(backend, Vote(voter.id, post.id, Direction.DOWN, NOW))
        assert context(backend, voter, post) == counted

    with backend.uow() as tx:
        assert tx.posts.lock(post.id) == replace(post, tally=Tally(0, 2))
    ranked = backend.posts.list(ann, PostFilter(), Order(SortBy.HOT), Window(limit=1))
    assert ranked.items[0].downvotes == 2


def test_a_vote_replaces_the_earlier_one(backend: Backend) -> None:
    ann = add_user(backend.uow)
    post = add_post(backend.uow, ann)
    later = NOW + timedelta(hours=1)

    record(backend, Vote(ann.id, post.id, Direction.DOWN, NOW))
    counted = record(backend, Vote(ann.id, post.id, Direction.UP, later))

    assert (counted.tally, counted.direction) == (Tally(1, 0), Direction.UP)
    assert context(backend, ann, post) == counted
    assert backend.votes.list(ann, None, Window()).items == [OwnVote(post.id, "A title", 1, later)]


def test_removed_vote_leaves_the_other_votes(backend: Backend) -> None:
    ann, bob = add_user(backend.uow, "ann"), add_user(backend.uow, "bob")
    post = add_post(backend.uow, ann)
    for voter in (ann, bob):
        record(backend, Vote(voter.id, post.id, Direction.UP, NOW))

    record(backend, Vote(ann.id, post.id, Direction.NONE, NOW))

    assert context(backend, ann, post).direction is Direction.NONE
    assert context(backend, bob, post).direction is Direction.UP
    assert context(backend, bob, post).tally == Tally(1, 0)
    assert backend.dashboard.get(NOW).total.votes == 1


def test_vote_taken_back_in_its_own_transaction_leaves_nothing(backend: Backend) -> None:
    ann = add_user(backend.uow, "ann")
    post = add_post(backend.uow, ann)

    cast, taken_back = CastVotes(backend.uow, FrozenClock())(
        [VoteCommand(ann, post.id, Direction.UP), VoteCommand(ann, post.id, Direction.NONE)]
    )

    assert cast == VoteReceipt("successfully added vote", post.id, 1, upvotes=1, downvotes=0)
    assert taken_back == VoteReceipt("successfully deleted vote", post.id, 0, upvotes=0, downvotes=0)
    assert context(backend, ann, post).tally == Tally()
    assert backend.votes.list(ann, None, WHOLE).items == []


def test_own_votes_on_visible_posts_are_listed_latest_first(backend: Backend) -> None:
    ann, bob = add_user(backend.uow, "ann"), add_user(backend.uow, "bob")
    admin = add_user(backend.uow, "root", Role.ADMIN)
    posts = [add_post(backend.uow, ann, f"post {number}") for number in range(4)]
    for voter in (ann, bob, admin):
        for number, post in enumerate(posts):
            direction = Direction.UP if number % 2 else Direction.DOWN
            record(backend, Vote(voter.id, post.id, direction, NOW + timedelta(seconds=number // 2)))
    with backend.uow() as tx:
        tx.posts.save(replace(tx.posts.lock(posts[2].id), published=False))

    def listed(voter: Actor, direction: Direction | None = None, window: Window = WHOLE) -> list[str]:
        return [vote.title for vote in backend.votes.list(voter, direction, window).items]

    assert listed(ann) == listed(admin) == ["post 3", "post 2", "post 1", "post 0"]
    assert listed(bob) == ["post 3", "post 1", "post 0"]
    assert listed(bob, Direction.DOWN) == ["post 0"]
    assert listed(bob, None, Window(limit=1, skip=1)) == ["post 1"]
    assert backend.votes.list(bob, Direction.DOWN, WHOLE).items == [OwnVote(posts[0].id, "post 0", -1, NOW)]


def test_vote_of_a_missing_voter_is_refused(backend: Backend) -> None:
    missing = Actor(4_711)
    post = add_post(backend.uow, add_user(backend.uow))

    with pytest.raises(InvalidToken):
        record(backend, Vote(missing.id, post.id, Direction.UP, NOW))
