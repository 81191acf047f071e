"""Contract of lists: order, filters, and pages that neither repeat nor miss rows."""

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count, product
from math import log10
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from application.paging import Order, Page, PageCursor, SortBy, Window
from application.posts import DeletePost, EditPost
from application.views import OwnVote, PostFilter, PostView, UserView
from application.votes import CastVote, CastVotes
from domain.posts import Post, PostChanges
from domain.users import ANONYMOUS, Actor, Role
from domain.votes import Direction, Tally, hotness
from infrastructure.domain_names import to_ascii
from tests.fakes.services import FrozenClock
from tests.support.backends import Backend
from tests.support.samples import NOW, a_post, a_user, add, add_post, add_user

T = TypeVar("T")

MINUTE, MICROSECOND = timedelta(minutes=1), timedelta(microseconds=1)
ORDERS = [Order(by, descending=descending) for by, descending in product(SortBy, (True, False))]
QUICK = settings(max_examples=25, derandomize=True, deadline=None, database=None)
UP, DOWN, NONE = Direction.UP, Direction.DOWN, Direction.NONE


# A plain model of a list of posts: its filter and its order.


def holds(post: Post, reader: Actor, which: PostFilter) -> bool:
    seen_by_default = post.published or post.owner_id == reader.id
    draft_seen = not post.published and (post.owner_id == reader.id or reader.is_admin)
    return (
        {None: seen_by_default, True: post.published, False: draft_seen}[which.published]
        and which.search.lower() in post.title.lower()
        and which.owner_id in {None, post.owner_id}
        and (which.since is None or which.since <= post.created_at)
        and (which.until is None or post.created_at < which.until)
    )


