"""Storage in memory, for tests of use cases; it passes the contract suite."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from math import ceil
from threading import RLock
from typing import Any, TypeVar

from application.errors import RowLocked
from application.paging import Order, Page, PageCursor, SortBy, Window
from application.ports.storage import UnitOfWork
from application.views import (
    Bearer,
    Caller,
    Counter,
    Dashboard,
    EntityCounts,
    OwnVote,
    PostFilter,
    PostView,
    PublicUser,
    SessionView,
    TopPost,
    UserView,
)
from domain.errors import QuotaExceeded
from domain.posts import Post, PostNotFound
from domain.sessions import Session
from domain.text import fold
from domain.users import OPERATOR, Actor, EmailTaken, InvalidToken, User, UsernameTaken, UserNotFound
from domain.votes import Direction, Tally, Vote, VoteContext, hotness

T = TypeVar("T")
V = TypeVar("V")


@dataclass
class Rows:
    """Stored rows. Entities are frozen, so copies of the dicts copy the state."""

    users: dict[int, User] = field(default_factory=dict)
    posts: dict[int, Post] = field(default_factory=dict)
    votes: dict[tuple[int, int], Vote] = field(default_factory=dict)
    sessions: dict[int, Session] = field(default_factory=dict)
    answers: dict[tuple[int, str], tuple[PostView, datetime]] = field(default_factory=dict)
    quotas: dict[int, tuple[int, int, datetime]] = field(default_factory=dict)
    last_user_id: int = 0
    last_session_id: int = 0
    last_post_id: int = 0

    def copy(self) -> "Rows":
        tables: dict[str, Any] = {name: dict(rows) for name, rows in vars(self).items() if isinstance(rows, dict)}
        return replace(self, **tables)


class MemoryDatabase:
    """A database in memory: one transaction at a time, which can roll back."""

    def __init__(self) -> None:
        self.rows = Rows()
        self.lock = RLock()

    @contextmanager
    def transaction(self) -> Iterator[UnitOfWork]:
        with self.lock:
            before = self.rows.copy()
            try:
                yield UnitOfWork(
                    users=MemoryUserRepository(self),
                    sessions=MemorySessionRepository(self),
                    posts=MemoryPostRepository(self),
                    votes=MemoryVoteRepository(self),
                    idempotency=MemoryIdempotencyStore(self),
                    quotas=MemoryQuotaStore(self),
                    post_reader=MemoryPostReader(self),
                )
            except BaseException:
                self.rows = before
                raise

    @property
    def counters(self) -> Mapping[Counter, Callable[[Post], bool]]:
        """Whether a counter of a post is what its rows count."""
        return {Counter.VOTES: lambda post: post.tally == self._tally(post.id)}

    def wrong_counters(self) -> list[int]:
        """Return the posts with a wrong counter."""
        found = self.rows.posts.values()
        return [post.id for post in found if not all(agrees(post) for agrees in self.counters.values())]

    def _tally(self, post_id: int) -> Tally:
        directions = [vote.direction for vote in self.rows.votes.values() if vote.post_id == post_id]
        return Tally(directions.count(Direction.UP), directions.count(Direction.DOWN))


class MemoryUserRepository:
    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def add(self, user: User) -> User:
        rows = self._database.rows
        self._require_free(user)
        rows.last_user_id += 1
        rows.users[rows.last_user_id] = user.with_id(rows.last_user_id)
        return rows.users[rows.last_user_id]

    def lock(self, user_id: int) -> User:
        try:
            return self._database.rows.users[user_id]
        except KeyError:
            raise UserNotFound(user_id) from None

    def lock_admins(self) -> Sequence[User]:
        return [user for user in self._database.rows.users.values() if user.is_active_admin]

    def save(self, user: User) -> None:
        self._require_free(user)
        self._database.rows.users[user.id] = user

    def _require_free(self, user: User) -> None:
        others = [other for other in self._database.rows.users.values() if other.id != user.id]
        if any(other.email_key == user.email_key for other in others):
            raise EmailTaken
        if user.username_key and any(other.username_key == user.username_key for other in others):
            raise UsernameTaken

    def remove(self, user_id: int) -> User | None:
        rows = self._database.rows
        removed = rows.users.pop(user_id, None)
        rows.answers = {of: stored for of, stored in rows.answers.items() if of[0] != user_id}
        rows.quotas.pop(user_id, None)
        MemorySessionRepository(self._database).remove_all(user_id)
        for post in [post for post in rows.posts.values() if post.owner_id == user_id]:
            MemoryPostRepository(self._database).remove(post.id)
        for vote in [vote for vote in rows.votes.values() if vote.user_id == user_id]:
            post = rows.posts[vote.post_id]
            rows.posts[post.id] = replace(post, tally=post.tally.after(vote.direction, Direction.NONE))
            del rows.votes[vote.post_id, user_id]
        return removed


class MemorySessionRepository:
    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def add(self, session: Session) -> Session:
        rows = self._database.rows
        if session.user_id not in rows.users:
            raise InvalidToken
        rows.last_session_id += 1
        rows.sessions[rows.last_session_id] = session.with_id(rows.last_session_id)
        return rows.sessions[rows.last_session_id]

    def lock_family(self, family: str) -> Session | None:
        for session in self._database.rows.sessions.values():
            if session.refresh.family == family:
                return session
        return None

    def save(self, session: Session) -> None:
        self._database.rows.sessions[session.id] = session

    def remove(self, user_id: int, session_id: int) -> bool:
        sessions = self._database.rows.sessions
        if session_id not in sessions or sessions[session_id].user_id != user_id:
            return False
        del sessions[session_id]
        return True

    def remove_all(self, user_id: int, *, but: int = 0) -> None:
        self._keep(lambda session: session.user_id != user_id or session.id == but)

    def remove_ended(self, user_id: int, now: datetime) -> None:
        self._keep(lambda session: session.user_id != user_id or session.ends_at > now)

    def remove_idlest(self, user_id: int, *, keep: int) -> None:
        own = [session for session in self._database.rows.sessions.values() if session.user_id == user_id]
        own.sort(key=lambda session: (session.last_used_at, session.id), reverse=True)
        idle = {session.id for session in own[keep:]}
        self._keep(lambda session: session.id not in idle)

    def _keep(self, wanted: Callable[[Session], bool]) -> None:
        rows = self._database.rows
        rows.sessions = {number: session for number, session in rows.sessions.items() if wanted(session)}


class MemoryPostRepository:
    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def add_all(self, written: Sequence[tuple[Caller, Post]]) -> Sequence[PostView | InvalidToken]:
        return [self._add(caller, post) for caller, post in written]

    def _add(self, caller: Caller, post: Post) -> PostView | InvalidToken:
        rows = self._database.rows
        try:
            owner = _checked(self._database, caller)
        except InvalidToken as refusal:
            return refusal
        rows.last_post_id += 1
        rows.posts[rows.last_post_id] = post.with_id(rows.last_post_id)
        return MemoryPostReader(self._database).get(owner, rows.last_post_id)

    def lock(self, post_id: int, actor: Actor = OPERATOR) -> Post:
        post = self._database.rows.posts.get(post_id)
        if post is None or not post.is_visible_to(actor):
            raise PostNotFound(post_id)
        return post

    def save(self, post: Post) -> None:
        posts = self._database.rows.posts
        posts[post.id] = replace(post, tally=posts[post.id].tally)

    def remove(self, post_id: int) -> None:
        rows = self._database.rows
        del rows.posts[post_id]
        rows.votes = {key: vote for key, vote in rows.votes.items() if vote.post_id != post_id}


class MemoryVoteRepository:
    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def lock_contexts(
        self,
        asked: Sequence[tuple[Caller, int]],
        *,
        wait: bool = True,  # noqa: ARG002 - one transaction at a time
    ) -> Sequence[VoteContext | PostNotFound | InvalidToken | RowLocked]:
        return [self._context(caller, post_id) for caller, post_id in asked]

    def _context(self, caller: Caller, post_id: int) -> VoteContext | PostNotFound | InvalidToken:
        try:
            voter = _checked(self._database, caller)
            post = MemoryPostRepository(self._database).lock(post_id, voter)
        except (PostNotFound, InvalidToken) as refusal:
            return refusal
        vote = self._database.rows.votes.get((post_id, voter.id))
        direction = vote.direction if vote else Direction.NONE
        return VoteContext(voter, post.id, post.owner_id, post.published, post.created_at, post.tally, direction)

    def record_all(self, cast: Sequence[Vote], counted: Sequence[VoteContext]) -> None:
        rows = self._database.rows
        for vote in cast:
            if vote.user_id not in rows.users:
                raise InvalidToken
            if vote.direction is Direction.NONE:
                rows.votes.pop((vote.post_id, vote.user_id), None)
            else:
                rows.votes[vote.post_id, vote.user_id] = vote
        for context in counted:
            rows.posts[context.post_id] = replace(rows.posts[context.post_id], tally=context.tally)


class MemoryIdempotencyStore:
    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def find(self, user_id: int, key: str, now: datetime, ends_at: datetime) -> PostView | None:
        answers = self._database.rows.answers
        stored = answers.get((user_id, key))
        if stored is None or now >= stored[1]:
            return None
        answers[user_id, key] = (stored[0], min(stored[1], ends_at))
        return stored[0]

    def add(self, user_id: int, key: str, response: PostView, now: datetime, ends_at: datetime) -> None:
        rows = self._database.rows
        rows.answers = {of: stored for of, stored in rows.answers.items() if now < stored[1]}
        rows.answers[user_id, key] = (response, ends_at)


class MemoryQuotaStore:
    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def charge(
        self, user_id: int, written: tuple[int, int], limits: tuple[int, int], now: datetime, ends_at: datetime
    ) -> None:
        quotas = self._database.rows.quotas
        rows, size, until = quotas.get(user_id, (0, 0, ends_at))
        before = (rows, size) if until == ends_at else (0, 0)
        counts = before[0] + written[0], before[1] + written[1]
        if any(limit and count > limit for count, limit in zip(counts, limits, strict=True)):
            raise QuotaExceeded(ceil((ends_at - now).total_seconds()))
        quotas[user_id] = (*counts, ends_at)


class MemoryUserReader:
    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def get(self, user_id: int) -> UserView:
        try:
            return _user_view(self._database.rows.users[user_id])
        except KeyError:
            raise UserNotFound(user_id) from None

    def list(self, search: str, window: Window) -> Page[UserView]:
        needle = fold(search)
        found = [
            user
            for user in self._database.rows.users.values()
            if needle in fold(user.email) or needle in fold(user.username or "")
        ]
        return _page(found, lambda user: PageCursor(user.id, user.id), window, _user_view, descending=False)

    def find_actor(self, bearer: Bearer) -> Actor:
        return _checked(self._database, bearer)

    def find_by_email(self, email_key: str) -> User | None:
        for user in self._database.rows.users.values():
            if user.email_key == email_key:
                return user
        return None

    def find(self, user_id: int) -> User | None:
        return self._database.rows.users.get(user_id)

    def sessions(self, user_id: int, now: datetime) -> Sequence[SessionView]:
        found = [
            session
            for session in self._database.rows.sessions.values()
            if session.user_id == user_id and now < session.ends_at
        ]
        found.sort(key=lambda session: (session.last_used_at, session.id), reverse=True)
        return [
            SessionView(session.id, session.created_at, session.last_used_at, session.user_agent) for session in found
        ]


class MemoryPostReader:
    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def get(self, reader: Caller, post_id: int) -> PostView:
        if isinstance(reader, Bearer):
            reader = _checked(self._database, reader)
        post = self._database.rows.posts.get(post_id)
        if post is None or not post.is_visible_to(reader):
            raise PostNotFound(post_id)
        return self._view(reader, post)

    def list(self, reader: Caller, which: PostFilter, order: Order, window: Window) -> Page[PostView]:
        with self._database.lock:
            if isinstance(reader, Bearer):
                reader = _checked(self._database, reader)
            found = [post for post in self._database.rows.posts.values() if _matches(reader, which, post)]
            return _page(
                found,
                lambda post: PageCursor(_RANKS[order.by](post), post.id),
                window,
                lambda post: self._view(reader, post),
                descending=order.descending,
            )

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


def _checked(database: MemoryDatabase, caller: Caller) -> Actor:
    user = database.rows.users.get(caller.id)
    if user is None:
        raise InvalidToken
    if isinstance(caller, Bearer):
        session = database.rows.sessions.get(caller.session_id)
        if session is None or session.user_id != user.id or caller.at >= session.ends_at or not user.is_active:
            raise InvalidToken
    return Actor(user.id, user.role, caller.session_id)


class MemoryVoteReader:
    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def list(self, voter: Actor, direction: Direction | None, window: Window) -> Page[OwnVote]:
        rows = self._database.rows
        found = [
            vote
            for vote in rows.votes.values()
            if vote.user_id == voter.id
            and direction in {None, vote.direction}
            and rows.posts[vote.post_id].is_visible_to(voter)
        ]
        return _page(
            found,
            lambda vote: PageCursor(vote.created_at, vote.post_id),
            window,
            lambda vote: OwnVote(vote.post_id, rows.posts[vote.post_id].title, vote.direction.value, vote.created_at),
        )


class MemoryDashboardReader:
    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def get(self, since: datetime) -> Dashboard:
        rows = self._database.rows
        kinds = {counted.name: list(getattr(rows, counted.name).values()) for counted in fields(EntityCounts)}
        published = [post for post in rows.posts.values() if post.published]
        ranked = sorted(published, key=lambda post: (post.tally.votes, post.id), reverse=True)
        return Dashboard(
            total=EntityCounts(**{name: len(kind) for name, kind in kinds.items()}),
            last_24h=EntityCounts(
                **{name: sum(thing.created_at >= since for thing in kind) for name, kind in kinds.items()}
            ),
            top_posts=tuple(TopPost(post.id, post.title, post.tally.votes) for post in ranked[:10]),
        )


def _matches(reader: Actor, which: PostFilter, post: Post) -> bool:
    if which.owner_id not in {None, post.owner_id} or fold(which.search) not in fold(post.title):
        return False
    if (which.since and post.created_at < which.since) or (which.until and post.created_at >= which.until):
        return False
    own = post.owner_id == reader.id
    if which.published is None:
        return post.published or own
    return post.published if which.published else not post.published and (own or reader.is_admin)


def _user_view(user: User) -> UserView:
    return UserView(user.id, user.username, user.created_at, user.email, user.role, user.is_active)


_RANKS: Mapping[SortBy, Callable[[Post], datetime | float]] = {
    SortBy.DATE: lambda post: post.created_at,
    SortBy.VOTES: lambda post: post.tally.votes,
    SortBy.HOT: lambda post: hotness(post.tally.votes, post.created_at),
}


def _page(
    found: Sequence[T],
    place: Callable[[T], PageCursor],
    window: Window,
    view: Callable[[T], V],
    *,
    descending: bool = True,
) -> Page[V]:
    def key(position: PageCursor) -> tuple[Any, int]:
        return position.key, position.id

    rows = sorted(found, key=lambda row: key(place(row)), reverse=descending)
    after = window.after
    if after is not None:
        rows = [row for row in rows if (key(place(row)) < key(after) if descending else key(place(row)) > key(after))]
    rows = rows[window.skip :]
    shown = rows[: window.limit]
    return Page([view(row) for row in shown], place(shown[-1]) if len(rows) > len(shown) else None)
