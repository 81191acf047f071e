"""Posts over HTTP."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Final, Literal, cast

from fastapi import APIRouter, Header, Response
from pydantic import MISSING, AfterValidator, BaseModel, Field, WithJsonSchema
from pydantic_core import PydanticCustomError, to_json

from application.paging import Order, SortBy
from application.views import PostFilter, PostView
from domain.posts import PostChanges
from domain.users import Actor
from interfaces.http.deps import Reader, ServedCaller, SignedIn, StateDep
from interfaces.http.etags import TAGGED, IfMatch, IfNoneMatch, UnlessMatch, changeable_versions, entity_tag, is_known
from interfaces.http.fast_path import FastPathRoute
from interfaces.http.fields import (
    MOMENT,
    UP_DOWN_NONE,
    Content,
    Flag,
    PostId,
    QueryFlag,
    QueryId,
    QueryMoment,
    Search,
    Title,
    about,
)
from interfaces.http.openapi import with_header
from interfaces.http.paging import LINKED, LIST_PROBLEMS, PageQuery, openapi_parameters, query_model
from interfaces.http.problems import problems

router = APIRouter(tags=["posts"], route_class=FastPathRoute, strict_content_type=False)


def _one_key(keys: list[str] | None) -> list[str] | None:
    if keys is not None and (len(keys) > 1 or not re.fullmatch("[!-~]{1,255}", keys[0])):
        raise PydanticCustomError("idempotency_key", "This takes one key of 1 to 255 visible ASCII characters")
    return keys


IdempotencyKey = Annotated[
    list[str] | None,
    AfterValidator(_one_key),
    Header(
        alias="Idempotency-Key",
        description="Visible ASCII that the client generates for one post, so that a retry is safe.",
    ),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"}),
]
REPLAYED: Final = {
    "Idempotency-Replayed": {
        "description": "`true` if this repeats the response to an earlier request with the same key.",
        "schema": {"type": "string", "enum": ["true"]},
    }
}


class PostIn(BaseModel):
    """A new post."""

    title: Annotated[Title, about("One line.", "Budget 2026")]
    content: Annotated[Content, about("The text.", "What do you think?")]
    published: Annotated[Flag, about("Whether others see it; otherwise it is a draft.", True)] = True


class PostPutIn(BaseModel):
    """A whole post; if absent, `published` stays unchanged."""

    title: Annotated[Title, about("One line.", "Budget 2026")]
    content: Annotated[Content, about("The text.", "What do you think?")]
    published: Annotated[Flag | MISSING, about("Whether others see it.", True)] = MISSING


class PostPatchIn(BaseModel):
    """Any part of a post; absent fields stay unchanged."""

    title: Annotated[Title | MISSING, about("One line.", "Budget 2026")] = MISSING
    content: Annotated[Content | MISSING, about("The text.", "What do you think?")] = MISSING
    published: Annotated[Flag | MISSING, about("Whether others see it.", True)] = MISSING


class OwnerOut(BaseModel):
    """The author of a post."""

    id: Annotated[int, about("The account's id.", 1)]
    username: Annotated[str | None, about("The username; null if the account has none.", "ann")]
    created_at: Annotated[datetime, about("When the account was opened.", MOMENT)]


class PostOut(BaseModel):
    """A post as the caller sees it."""

    id: Annotated[int, about("The post's id.", 1)]
    title: Annotated[str, about("One line.", "Budget 2026")]
    content: Annotated[str, about("The text.", "What do you think?")]
    published: Annotated[bool, about("Whether others see it.", True)]
    created_at: Annotated[datetime, about("When the post was created.", MOMENT)]
    updated_at: Annotated[datetime, about("When it was last edited.", MOMENT)]
    version: Annotated[int, about("Its version: 1, and one more with every edit.", 1)]
    owner_id: Annotated[int, about("The id of its author's account.", 1)]
    owner: Annotated[OwnerOut, Field(description="Its author.")]
    votes: Annotated[int, about("Upvotes minus downvotes.", 2)]
    upvotes: Annotated[int, about("The number of upvotes.", 3)]
    downvotes: Annotated[int, about("The number of downvotes.", 1)]
    my_vote: Annotated[int, about("The caller's vote: up (1), down (-1) or none (0).", 1, **UP_DOWN_NONE)]


class PostsQuery(PageQuery):
    """The filters and the order of a list of posts."""

    search: Search = ""
    published: Annotated[QueryFlag | None, Field(description="Absent: published posts, and drafts of your own.")] = None
    owner_id: Annotated[QueryId | None, Field(description="Posts by this account.")] = None
    since: Annotated[QueryMoment | None, Field(description="Posts created at this moment or later.")] = None
    until: Annotated[QueryMoment | None, Field(description="Posts created before this moment.")] = None
    sort_by: Annotated[
        Literal["date", "votes", "hot"], Field(description="The sort key: creation time, votes, or a rank of both.")
    ] = "date"
    order: Annotated[Literal["desc", "asc"], Field(description="The sort order.")] = "desc"


def _represent(post: PostView) -> dict[str, object]:
    """Represent a post: the members of `PostOut`, directly from the view."""
    owner = post.owner
    return {
        "id": post.id,
        "title": post.title,
        "content": post.content,
        "published": post.published,
        "created_at": post.created_at,
        "updated_at": post.updated_at,
        "version": post.version,
        "owner_id": owner.id,
        "owner": {"id": owner.id, "username": owner.username, "created_at": owner.created_at},
        "votes": post.upvotes - post.downvotes,
        "upvotes": post.upvotes,
        "downvotes": post.downvotes,
        "my_vote": post.my_vote,
    }


def _response(post: PostView, *, known: Sequence[str] | None = None, created: bool = False) -> Response:
    """Build the response with a post and its tag; 304 if the client has it."""
    body = to_json(_represent(post))
    tag = entity_tag(post.version, body)
    headers = {"ETag": tag}
    if is_known(tag, known):
        return Response(status_code=304, headers=headers)
    if created:
        headers["Location"] = f"/posts/{post.id}"
    return Response(body, 201 if created else 200, headers, media_type="application/json")


@router.get(
    "/posts",
    response_model=list[PostOut],
    responses={200: LINKED},
    openapi_extra=openapi_parameters(PostsQuery),
)
async def list_posts(
    caller: Reader, state: StateDep, query: Annotated[PostsQuery, query_model(PostsQuery), LIST_PROBLEMS]
) -> Response:
    """List posts.

    Newest first by default; `search` matches titles.
    """
    url = query.url("/posts")
    page = await state.run(
        state.app.queries.list_posts,
        caller,
        PostFilter(query.search, query.published, query.owner_id, query.since, query.until),
        Order(SortBy(query.sort_by), descending=query.order == "desc"),
        query.window(state.cursors, url),
    )
    body = to_json([_represent(post) for post in page.items])
    return Response(body, headers=query.links(state.cursors, url, page), media_type="application/json")


@router.post(
    "/posts",
    status_code=201,
    response_model=PostOut,
    responses=problems("idempotency-key-in-use", "idempotency-key-reused", "rate-limited")
    | {201: {"headers": TAGGED["headers"] | with_header("Location") | REPLAYED}},
)
async def write_post(
    body: PostIn, caller: ServedCaller, state: StateDep, idempotency_key: IdempotencyKey = None
) -> Response:
    """Create a post.

    The same `Idempotency-Key` within 24 hours repeats the response without another post.
    """
    arguments = (body.title, body.content, body.published)
    if idempotency_key is None:
        return _response(await state.run(state.app.commands.write_post, caller, *arguments), created=True)
    # A request with this header takes FastAPI's path, where the caller is checked.
    actor = cast("Actor", caller)
    post, is_replayed = await state.run(state.app.commands.write_post_once, actor, *arguments, *idempotency_key)
    response = _response(post, created=True)
    if is_replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return response


@router.get(
    "/posts/{post_id}",
    response_model=PostOut,
    responses={200: TAGGED, 304: TAGGED | {"description": "The tag in If-None-Match is current."}},
)
async def read_post(post_id: PostId, caller: Reader, state: StateDep, if_none_match: IfNoneMatch = None) -> Response:
    """Read one post."""
    return _response(await state.run(state.app.queries.get_post, caller, post_id), known=if_none_match)


DELETE_PROBLEMS = problems("forbidden", "version-mismatch")
EDIT_PROBLEMS = DELETE_PROBLEMS | problems("rate-limited")


@router.put("/posts/{post_id}", response_model=PostOut, responses=EDIT_PROBLEMS | {200: TAGGED})
async def put_post(
    post_id: PostId,
    body: PostPutIn,
    actor: SignedIn,
    state: StateDep,
    if_match: IfMatch = None,
    if_none_match: UnlessMatch = None,
) -> Response:
    """Replace a post of your own."""
    versions = changeable_versions(if_match, if_none_match)
    return _response(await state.run(state.app.commands.edit_post, actor, post_id, _changes(body), versions))


@router.patch("/posts/{post_id}", response_model=PostOut, responses=EDIT_PROBLEMS | {200: TAGGED})
async def patch_post(
    post_id: PostId,
    body: PostPatchIn,
    actor: SignedIn,
    state: StateDep,
    if_match: IfMatch = None,
    if_none_match: UnlessMatch = None,
) -> Response:
    """Change parts of a post of your own.

    Administrators show or hide any post.
    """
    versions = changeable_versions(if_match, if_none_match)
    return _response(await state.run(state.app.commands.edit_post, actor, post_id, _changes(body), versions))


@router.delete("/posts/{post_id}", status_code=204, response_class=Response, responses=DELETE_PROBLEMS)
async def delete_post(
    post_id: PostId, actor: SignedIn, state: StateDep, if_match: IfMatch = None, if_none_match: UnlessMatch = None
) -> Response:
    """Delete a post of your own, with its votes.

    Administrators delete any post.
    """
    versions = changeable_versions(if_match, if_none_match)
    await state.run(state.app.commands.delete_post, actor, post_id, versions)
    return Response(status_code=204)


def _changes(body: PostPutIn | PostPatchIn) -> PostChanges:
    return PostChanges(**body.model_dump())  # MISSING fields are omitted
