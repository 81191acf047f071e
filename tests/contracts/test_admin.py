"""Contract of dashboard readers."""

from dataclasses import replace
from datetime import timedelta

from application.views import EntityCounts, TopPost
from application.votes import CastVote, CastVotes
from domain.votes import Direction
from tests.fakes.services import FrozenClock
from tests.support.backends import Backend
from tests.support.samples import NOW, a_post, a_user, add, add_post, add_user

AN_HOUR = timedelta(hours=1)


def test_an_empty_storage_counts_nothing(backend: Backend) -> None:
    dashboard = backend.dashboard.get(NOW)

    assert dashboard.total == dashboard.last_24h == EntityCounts()
    assert dashboard.top_posts == ()


def test_dashboard_counts_all_and_new(backend: Backend) -> None:
    with backend.uow() as tx:
        old = tx.users.add(replace(a_user("old"), created_at=NOW - AN_HOUR))
        new = tx.users.add(a_user("new"))
    ann = add_user(backend.uow, "ann")
    with backend.uow() as tx:
        post = add(tx, replace(a_post(ann), created_at=NOW - AN_HOUR))
        add(tx, a_post(ann, published=False))
    for voter, moment in ((old, NOW - AN_HOUR), (new, NOW)):
        CastVote(CastVotes(backend.uow, FrozenClock(moment)))(replace(ann, id=voter.id), post.id, Direction.DOWN)

    dashboard = backend.dashboard.get(NOW)

    assert dashboard.total == EntityCounts(users=3, posts=2, votes=2)
    assert dashboard.last_24h == EntityCounts(users=2, posts=1, votes=1)


def test_the_ten_best_published_posts_are_ranked(backend: Backend) -> None:
    ann, bob = add_user(backend.uow, "ann"), add_user(backend.uow, "bob")
    posts = [add_post(backend.uow, ann, f"post {number}") for number in range(12)]
    draft = add_post(backend.uow, ann, "draft", published=False)
    cast = CastVote(CastVotes(backend.uow, FrozenClock()))
    cast(ann, draft.id, Direction.UP)
    cast(ann, posts[3].id, Direction.UP)
    cast(bob, posts[3].id, Direction.UP)
    cast(bob, posts[0].id, Direction.UP)
    cast(bob, posts[11].id, Direction.DOWN)

    top = backend.dashboard.get(NOW).top_posts

    assert top[:2] == (TopPost(posts[3].id, "post 3", 2), TopPost(posts[0].id, "post 0", 1))
    assert [post.votes for post in top[2:]] == [0] * 8
    assert [post.id for post in top[2:]] == sorted((post.id for post in top[2:]), reverse=True)
