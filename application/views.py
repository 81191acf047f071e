"""What readers return: just what a caller may see, ready to be shown.

Posts and their owners are not frozen: making a frozen one takes three times as long, and a page holds ten.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import isclose

from domain.sessions import RefreshHashes
from domain.users import Role
from domain.votes import Tally


@dataclass(slots=True)
class PublicUser:
    """A person as everybody sees them."""

    id: int
    username: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class UserView:
    """A person as they and administrators see them."""

    id: int
    username: str | None
    created_at: datetime
    email: str
    role: Role
    is_active: bool

    def public(self) -> PublicUser:
        """Leave out what is nobody else's business."""
        return PublicUser(self.id, self.username, self.created_at)


@dataclass(slots=True)
class PostView:
    """A post as one reader sees it; `my_vote` is theirs: -1, 0 or 1."""

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
    """Which posts a list holds.

    `published` None means every published post and the reader's own drafts; False means drafts: the reader's
    own, or everybody's for an administrator. `search` is looked for in titles, whatever the case; "" finds all.
    Posts were created at `since` or later, and before `until`.
    """

    search: str = ""
    published: bool | None = None
    owner_id: int | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class VoteReceipt:
    """What casting a vote did, and the tally it left."""

    message: str
    post_id: int
    direction: int
    upvotes: int
    downvotes: int


@dataclass(frozen=True, slots=True)
class SignedToken:
    """An access token, and the seconds it lives."""

    access_token: str
    expires_in: int


@dataclass(frozen=True, slots=True)
class Claims:
    """Which account and session an access token speaks for."""

    user_id: int
    session_id: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """Something that may be tried `limit` times in `window` by whom `bucket` names; a limit of 0 is none at all."""

    bucket: str
    limit: int
    window: timedelta


@dataclass(frozen=True, slots=True)
class FreshRefreshToken:
    """A refresh token that was just made: to be handed out once, and to be stored as its hashes."""

    token: str
    hashes: RefreshHashes


@dataclass(frozen=True, slots=True)
class Tokens:
    """What signing in and refreshing give; the refresh token lives `refresh_expires_in` seconds unless it is used."""

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
    """An account and where it is signed in, as operators see it."""

    profile: UserView
    sessions: Sequence[SessionView]


@dataclass(frozen=True, slots=True)
class OwnVote:
    """A vote as its voter sees it."""

    post_id: int
    title: str
    direction: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Recount:
    """What a post keeps of its votes, and what the votes give, at one moment. The score is bound to the counters."""

    post_id: int
    kept: Tally
    kept_hot: float
    counted: Tally
    counted_hot: float

    @property
    def agrees(self) -> bool:
        """Whether the post tells the truth; of its rank, to what differs from machine to machine in a logarithm."""
        return self.kept == self.counted and isclose(self.kept_hot, self.counted_hot, rel_tol=1e-14)


@dataclass(frozen=True, slots=True)
class Export:
    """Everything that a person has made, for them to take away."""

    profile: UserView
    posts: Sequence[PostView]
    votes: Sequence[OwnVote]


@dataclass(frozen=True, slots=True)
class Counts:
    """How many there are of everything that people make."""

    users: int
    posts: int
    votes: int


@dataclass(frozen=True, slots=True)
class TopPost:
    """A post in a ranking; `votes` is upvotes less downvotes."""

    id: int
    title: str
    votes: int


@dataclass(frozen=True, slots=True)
class Dashboard:
    """The whole at a glance, for administrators."""

    total: Counts
    last_24h: Counts
    top_posts: tuple[TopPost, ...]
