"""Signing in over HTTP."""

from typing import Annotated, Literal

from fastapi import APIRouter, Form, Response
from pydantic import BaseModel

from interfaces.http.deps import AppDep
from interfaces.http.fields import Text
from interfaces.http.problems import problems

router = APIRouter(tags=["sessions"])


class TokenOut(BaseModel):
    """An access token, in OAuth2's words (RFC 6749, section 5.1)."""

    access_token: str
    token_type: Literal["bearer"] = "bearer"
    expires_in: int


@router.post("/login", responses=problems("invalid-credentials", "account-inactive", "validation", "unavailable"))
def sign_in(
    username: Annotated[Text, Form(description="The e-mail of the account.")],
    password: Annotated[Text, Form(json_schema_extra={"format": "password"})],
    app: AppDep,
    response: Response,
) -> TokenOut:
    """Sign in with the OAuth2 password form."""
    token = app.sign_in(username, password)
    response.headers["Cache-Control"] = "no-store"
    return TokenOut(access_token=token.access_token, expires_in=token.expires_in)