def place(post: Post, by: SortBy) -> tuple[Any, int]:
    votes = post.tally.upvotes - post.tally.downvotes
    magnitude = log10(abs(votes)) if votes else 0.0
    seconds = (post.created_at - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
    hot = (magnitude if votes > 0 else -magnitude) + seconds / 45_000
    return {SortBy.DATE: post.created_at, SortBy.VOTES: votes, SortBy.HOT: hot}[by], post.id


def listed(
    posts: Sequence[Post], reader: Actor, which: PostFilter, order: Order, after: PageCursor | None = None
) -> list[int]:
    found = sorted((post for post in posts if holds(post, reader, which)), key=lambda post: place(post, order.by))
    if order.descending:
        found.reverse()
    if after is not None:
        here = (after.key, after.id)
        found = [post for post in found if (place(post, order.by) < here) is order.descending]
        found = [post for post in found if place(post, order.by) != here]
    return [post.id for post in found]


def ids(page: Page[PostView]) -> list[int]:
    return [post.id for post in page.items]


def walk(read: Callable[[PageCursor | None], Page[T]], between: Callable[[], None] = lambda: None) -> Iterator[T]:
    """Yield the rows of all pages; call `between` before each next page."""
    page = read(None)
    yield from page.items
    while page.last is not None:
        between()
        here, page = page.last, read(page.last)
        assert page.last != here, "the cursor does not advance"
        yield from page.items


def require_whole(seen: Sequence[int], start: Sequence[int], moved: Container[int]) -> None:
    """Require each unmoved row of the start exactly once, in order."""
    stayed = [one for one in start if one not in moved]
    assert [one for one in seen if one in stayed] == stayed


@dataclass(frozen=True)
class SeededPosts:
    """Three users, and posts that share dates, scores and words."""

    ann: Actor
    bob: Actor
    root: Actor
    posts: list[Post]


def fill(backend: Backend) -> SeededPosts:
    ann, bob = add_user(backend.uow, "ann"), add_user(backend.uow, "bob")
    root = add_user(backend.uow, "root", Role.ADMIN)
    titles = ("Apple pie", "pears", "an APPLE a day", "pineapples", "Äpfel")
    tallies = (Tally(), Tally(2, 0), Tally(0, 1), Tally(1, 1), Tally(12, 2), Tally(0, 30))
    posts = []
    with backend.uow() as tx:
        for number in range(30):
            owner = (ann, bob, ann, root)[number % 4]
            post = a_post(owner, titles[number % 5], published=number % 3 != 0, minutes=number * 7 % 10 // 2)
            post = replace(post, tally=tallies[number % 6])
            posts.append(post.with_id(add(tx, post).id))
    return SeededPosts(ann, bob, root, posts)


def ranges() -> Iterator[tuple[datetime | None, datetime | None]]:
    """Yield spans around posts that were written in the minutes 0 to 4."""
    yield None, None
    yield NOW + MINUTE, None
    yield NOW + MINUTE + MICROSECOND, None
    yield None, NOW + 3 * MINUTE
    yield NOW + MINUTE, NOW + 3 * MINUTE
    yield NOW + 2 * MINUTE, NOW + 2 * MINUTE + MICROSECOND
    yield NOW + 2 * MINUTE, NOW + 2 * MINUTE
    yield NOW + 3 * MINUTE, NOW + MINUTE


def test_every_order_and_filter_matches_a_plain_model(backend: Backend) -> None:
    world = fill(backend)
    readers = (world.ann, world.root, ANONYMOUS)
    owners = (None, world.ann.id)
    filters = [
        PostFilter(search, published, owner, since, until)
        for published, owner, search in product((None, True, False), owners, ("", "apple"))
        for since, until in ranges()
    ]
    faults = [
        (reader, which, order)
        for reader, which, order in product(readers, filters, ORDERS)
        if ids(backend.posts.list(reader, which, order, Window(100))) != listed(world.posts, reader, which, order)
    ]
    assert faults == []


def asked(world: SeededPosts) -> st.SearchStrategy[tuple[Actor, PostFilter, Order]]:
    spans = st.sampled_from(list(ranges()))
    which = st.builds(
        lambda search, published, owner, span: PostFilter(search, published, owner, *span),
        st.sampled_from(["", "", "apple", "P"]),
        st.sampled_from([None, None, True, False]),
        st.sampled_from([None, None, world.ann.id, world.bob.id]),
        spans,
    )
    return st.tuples(st.sampled_from([world.ann, world.root, ANONYMOUS]), which, st.sampled_from(ORDERS))


def test_pages_of_every_size_together_are_the_whole_list(backend: Backend) -> None:
    world = fill(backend)

    @settings(QUICK, max_examples=30)
    @given(asked(world), st.integers(1, 12), st.integers(0, 12))
    def pages_are_the_list(question: tuple[Actor, PostFilter, Order], limit: int, skip: int) -> None:
        whole = listed(world.posts, *question)

        def read(after: PageCursor | None) -> Page[PostView]:
            page = backend.posts.list(*question, Window(limit, after=after))
            assert len(page.items) <= limit
            return page

        assert ids(backend.posts.list(*question, Window(100))) == whole
        assert [post.id for post in walk(read)] == whole
        skipped = backend.posts.list(*question, Window(limit, skip))
        assert ids(skipped) == whole[skip : skip + limit]
        assert (skipped.last is not None) is (skip + limit < len(whole))
        if skipped.last is not None:
            assert ids(backend.posts.list(*question, Window(100, after=skipped.last))) == whole[skip + limit :]

    pages_are_the_list()


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: f"{order.by}-{'desc' if order.descending else 'asc'}")
def test_cursor_outlives_its_post(backend: Backend, order: Order) -> None:
    world = fill(backend)
    which, remove = PostFilter(), DeletePost(backend.uow)
    whole = listed(world.posts, world.root, which, order)

    page = backend.posts.list(world.root, which, order, Window(5))
    for post_id in (whole[4], whole[3], whole[5]):
        remove(world.root, post_id)

    assert page.last is not None
    assert page.last.id == whole[4]
    assert ids(backend.posts.list(world.root, which, order, Window(100, after=page.last))) == whole[6:]


# Pages while others write.


Deed = tuple[str, int]


def gaps(deeds: Sequence[str]) -> st.SearchStrategy[list[list[Deed]]]:
    """Draw what happens between pages."""
    return st.lists(st.lists(st.tuples(st.sampled_from(deeds), st.integers(0, 99)), max_size=4), max_size=8)


class ListedPosts:
    """Posts that change, a model of them, and the ids that changed since `begin`."""

    DEEDS = ("write", "remove", "toggle", "retitle", "vote", "vote")

    def __init__(self, backend: Backend) -> None:
        self.ann, self.bob = add_user(backend.uow, "ann"), add_user(backend.uow, "bob")
        self.posts: dict[int, Post] = {}
        self._uow = backend.uow
        self._edit = EditPost(backend.uow, FrozenClock())
        self._remove = DeletePost(backend.uow)
        self._vote = CastVote(CastVotes(backend.uow, FrozenClock()))

    def begin(self, size: int) -> None:
        """Replace all posts by `size` new ones, two per minute."""
        with self._uow() as tx:
            for post_id in self.posts:
                tx.posts.lock(post_id)
                tx.posts.remove(post_id)
            self.posts = {}
            for number in range(size):
                post = a_post((self.ann, self.bob)[number % 2], "Apple", minutes=number // 2)
                post = replace(post, tally=Tally(number % 3, number % 2))
                post = post.with_id(add(tx, post).id)
                self.posts[post.id] = post
        self.changed: set[int] = set()
        self.voted: set[int] = set()

    def do(self, deed: str, number: int) -> None:
        if deed == "write":
            post = add_post(self._uow, self.ann, "Apple", minutes=number % 6)
            self.posts[post.id] = post
            self.changed.add(post.id)
        elif self.posts:
            post = list(self.posts.values())[number % len(self.posts)]
            getattr(self, deed)(post, Actor(post.owner_id))

    def remove(self, post: Post, owner: Actor) -> None:
        self._remove(owner, post.id)
        del self.posts[post.id]
        self.changed.add(post.id)

    def toggle(self, post: Post, owner: Actor) -> None:
        self._change(post, owner, PostChanges(published=not post.published))

    def retitle(self, post: Post, owner: Actor) -> None:
        self._change(post, owner, PostChanges(title="Pear" if post.title == "Apple" else "Apple"))

    def vote(self, post: Post, owner: Actor) -> None:
        direction = (UP, DOWN, NONE)[len(self.voted) % 3]
        receipt = self._vote(owner, post.id, direction)
        self.posts[post.id] = replace(post, tally=Tally(receipt.upvotes, receipt.downvotes))
        self.voted.add(post.id)

    def _change(self, post: Post, owner: Actor, changes: PostChanges) -> None:
        self._edit(owner, post.id, changes)
        self.posts[post.id] = post.edited_by(owner, changes, NOW)
        self.changed.add(post.id)


def test_pages_of_posts_are_stable_under_writes(backend: Backend) -> None:
    forum = ListedPosts(backend)
    filters = st.sampled_from([PostFilter(), PostFilter(search="apple"), PostFilter(since=NOW + MINUTE)])

    @settings(QUICK, max_examples=30)
    @given(
        st.sampled_from([*ORDERS, Order(), Order(descending=False)]),
        filters,
        st.integers(1, 4),
        gaps(ListedPosts.DEEDS),
    )
    def nothing_is_repeated_or_missed(order: Order, which: PostFilter, limit: int, between: list[list[Deed]]) -> None:
        forum.begin(9)
        coming = iter(between)

        def read(after: PageCursor | None) -> Page[PostView]:
            page = backend.posts.list(forum.bob, which, order, Window(limit, after=after))
            assert ids(page) == listed(list(forum.posts.values()), forum.bob, which, order, after)[:limit]
            return page

        def go_on() -> None:
            for deed in next(coming, []):
                forum.do(*deed)

        start = listed(list(forum.posts.values()), forum.bob, which, order)
        seen = [post.id for post in walk(read, go_on)]

        moved = set() if order.by is SortBy.DATE else forum.voted
        require_whole(seen, start, forum.changed | moved)
        assert {post_id for post_id in seen if seen.count(post_id) > 1} <= moved

    nothing_is_repeated_or_missed()


def test_pages_of_own_votes_are_stable_under_writes(backend: Backend) -> None:
    ann, bob, clock = add_user(backend.uow, "ann"), add_user(backend.uow, "bob"), FrozenClock(NOW)
    cast, edit = CastVote(CastVotes(backend.uow, clock)), EditPost(backend.uow, clock)
    posts = [add_post(backend.uow, bob, f"post {number}") for number in range(10)]
    hidden: set[int] = set()

    @settings(QUICK, max_examples=20)
    @given(st.sampled_from([None, UP, DOWN]), st.integers(1, 4), gaps(["up", "down", "take back", "toggle", "pass by"]))
    def nothing_is_repeated_or_missed(direction: Direction | None, limit: int, between: list[list[Deed]]) -> None:
        for post_id in list(hidden):
            edit(bob, post_id, PostChanges(published=True))
            hidden.remove(post_id)
        for number, post in enumerate(posts):
            cast(ann, post.id, NONE)
            clock.advance(number % 2 * MINUTE)
            if number < 8:
                cast(ann, post.id, (UP, UP, DOWN)[number % 3])
        coming, moved = iter(between), set()

        def go_on() -> None:
            for deed, number in next(coming, []):
                post_id = posts[number % 10].id
                moved.add(post_id)
                if deed == "toggle":
                    edit(bob, post_id, PostChanges(published=post_id in hidden))
                    hidden.symmetric_difference_update({post_id})
                elif deed == "pass by":
                    clock.advance(MINUTE)
                elif post_id not in hidden:
                    cast(ann, post_id, {"up": UP, "down": DOWN, "take back": NONE}[deed])

        start = [vote.post_id for vote in backend.votes.list(ann, direction, Window(100)).items]
        pages = walk(lambda after: backend.votes.list(ann, direction, Window(limit, after=after)), go_on)
        require_whole([vote.post_id for vote in pages], start, moved)

    nothing_is_repeated_or_missed()


def test_pages_of_accounts_are_stable_under_writes(backend: Backend) -> None:
    people = [add_user(backend.uow, f"user{number}").id for number in range(8)]
    names = count(100)

    @settings(QUICK, max_examples=20)
    @given(st.sampled_from(["", "user", "USER1"]), st.integers(1, 4), gaps(["come", "go", "rename"]))
    def nothing_is_repeated_or_missed(search: str, limit: int, between: list[list[Deed]]) -> None:
        coming, moved = iter(between), set()

        def go_on() -> None:
            for deed, number in next(coming, []):
                with backend.uow() as tx:
                    if deed == "come":
                        people.append(tx.users.add(a_user(f"user{next(names)}")).id)
                        moved.add(people[-1])
                    elif len(people) > 4:
                        one = people[number % len(people)]
                        moved.add(one)
                        if deed == "go":
                            people.remove(one)
                            tx.users.remove(one)
                        else:
                            fresh = f"user{next(names)}"
                            renamed = tx.users.lock(one).with_email(f"{fresh}@example.com", to_ascii)
                            tx.users.save(renamed.with_username(fresh))

        def read(after: PageCursor | None) -> Page[UserView]:
            return backend.users.list(search, Window(limit, after=after))

        start = [user.id for user in walk(read)]
        seen = [user.id for user in walk(read, go_on)]
        require_whole(seen, start, moved)
        assert len(seen) == len(set(seen))

    nothing_is_repeated_or_missed()


# Votes and accounts, without concurrent writes.


def test_pages_of_own_votes_together_are_the_whole_list(backend: Backend) -> None:
    ann, bob = add_user(backend.uow, "ann"), add_user(backend.uow, "bob")
    root = add_user(backend.uow, "root", Role.ADMIN)
    clock = FrozenClock(NOW)
    cast = CastVote(CastVotes(backend.uow, clock))
    known: dict[int, list[tuple[datetime, int, Direction]]] = {ann.id: [], root.id: []}
    for number in range(12):
        clock.advance(number % 3 // 2 * MINUTE)
        post = add_post(backend.uow, ann, f"post {number}", published=number % 5 != 0)
        other = add_post(backend.uow, bob, f"draft {number}", published=number % 4 != 0)
        for voter, posts in ((ann, [post, *([other] if other.published else [])]), (root, [post, other])):
            for one in posts:
                wanted = (UP, DOWN)[one.id % 3 % 2]
                cast(voter, one.id, wanted)
                known[voter.id].append((clock.now(), one.id, wanted))

    for voter, direction in product((ann, root), (None, UP, DOWN)):
        whole = [
            OwnVote(post_id, backend.posts.get(voter, post_id).title, cast_so.value, moment)
            for moment, post_id, cast_so in sorted(known[voter.id], reverse=True)
            if direction in {None, cast_so}
        ]
        assert list(backend.votes.list(voter, direction, Window(100)).items) == whole
        for limit in (1, 2, 5, len(whole) - 1, len(whole), 100):

            def read(
                after: PageCursor | None, direction: Any = direction, voter: Any = voter, limit: Any = limit
            ) -> Any:
                return backend.votes.list(voter, direction, Window(limit, after=after))

            assert list(walk(read)) == whole
            assert list(backend.votes.list(voter, direction, Window(limit, skip=3)).items) == whole[3 : 3 + limit]


def test_cursor_outlives_its_vote_and_its_post(backend: Backend) -> None:
    ann, clock = add_user(backend.uow, "ann"), FrozenClock(NOW)
    cast = CastVote(CastVotes(backend.uow, clock))
    posts = [add_post(backend.uow, ann) for _ in range(6)]
    for post in posts:
        cast(ann, post.id, UP)

    page = backend.votes.list(ann, None, Window(3))
    assert page.last == PageCursor(NOW, posts[3].id)
    cast(ann, posts[3].id, NONE)
    DeletePost(backend.uow)(ann, posts[4].id)

    rest = backend.votes.list(ann, None, Window(10, after=page.last))
    assert [vote.post_id for vote in rest.items] == [posts[number].id for number in (2, 1, 0)]


def test_pages_of_accounts_together_are_the_whole_list(backend: Backend) -> None:
    people = [add_user(backend.uow, f"user{number}").id for number in range(12)]

    for search, whole in (("", people), ("USER1", [people[1], *people[10:]]), ("absent", [])):
        for limit in (1, 2, 5, 11, 12, 100):

            def read(after: PageCursor | None, search: str = search, limit: int = limit) -> Page[UserView]:
                return backend.users.list(search, Window(limit, after=after))

            assert [user.id for user in walk(read)] == whole
            skipped = backend.users.list(search, Window(limit, skip=2))
            assert [user.id for user in skipped.items] == whole[2 : 2 + limit]


def test_cursor_outlives_its_account(backend: Backend) -> None:
    people = [add_user(backend.uow, f"user{number}").id for number in range(6)]

    page = backend.users.list("", Window(3))
    assert page.last == PageCursor(people[2], people[2])
    with backend.uow() as tx:
        tx.users.remove(people[2])

    assert [user.id for user in backend.users.list("", Window(10, after=page.last)).items] == people[3:]


# Ranks.


def ranks(backend: Backend, reader: Actor, by: SortBy) -> dict[int, datetime | float]:
    """Return the rank of every post but the first, from the cursors of pages."""
    found: dict[int, datetime | float] = {}
    after = None
    while True:
        page = backend.posts.list(reader, PostFilter(), Order(by), Window(1, after=after))
        if page.last is None:
            return found
        after = page.last
        found[after.id] = after.key


def test_ranks_follow_votes_and_the_removal_of_voters(backend: Backend) -> None:
    people = [add_user(backend.uow, f"user{number}") for number in range(12)]
    leaver, cast = people[-1], CastVote(CastVotes(backend.uow, FrozenClock()))
    posts = [add_post(backend.uow, people[0], minutes=minutes) for minutes in (0, 1, 2)]
    old_one = replace(a_post(people[0]), created_at=NOW - timedelta(days=9_999), tally=Tally(0, 10**6))
    with backend.uow() as tx:
        add(tx, old_one)  # last in every order

    def require(*votes: int) -> None:
        wanted = {post.id: vote for post, vote in zip(posts, votes, strict=True)}
        assert ranks(backend, leaver, SortBy.VOTES) == wanted
        assert ranks(backend, leaver, SortBy.HOT) == {
            post.id: hotness(vote, post.created_at) for post, vote in zip(posts, votes, strict=True)
        }

    require(0, 0, 0)
    for voter in people:
        cast(voter, posts[0].id, UP)
        cast(voter, posts[2].id, DOWN)
    require(12, 0, -12)
    cast(leaver, posts[1].id, DOWN)
    cast(people[1], posts[2].id, UP)
    cast(people[2], posts[0].id, NONE)
    require(11, -1, -10)
    with backend.uow() as tx:
        tx.users.remove(leaver.id)
    leaver = people[1]
    require(10, 0, -9)


def test_new_post_ranks_by_its_date_alone(backend: Backend) -> None:
    ann = add_user(backend.uow)
    posts = [add_post(backend.uow, ann, minutes=minutes) for minutes in (5, 0, 9)]

    for by in SortBy:
        page = backend.posts.list(ann, PostFilter(), Order(by), Window(2))
        first, second = {SortBy.VOTES: (2, 1)}.get(by, (2, 0))
        assert ids(page) == [posts[first].id, posts[second].id]


def test_an_edit_moves_no_post(backend: Backend) -> None:
    world = fill(backend)
    edit = EditPost(backend.uow, FrozenClock(NOW + timedelta(days=1)))
    before = {order: ids(backend.posts.list(world.ann, PostFilter(), order, Window(100))) for order in ORDERS}

    for post in world.posts[::3]:
        edit(Actor(post.owner_id), post.id, PostChanges(title="Another", content="Other content"))

    assert {order: ids(backend.posts.list(world.ann, PostFilter(), order, Window(100))) for order in ORDERS} == before
