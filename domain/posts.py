"""Posts: what makes one valid, who may see and change it."""

from collections.abc import Container
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from domain.errors import Conflict, Forbidden, Invalid, NotFound, Stale
from domain.text import is_storable
from domain.users import Actor
from domain.votes import Tally, hotness

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


class VersionMismatch(Stale):
    code = "version-mismatch"

    def __init__(self) -> None:
        super().__init__("the post has been edited since you read it; read it again, and edit what it is now")


class KeyInUse(Conflict):
    code = "idempotency-key-in-use"

    def __init__(self) -> None:
        super().__init__("another request under this key is still being worked on; try again in a moment")


class KeyReused(Invalid):
    code = "idempotency-key-reused"

    def __init__(self) -> None:
        super().__init__("Idempotency-Key", "reused", "another post was written under this key; take a new one")


def is_visible(published: bool, owner_id: int, actor: Actor) -> bool:
    """Published posts are for everybody, drafts for their owner and for administrators."""
    return published or actor.id == owner_id or actor.is_admin


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

    @property
    def hot(self) -> float:
        """Its rank among hot posts."""
        return hotness(self.tally.votes, self.created_at)

    def is_visible_to(self, actor: Actor) -> bool:
        """Tell whether this actor may know of this post."""
        return is_visible(self.published, self.owner_id, actor)

    def require_visible_to(self, actor: Actor) -> None:
        """Let those pass who may know of this post.

        Raises:
            PostNotFound: to this actor it does not exist.
        """
        if not self.is_visible_to(actor):
            raise PostNotFound(self.id)

    def edited_by(
        self, actor: Actor, changes: PostChanges, now: datetime, versions: Container[int] | None = None
    ) -> "Post":
        """Apply an edit: owners change anything, administrators show or hide and no more.

        An edit that names something is a new version, even where it names what was there before; one that
        names nothing is the same post. Whoever names `versions` edits none but these.

        Raises:
            PostNotFound: to this actor the post does not exist.
            NotYourPost: the actor may see it, but not change it so.
            VersionMismatch: it is in another version.
            Invalid: the title or the content breaks a rule.
        """
        self.require_visible_to(actor)
        if actor.id != self.owner_id and not (actor.is_admin and changes.touches_only_published):
            raise NotYourPost
        self._require_version(versions)
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

    def require_removable_by(self, actor: Actor, versions: Container[int] | None = None) -> None:
        """Let the owner and administrators pass, who if they name `versions` remove none but these.

        Raises:
            PostNotFound: to this actor the post does not exist.
            NotYourPost: the actor may see it, but not remove it.
            VersionMismatch: it is in another version.
        """
        self.require_visible_to(actor)
        if actor.id != self.owner_id and not actor.is_admin:
            raise NotYourPost
        self._require_version(versions)

    def _require_version(self, versions: Container[int] | None) -> None:
        if versions is not None and self.version not in versions:
            raise VersionMismatch


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
