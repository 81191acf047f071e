"""Voting over HTTP: the classic POST /vote, and a resource for clients that retry. Both run one use case."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, BeforeValidator, Field
from pydantic_core import to_json

from application.views import VoteReceipt
from domain.votes import Direction
from interfaces.http.deps import DeskDep, SignedIn
from interfaces.http.fields import JsonId, PostId, QueryDirection, json_integer
from interfaces.http.paging import LINKED, PageQuery, asked, documented, list_url
from interfaces.http.problems import problems
from interfaces.http.straight import StraightRoute

router = APIRouter(tags=["votes"], route_class=StraightRoute, strict_content_type=False)


class ClassicVoteIn(BaseModel):
    """A vote up (1), down (-1), or taken back (0)."""

    post_id: JsonId
    dir: Annotated[Literal[1, -1, 0], BeforeValidator(json_integer)]


class VoteIn(BaseModel):
    """A vote up (1) or down (-1)."""

    dir: Annotated[Literal[1, -1], BeforeValidator(json_integer)]


class VoteOut(BaseModel):
    """What voting did, and the tally it left."""

    message: str
    post_id: int
    dir: int
    votes: int
    upvotes: int
    downvotes: int


def _answer(receipt: VoteReceipt, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """Answer with a receipt: the members of `VoteOut`, written straight from the view."""
    shown = {
        "message": receipt.message,
        "post_id": receipt.post_id,
        "dir": receipt.direction,
        "votes": receipt.upvotes - receipt.downvotes,
        "upvotes": receipt.upvotes,
        "downvotes": receipt.downvotes,
    }
    return Response(to_json(shown), status.value, media_type="application/json")


@router.post(
    "/vote",
    status_code=201,
    response_model=VoteOut,
    responses=problems(
        "not-authenticated",
        "invalid-token",
        "post-not-found",
        "vote-not-found",
        "already-voted",
        "validation",
        "unavailable",
    ),
)
async def post_vote(body: ClassicVoteIn, actor: SignedIn, desk: DeskDep) -> Response:
    """Vote on a post that you can see; what would change nothing is refused."""
    vote = (actor, body.post_id, Direction(body.dir))
    receipt = await desk.run(desk.app.commands.cast_vote, *vote, repeatable=False)
    return _answer(receipt, HTTPStatus.CREATED)


class OwnVotePostOut(BaseModel):
    """The post that was voted on."""

    id: int
    title: str


class OwnVoteOut(BaseModel):
    """A vote as its voter sees it."""

    post_id: int
    dir: int
    created_at: datetime
    post: OwnVotePostOut


class OwnVotesQuery(PageQuery):
    """Which votes."""

    dir: Annotated[QueryDirection | None, Field(description="Votes one way only: 1 or -1.")] = None


@router.get(
    "/users/me/votes",
    response_model=list[OwnVoteOut],
    responses=problems("not-authenticated", "invalid-token", "validation", "invalid-cursor", "unavailable")
    | {200: LINKED},
    openapi_extra=documented(OwnVotesQuery),
)
async def list_own_votes(
    actor: SignedIn, desk: DeskDep, query: Annotated[OwnVotesQuery, asked(OwnVotesQuery)]
) -> Response:
    """List one's own votes on posts that one can still see, latest first."""
    this_list = list_url("/users/me/votes", {"dir": query.dir})
    wanted = None if query.dir is None else Direction(query.dir)
    votes = await desk.run(desk.app.queries.list_own_votes, actor, wanted, query.window(desk.cursors, this_list))
    shown = [
        {
            "post_id": vote.post_id,
            "dir": vote.direction,
            "created_at": vote.created_at,
            "post": {"id": vote.post_id, "title": vote.title},
        }
        for vote in votes.items
    ]
    headers = query.links(desk.cursors, this_list, votes)
    return Response(to_json(shown), headers=headers, media_type="application/json")


PROBLEMS = problems("not-authenticated", "invalid-token", "post-not-found", "validation", "unavailable")


@router.put("/posts/{post_id}/vote", response_model=VoteOut, responses=PROBLEMS)
async def put_vote(post_id: PostId, body: VoteIn, actor: SignedIn, desk: DeskDep) -> Response:
    """Make your vote on a post point this way, whatever it was."""
    return _answer(await desk.run(desk.app.commands.cast_vote, actor, post_id, Direction(body.dir)))


@router.delete("/posts/{post_id}/vote", status_code=204, response_class=Response, responses=PROBLEMS)
async def delete_vote(post_id: PostId, actor: SignedIn, desk: DeskDep) -> Response:
    """Have no vote on a post, whatever it was."""
    await desk.run(desk.app.commands.cast_vote, actor, post_id, Direction.NONE)
    return Response(status_code=HTTPStatus.NO_CONTENT.value)
