"""Values that use cases and ports take and return.

Posts and their owners are not frozen: making a frozen one takes three times as long, and a page has ten.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from math import isclose
from typing import Literal

from domain.sessions import RefreshHashes
from domain.users import Actor, Role
from domain.votes import Direction


@dataclass(slots=True)
class PublicUser:
    """Public part of an account."""

    id: int
    username: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class UserView:
    """An account as its owner and administrators see it."""

    id: int
    username: str | None
    created_at: datetime
    email: str
    role: Role
    is_active: bool

    def public(self) -> PublicUser:
        """Return the public part."""
        return PublicUser(self.id, self.username, self.created_at)


@dataclass(frozen=True, slots=True)
class Verification:
    """Result of verifying a password."""

    is_right: bool
    padding: float
    """Seconds that verifying against the costliest kind of hash would have taken longer."""


@dataclass(slots=True)
class PostView:
    """A post as one reader sees it; `my_vote` is the reader's vote: -1, 0 or 1."""

    id: int
    title: str
    content: str
    published: bool
    created_at: datetime
    updated_at: datetime
    version: int
    owner: PublicUser
    upvotes: int
    downvotes: int
    my_vote: int


@dataclass(frozen=True, slots=True)
class PostFilter:
    """Conditions on the posts of a list.

    `published` None selects every published post and the reader's own drafts; False selects drafts: the reader's own,
    or all for an administrator. `search` matches titles that contain it in any case; "" matches all. Posts were
    created at `since` or later, and before `until`.
    """

    search: str = ""
    published: bool | None = None
    owner_id: int | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class VoteReceipt:
    """Outcome of casting a vote, and the new tally."""

    message: str
    post_id: int
    direction: int
    upvotes: int
    downvotes: int


@dataclass(frozen=True, slots=True)
class SignedToken:
    """An access token and its lifetime in seconds."""

    access_token: str
    expires_in: int


@dataclass(frozen=True, slots=True)
class Claims:
    """Account and session of an access token."""

    user_id: int
    session_id: int


@dataclass(frozen=True, slots=True)
class Bearer:
    """Holder of an access token whose signature and time are right.

    Account and session are still to be checked, as of `at`: by the statement that serves the bearer, in one round trip.
    """

    id: int
    session_id: int
    at: datetime


Caller = Actor | Bearer
"""Identity that a use case serves; a `Bearer` is checked on the way."""


@dataclass(frozen=True, slots=True)
class VoteCommand:
    """A vote to cast; without `repeatable`, one that changes nothing is refused."""

    caller: Caller
    post_id: int
    direction: Direction
    repeatable: bool = True

    @property
    def account(self) -> int:
        """Account that votes."""
        return self.caller.id

    @property
    def row(self) -> int:
        """Row that a transaction with this command locks: its post."""
        return self.post_id


@dataclass(frozen=True, slots=True)
class PostCommand:
    """A post to write."""

    caller: Caller
    title: str
    content: str
    published: bool

    @property
    def account(self) -> int:
        """Account that writes."""
        return self.caller.id

    @property
    def row(self) -> None:
        """No existing row is locked."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A limit: `limit` attempts per `window`, counted in `bucket`; 0 is no limit."""

    bucket: str
    limit: int
    window: timedelta


@dataclass(frozen=True, slots=True)
class FreshRefreshToken:
    """A new refresh token: the token for the client, its hashes for storage."""

    token: str
    hashes: RefreshHashes


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of a sign-in or refresh, with the seconds until each expires unused."""

    access_token: str
    expires_in: int
    refresh_token: str
    refresh_expires_in: int


@dataclass(frozen=True, slots=True)
class SessionView:
    """A session as its owner sees it."""

    id: int
    created_at: datetime
    last_used_at: datetime
    user_agent: str


@dataclass(frozen=True, slots=True)
class AccountView:
    """An account and its sessions, as operators see them."""

    profile: UserView
    sessions: Sequence[SessionView]


@dataclass(frozen=True, slots=True)
class OwnVote:
    """A vote as its voter sees it."""

    post_id: int
    title: str
    direction: int
    created_at: datetime


class Counter(StrEnum):
    """Names of the counters of posts: the tables whose rows they count."""

    VOTES = "votes"


@dataclass(frozen=True, slots=True)
class Recount:
    """Stored and counted values of one counter of a post, read at one moment.

    They include what follows from the counter, and are named as the columns.
    """

    post_id: int
    stored: Mapping[str, float]
    counted: Mapping[str, float]

    @property
    def agrees(self) -> bool:
        """Whether both are equal; logarithms differ slightly between machines."""
        return all(isclose(self.stored[name], value, rel_tol=1e-14) for name, value in self.counted.items())


@dataclass(frozen=True, slots=True)
class EntityCounts:
    """Numbers of accounts, posts and votes."""

    users: int = 0
    posts: int = 0
    votes: int = 0


@dataclass(frozen=True, slots=True)
class TopPost:
    """A post in a ranking; `votes` is upvotes minus downvotes."""

    id: int
    title: str
    votes: int


@dataclass(frozen=True, slots=True)
class Dashboard:
    """Numbers and top posts, for administrators."""

    total: EntityCounts
    last_24h: EntityCounts
    top_posts: tuple[TopPost, ...]


class Action(StrEnum):
    """What a security event is about; `docs/logs.md` explains each."""

    REGISTER = "register"
    CREATE_ADMIN = "create-admin"
    SIGN_IN = "sign-in"
    REFRESH = "refresh"
    SIGN_OUT = "sign-out"
    END_SESSIONS = "end-sessions"
    CHANGE_PASSWORD = "change-password"  # noqa: S105 - no password
    SET_PASSWORD = "set-password"  # noqa: S105 - no password
    CHANGE_EMAIL = "change-email"
    CHANGE_USERNAME = "change-username"
    PROMOTE = "promote"
    DEMOTE = "demote"
    ACTIVATE = "activate"
    DEACTIVATE = "deactivate"
    DELETE_ACCOUNT = "delete-account"
    ACCESS = "access"


@dataclass(frozen=True, slots=True)
class SecurityEvent:
    """The outcome of an action: by `actor`, on the account with id `subject`.

    None is an unknown one. It holds no secret, and no text that a client sent.
    """

    action: Action
    outcome: Literal["success", "refused", "throttled"]
    actor: Actor | None
    subject: int | None
    reason: str | None = None
