"""Contract of quotas, on every storage."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial

import pytest

from application.posts import EditPost, WritePost, WritePostOnce, WritePosts
from application.quotas import HOUR, Quota
from application.votes import CastVote, CastVotes
from domain.errors import DomainError, QuotaExceeded
from domain.posts import PostChanges
from domain.votes import Direction
from tests.fakes.services import FrozenClock
from tests.support.backends import Backend
from tests.support.concurrency import all_at_once
from tests.support.samples import NOW, add_post, add_user

POST = ("A title", "Some content", True)
SIZE = len("A titleSome content")


def require_exceeded(work: Callable[[], object], seconds: int = 3600) -> None:
    with pytest.raises(QuotaExceeded) as refusal:
        work()
    assert refusal.value.retry_after == seconds


def test_rows_beyond_the_quota_of_an_account_are_refused(backend: Backend) -> None:
    ann, bob, clock = add_user(backend.uow, "ann"), add_user(backend.uow, "bob"), FrozenClock(NOW)
    write = WritePost(WritePosts(backend.uow, clock, Quota(rows=2)))
    first = write(ann, *POST)
    vote = CastVote(CastVotes(backend.uow, clock, quota=Quota(rows=2)))
    vote(ann, first.id, Direction.UP)

    require_exceeded(partial(write, ann, *POST))
    require_exceeded(partial(vote, ann, first.id, Direction.DOWN))
    require_exceeded(partial(EditPost(backend.uow, clock, Quota(rows=2)), ann, first.id, PostChanges(title="Other")))
    vote(ann, first.id, Direction.UP)  # changes nothing
    assert write(bob, *POST)
    post = backend.posts.get(ann, first.id)
    assert (post.title, post.my_vote, post.upvotes) == ("A title", 1, 1)

    clock.advance(timedelta(minutes=59, seconds=59))
    require_exceeded(partial(write, ann, *POST), 1)
    clock.advance(timedelta(seconds=1))
    assert write(ann, *POST)


def test_bytes_are_counted_in_utf8_and_with_their_stored_response(backend: Backend) -> None:
    ann, clock = add_user(backend.uow, "ann"), FrozenClock(NOW)
    once = WritePostOnce(backend.uow, clock, Quota(size=2 * SIZE))
    _, is_replayed = once(ann, *POST, "a key")
    assert not is_replayed
    assert once(ann, *POST, "a key")[1]  # a repeated response is not charged

    require_exceeded(partial(once, ann, *POST, "another key"))
    bob = add_user(backend.uow, "bob")
    require_exceeded(
        partial(WritePost(WritePosts(backend.uow, clock, Quota(size=SIZE))), bob, "\u00e4 title", "Some content", True)
    )
    assert WritePost(WritePosts(backend.uow, clock, Quota(size=SIZE)))(bob, *POST)


def test_what_is_refused_or_rolled_back_is_not_charged(backend: Backend) -> None:
    ann, clock = add_user(backend.uow, "ann"), FrozenClock(NOW)
    write = WritePost(WritePosts(backend.uow, clock, Quota(rows=1, size=SIZE)))
    require_exceeded(partial(write, ann, "A longer title", *POST[1:]))
    with pytest.raises(ZeroDivisionError), backend.uow() as tx:
        Quota(rows=1).charge(tx, ann.id, NOW)
        raise ZeroDivisionError

    assert write(ann, *POST)


def test_concurrent_writes_never_exceed_the_quota(backend: Backend) -> None:
    ann, post = add_user(backend.uow, "ann"), add_post(backend.uow, add_user(backend.uow, "bob"))
    write = WritePost(WritePosts(backend.uow, FrozenClock(NOW), Quota(rows=5)))
    vote = CastVote(CastVotes(backend.uow, FrozenClock(NOW), quota=Quota(rows=5)))

    outcomes = all_at_once([partial(write, ann, *POST)] * 8 + [partial(vote, ann, post.id, Direction.UP)])

    refusals = [outcome.code for outcome in outcomes if isinstance(outcome, DomainError)]
    assert refusals == ["rate-limited"] * 4


def test_removed_account_leaves_no_count(backend: Backend) -> None:
    ann = add_user(backend.uow, "ann")
    WritePost(WritePosts(backend.uow, FrozenClock(NOW), Quota(rows=1)))(ann, *POST)
    with backend.uow() as tx:
        tx.users.remove(ann.id)
    with backend.uow() as tx:
        Quota(rows=1).charge(tx, ann.id, NOW)


@pytest.mark.parametrize("quota", [Quota(), Quota(rows=5), Quota(size=20)])
def test_a_limit_of_0_is_none(backend: Backend, quota: Quota) -> None:
    ann = add_user(backend.uow, "ann")
    for _ in range(5):
        with backend.uow() as tx:
            quota.charge(tx, ann.id, NOW, "text")


def test_windows_are_hours_of_the_clock(backend: Backend) -> None:
    ann = add_user(backend.uow, "ann")
    for now in (NOW, NOW + HOUR, NOW):  # the clock is set back: the count begins again
        with backend.uow() as tx:
            Quota(rows=1).charge(tx, ann.id, now)
