"""Accounts over HTTP."""

from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Response
from pydantic import MISSING, BaseModel, ConfigDict
from pydantic_core import to_json
from starlette.responses import StreamingResponse

from application.paging import NEWEST_FIRST, Page, Window
from application.views import OwnVote, PostFilter, PostView, UserView
from domain.users import ANONYMOUS, Role
from interfaces.http.deps import Admin, ApiState, ClientAddress, MaybeSignedIn, SignedIn, StateDep
from interfaces.http.fields import Email, Flag, Password, Search, Text, UserId, Username
from interfaces.http.openapi import with_header
from interfaces.http.paging import LINKED, LIST_PROBLEMS, PageQuery, list_url, openapi_parameters, query_model
from interfaces.http.problems import problems
from interfaces.http.routing import StrictRoute

EXPORT_POSTS: Final = 10
EXPORT_VOTES: Final = 500
"""Rows of an export that are read, converted and sent at once: posts may take 64 KiB and more each."""

router = APIRouter(tags=["users"], route_class=StrictRoute, strict_content_type=False)


class RegistrationIn(BaseModel):
    """A registration."""

    email: Email
    password: Password
    username: Username | None = None


class OwnAccountIn(BaseModel):
    """Any part of one's own account; a new e-mail requires the current password."""

    username: Username | MISSING = MISSING
    email: Email | MISSING = MISSING
    current_password: Text | MISSING = MISSING


class NewPasswordIn(BaseModel):
    """A new password."""

    current_password: Text
    new_password: Password


class ConfirmationIn(BaseModel):
    """The password, to confirm what is irreversible."""

    current_password: Text


class AccountIn(BaseModel):
    """The parts of an account that administrators change."""

    role: Literal["user", "admin"] | MISSING = MISSING
    is_active: Flag | MISSING = MISSING


class UsersQuery(PageQuery):
    """The filters of a list of accounts."""

    search: Search = ""


class PublicUserOut(BaseModel):
    """The public part of an account."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    username: str | None
    created_at: datetime


class UserOut(PublicUserOut):
    """An account as its owner and administrators see it."""

    email: str
    role: Role
    is_active: bool


class ExportedPostOut(BaseModel):
    """A post in an export."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    title: str
    content: str
    published: bool
    created_at: datetime
    updated_at: datetime
    version: int
    upvotes: int
    downvotes: int


class ExportedVoteOut(BaseModel):
    """A vote in an export."""

    post_id: int
    dir: int
    created_at: datetime


class ExportOut(BaseModel):
    """All data of an account."""

    profile: UserOut
    posts: list[ExportedPostOut]
    votes: list[ExportedVoteOut]


def _own_post(post: PostView) -> ExportedPostOut:
    return ExportedPostOut.model_validate(post)


def _own_vote(vote: OwnVote) -> ExportedVoteOut:
    return ExportedVoteOut(post_id=vote.post_id, dir=vote.direction, created_at=vote.created_at)


@router.post(
    "/users",
    status_code=201,
    responses=problems("email-taken", "username-taken") | {201: {"headers": with_header("Location")}},
)
async def register(body: RegistrationIn, state: StateDep, address: ClientAddress, response: Response) -> UserOut:
    """Open an account."""
    user = await state.run(state.app.commands.register_user, body.email, body.password, body.username, address=address)
    response.headers["Location"] = f"/users/{user.id}"
    return UserOut.model_validate(user)


@router.get(
    "/users",
    responses={200: LINKED},
    openapi_extra=openapi_parameters(UsersQuery),
)
async def list_users(
    actor: Admin,
    state: StateDep,
    query: Annotated[UsersQuery, query_model(UsersQuery), LIST_PROBLEMS],
    response: Response,
) -> list[UserOut]:
    """List all accounts.

    Administrators only; `search` matches e-mails and usernames.
    """
    url = list_url("/users", {"search": query.search or None})
    page = await state.run(state.app.queries.list_users, actor, query.search, query.window(state.cursors, url))
    response.headers.update(query.links(state.cursors, url, page))
    return [UserOut.model_validate(user) for user in page.items]


