"""Every port of the application: what it needs from the world, promised in sentences.

Adapters in `infrastructure` keep these promises, fakes in `tests` keep them too, and `tests/contracts` holds all
of them to the same suite. Any storage port may raise `Unavailable`.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol

from application.paging import Order, Page, Window
from application.views import (
    Claims,
    Dashboard,
    OwnVote,
    PostFilter,
    PostView,
    Recount,
    SessionView,
    UserView,
)
from domain.posts import Post
from domain.sessions import Session
from domain.users import Actor, User
from domain.votes import Direction, Vote, VoteContext

# Storage: what commands write through. Lock order, everywhere: active administrators, then posts
# by ascending id, then users, then sessions and votes.


class UserRepository(Protocol):
    """Accounts."""

    def add(self, user: User) -> User:
        """Store a new account and return it with its id.

        Raises:
            EmailTaken: its e-mail, by key, belongs to another account.
            UsernameTaken: its username, by key, belongs to another account; where both are taken, either is said.
        """
        ...

    def lock(self, user_id: int) -> User:
        """Get an account and keep everybody else from changing it until the transaction ends.

        Raises:
            UserNotFound: no account has this id, whatever integer it is.
        """
        ...

    def lock_admins(self) -> Sequence[User]:
        """Get the active administrators, and keep everybody else from changing them until the transaction ends."""
        ...

    def save(self, user: User) -> None:
        """Store the change of a locked account.

        Raises:
            EmailTaken: its e-mail, by key, belongs to another account.
            UsernameTaken: its username, by key, belongs to another account; where both are taken, either is said.
        """
        ...

    def remove(self, user_id: int) -> None:
        """Remove an account with its posts and its votes; one that is gone already is no error.

        Every tally that its votes had moved is true again, whoever votes at the same time, the account itself
        included.
        """
        ...


class SessionRepository(Protocol):
    """Sessions. One that has ended is not stored."""

    def add(self, session: Session) -> Session:
        """Store a new session and return it with its id.

        Raises:
            InvalidToken: its account is gone, so nobody is signing in any more.
        """
        ...

    def lock_family(self, family: str) -> Session | None:
        """Find the session of a refresh token by its family's hash, and keep everybody else from changing it."""
        ...

    def save(self, session: Session) -> None:
        """Store the rotation of a locked session."""
        ...

    def remove(self, user_id: int, session_id: int) -> bool:
        """End one session of an account; tell whether there was one."""
        ...

    def remove_all(self, user_id: int, *, but: int = 0) -> None:
        """End every session of an account, but for the one with this id."""
        ...

    def remove_ended(self, user_id: int, now: datetime) -> None:
        """Forget the sessions of an account that have come to their end."""
        ...


class PostRepository(Protocol):
    """Posts. Whoever holds the lock on a post is the only one who can change it or its votes."""

    def add(self, post: Post) -> PostView:
        """Store a new post and return it as its owner sees it.

        Raises:
            InvalidToken: its owner's account is gone, so nobody is asking any more.
        """
        ...

    def lock(self, post_id: int) -> Post:
        """Get a post and keep everybody else from changing it until the transaction ends.

        Raises:
            PostNotFound: no post has this id, whatever integer it is.
        """
        ...

    def save(self, post: Post) -> None:
        """Store the edit of a locked post; its tally is the business of votes."""
        ...

    def remove(self, post_id: int) -> None:
        """Remove a locked post with the votes on it."""
        ...


class VoteRepository(Protocol):
    """Votes. The lock on their post guards them."""

    def lock_context(self, user_id: int, post_id: int) -> VoteContext:
        """Lock a post, and tell what voting on it concerns and how this person has voted so far.

        Raises:
            PostNotFound: no post has this id, whatever integer it is.
        """
        ...

    def record(self, vote: Vote, counted: VoteContext) -> None:
        """Store a vote on a locked post in place of the person's earlier one, and the ballot that counts it.

        A vote of no direction takes the earlier one back. It is stored with the commit at the latest.

        Raises:
            InvalidToken: the voter's account is gone, so nobody is asking any more.
        """
        ...

    def recount(self, post_id: int) -> None:
        """Count the votes on a locked post one by one, and store the counters and the rank that they give."""
        ...


