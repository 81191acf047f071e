"""Posts: write, read, edit, delete."""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from application.errors import only
from application.paging import Order, Page, Window
from application.ports.services import Clock
from application.ports.storage import PostReader, UnitOfWorkFactory
from application.quotas import NO_QUOTA, Quota
from application.views import Caller, PostCommand, PostFilter, PostView
from domain.errors import DomainError, Invalid
from domain.posts import KeyReused, Post, PostChanges
from domain.users import Actor

KEY_LIFETIME: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class WritePosts:
    """Store posts of several callers, published or as drafts, in one transaction."""

    uow: UnitOfWorkFactory
    clock: Clock
    quota: Quota = NO_QUOTA

    def __call__(self, commands: Sequence[PostCommand]) -> Sequence[PostView | DomainError]:
        """Write, and return for each command what `WritePost` returns or raises.

        Each is refused alone.

        Raises:
            InvalidToken: an owner's account was just removed; no post is written.
            QuotaExceeded: an owner wrote too much in this hour; no post is written.
        """
        now = self.clock.now()
        posts = [_post(command, now) for command in commands]
        with self.uow() as tx:
            valid = [(each.caller, post) for each, post in zip(commands, posts, strict=True) if isinstance(post, Post)]
            added = tx.posts.add_all(valid)
            views = sorted((view for view in added if isinstance(view, PostView)), key=lambda view: view.owner.id)
            for view in views:
                self.quota.charge(tx, view.owner.id, now, view.title, view.content)
        written = iter(added)
        return [next(written) if isinstance(post, Post) else post for post in posts]


def _post(command: PostCommand, now: datetime) -> Post | Invalid:
    try:
        return Post.write(
            owner_id=command.caller.id,
            title=command.title,
            content=command.content,
            published=command.published,
            now=now,
        )
    except Invalid as refusal:
        return refusal


@dataclass(frozen=True, slots=True)
class WritePost:
    """Store a post, published or as a draft of its owner."""

    write_posts: WritePosts

    def __call__(self, caller: Caller, title: str, content: str, published: bool) -> PostView:
        """Write a post.

        Raises:
            Invalid: the title or the content breaks a rule.
            InvalidToken: the caller's account is not active any more, or the session has ended.
            QuotaExceeded: the caller wrote too much in this hour.
        """
        return only(self.write_posts([PostCommand(caller, title, content, published)]))


@dataclass(frozen=True, slots=True)
class WritePostOnce:
    """Write a post once per idempotency key, which is valid for a day.

    A client that lost the response repeats the request and gets the same response, not a second post.
    """

    uow: UnitOfWorkFactory
    clock: Clock
    quota: Quota = NO_QUOTA

    def __call__(self, actor: Actor, title: str, content: str, published: bool, key: str) -> tuple[PostView, bool]:
        """Return the written post, or the stored response; tell which by a flag.

        Raises:
            Invalid: the title or the content breaks a rule.
            InvalidToken: the actor's account was just removed.
            KeyInUse: a request with this key is running.
            QuotaExceeded: the actor wrote too much in this hour.
            KeyReused: another post was written with this key.
        """
        now = self.clock.now()
        post = Post.write(owner_id=actor.id, title=title, content=content, published=published, now=now)
        with self.uow() as tx:
            stored = tx.idempotency.find(actor.id, key, now, now + KEY_LIFETIME)
            if stored is None:
                self.quota.charge(tx, actor.id, now, post.title, post.content, copies=2)  # the post and the response
                written = only(tx.posts.add_all([(actor, post)]))
                tx.idempotency.add(actor.id, key, written, now, now + KEY_LIFETIME)
                return written, False
        if (stored.title, stored.content, stored.published) != (post.title, post.content, post.published):
            raise KeyReused
        return stored, True


@dataclass(frozen=True, slots=True)
class GetPost:
    """Return one post to a caller who may see it."""

    posts: PostReader

    def __call__(self, caller: Caller, post_id: int) -> PostView:
        """Return a post.

        Raises:
            PostNotFound: the caller may not see the post, or it does not exist.
            InvalidToken: the caller's account is not active any more, or the session has ended.
        """
        return self.posts.get(caller, post_id)


@dataclass(frozen=True, slots=True)
class ListPosts:
    """List the posts that the caller may see, in the requested order."""

    posts: PostReader

    def __call__(self, caller: Caller, which: PostFilter, order: Order, window: Window) -> Page[PostView]:
        """List posts.

        Raises:
            InvalidToken: the caller's account is not active any more, or the session has ended.
        """
        return self.posts.list(caller, which, order, window)


@dataclass(frozen=True, slots=True)
class EditPost:
    """Change a post. Owners change every field; administrators only publish or hide.

    With `versions`, the edit is refused if the post has another version, so that it overwrites no edit unseen.
    """

    uow: UnitOfWorkFactory
    clock: Clock
    quota: Quota = NO_QUOTA

    def __call__(
        self, actor: Actor, post_id: int, changes: PostChanges, versions: Container[int] | None = None
    ) -> PostView:
        """Edit a post.

        Raises:
            PostNotFound: the actor may not see the post, or it does not exist.
            NotYourPost: the post belongs to another user.
            VersionMismatch: the post has another version.
            Invalid: the title or the content breaks a rule.
            QuotaExceeded: the actor wrote too much in this hour.
        """
        now = self.clock.now()
        with self.uow() as tx:
            post = tx.posts.lock(post_id, actor)
            edited = post.edited_by(actor, changes, now, versions)
            if edited is not post:
                self.quota.charge(tx, actor.id, now, edited.title, edited.content)
                tx.posts.save(edited)
            return tx.post_reader.get(actor, post_id)


@dataclass(frozen=True, slots=True)
class DeletePost:
    """Remove a post and the votes on it: for its owner and for administrators."""

    uow: UnitOfWorkFactory

    def __call__(self, actor: Actor, post_id: int, versions: Container[int] | None = None) -> None:
        """Delete a post.

        Raises:
            PostNotFound: the actor may not see the post, or it does not exist.
            NotYourPost: the post belongs to another user.
            VersionMismatch: the post has another version.
        """
        with self.uow() as tx:
            tx.posts.lock(post_id, actor).require_removable_by(actor, versions)
            tx.posts.remove(post_id)