@router.get("/users/me")
@router.get("/profile", operation_id="seeProfile", summary="Show one's own account at its first path")
async def see_own_account(actor: SignedIn, state: StateDep, response: Response) -> UserOut:
    """Show one's own account."""
    response.headers["Cache-Control"] = "no-store"
    return UserOut.model_validate(await state.run(state.app.queries.get_own_account, actor))


@router.patch("/users/me", responses=problems("invalid-credentials", "email-taken", "username-taken"))
async def edit_own_account(body: OwnAccountIn, actor: SignedIn, state: StateDep, address: ClientAddress) -> UserOut:
    """Change one's own username or e-mail.

    A new e-mail requires the current password.
    """
    given = {"username": None, "email": None, "current_password": None} | body.model_dump()
    return UserOut.model_validate(await state.run(state.app.commands.edit_own_account, actor, **given, address=address))


@router.put("/users/me/password", status_code=204, response_class=Response, responses=problems("invalid-credentials"))
async def change_password(body: NewPasswordIn, actor: SignedIn, state: StateDep, address: ClientAddress) -> None:
    """Change one's own password.

    All other sessions end.
    """
    await state.run(
        state.app.commands.change_password, actor, body.current_password, body.new_password, address=address
    )


@router.delete(
    "/users/me", status_code=204, response_class=Response, responses=problems("invalid-credentials", "last-admin")
)
async def delete_own_account(body: ConfirmationIn, actor: SignedIn, state: StateDep, address: ClientAddress) -> None:
    """Delete one's own account, with its posts and votes."""
    await state.run(state.app.commands.delete_own_account, actor, body.current_password, address=address)


@router.get(
    "/users/me/export", response_model=ExportOut, responses={200: {"headers": with_header("Content-Disposition")}}
)
async def export_own_data(actor: SignedIn, state: StateDep) -> Response:
    """Export all data of one's own account.

    It is read while it is sent: what changes meanwhile may be in it or not.
    """
    profile = UserOut.model_validate(await state.run(state.app.queries.get_own_account, actor))
    queries, own_posts = state.app.queries, PostFilter(owner_id=actor.id)

    async def members() -> AsyncIterator[bytes]:
        yield b'{"profile":' + to_json(profile) + b',"posts":['
        async for part in _rows(state, EXPORT_POSTS, _own_post, queries.list_posts, actor, own_posts, NEWEST_FIRST):
            yield part
        yield b'],"votes":['
        async for part in _rows(state, EXPORT_VOTES, _own_vote, queries.list_own_votes, actor, None):
            yield part
        yield b"]}"

    headers = {"Content-Disposition": 'attachment; filename="agora-export.json"', "Cache-Control": "no-store"}
    return StreamingResponse(members(), headers=headers, media_type="application/json")


async def _rows(
    state: ApiState, limit: int, convert: Callable[[Any], BaseModel], use_case: Callable[..., Page[Any]], *given: object
) -> AsyncIterator[bytes]:
    """Yield all rows of a list as JSON, joined by commas, page by page."""
    separator, window = b"", Window(limit)
    while True:
        state.renew_deadline()
        page = await state.run(use_case, *given, window)
        if page.items:
            yield separator
            yield to_json([convert(row) for row in page.items])[1:-1]
        if page.last is None:
            return
        separator, window = b",", Window(limit, after=page.last)


@router.get("/users/{user_id}")
async def see_user(user_id: UserId, actor: MaybeSignedIn, state: StateDep) -> UserOut | PublicUserOut:
    """Show an account.

    Its owner and administrators see all of it. The token is optional.
    """
    user = await state.run(state.app.queries.get_user, actor or ANONYMOUS, user_id)
    return UserOut.model_validate(user) if isinstance(user, UserView) else PublicUserOut.model_validate(user)


@router.patch(
    "/users/{user_id}",
    responses=problems("last-admin"),
)
async def edit_user(user_id: UserId, body: AccountIn, actor: Admin, state: StateDep) -> UserOut:
    """Change an account's role, or deactivate it.

    Administrators only. Deactivation ends the account's sessions.
    """
    given = {"role": None, "is_active": None} | body.model_dump()
    role = None if given["role"] is None else Role(given["role"])
    return UserOut.model_validate(
        await state.run(state.app.commands.edit_user, actor, user_id, role, given["is_active"])
    )
