"""Accounts over HTTP."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, ConfigDict

from application.paging import Window
from application.views import PublicUser, UserView
from domain.users import ANONYMOUS, Role
from interfaces.http.deps import Admin, AppDep, MaybeSignedIn, SignedIn
from interfaces.http.fields import Email, Password, Search, UserId, Username, window
from interfaces.http.problems import problems
from interfaces.http.strict_json import StrictRoute

router = APIRouter(tags=["users"], route_class=StrictRoute)


class RegistrationIn(BaseModel):
    """What opens an account."""

    email: Email
    password: Password
    username: Username | None = None


class PublicUserOut(BaseModel):
    """A person as everybody sees them."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    username: str | None
    created_at: datetime

    @classmethod
    def of(cls, user: PublicUser) -> "PublicUserOut":
        """Show a person to others."""
        return cls(id=user.id, username=user.username, created_at=user.created_at)


class UserOut(PublicUserOut):
    """A person as they and administrators see them."""

    email: str
    role: Role
    is_active: bool

    @classmethod
    def of_own(cls, user: UserView) -> "UserOut":
        """Show an account to its owner or to an administrator."""
        return cls(
            id=user.id,
            username=user.username,
            created_at=user.created_at,
            email=user.email,
            role=user.role,
            is_active=user.is_active,
        )


@router.post(
    "/users",
    status_code=201,
    responses=problems("email-taken", "username-taken", "validation", "unavailable"),
)
def register(body: RegistrationIn, app: AppDep, response: Response) -> UserOut:
    """Open an account."""
    user = app.register_user(body.email, body.password, body.username)
    response.headers["Location"] = f"/users/{user.id}"
    return UserOut.of_own(user)


@router.get(
    "/users",
    responses=problems("not-authenticated", "invalid-token", "admins-only", "validation", "unavailable"),
)
def list_users(
    actor: Admin, app: AppDep, page: Annotated[Window, Depends(window)], search: Search = ""
) -> list[UserOut]:
    """List all accounts, for administrators; `search` looks in e-mails and usernames."""
    return [UserOut.of_own(user) for user in app.list_users(actor, search, page)]


@router.get("/users/me", responses=problems("not-authenticated", "invalid-token", "unavailable"))
@router.get("/profile", responses=problems("not-authenticated", "invalid-token", "unavailable"))
def see_own_account(actor: SignedIn, app: AppDep) -> UserOut:
    """Show people their own account."""
    return UserOut.of_own(app.see_own_account(actor))


@router.get("/users/{user_id}", responses=problems("invalid-token", "user-not-found", "validation", "unavailable"))
def see_user(user_id: UserId, actor: MaybeSignedIn, app: AppDep) -> UserOut | PublicUserOut:
    """Show one account: its owner and administrators see all of it. No token is needed; one that is sent counts."""
    user = app.see_user(actor or ANONYMOUS, user_id)
    return UserOut.of_own(user) if isinstance(user, UserView) else PublicUserOut.of(user)
