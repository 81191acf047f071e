"""Posts: validity, visibility, edits and removal."""

from collections.abc import Container
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from domain.errors import Conflict, Forbidden, Invalid, NotFound, Stale
from domain.text import has_control, is_blank, is_storable
from domain.users import Actor
from domain.votes import Tally

TITLE_MAX: Final = 300
TITLE_INPUT_MAX: Final = 4 * TITLE_MAX
"""Characters of a title with the white space around it, which is stripped."""

CONTENT_MAX: Final = 65_536


class PostNotFound(NotFound):
    """One error for a post that does not exist and for one that the actor may not see."""

    code = "post-not-found"

    def __init__(self, post_id: int) -> None:
        super().__init__(f"post with id: {post_id} not found")


class NotYourPost(Forbidden):
    def __init__(self) -> None:
        super().__init__("this post belongs to another user; only its owner may make this change")


class VersionMismatch(Stale):
    code = "version-mismatch"

    def __init__(self) -> None:
        super().__init__(
            "the request excludes the current version of the post; read the post again, then repeat the change"
        )


class KeyInUse(Conflict):
    code = "idempotency-key-in-use"

    def __init__(self) -> None:
        super().__init__("another request with this key is still running; try again in a moment")


class KeyReused(Invalid):
    code = "idempotency-key-reused"

    def __init__(self) -> None:
        super().__init__("Idempotency-Key", "reused", "another post was written with this key; use a new one")


def is_visible(published: bool, owner_id: int, actor: Actor) -> bool:
    """Return whether the actor may see a post: drafts as owner or administrator."""
    return published or actor.id == owner_id or actor.is_admin


@dataclass(frozen=True, slots=True)
class PostChanges:
    """Fields that an edit sets; None leaves a field unchanged."""

    title: str | None = None
    content: str | None = None
    published: bool | None = None

    @property
    def is_empty(self) -> bool:
        """Whether the edit sets no field."""
        return self.title is None and self.content is None and self.published is None

    @property
    def touches_only_published(self) -> bool:
        """Whether the edit only publishes or hides the post."""
        return self.published is not None and self.title is None and self.content is None


@dataclass(frozen=True, slots=True)
class Post:
    """A post. `version` starts at 1 and counts edits; votes do not change it."""

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
        """Make a post with id 0; storage assigns the id.

        Raises:
            Invalid: the title or the content breaks a rule.
        """
        return cls.restore(
            owner_id=owner_id, title=_title(title), content=_content(content), published=published, now=now
        )

    @classmethod
    def restore(cls, *, owner_id: int, title: str, content: str, published: bool, now: datetime) -> "Post":
        """Make a post of text that another database holds, perhaps under earlier rules.

        Raises:
            Invalid: the title or the content breaks a rule that every release had.
        """
        title, content = _text("title", title.strip(), TITLE_MAX), _text("content", content, CONTENT_MAX)
        return cls(0, owner_id, title, content, published, created_at=now, updated_at=now)

    def with_id(self, post_id: int) -> "Post":
        """Return the post with the id that storage assigned."""
        return replace(self, id=post_id)

    def is_visible_to(self, actor: Actor) -> bool:
        """Return whether the actor may see the post."""
        return is_visible(self.published, self.owner_id, actor)

    def require_visible_to(self, actor: Actor) -> None:
        """Require that the actor may see the post.

        Raises:
            PostNotFound: the actor may not see it.
        """
        if not self.is_visible_to(actor):
            raise PostNotFound(self.id)

    def edited_by(
        self, actor: Actor, changes: PostChanges, now: datetime, versions: Container[int] | None = None
    ) -> "Post":
        """Apply an edit. Owners change every field, administrators only publish or hide.

        An edit that sets a field makes a new version, even if the value is the same; an edit that sets none returns
        the same post. With `versions`, only a post in one of these versions is edited.

        Raises:
            PostNotFound: the actor may not see the post.
            NotYourPost: the actor may see it and has no right to make this change.
            VersionMismatch: the post has another version.
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
        """Require that the actor may remove the post: its owner and administrators may.

        With `versions`, only a post in one of these versions is removed.

        Raises:
            PostNotFound: the actor may not see the post.
            NotYourPost: the actor may see it and has no right to remove it.
            VersionMismatch: the post has another version.
        """
        self.require_visible_to(actor)
        if actor.id != self.owner_id and not actor.is_admin:
            raise NotYourPost
        self._require_version(versions)

    def _require_version(self, versions: Container[int] | None) -> None:
        if versions is not None and self.version not in versions:
            raise VersionMismatch


def _title(title: str) -> str:
    title = _visible("title", _text("title", title.strip(), TITLE_MAX))
    if has_control(title):
        raise Invalid("title", "text_control", "the title has a control character or a line separator; remove it")
    return title


def _content(content: str) -> str:
    return _visible("content", _text("content", content, CONTENT_MAX))


def _visible(name: str, text: str) -> str:
    if is_blank(text):
        raise _blank(name)
    return text


def _blank(name: str) -> Invalid:
    return Invalid(name, "string_too_short", f"the {name} is blank; write something")


def _text(name: str, text: str, most: int) -> str:
    if not text.strip():
        raise _blank(name)
    if len(text) > most:
        raise Invalid(name, "string_too_long", f"the {name} has {len(text)} characters; {most} are allowed")
    if not is_storable(text):
        raise Invalid(name, "text_unstorable", f"the {name} has a NUL or a lone surrogate; remove it")
    return text
