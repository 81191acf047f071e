"""Every port, in memory: what use-case tests stand on. The contract suite holds these to the same promises as SQL."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from threading import RLock
from typing import TypeVar

from application.paging import Window
from application.views import (
    Account,
    Counts,
    Dashboard,
    PostFilter,
    PostView,
    PublicUser,
    SignedToken,
    TopPost,
    UserView,
)
from domain.posts import Post, PostNotFound, Tally
from domain.text import search_key
from domain.users import Actor, EmailTaken, InvalidToken, User, UsernameTaken, UserNotFound
from domain.votes import Direction, Vote

T = TypeVar("T")


@dataclass
class Rows:
    """What is stored. Entities are frozen, so copying the dicts copies the state."""

    users: dict[int, User] = field(default_factory=dict)
    posts: dict[int, Post] = field(default_factory=dict)
    votes: dict[tuple[int, int], Vote] = field(default_factory=dict)
    last_user_id: int = 0
    last_post_id: int = 0

    def copy(self) -> "Rows":
        return replace(self, users=dict(self.users), posts=dict(self.posts), votes=dict(self.votes))


class MemoryDatabase:
    """One database in memory: one transaction at a time, which happens whole or not at all."""

    def __init__(self) -> None:
        self.rows = Rows()
        self.lock = RLock()

    @contextmanager
    def transaction(self) -> Iterator["MemoryUnitOfWork"]:
        with self.lock:
            before = self.rows.copy()
            try:
                yield MemoryUnitOfWork(self)
            except BaseException:
                self.rows = before
                raise


class MemoryUnitOfWork:
    def __init__(self, database: MemoryDatabase) -> None:
        self.users = MemoryUserRepository(database)
        self.posts = MemoryPostRepository(database)
        self.votes = MemoryVoteRepository(database)
        self.posts_seen = MemoryPostReader(database)


class MemoryUserRepository:
    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def add(self, user: User) -> User:
        rows = self._database.rows
        if any(other.email_key == user.email_key for other in rows.users.values()):
            raise EmailTaken
        if user.username_key and any(other.username_key == user.username_key for other in rows.users.values()):
            raise UsernameTaken
        rows.last_user_id += 1
        rows.users[rows.last_user_id] = user.with_id(rows.last_user_id)
        return rows.users[rows.last_user_id]

    def remove(self, user_id: int) -> None:
        rows = self._database.rows
        rows.users.pop(user_id, None)
        for post in [post for post in rows.posts.values() if post.owner_id == user_id]:
            MemoryPostRepository(self._database).remove(post.id)
        for vote in [vote for vote in rows.votes.values() if vote.user_id == user_id]:
            post = rows.posts[vote.post_id]
            rows.posts[post.id] = replace(post, tally=post.tally_after(vote.direction, Direction.NONE))
            del rows.votes[vote.post_id, user_id]


class MemoryPostRepository:
    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def add(self, post: Post) -> Post:
        rows = self._database.rows
        if post.owner_id not in rows.users:
            raise InvalidToken
        rows.last_post_id += 1
        rows.posts[rows.last_post_id] = post.with_id(rows.last_post_id)
        return rows.posts[rows.last_post_id]

    def lock(self, post_id: int) -> Post:
        try:
            return self._database.rows.posts[post_id]
        except KeyError:
            raise PostNotFound(post_id) from None

    def save(self, post: Post) -> None:
        posts = self._database.rows.posts
        posts[post.id] = replace(post, tally=posts[post.id].tally)

    def save_tally(self, post_id: int, tally: Tally) -> None:
        posts = self._database.rows.posts
        posts[post_id] = replace(posts[post_id], tally=tally)

    def remove(self, post_id: int) -> None:
        rows = self._database.rows
        del rows.posts[post_id]
        rows.votes = {key: vote for key, vote in rows.votes.items() if vote.post_id != post_id}


class MemoryVoteRepository:
    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def find(self, user_id: int, post_id: int) -> Vote | None:
        return self._database.rows.votes.get((post_id, user_id))

    def add(self, vote: Vote) -> None:
        if vote.user_id not in self._database.rows.users:
            raise InvalidToken
        self.save(vote)

    def save(self, vote: Vote) -> None:
        self._database.rows.votes[vote.post_id, vote.user_id] = vote

    def remove(self, user_id: int, post_id: int) -> None:
        del self._database.rows.votes[post_id, user_id]


class MemoryUserReader:
    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def get(self, user_id: int) -> UserView:
        try:
            return _user_view(self._database.rows.users[user_id])
        except KeyError:
            raise UserNotFound(user_id) from None

    def list(self, search: str, window: Window) -> Sequence[UserView]:
        needle = search_key(search)
        found = [
            user
            for user in sorted(self._database.rows.users.values(), key=lambda user: user.id)
            if needle in search_key(user.email) or needle in search_key(user.username or "")
        ]
        return [_user_view(user) for user in _page(found, window)]

    def find_actor(self, user_id: int) -> Actor | None:
        user = self._database.rows.users.get(user_id)
        return Actor(user.id, user.role) if user and user.is_active else None

    def find_account(self, email_key: str) -> Account | None:
        for user in self._database.rows.users.values():
            if user.email_key == email_key:
                return Account(user.id, user.password_hash, user.is_active)
        return None


class MemoryPostReader:
    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def get(self, reader: Actor, post_id: int) -> PostView:
        post = self._database.rows.posts.get(post_id)
        if post is None or not post.is_visible_to(reader):
            raise PostNotFound(post_id)
        return self._view(reader, post)

    def list(self, reader: Actor, which: PostFilter, window: Window) -> Sequence[PostView]:
        with self._database.lock:
            found = [post for post in self._database.rows.posts.values() if _matches(reader, which, post)]
            found.sort(key=lambda post: (post.created_at, post.id), reverse=True)
            return [self._view(reader, post) for post in _page(found, window)]

    def _view(self, reader: Actor, post: Post) -> PostView:
        rows = self._database.rows
        owner = rows.users[post.owner_id]
        mine = rows.votes.get((post.id, reader.id))
        return PostView(
            id=post.id,
            title=post.title,
            content=post.content,
            published=post.published,
            created_at=post.created_at,
            updated_at=post.updated_at,
            version=post.version,
            owner=PublicUser(owner.id, owner.username, owner.created_at),
            upvotes=post.tally.upvotes,
            downvotes=post.tally.downvotes,
            my_vote=mine.direction.value if mine else 0,
        )


class MemoryDashboardReader:
    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def get(self, since: datetime) -> Dashboard:
        rows = self._database.rows
        kinds = (list(rows.users.values()), list(rows.posts.values()), list(rows.votes.values()))
        published = [post for post in rows.posts.values() if post.published]
        ranked = sorted(published, key=lambda post: (post.tally.votes, post.id), reverse=True)
        return Dashboard(
            total=Counts(*(len(kind) for kind in kinds)),
            last_24h=Counts(*(sum(thing.created_at >= since for thing in kind) for kind in kinds)),
            top_posts=tuple(TopPost(post.id, post.title, post.tally.votes) for post in ranked[:10]),
        )


def _matches(reader: Actor, which: PostFilter, post: Post) -> bool:
    if which.owner_id not in {None, post.owner_id} or search_key(which.search) not in search_key(post.title):
        return False
    own = post.owner_id == reader.id
    if which.published is None:
        return post.published or own
    return post.published if which.published else not post.published and (own or reader.is_admin)


def _user_view(user: User) -> UserView:
    return UserView(user.id, user.username, user.created_at, user.email, user.role, user.is_active)


def _page(found: Sequence[T], window: Window) -> Sequence[T]:
    return found[window.skip : window.skip + window.limit]


class FrozenClock:
    """Stands still until it is told to move."""

    def __init__(self, now: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def advance(self, by: timedelta) -> None:
        self._now += by


class PlainHasher:
    """Hashes at no cost, and counts how often it was asked."""

    def __init__(self) -> None:
        self.verifications = 0

    def hash(self, password: str) -> str:
        return f"plain:{password}"

    def verify(self, password: str, password_hash: str | None) -> bool:
        self.verifications += 1
        return password_hash == f"plain:{password}"


class PlainTokens:
    """Tokens that anybody could forge, valid for an hour."""

    def issue(self, user_id: int, now: datetime) -> SignedToken:
        return SignedToken(f"{user_id}:{now.isoformat()}", 3600)

    def read(self, token: str, now: datetime) -> int:
        user_id, _, issued = token.partition(":")
        try:
            if now - datetime.fromisoformat(issued) < timedelta(hours=1):
                return int(user_id)
        except ValueError:
            pass
        raise InvalidToken


class StaticHealth:
    """As well as it is told to be."""

    def __init__(self, **checks: str) -> None:
        self._checks = checks

    def checks(self) -> Mapping[str, str]:
        return self._checks
