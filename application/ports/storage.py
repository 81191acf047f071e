"""Ports of storage: unit of work and repositories for commands, readers.

SQL adapters and in-memory fakes pass one suite, `tests/contracts`. Every method may raise `Unavailable`.

Lock order of every transaction: active administrators, posts by ascending id, users, then sessions, votes and quotas.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from application.errors import RowLocked
from application.paging import Order, Page, Window
from application.views import Bearer, Caller, Dashboard, OwnVote, PostFilter, PostView, SessionView, UserView
from domain.posts import Post, PostNotFound
from domain.sessions import Session
from domain.users import OPERATOR, Actor, InvalidToken, User
from domain.votes import Direction, Vote, VoteContext

ID_MAX: Final = 2**63 - 1
"""Largest id of a row: a signed integer of 64 bits."""


class UserRepository(Protocol):
    """Accounts."""

    def add(self, user: User) -> User:
        """Store a new account and return it with its id.

        Raises:
            EmailTaken: another account has its e-mail, by key.
            UsernameTaken: another account has its username, by key; if both are taken, either error is raised.
        """
        ...

    def lock(self, user_id: int) -> User:
        """Return an account and lock it against changes until the transaction ends.

        Raises:
            UserNotFound: no account has this id, which may be any integer.
        """
        ...

    def lock_admins(self) -> Sequence[User]:
        """Return the active administrators and lock them until the transaction ends."""
        ...

    def save(self, user: User) -> None:
        """Store the change of a locked account.

        Raises:
            EmailTaken: another account has its e-mail, by key.
            UsernameTaken: another account has its username, by key; if both are taken, either error is raised.
        """
        ...

    def remove(self, user_id: int) -> User | None:
        """Remove an account with its posts and its votes; return it if it exists.

        Its posts, and those that it voted on, are locked before it, so callers must not hold its lock.
        Every tally that its votes counted in is correct afterwards, also if users vote at the same time, the removed
        one included.
        """
        ...


class SessionRepository(Protocol):
    """Sessions. A session that has ended is not stored."""

    def add(self, session: Session) -> Session:
        """Store a new session and return it with its id.

        Raises:
            InvalidToken: its account does not exist any more.
        """
        ...

    def lock_family(self, family: str) -> Session | None:
        """Return and lock the session of a refresh token, by the hash of its family."""
        ...

    def save(self, session: Session) -> None:
        """Store the rotation of a locked session."""
        ...

    def remove(self, user_id: int, session_id: int) -> bool:
        """Remove one session of an account; return whether it existed."""
        ...

    def remove_all(self, user_id: int, *, but: int = 0) -> None:
        """Remove every session of an account except the one with id `but`."""
        ...

    def remove_ended(self, user_id: int, now: datetime) -> None:
        """Remove the sessions of an account that have ended."""
        ...

    def remove_idlest(self, user_id: int, *, keep: int) -> None:
        """Remove the sessions of an account except the `keep` that were used last."""
        ...


class PostRepository(Protocol):
    """Posts. Changes of a post and of its votes need the lock on the post."""

    def add_all(self, written: Sequence[tuple[Caller, Post]]) -> Sequence[PostView | InvalidToken]:
        """Store new posts of callers, and return each as its owner sees it.

        A caller that is refused gets `InvalidToken`: a bearer whose account is not active or whose session has ended,
        or an account that does not exist any more.

        Raises:
            InvalidToken: an owner's account was removed meanwhile; the commit raises it at the latest.
        """
        ...

    def lock(self, post_id: int, actor: Actor = OPERATOR) -> Post:
        """Return a post and lock it against changes until the transaction ends.

        A post that the actor may not see is neither read nor locked, so that it costs what a missing one costs.

        Raises:
            PostNotFound: no post has this id, which may be any integer, or the actor may not see it.
        """
        ...

    def save(self, post: Post) -> None:
        """Store the edit of a locked post, except its tally, which the votes own."""
        ...

    def remove(self, post_id: int) -> None:
        """Remove a locked post with the votes on it."""
        ...


class VoteRepository(Protocol):
    """Votes. The lock on their post guards them."""

    def lock_contexts(
        self, asked: Sequence[tuple[Caller, int]], *, wait: bool = True
    ) -> Sequence[VoteContext | PostNotFound | InvalidToken | RowLocked]:
        """Lock posts by ascending id; return what votes of callers on them depend on.

        A post that a caller may not see is neither read nor locked for this caller, so that it costs what a missing one
        costs: it is `PostNotFound`, as is an id that no post has, which may be any integer. A bearer whose account is
        not active or whose session has ended gets `InvalidToken`.

        This waits for posts that other transactions have locked. Without `wait`, such a post is skipped, with
        `RowLocked`.

        Raises:
            TransactionAborted: all posts are one, which is locked, and this does not wait.
        """
        ...

    def record_all(self, cast: Sequence[Vote], counted: Sequence[VoteContext]) -> None:
        """Replace users' votes on locked posts, and store the tallies that count them.

        A vote of direction NONE removes the earlier vote, if there is one. The commit stores the votes at the latest.

        Raises:
            InvalidToken: a voter's account does not exist any more.
        """
        ...


class IdempotencyStore(Protocol):
    """Responses to requests with an idempotency key.

    A client that did not receive a response repeats the request. Each user has keys of their own.
    """

    def find(self, user_id: int, key: str, now: datetime, ends_at: datetime) -> PostView | None:
        """Return the response stored under a key, if it has not expired.

        If there is none, the key is reserved until the transaction ends: another transaction waits or is refused. A
        response that would be stored past `ends_at`, since the clock was set back, expires then.

        Raises:
            KeyInUse: another transaction has reserved the key.
        """
        ...

    def add(self, user_id: int, key: str, response: PostView, now: datetime, ends_at: datetime) -> None:
        """Store the response under a key that has none; delete some expired responses.

        Raises:
            KeyInUse: another transaction has used the key.
        """
        ...


class QuotaStore(Protocol):
    """What each account has written in the present window."""

    def charge(
        self, user_id: int, written: tuple[int, int], limits: tuple[int, int], now: datetime, ends_at: datetime
    ) -> None:
        """Count rows and bytes against their limits, of which 0 is none.

        Counts begin again when `ends_at` is another than before. What is rolled back is not counted.

        Raises:
            QuotaExceeded: a limit is exceeded; the commit raises it at the latest.
        """
        ...


class UserReader(Protocol):
    """Queries about accounts."""

    def get(self, user_id: int) -> UserView:
        """Return one account.

        Raises:
            UserNotFound: no account has this id, which may be any integer.
        """
        ...

    def list(self, search: str, window: Window) -> Page[UserView]:
        """List accounts by id whose e-mail or username contains `search`, in any case."""
        ...

    def find_actor(self, bearer: Bearer) -> Actor:
        """Check a bearer. One statement that reads by primary key.

        Raises:
            InvalidToken: the account is not active, or the session has ended.
        """
        ...

    def find_by_email(self, email_key: str) -> User | None:
        """Return the account with an e-mail, to sign it in."""
        ...

    def find(self, user_id: int) -> User | None:
        """Return an account, to confirm its password."""
        ...

    def sessions(self, user_id: int, now: datetime) -> Sequence[SessionView]:
        """List the sessions of an account that have not ended, the latest used first."""
        ...


class PostReader(Protocol):
    """Queries about posts: each returns what `reader` may see, and checks a bearer."""

    def get(self, reader: Caller, post_id: int) -> PostView:
        """Return one post, by one query.

        Raises:
            PostNotFound: the reader may not see it, or it does not exist.
            InvalidToken: the reader's account is not active, or the session has ended.
        """
        ...

    def list(self, reader: Caller, which: PostFilter, order: Order, window: Window) -> Page[PostView]:
        """List posts in this order, by one query unless a bearer asks for drafts.

        Raises:
            InvalidToken: the reader's account is not active, or the session has ended.
        """
        ...


class VoteReader(Protocol):
    """Queries about votes."""

    def list(self, voter: Actor, direction: Direction | None, window: Window) -> Page[OwnVote]:
        """List a user's votes on posts that they can still see, latest first."""
        ...


class DashboardReader(Protocol):
    """Query for the dashboard."""

    def get(self, since: datetime) -> Dashboard:
        """Count all rows and those created since; rank the ten posts with most votes."""
        ...


@dataclass(slots=True)
class UnitOfWork:
    """One transaction: it commits whole or not at all.

    After `TransactionAborted` the use case may run again.
    """

    users: UserRepository
    sessions: SessionRepository
    posts: PostRepository
    votes: VoteRepository
    idempotency: IdempotencyStore
    quotas: QuotaStore
    post_reader: PostReader
    """Posts as the transaction sees them, its own changes included."""


UnitOfWorkFactory = Callable[[], AbstractContextManager[UnitOfWork]]
"""Opens a transaction. Leaving the block commits; an exception rolls back."""
