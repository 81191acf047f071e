"""What the demo invents: as much as was asked for, within the rules, and the same for the same seed."""

from collections import Counter
from itertools import pairwise

import pytest
from sqlalchemy import URL

from application.errors import Refused
from domain.votes import Direction, Tally
from infrastructure.operations.demo import Demo, Invented
from tests.fakes.services import FrozenClock, PlainHasher
from tests.support.backends import contents, empty
from tests.support.samples import NOW


def fill(url: URL, seed: int = 1) -> None:
    demo = Demo(url, PlainHasher(), FrozenClock())
    demo.fill(30, 50, 400, seed, "correct horse", lambda _done, _total: None)


def test_the_same_seed_invents_the_same(url: URL) -> None:
    fill(url)
    first = contents(url)
    empty(url)
    fill(url)
    assert contents(url) == first
    assert all(first[table] for table in ("users", "posts", "votes"))


def test_another_seed_invents_something_else(url: URL) -> None:
    fill(url)
    first = contents(url)
    empty(url)
    fill(url, seed=2)
    second = contents(url)
    assert [user.email for user in first["users"]] != [user.email for user in second["users"]]
    assert [post.title for post in first["posts"]] != [post.title for post in second["posts"]]
    assert [vote.user_id for vote in first["votes"]] != [vote.user_id for vote in second["votes"]]


@pytest.mark.parametrize(
    ("users", "posts", "votes"),
    [(1, 0, 0), (1, 1, 1), (3, 25, 3 * 24), (3, 25, 3 * 24 - 1), (50, 40, 700), (40, 300, 3_000)],
)
def test_exactly_the_votes_that_were_asked_for_are_given_out(users: int, posts: int, votes: int) -> None:
    invented = Invented(users, posts, votes, 1, NOW)
    cast = list(invented.votes())
    assert len(cast) == votes
    assert len({(vote.post_id, vote.user_id) for vote in cast}) == votes
    ways = Counter((vote.post_id, vote.direction) for vote in cast)
    written = list(invented.posts())
    assert len(written) == posts
    for post in written:
        assert post.tally == Tally(ways[post.id, Direction.UP], ways[post.id, Direction.DOWN])
        assert post.published or post.tally == Tally()


def test_more_votes_than_people_and_published_posts_allow_are_refused() -> None:
    with pytest.raises(Refused, match="73 votes are too many: 3 users can cast 72 on 24 published posts"):
        Invented(3, 25, 73, 1, NOW)


def test_no_two_people_share_an_email_or_a_username_however_many_they_are() -> None:
    people = list(Invented(5_000, 0, 0, 1, NOW).users("a hash"))
    assert len({user.email_key for user in people}) == 5_000
    assert len({user.username_key for user in people}) == 5_000


def test_posts_follow_registrations_and_votes_follow_both() -> None:
    invented = Invented(40, 300, 3_000, 1, NOW)
    registered = {user.id: user.created_at for user in invented.users("a hash")}
    written = {post.id: post.created_at for post in invented.posts()}
    assert all(earlier <= later for moments in (registered, written) for earlier, later in pairwise(moments.values()))
    assert all(registered[post.owner_id] <= post.created_at <= NOW for post in invented.posts())
    for vote in invented.votes():
        assert max(written[vote.post_id], registered[vote.user_id]) <= vote.created_at <= NOW
