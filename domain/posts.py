"""Posts: what makes one valid, who may see and change it, and how its tally moves."""

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from domain.errors import Forbidden, Invalid, NotFound
from domain.text import is_storable
from domain.users import Actor
from domain.votes import Direction

TITLE_MAX: Final = 300
CONTENT_MAX: Final = 65_536


class PostNotFound(NotFound):
    """The same for a post that never was and for one that this person may not see."""

    code = "post-not-found"

    def __init__(self, post_id: int) -> None:
        super().__init__(f"post with id: {post_id} not found")


class NotYourPost(Forbidden):
    def __init__(self) -> None:
        super().__init__("this post belongs to somebody else; only its owner may change it so")


@dataclass(frozen=True, slots=True)
class Tally:
    """The votes on a post, counted."""

    upvotes: int = 0
    downvotes: int = 0

    @property
    def votes(self) -> int:
        """The score: upvotes less downvotes."""
        return self.upvotes - self.downvotes

    def after(self, earlier: Direction, later: Direction) -> "Tally":
        """Count one person's vote anew: take the earlier one out and the later one in."""
        return Tally(
            self.upvotes + (later is Direction.UP) - (earlier is Direction.UP),
            self.downvotes + (later is Direction.DOWN) - (earlier is Direction.DOWN),
        )


@dataclass(frozen=True, slots=True)
class PostChanges:
    """What an edit names; None leaves a part as it is."""

    title: str | None = None
    content: str | None = None
    published: bool | None = None

    @property
    def is_empty(self) -> bool:
        """Whether the edit names nothing."""
        return self.title is None and self.content is None and self.published is None

    @property
    def touches_only_published(self) -> bool:
        """Whether the edit shows or hides the post and leaves its text alone."""
        return self.published is not None and self.title is None and self.content is None


@dataclass(frozen=True, slots=True)
class Post:
    """Something a person wrote. `version` counts its edits, from 1; votes are no edits."""

    id: int
    owner_id: int
    title: str
    content: str
    published: bool
    created_at: datetime
    updated_at: datetime
    version: int = 1
    tally: Tally = field(default_factory=Tally)

    @classmethod
    def write(cls, *, owner_id: int, title: str, content: str, published: bool, now: datetime) -> "Post":
        """Make a new post; storage gives it its id.

        Raises:
            Invalid: the title or the content breaks a rule.
        """
        return cls(0, owner_id, _title(title), _content(content), published, created_at=now, updated_at=now)

    def with_id(self, post_id: int) -> "Post":
        """Give the post the id that storage chose."""
        return replace(self, id=post_id)

    def is_visible_to(self, actor: Actor) -> bool:
        """Published posts are for everybody, drafts for their owner and for administrators."""
        return self.published or actor.id == self.owner_id or actor.is_admin

    def require_visible_to(self, actor: Actor) -> None:
        """Let those pass who may know of this post.

        Raises:
            PostNotFound: to this actor it does not exist.
        """
        if not self.is_visible_to(actor):
            raise PostNotFound(self.id)

    def edited_by(self, actor: Actor, changes: PostChanges, now: datetime) -> "Post":
        """Apply an edit: owners change anything, administrators show or hide and no more.

        An edit that names something is a new version, even where it names what was there before; one that
        names nothing is the same post.

        Raises:
            PostNotFound: to this actor the post does not exist.
            NotYourPost: the actor may see it, but not change it so.
            Invalid: the title or the content breaks a rule.
        """
        self.require_visible_to(actor)
        if actor.id != self.owner_id and not (actor.is_admin and changes.touches_only_published):
            raise NotYourPost
        if changes.is_empty:
            return self
        return replace(
            self,
            title=self.title if changes.title is None else _title(changes.title),
            content=self.content if changes.content is None else _content(changes.content),
            published=self.published if changes.published is None else changes.published,
            updated_at=now,
            version=self.version + 1,
        )

    def require_removable_by(self, actor: Actor) -> None:
        """Let the owner and administrators pass.

        Raises:
            PostNotFound: to this actor the post does not exist.
            NotYourPost: the actor may see it, but not remove it.
        """
        self.require_visible_to(actor)
        if actor.id != self.owner_id and not actor.is_admin:
            raise NotYourPost

    def tally_after(self, earlier: Direction, later: Direction) -> Tally:
        """Count the tally with one person's earlier vote replaced by a later one."""
        return self.tally.after(earlier, later)


def _title(title: str) -> str:
    return _text("title", title.strip(), TITLE_MAX)


def _content(content: str) -> str:
    return _text("content", content, CONTENT_MAX)


def _text(name: str, text: str, most: int) -> str:
    if not text.strip():
        raise Invalid(name, "string_too_short", f"the {name} is blank; write something")
    if len(text) > most:
        raise Invalid(name, "string_too_long", f"the {name} has {len(text)} characters; {most} are allowed")
    if not is_storable(text):
        raise Invalid(name, "text_unstorable", f"the {name} has a NUL or a lone surrogate; remove it")
    return text
