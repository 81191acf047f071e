"""Posts over HTTP."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from pydantic import MISSING, BaseModel

from application.paging import Window
from application.views import PostFilter, PostView
from domain.posts import PostChanges
from interfaces.http.deps import AppDep, Reader, SignedIn
from interfaces.http.fields import Content, Flag, PostId, QueryFlag, QueryId, Search, Title, window
from interfaces.http.problems import problems
from interfaces.http.strict_json import StrictRoute

router = APIRouter(tags=["posts"], route_class=StrictRoute)


class PostIn(BaseModel):
    """A new post."""

    title: Title
    content: Content
    published: Flag = True


class PostPutIn(BaseModel):
    """A post, written anew; `published` stays as it is if absent."""

    title: Title
    content: Content
    published: Flag | MISSING = MISSING


class PostPatchIn(BaseModel):
    """Any part of a post; what is absent stays as it is."""

    title: Title | MISSING = MISSING
    content: Content | MISSING = MISSING
    published: Flag | MISSING = MISSING


class OwnerOut(BaseModel):
    """Who wrote a post."""

    id: int
    username: str | None
    created_at: datetime


class PostOut(BaseModel):
    """A post as the caller sees it."""

    id: int
    title: str
    content: str
    published: bool
    created_at: datetime
    updated_at: datetime
    version: int
    owner_id: int
    owner: OwnerOut
    votes: int
    upvotes: int
    downvotes: int
    my_vote: int

    @classmethod
    def of(cls, post: PostView) -> "PostOut":
        """Show a post."""
        owner = post.owner
        return cls(
            id=post.id,
            title=post.title,
            content=post.content,
            published=post.published,
            created_at=post.created_at,
            updated_at=post.updated_at,
            version=post.version,
            owner_id=owner.id,
            owner=OwnerOut(id=owner.id, username=owner.username, created_at=owner.created_at),
            votes=post.upvotes - post.downvotes,
            upvotes=post.upvotes,
            downvotes=post.downvotes,
            my_vote=post.my_vote,
        )


@router.get("/posts", responses=problems("not-authenticated", "invalid-token", "validation", "unavailable"))
def list_posts(
    actor: Reader,
    app: AppDep,
    page: Annotated[Window, Depends(window)],
    search: Search = "",
    published: Annotated[
        QueryFlag | None, Query(description="Absent: published posts, and drafts of your own.")
    ] = None,
    owner_id: Annotated[QueryId | None, Query(description="Posts by this account.")] = None,
) -> list[PostOut]:
    """List posts, newest first; `search` looks in titles."""
    posts = app.list_posts(actor, PostFilter(search, published, owner_id), page)
    return [PostOut.of(post) for post in posts]


@router.post(
    "/posts",
    status_code=201,
    responses=problems("not-authenticated", "invalid-token", "validation", "unavailable"),
)
def write_post(body: PostIn, actor: SignedIn, app: AppDep, response: Response) -> PostOut:
    """Write a post."""
    post = app.write_post(actor, body.title, body.content, body.published)
    response.headers["Location"] = f"/posts/{post.id}"
    return PostOut.of(post)


@router.get(
    "/posts/{post_id}",
    responses=problems("not-authenticated", "invalid-token", "post-not-found", "validation", "unavailable"),
)
def read_post(post_id: PostId, actor: Reader, app: AppDep) -> PostOut:
    """Read one post."""
    return PostOut.of(app.read_post(actor, post_id))


EDIT_PROBLEMS = problems(
    "not-authenticated", "invalid-token", "forbidden", "post-not-found", "validation", "unavailable"
)


@router.put("/posts/{post_id}", responses=EDIT_PROBLEMS)
def put_post(post_id: PostId, body: PostPutIn, actor: SignedIn, app: AppDep) -> PostOut:
    """Write a post of your own anew."""
    return PostOut.of(app.edit_post(actor, post_id, _changes(body)))


@router.patch("/posts/{post_id}", responses=EDIT_PROBLEMS)
def patch_post(post_id: PostId, body: PostPatchIn, actor: SignedIn, app: AppDep) -> PostOut:
    """Change parts of a post of your own; administrators show or hide any post."""
    return PostOut.of(app.edit_post(actor, post_id, _changes(body)))


@router.delete("/posts/{post_id}", status_code=204, response_class=Response, responses=EDIT_PROBLEMS)
def delete_post(post_id: PostId, actor: SignedIn, app: AppDep) -> None:
    """Delete a post of your own, or as an administrator any post. The votes on it go with it."""
    app.delete_post(actor, post_id)


def _changes(body: PostPutIn | PostPatchIn) -> PostChanges:
    return PostChanges(**body.model_dump())  # what is MISSING is left out
