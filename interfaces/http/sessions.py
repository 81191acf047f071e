"""Signing in and out over HTTP."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Body, Form, Header, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, StringConstraints
from pydantic_core import PydanticCustomError

from interfaces.http.deps import ClientAddress, SignedIn, StateDep
from interfaces.http.fields import MOMENT, Flag, SessionId, Text, about
from interfaces.http.problems import GRANT_UNSUPPORTED, problems
from interfaces.http.routing import FormRoute, OAuthRoute, StrictRoute

router = APIRouter(tags=["sessions"], route_class=StrictRoute, strict_content_type=False)
oauth = APIRouter(tags=["sessions"], route_class=OAuthRoute, strict_content_type=False)


def _only(grant: str) -> BeforeValidator:
    """Accept one grant type."""

    def require(value: object) -> object:
        if value != grant:
            raise PydanticCustomError(GRANT_UNSUPPORTED, "Input should be '{grant}'", {"grant": grant})
        return value

    return BeforeValidator(require)


class TokenOut(BaseModel):
    """Tokens, in OAuth2's words (RFC 6749, section 5.1); lifetimes in seconds."""

    model_config = ConfigDict(from_attributes=True)

    access_token: Annotated[str, about("The token for the header `Authorization`.", "eyJhbGciOiJIUzI1NiJ9.e30.c2ln")]
    token_type: Annotated[Literal["bearer"], about("How the access token is sent.", "bearer")] = "bearer"
    expires_in: Annotated[int, about("Seconds until the access token expires.", 1800)]
    refresh_token: Annotated[str, about("The token for `POST /refresh`, valid once.", "2b0c6ZtUqWm4")]
    refresh_expires_in: Annotated[int, about("Seconds until the refresh token expires.", 604800)]


class SignInForm(BaseModel):
    """The form of OAuth2's password grant (RFC 6749, section 4.3.2)."""

    username: Annotated[Text, about("The e-mail of the account.", "ann@example.com")]
    password: Annotated[Text, about("Its password.", "correct horse battery", format="password")]
    grant_type: Annotated[Literal["password"], _only("password"), about("The grant.", "password")] = "password"


class RefreshIn(BaseModel):
    """A refresh token, valid for one use."""

    refresh_token: Annotated[Text, StringConstraints(max_length=4096), about("The refresh token.", "2b0c6ZtUqWm4")]


class RefreshForm(RefreshIn):
    """A refresh token, as the form of OAuth2's refresh grant."""

    grant_type: Annotated[Literal["refresh_token"], _only("refresh_token"), about("The grant.", "refresh_token")]


class RevocationForm(BaseModel):
    """A token to revoke, as the form of RFC 7009."""

    token: Annotated[Text, about("An access token or a refresh token.", "2b0c6ZtUqWm4")]
    token_type_hint: Annotated[Text, about("Which of them; ignored.", "refresh_token")] = ""


class LogoutIn(BaseModel):
    """Whether to sign out everywhere."""

    all: Annotated[Flag, about("Whether all of the account's sessions end.", False)] = False


class SessionOut(BaseModel):
    """A session, as its owner sees it."""

    id: Annotated[int, about("The session's id.", 1)]
    created_at: Annotated[datetime, about("When it began, by a sign-in.", MOMENT)]
    last_used_at: Annotated[datetime, about("When its tokens were last refreshed.", MOMENT)]
    user_agent: Annotated[str, about("The User-Agent of the sign-in.", "Mozilla/5.0")]
    current: Annotated[bool, about("Whether the request belongs to it.", True)]


@oauth.post("/login", responses=problems("invalid-credentials", "account-inactive"))
async def sign_in(
    form: Annotated[SignInForm, Form()],
    state: StateDep,
    address: ClientAddress,
    response: Response,
    user_agent: Annotated[str, Header(include_in_schema=False)] = "",
) -> TokenOut:
    """Sign in with the OAuth2 password form."""
    response.headers["Cache-Control"] = "no-store"
    sign_in = state.app.commands.sign_in
    tokens = await state.run(sign_in, form.username, form.password, user_agent=_utf8(user_agent), address=address)
    return TokenOut.model_validate(tokens)


async def refresh_by_form(form: Annotated[RefreshForm, Form()], state: StateDep, response: Response) -> TokenOut:
    """With a form this is OAuth2's refresh grant (RFC 6749, section 6)."""
    return await refresh(form, state, response)


async def revoke(form: Annotated[RevocationForm, Form()], state: StateDep) -> None:
    """With a form this revokes a token (RFC 7009); the token alone authorizes it.

    Its session ends, if it has one: the response is 200 in any case.
    """
    await state.run(state.app.commands.revoke_token, form.token)


oauth.add_api_route(
    "/refresh", refresh_by_form, methods=["POST"], route_class_override=FormRoute, responses=problems("invalid-token")
)
oauth.add_api_route("/logout", revoke, methods=["POST"], route_class_override=FormRoute, response_class=Response)


@oauth.post("/refresh", responses=problems("invalid-token"))
async def refresh(body: RefreshIn, state: StateDep, response: Response) -> TokenOut:
    """Exchange a refresh token for fresh tokens.

    Reuse of a token ends its session.
    """
    response.headers["Cache-Control"] = "no-store"
    return TokenOut.model_validate(await state.run(state.app.commands.refresh_session, body.refresh_token))


@router.post("/logout", status_code=204, response_class=Response)
async def sign_out(actor: SignedIn, state: StateDep, body: Annotated[LogoutIn, Body(default_factory=LogoutIn)]) -> None:
    """End this session, or all of one's own."""
    await state.run(state.app.commands.sign_out, actor, everywhere=body.all)


@router.get("/users/me/sessions")
async def list_sessions(actor: SignedIn, state: StateDep, response: Response) -> list[SessionOut]:
    """List one's own sessions, the latest used first."""
    response.headers["Cache-Control"] = "no-store"
    sessions = await state.run(state.app.queries.list_sessions, actor)
    return [SessionOut(**asdict(session), current=session.id == actor.session_id) for session in sessions]


@router.delete(
    "/users/me/sessions/{session_id}",
    status_code=204,
    response_class=Response,
)
async def end_session(session_id: SessionId, actor: SignedIn, state: StateDep) -> None:
    """End one of one's own sessions."""
    await state.run(state.app.commands.end_session, actor, session_id)


router.routes[:0] = oauth.routes  # first in the document too


def _utf8(header: str) -> str:
    """Decode a header as UTF-8 where it is valid; the server decoded it as Latin-1."""
    try:
        return header.encode("latin-1").decode()
    except UnicodeError:
        return header
