"""Contract of storages that check the bearer they serve."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from application.errors import RowLocked, TransactionAborted, only
from application.paging import Order, Window
from application.views import Bearer, PostFilter
from domain.posts import Post, PostNotFound
from domain.sessions import IDLE, RefreshHashes, Session
from domain.users import Actor, InvalidToken, Role
from domain.votes import Direction, Vote, VoteContext
from tests.support.backends import Backend
from tests.support.samples import NO_IDS, NOW, a_post, add_post, add_user, lock_context

WHOLE = Window(limit=100)


def a_bearer(backend: Backend, actor: Actor) -> Bearer:
    """Open a session, and hold a token of it."""
    with backend.uow() as tx:
        refresh = RefreshHashes(f"family of {actor.id}", "secret")
        session = tx.sessions.add(Session.open(user_id=actor.id, user_agent="", refresh=refresh, now=NOW))
    return Bearer(actor.id, session.id, NOW)


def listed(backend: Backend, reader: Actor | Bearer, which: PostFilter | None = None) -> list[int]:
    return [post.id for post in backend.posts.list(reader, which or PostFilter(), Order(), WHOLE).items]


def lock(backend: Backend, bearer: Bearer, post_id: int) -> Any:
    with backend.uow() as tx:
        return lock_context(tx, bearer, post_id)


def write(backend: Backend, bearer: Bearer, _post_id: int) -> Any:
    with backend.uow() as tx:
        return only(tx.posts.add_all([(bearer, a_post(Actor(bearer.id)))]))


SERVED: dict[str, Callable[[Backend, Bearer, int], Any]] = {
    "get": lambda backend, bearer, post_id: backend.posts.get(bearer, post_id),
    "list": lambda backend, bearer, _: listed(backend, bearer),
    "list of drafts": lambda backend, bearer, _: listed(backend, bearer, PostFilter(published=False)),
    "list of another's drafts": lambda backend, bearer, _: listed(
        backend, bearer, PostFilter(published=False, owner_id=4_711)
    ),
    "list of no posts": lambda backend, bearer, _: listed(backend, bearer, PostFilter(search="absent")),
    "vote": lock,
    "write": write,
}
served = pytest.mark.parametrize("serve", SERVED.values(), ids=SERVED)


@served
def test_bearer_of_a_running_session_is_served(backend: Backend, serve: Callable[..., Any]) -> None:
    ann = add_user(backend.uow)
    post = add_post(backend.uow, ann)

    serve(backend, a_bearer(backend, ann), post.id)


@served
def test_bearer_without_a_running_session_is_refused(backend: Backend, serve: Callable[..., Any]) -> None:
    ann, bob = add_user(backend.uow, "ann"), add_user(backend.uow, "bob")
    post, bearer, other = add_post(backend.uow, ann), a_bearer(backend, ann), a_bearer(backend, bob)
    refused = [
        replace(bearer, at=NOW + IDLE),
        replace(bearer, id=bob.id),
        replace(bearer, session_id=other.session_id),
        *(replace(bearer, session_id=number) for number in NO_IDS),
        *(replace(bearer, id=number) for number in NO_IDS),
    ]

    for each in refused:
        with pytest.raises(InvalidToken):
            serve(backend, each, post.id)
    assert listed(backend, ann) == [post.id]


@served
def test_bearer_of_an_inactive_account_is_refused(backend: Backend, serve: Callable[..., Any]) -> None:
    ann = add_user(backend.uow)
    post, bearer = add_post(backend.uow, ann), a_bearer(backend, ann)
    with backend.uow() as tx:
        tx.users.save(replace(tx.users.lock(ann.id), is_active=False))

    with pytest.raises(InvalidToken):
        serve(backend, bearer, post.id)


@pytest.mark.parametrize("post_id", NO_IDS)
def test_bearer_is_refused_before_a_post_is_not_found(backend: Backend, post_id: int) -> None:
    bearer = a_bearer(backend, add_user(backend.uow))

    for serve in (SERVED["get"], lock):
        with pytest.raises(PostNotFound, match=str(post_id)):
            serve(backend, bearer, post_id)
        with pytest.raises(InvalidToken):
            serve(backend, replace(bearer, at=NOW + IDLE), post_id)


def test_bearer_sees_what_the_actor_sees(backend: Backend) -> None:
    ann, bob = add_user(backend.uow, "ann"), add_user(backend.uow, "bob")
    root = add_user(backend.uow, "root", Role.ADMIN)
    posts = [add_post(backend.uow, owner, published=published) for owner in (ann, bob) for published in (True, False)]
    filters = [
        PostFilter(published=published, owner_id=owner) for published in (None, False) for owner in (None, ann.id)
    ]

    for actor in (ann, bob, root):
        bearer = a_bearer(backend, actor)
        for which in filters:
            assert listed(backend, bearer, which) == listed(backend, actor, which)
        for post in posts:
            assert seen(backend, bearer, post) == seen(backend, actor, post)
            assert votable(backend, bearer, post) == votable(backend, actor, post)


def seen(backend: Backend, reader: Actor | Bearer, post: Post) -> object:
    try:
        return backend.posts.get(reader, post.id)
    except PostNotFound as error:
        return error.code


def votable(backend: Backend, voter: Actor | Bearer, post: Post) -> object:
    try:
        with backend.uow() as tx:
            context = lock_context(tx, voter, post.id)
    except PostNotFound as error:
        return error.code
    return replace(context, voter=Actor(context.voter.id, context.voter.role))


def test_commands_of_a_group_are_refused_one_by_one(backend: Backend) -> None:
    ann, bob = add_user(backend.uow, "ann"), add_user(backend.uow, "bob")
    post, draft = add_post(backend.uow, ann), add_post(backend.uow, ann, published=False)
    own, ended = a_bearer(backend, ann), replace(a_bearer(backend, bob), at=NOW + IDLE)

    with backend.uow() as tx:
        contexts = tx.votes.lock_contexts(
            [(bob, draft.id), (own, draft.id), (ended, post.id), (bob, 0), (own, post.id)]
        )
    with backend.uow() as tx:
        views = tx.posts.add_all([(own, a_post(ann, "one")), (ended, a_post(bob)), (Actor(4_711), a_post(bob))])
        kept = tx.posts.add_all([(own, a_post(ann, "two")), (own, a_post(ann, "three"))])

    assert [getattr(found, "code", found) for found in contexts if not hasattr(found, "tally")] == [
        "post-not-found",
        "invalid-token",
        "post-not-found",
    ]
    assert [getattr(found, "post_id", None) for found in contexts if hasattr(found, "tally")] == [draft.id, post.id]
    assert [getattr(view, "title", getattr(view, "code", view)) for view in (*views, *kept)] == [
        "one",
        "invalid-token",
        "invalid-token",
        "two",
        "three",
    ]
    ids = [getattr(view, "id", 0) for view in (*views[:1], *kept)]
    assert [backend.posts.get(ann, post_id).title for post_id in ids] == ["one", "two", "three"]
    assert listed(backend, ann, PostFilter(search="two")) == [ids[1]]


def test_votes_of_a_group_write_each_tally_once(backend: Backend) -> None:
    people = [add_user(backend.uow, f"user{number}") for number in range(4)]
    posts = [add_post(backend.uow, people[0]) for _ in range(2)]
    asked = [(person, post.id) for person in people for post in posts]

    for direction in (Direction.UP, Direction.DOWN, Direction.NONE):
        with backend.uow() as tx:
            counted: dict[int, VoteContext] = {}
            votes = []
            for found in tx.votes.lock_contexts(asked):
                assert not isinstance(found, Exception)
                latest = replace(found, tally=counted.get(found.post_id, found).tally)
                votes.append(vote := Vote(found.voter.id, found.post_id, direction, NOW))
                counted[found.post_id] = latest.counting(vote)
            tx.votes.record_all(votes, list(counted.values()))
        expected = {Direction.UP: (4, 0), Direction.DOWN: (0, 4), Direction.NONE: (0, 0)}[direction]
        for post in posts:
            view = backend.posts.get(people[1], post.id)
            assert (view.upvotes, view.downvotes, view.my_vote) == (*expected, direction)
    assert not backend.wrong_counters()


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
def test_group_that_does_not_wait_skips_posts_that_are_locked(backend: Backend) -> None:
    ann = add_user(backend.uow)
    posts = [add_post(backend.uow, ann) for _ in range(3)]

    with backend.uow() as stranger:
        stranger.posts.lock(posts[1].id)
        with backend.uow() as tx:
            found = tx.votes.lock_contexts([(ann, post.id) for post in reversed(posts)], wait=False)
        with pytest.raises(TransactionAborted), backend.uow() as tx:
            lock_context(tx, ann, posts[1].id, wait=False)
        with backend.uow() as tx:
            assert lock_context(tx, ann, posts[0].id, wait=False).post_id == posts[0].id

    assert isinstance(found[1], RowLocked)
    assert [getattr(each, "post_id", None) for each in found] == [posts[2].id, None, posts[0].id]
