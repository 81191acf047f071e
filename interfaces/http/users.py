"""Accounts over HTTP."""

from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Response
from pydantic import MISSING, BaseModel, ConfigDict, Field
from pydantic_core import to_json
from starlette.responses import StreamingResponse

from application.paging import NEWEST_FIRST, Page, Window
from application.views import OwnVote, PostFilter, UserView
from domain.users import Role
from interfaces.http.deps import Admin, ApiState, ClientAddress, MaybeSignedIn, SignedIn, StateDep
from interfaces.http.fields import MOMENT, UP_DOWN, Email, Flag, Password, Search, Text, UserId, Username, about
from interfaces.http.openapi import with_header
from interfaces.http.paging import LINKED, LIST_PROBLEMS, PageQuery, openapi_parameters, query_model
from interfaces.http.problems import problems
from interfaces.http.routing import StrictRoute

EXPORT_POSTS: Final = 10
EXPORT_VOTES: Final = 500
"""Rows of an export that are read, converted and sent at once: posts may take 64 KiB and more each."""

router = APIRouter(tags=["users"], route_class=StrictRoute, strict_content_type=False)


class RegistrationIn(BaseModel):
    """A registration."""

    email: Annotated[Email, about("The e-mail, which identifies the account at sign-in.", "ann@example.com")]
    password: Annotated[Password, about("The password.", "correct horse battery")]
    username: Annotated[Username | None, about("The public name; letters, digits and underscores.", "ann")] = None


class OwnAccountIn(BaseModel):
    """Any part of one's own account; a new e-mail requires the current password."""

    username: Annotated[Username | MISSING, about("The new username.", "ann")] = MISSING
    email: Annotated[Email | MISSING, about("The new e-mail.", "ann@example.com")] = MISSING
    current_password: Annotated[
        Text | MISSING, about("The password in force; required for a new e-mail.", "correct horse battery")
    ] = MISSING


class NewPasswordIn(BaseModel):
    """A new password."""

    current_password: Annotated[Text, about("The password in force.", "correct horse battery")]
    new_password: Annotated[Password, about("The password from now on.", "another horse battery")]


class ConfirmationIn(BaseModel):
    """The password, to confirm what is irreversible."""

    current_password: Annotated[Text, about("The password in force.", "correct horse battery")]


class AccountIn(BaseModel):
    """The parts of an account that administrators change."""

    role: Annotated[Literal["user", "admin"] | MISSING, about("The account's rights.", "admin")] = MISSING
    is_active: Annotated[Flag | MISSING, about("Whether the account can sign in.", True)] = MISSING


class UsersQuery(PageQuery):
    """The filters of a list of accounts."""

    search: Search = ""


class PublicUserOut(BaseModel):
    """The public part of an account."""

    model_config = ConfigDict(from_attributes=True)

    id: Annotated[int, about("The account's id.", 1)]
    username: Annotated[str | None, about("The username; null if the account has none.", "ann")]
    created_at: Annotated[datetime, about("When the account was opened.", MOMENT)]


class UserOut(PublicUserOut):
    """An account as its owner and administrators see it."""

    email: Annotated[str, about("The e-mail.", "ann@example.com")]
    role: Annotated[Role, about("The account's rights.", "user")]
    is_active: Annotated[bool, about("Whether the account can sign in.", True)]


class ExportedPostOut(BaseModel):
    """A post in an export."""

    model_config = ConfigDict(from_attributes=True)

    id: Annotated[int, about("The post's id.", 1)]
    title: Annotated[str, about("One line.", "Budget 2026")]
    content: Annotated[str, about("The text.", "What do you think?")]
    published: Annotated[bool, about("Whether others see it.", True)]
    created_at: Annotated[datetime, about("When the post was created.", MOMENT)]
    updated_at: Annotated[datetime, about("When it was last edited.", MOMENT)]
    version: Annotated[int, about("Its version: 1, and one more with every edit.", 1)]
    upvotes: Annotated[int, about("The number of upvotes.", 3)]
    downvotes: Annotated[int, about("The number of downvotes.", 1)]


class ExportedVoteOut(BaseModel):
    """A vote in an export."""

    post_id: Annotated[int, about("The post's id.", 1)]
    dir: Annotated[int, about("Up (1) or down (-1).", 1, **UP_DOWN)]
    created_at: Annotated[datetime, about("When the vote was cast.", MOMENT)]


class ExportOut(BaseModel):
    """All data of an account."""

    profile: Annotated[UserOut, Field(description="The account.")]
    posts: Annotated[list[ExportedPostOut], Field(description="Its posts and drafts, newest first.")]
    votes: Annotated[list[ExportedVoteOut], Field(description="Its votes, latest first.")]


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
    url = query.url("/users")
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
        convert = ExportedPostOut.model_validate
        async for part in _rows(state, EXPORT_POSTS, convert, queries.list_posts, actor, own_posts, NEWEST_FIRST):
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
    user = await state.run(state.app.queries.get_user, actor, user_id)
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
