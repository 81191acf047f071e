"""Every port of the application: what it needs from the world, promised in sentences.

Adapters in `infrastructure` keep these promises, fakes in `tests` keep them too, and `tests/contracts` holds all
of them to the same suite. Any storage port may raise `Unavailable`.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol

from application.paging import Window
from application.views import Account, Dashboard, PostFilter, PostView, SignedToken, UserView
from domain.posts import Post, Tally
from domain.users import Actor, User
from domain.votes import Vote


class Unavailable(Exception):
    """Something that Agora stands on cannot answer now; trying again later may help."""


# Storage: what commands write through. Lock order, everywhere: posts by ascending id, then users, then votes.


class UserRepository(Protocol):
    """Accounts."""

    def add(self, user: User) -> User:
        """Store a new account and return it with its id.

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


class PostRepository(Protocol):
    """Posts. Whoever holds the lock on a post is the only one who can change it or its votes."""

    def add(self, post: Post) -> Post:
        """Store a new post and return it with its id.

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
        """Store the edit of a locked post; its tally is `save_tally`'s business."""
        ...

    def save_tally(self, post_id: int, tally: Tally) -> None:
        """Store the tally of a locked post."""
        ...

    def remove(self, post_id: int) -> None:
        """Remove a locked post with the votes on it."""
        ...


class VoteRepository(Protocol):
    """Votes. The lock on their post guards them: take it first."""

    def find(self, user_id: int, post_id: int) -> Vote | None:
        """Find the person's vote on the post."""
        ...

    def add(self, vote: Vote) -> None:
        """Store a vote where the person had none.

        Raises:
            InvalidToken: the voter's account is gone, so nobody is asking any more.
        """
        ...

    def save(self, vote: Vote) -> None:
        """Store a vote in place of the person's earlier one."""
        ...

    def remove(self, user_id: int, post_id: int) -> None:
        """Remove the person's vote on the post."""
        ...


class UserReader(Protocol):
    """Questions about accounts."""

    def get(self, user_id: int) -> UserView:
        """Get one account.

        Raises:
            UserNotFound: no account has this id, whatever integer it is.
        """
        ...

    def list(self, search: str, window: Window) -> Sequence[UserView]:
        """List accounts by id whose e-mail or username holds `search`, whatever the case; "" finds all."""
        ...

    def find_actor(self, user_id: int) -> Actor | None:
        """Find who an access token speaks for, if that account is there and active: one primary-key read."""
        ...

    def find_account(self, email_key: str) -> Account | None:
        """Find what signing in needs to know."""
        ...


class PostReader(Protocol):
    """Questions about posts; each answers with what this reader may see, and nothing else."""

    def get(self, reader: Actor, post_id: int) -> PostView:
        """Get one post.

        Raises:
            PostNotFound: to this reader it does not exist.
        """
        ...

    def list(self, reader: Actor, which: PostFilter, window: Window) -> Sequence[PostView]:
        """List posts, newest first, of equal age the higher id first."""
        ...


class DashboardReader(Protocol):
    """The whole at a glance."""

    def get(self, since: datetime) -> Dashboard:
        """Count everything, and what was made since, and rank the ten posts with the most votes."""
        ...


class UnitOfWork(Protocol):
    """One transaction: all of it happens, or nothing.

    `posts_seen` reads what the transaction sees, its own changes included.
    """

    @property
    def users(self) -> UserRepository:
        """Accounts."""
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
    def posts_seen(self) -> PostReader:
        """Posts, as the transaction sees them."""
        ...


UnitOfWorkFactory = Callable[[], AbstractContextManager[UnitOfWork]]
"""Opens a transaction. Leaving the block commits; an exception undoes everything."""


# Services.


class Clock(Protocol):
    """The time."""

    def now(self) -> datetime:
        """Tell the present moment in UTC, to the microsecond."""
        ...


class PasswordHasher(Protocol):
    """Turns passwords into hashes that are slow to guess. Never call it inside a transaction."""

    def hash(self, password: str) -> str:
        """Hash a password.

        Raises:
            Unavailable: too many others are waiting for the same.
        """
        ...

    def verify(self, password: str, password_hash: str | None) -> bool:
        """Tell whether the hash is this password's; None takes as long as any other and is always False.

        Raises:
            Unavailable: too many others are waiting for the same.
        """
        ...


class TokenCodec(Protocol):
    """Access tokens: proof of a sign-in that needs no storage."""

    def issue(self, user_id: int, now: datetime) -> SignedToken:
        """Sign a token for an account."""
        ...

    def read(self, token: str, now: datetime) -> int:
        """Tell which account a token speaks for.

        Raises:
            InvalidToken: it is not ours, not whole, or no longer valid.
        """
        ...


class Health(Protocol):
    """Whether Agora can do its work."""

    def checks(self) -> Mapping[str, str]:
        """Name each thing that Agora stands on, with "ok" or what is wrong with it; raises nothing."""
        ...
