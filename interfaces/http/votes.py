"""Voting over HTTP: the classic POST /vote, and a resource for clients that retry. Both run one use case."""

from typing import Annotated, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, BeforeValidator

from application.views import VoteReceipt
from domain.votes import Direction
from interfaces.http.deps import AppDep, SignedIn
from interfaces.http.fields import JsonId, PostId, json_integer
from interfaces.http.problems import problems
from interfaces.http.strict_json import StrictRoute

router = APIRouter(tags=["votes"], route_class=StrictRoute)


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

    @classmethod
    def of(cls, receipt: VoteReceipt) -> "VoteOut":
        """Show a receipt."""
        return cls(
            message=receipt.message,
            post_id=receipt.post_id,
            dir=receipt.direction,
            votes=receipt.upvotes - receipt.downvotes,
            upvotes=receipt.upvotes,
            downvotes=receipt.downvotes,
        )


@router.post(
    "/vote",
    status_code=201,
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
def post_vote(body: ClassicVoteIn, actor: SignedIn, app: AppDep) -> VoteOut:
    """Vote on a post that you can see; what would change nothing is refused."""
    return VoteOut.of(app.cast_vote(actor, body.post_id, Direction(body.dir), repeatable=False))


PROBLEMS = problems("not-authenticated", "invalid-token", "post-not-found", "validation", "unavailable")


@router.put("/posts/{post_id}/vote", responses=PROBLEMS)
def put_vote(post_id: PostId, body: VoteIn, actor: SignedIn, app: AppDep) -> VoteOut:
    """Make your vote on a post point this way, whatever it was."""
    return VoteOut.of(app.cast_vote(actor, post_id, Direction(body.dir)))


@router.delete("/posts/{post_id}/vote", status_code=204, response_class=Response, responses=PROBLEMS)
def delete_vote(post_id: PostId, actor: SignedIn, app: AppDep) -> None:
    """Have no vote on a post, whatever it was."""
    app.cast_vote(actor, post_id, Direction.NONE)