class IdempotencyStore(Protocol):
    """Answers, kept for people who ask the same again under a key of theirs because they do not know what became of it.

    Each key is its owner's alone.
    """

    def find(self, user_id: int, key: str, now: datetime) -> PostView | None:
        """Find the answer that was given under a key and is still kept.

        If there is none, nobody else finds none under this key until the transaction ends: they wait for that, or are
        refused.

        Raises:
            KeyInUse: somebody else is at work under this key.
        """
        ...

    def add(self, user_id: int, key: str, answer: PostView, now: datetime, ends_at: datetime) -> None:
        """Keep the answer that is given under a key for which there was none; forget some whose time is over.

        Raises:
            KeyInUse: somebody else was at work under this key.
        """
        ...


class UserReader(Protocol):
    """Questions about accounts."""

    def get(self, user_id: int) -> UserView:
        """Get one account.

        Raises:
            UserNotFound: no account has this id, whatever integer it is.
        """
        ...

    def list(self, search: str, window: Window) -> Page[UserView]:
        """List accounts by id whose e-mail or username holds `search`, whatever the case; "" finds all."""
        ...

    def find_actor(self, claims: Claims, now: datetime) -> Actor | None:
        """Find who an access token speaks for, if account and session are there, active and not at their end.

        One statement that reads by primary key.
        """
        ...

    def find_by_email(self, email_key: str) -> User | None:
        """Find the account of an e-mail, for signing in."""
        ...

    def find(self, user_id: int) -> User | None:
        """Find an account, for confirming its password."""
        ...

    def sessions(self, user_id: int, now: datetime) -> Sequence[SessionView]:
        """List the sessions of an account that are not at their end, the latest used first."""
        ...


class PostReader(Protocol):
    """Questions about posts; each answers with what this reader may see, and nothing else."""

    def get(self, reader: Actor, post_id: int) -> PostView:
        """Get one post.

        Raises:
            PostNotFound: to this reader it does not exist.
        """
        ...

    def list(self, reader: Actor, which: PostFilter, order: Order, window: Window | None) -> Page[PostView]:
        """List posts in this order; without a window, all of them."""
        ...

    def last_id(self) -> int:
        """Tell the highest id that a post has; 0 where there is none."""
        ...


class VoteReader(Protocol):
    """Questions about votes."""

    def list(self, voter: Actor, direction: Direction | None, window: Window | None) -> Page[OwnVote]:
        """List a person's votes on posts that they can still see, latest first; without a window, all of them."""
        ...

    def recount(self, after: int, most: int) -> Sequence[Recount]:
        """Count the votes on the posts whose ids come after this one, by ascending id and at most so many posts.

        A post and its votes are read at one moment: whoever is voting, they agree unless something is wrong.
        """
        ...


class DashboardReader(Protocol):
    """The whole at a glance."""

    def get(self, since: datetime) -> Dashboard:
        """Count everything, and what was made since, and rank the ten posts with the most votes."""
        ...


class UnitOfWork(Protocol):
    """One transaction: all of it happens, or nothing. A use case may be run again that was `TransactionAborted` in one.

    `post_reader` reads what the transaction sees, its own changes included.
    """

    @property
    def users(self) -> UserRepository:
        """Accounts."""
        ...

    @property
    def sessions(self) -> SessionRepository:
        """Sessions."""
        ...

    @property
    def posts(self) -> PostRepository:
        """Posts."""
        ...

    @property
    def votes(self) -> VoteRepository:
        """Votes."""
        ...

    @property
    def idempotency(self) -> IdempotencyStore:
        """Answers under keys."""
        ...

    @property
    def post_reader(self) -> PostReader:
        """Posts, as the transaction sees them."""
        ...


UnitOfWorkFactory = Callable[[], AbstractContextManager[UnitOfWork]]
"""Opens a transaction. Leaving the block commits; an exception undoes everything."""
