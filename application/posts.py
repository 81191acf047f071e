"""Posts: writing, reading, editing, removing."""

from collections.abc import Container
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from application.paging import Order, Page, Window
from application.ports.services import Clock
from application.ports.storage import PostReader, UnitOfWorkFactory
from application.views import PostFilter, PostView
from domain.posts import KeyReused, Post, PostChanges
from domain.users import Actor

KEY_LIFETIME: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class WritePost:
    """Publish what somebody wrote, or keep it as their draft."""

    uow: UnitOfWorkFactory
    clock: Clock

    def __call__(self, actor: Actor, title: str, content: str, published: bool) -> PostView:
        """Write a post.

        Raises:
            Invalid: the title or the content breaks a rule.
            InvalidToken: the actor's account was removed a moment ago.
        """
        post = Post.write(owner_id=actor.id, title=title, content=content, published=published, now=self.clock.now())
        with self.uow() as tx:
            return tx.posts.add(post)


@dataclass(frozen=True, slots=True)
class WritePostOnce:
    """Write a post once, however often its writer asks for it under one key, which is good for a day.

    Whoever does not know whether a post was written, because the answer was lost, can ask again without writing two.
    """

    uow: UnitOfWorkFactory
    clock: Clock

    def __call__(self, actor: Actor, title: str, content: str, published: bool, key: str) -> tuple[PostView, bool]:
        """Write a post, or give the answer that was given when it was written; tell whether it is that answer.

        Raises:
            Invalid: the title or the content breaks a rule.
            InvalidToken: the actor's account was removed a moment ago.
            KeyInUse: the post is just being written.
            KeyReused: another post was written under this key.
        """
        now = self.clock.now()
        post = Post.write(owner_id=actor.id, title=title, content=content, published=published, now=now)
        with self.uow() as tx:
            answer = tx.idempotency.find(actor.id, key, now)
            if answer is None:
                answer = tx.posts.add(post)
                tx.idempotency.add(actor.id, key, answer, now, now + KEY_LIFETIME)
                return answer, False
        if (answer.title, answer.content, answer.published) != (post.title, post.content, post.published):
            raise KeyReused
        return answer, True


@dataclass(frozen=True, slots=True)
class GetPost:
    """Show one post to somebody who may see it."""

    posts: PostReader

    def __call__(self, actor: Actor, post_id: int) -> PostView:
        """Read a post.

        Raises:
            PostNotFound: to this actor it does not exist.
        """
        return self.posts.get(actor, post_id)


@dataclass(frozen=True, slots=True)
class ListPosts:
    """Show posts in the order that is asked for; drafts only to those who may see them."""

    posts: PostReader

    def __call__(self, actor: Actor, which: PostFilter, order: Order, window: Window) -> Page[PostView]:
        """List posts."""
        return self.posts.list(actor, which, order, window)


@dataclass(frozen=True, slots=True)
class EditPost:
    """Change a post. Owners change anything; administrators show or hide any post and change nothing else.

    Whoever names the `versions` that they know overwrites nobody's edit: it is refused if the post is in another.
    """

    uow: UnitOfWorkFactory
    clock: Clock

    def __call__(
        self, actor: Actor, post_id: int, changes: PostChanges, versions: Container[int] | None = None
    ) -> PostView:
        """Edit a post.

        Raises:
            PostNotFound: to this actor it does not exist.
            NotYourPost: it belongs to somebody else.
            VersionMismatch: it has been edited since.
            Invalid: the title or the content breaks a rule.
        """
        with self.uow() as tx:
            post = tx.posts.lock(post_id)
            edited = post.edited_by(actor, changes, self.clock.now(), versions)
            if edited is not post:
                tx.posts.save(edited)
            return tx.post_reader.get(actor, post_id)


@dataclass(frozen=True, slots=True)
class DeletePost:
    """Remove a post and the votes on it: for its owner, and for administrators."""

    uow: UnitOfWorkFactory

    def __call__(self, actor: Actor, post_id: int, versions: Container[int] | None = None) -> None:
        """Delete a post.

        Raises:
            PostNotFound: to this actor it does not exist.
            NotYourPost: it belongs to somebody else.
            VersionMismatch: it has been edited since.
        """
        with self.uow() as tx:
            tx.posts.lock(post_id).require_removable_by(actor, versions)
            tx.posts.remove(post_id)
