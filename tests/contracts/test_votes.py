"""What every storage of votes promises."""

from dataclasses import replace
from datetime import timedelta

import pytest

from domain.users import Actor, InvalidToken
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


def test_a_vote_needs_a_voter_who_is_there(backend: Backend) -> None:
    nobody = Actor(4_711)
    post = add_post(backend.uow, add_user(backend.uow))

    with pytest.raises(InvalidToken), backend.uow() as tx:
        tx.posts.lock(post.id)
        tx.votes.add(Vote(nobody.id, post.id, Direction.UP, NOW))
