"""Votes over HTTP: POST /vote, and an idempotent resource, run one use case."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, BeforeValidator, Field
from pydantic_core import to_json

from application.views import VoteReceipt
from domain.votes import Direction
from interfaces.http.deps import ServedCaller, SignedIn, StateDep
from interfaces.http.fast_path import FastPathRoute
from interfaces.http.fields import (
    MOMENT,
    NAMED_UP_DOWN,
    NAMED_UP_DOWN_NONE,
    UP_DOWN,
    UP_DOWN_NONE,
    JsonId,
    PostId,
    QueryDirection,
    about,
    json_integer,
)
from interfaces.http.paging import LINKED, LIST_PROBLEMS, PageQuery, openapi_parameters, query_model
from interfaces.http.problems import problems

router = APIRouter(tags=["votes"], route_class=FastPathRoute, strict_content_type=False)


class ClassicVoteIn(BaseModel):
    """A vote up (1), down (-1), or taken back (0)."""

    post_id: Annotated[JsonId, about("The post's id.", 1)]
    dir: Annotated[
        Literal[1, -1, 0],
        BeforeValidator(json_integer),
        about("Up (1), down (-1) or taken back (0).", 1, **NAMED_UP_DOWN_NONE),
    ]


class VoteIn(BaseModel):
    """A vote up (1) or down (-1)."""

    dir: Annotated[Literal[1, -1], BeforeValidator(json_integer), about("Up (1) or down (-1).", 1, **NAMED_UP_DOWN)]


class VoteOut(BaseModel):
    """The effect of a vote, and the resulting tally."""

    message: Annotated[str, about("What the vote did.", "successfully added vote")]
    post_id: Annotated[int, about("The post's id.", 1)]
    dir: Annotated[int, about("The vote in force: up (1), down (-1) or none (0).", 1, **UP_DOWN_NONE)]
    votes: Annotated[int, about("Upvotes minus downvotes.", 2)]
    upvotes: Annotated[int, about("The number of upvotes.", 3)]
    downvotes: Annotated[int, about("The number of downvotes.", 1)]


def _response(receipt: VoteReceipt, status: int = 200) -> Response:
    """Build the response, with the members of `VoteOut`, from the receipt."""
    body = {
        "message": receipt.message,
        "post_id": receipt.post_id,
        "dir": receipt.direction,
        "votes": receipt.upvotes - receipt.downvotes,
        "upvotes": receipt.upvotes,
        "downvotes": receipt.downvotes,
    }
    return Response(to_json(body), status, media_type="application/json")


@router.post(
    "/vote",
    status_code=201,
    response_model=VoteOut,
    responses=problems("post-not-found", "vote-not-found", "already-voted", "rate-limited"),
)
async def post_vote(body: ClassicVoteIn, caller: ServedCaller, state: StateDep) -> Response:
    """Vote on a visible post.

    A vote that changes nothing is refused; `PUT /posts/{post_id}/vote` accepts it.
    """
    vote = (caller, body.post_id, Direction(body.dir))
    receipt = await state.run(state.app.commands.cast_vote, *vote, repeatable=False)
    return _response(receipt, 201)


class OwnVotePostOut(BaseModel):
    """The post that was voted on."""

    id: Annotated[int, about("The post's id.", 1)]
    title: Annotated[str, about("One line.", "Budget 2026")]


class OwnVoteOut(BaseModel):
    """A vote as its voter sees it."""

    post_id: Annotated[int, about("The post's id.", 1)]
    dir: Annotated[int, about("Up (1) or down (-1).", 1, **UP_DOWN)]
    created_at: Annotated[datetime, about("When the vote was cast.", MOMENT)]
    post: Annotated[OwnVotePostOut, Field(description="The post that was voted on.")]


class OwnVotesQuery(PageQuery):
    """The filters of a list of votes."""

    dir: Annotated[QueryDirection | None, Field(description="Votes of one direction: 1 or -1.")] = None


@router.get(
    "/users/me/votes",
    response_model=list[OwnVoteOut],
    responses={200: LINKED},
    openapi_extra=openapi_parameters(OwnVotesQuery),
)
async def list_own_votes(
    actor: SignedIn, state: StateDep, query: Annotated[OwnVotesQuery, query_model(OwnVotesQuery), LIST_PROBLEMS]
) -> Response:
    """List one's own votes, latest first.

    Votes on posts that are no longer visible are left out.
    """
    url = query.url("/users/me/votes")
    wanted = None if query.dir is None else Direction(query.dir)
    page = await state.run(state.app.queries.list_own_votes, actor, wanted, query.window(state.cursors, url))
    body = [
        {
            "post_id": vote.post_id,
            "dir": vote.direction,
            "created_at": vote.created_at,
            "post": {"id": vote.post_id, "title": vote.title},
        }
        for vote in page.items
    ]
    headers = query.links(state.cursors, url, page)
    return Response(to_json(body), headers=headers, media_type="application/json")


@router.put("/posts/{post_id}/vote", response_model=VoteOut, responses=problems("rate-limited"))
async def put_vote(post_id: PostId, body: VoteIn, caller: ServedCaller, state: StateDep) -> Response:
    """Set your vote on a post, whether or not one exists."""
    return _response(await state.run(state.app.commands.cast_vote, caller, post_id, Direction(body.dir)))


@router.delete("/posts/{post_id}/vote", status_code=204, response_class=Response, responses=problems("rate-limited"))
async def delete_vote(post_id: PostId, caller: ServedCaller, state: StateDep) -> Response:
    """Remove your vote on a post, if one exists."""
    await state.run(state.app.commands.cast_vote, caller, post_id, Direction.NONE)
    return Response(status_code=204)
