"""What every storage of votes promises."""

from dataclasses import replace
from datetime import timedelta

import pytest

from application.paging import Window
from application.views import OwnVote
from domain.users import Actor, InvalidToken, Role
from domain.votes import Direction, Vote
from tests.backends import Backend
from tests.samples import NOW, add_post, add_user


def test_what_is_added_is_found(backend: Backend) -> None:
    ann = add_user(backend.uow)
    post = add_post(backend.uow, ann)
    cast = Vote(ann.id, post.id, Direction.DOWN, NOW)

    with backend.uow() as tx:
        tx.posts.lock(post.id)
        assert tx.votes.find(ann.id, post.id) is None
        tx.votes.add(cast)

    with backend.uow() as tx:
        assert tx.votes.find(ann.id, post.id) == cast
        assert tx.votes.find(ann.id + 1, post.id) is None
        assert tx.votes.find(ann.id, post.id + 1) is None


def test_a_saved_vote_replaces_the_earlier_one(backend: Backend) -> None:
    ann = add_user(backend.uow)
    post = add_post(backend.uow, ann)
    first = Vote(ann.id, post.id, Direction.DOWN, NOW)
    second = replace(first, direction=Direction.UP, created_at=NOW + timedelta(hours=1))

    with backend.uow() as tx:
        tx.posts.lock(post.id)
        tx.votes.add(first)
        tx.votes.save(second)

    with backend.uow() as tx:
        assert tx.votes.find(ann.id, post.id) == second
    assert backend.dashboard.get(NOW).total.votes == 1


def test_a_removed_vote_is_gone_and_no_other(backend: Backend) -> None:
    ann, bob = add_user(backend.uow, "ann"), add_user(backend.uow, "bob")
    post = add_post(backend.uow, ann)

    with backend.uow() as tx:
        tx.posts.lock(post.id)
        for voter in (ann, bob):
            tx.votes.add(Vote(voter.id, post.id, Direction.UP, NOW))
        tx.votes.remove(ann.id, post.id)

    with backend.uow() as tx:
        assert tx.votes.find(ann.id, post.id) is None
        assert tx.votes.find(bob.id, post.id) is not None


def test_people_see_their_own_votes_on_what_they_can_see_latest_first(backend: Backend) -> None:
    ann, bob = add_user(backend.uow, "ann"), add_user(backend.uow, "bob")
    admin = add_user(backend.uow, "root", Role.ADMIN)
    posts = [add_post(backend.uow, ann, f"post {number}", published=number != 2) for number in range(4)]
    for voter in (ann, bob, admin):
        with backend.uow() as tx:
            for number, post in enumerate(posts):
                direction = Direction.UP if number % 2 else Direction.DOWN
                tx.votes.add(Vote(voter.id, post.id, direction, NOW + timedelta(seconds=number // 2)))

    def listed(voter: Actor, direction: Direction | None = None, window: Window | None = None) -> list[str]:
        return [vote.title for vote in backend.votes.list(voter, direction, window)]

    assert listed(ann) == listed(admin) == ["post 3", "post 2", "post 1", "post 0"]
    assert listed(bob) == ["post 3", "post 1", "post 0"]
    assert listed(bob, Direction.DOWN) == ["post 0"]
    assert listed(bob, None, Window(limit=1, skip=1)) == ["post 1"]
    assert backend.votes.list(bob, Direction.DOWN, None) == [OwnVote(posts[0].id, "post 0", -1, NOW)]


def test_a_vote_needs_a_voter_who_is_there(backend: Backend) -> None:
    nobody = Actor(4_711)
    post = add_post(backend.uow, add_user(backend.uow))

    with pytest.raises(InvalidToken), backend.uow() as tx:
        tx.posts.lock(post.id)
        tx.votes.add(Vote(nobody.id, post.id, Direction.UP, NOW))
