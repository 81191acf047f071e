"""Who is asking, and the front door: what routes depend on."""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.security import OAuth2PasswordBearer

from application.app import App
from domain.users import ANONYMOUS, Actor, NotAuthenticated

_bearer = OAuth2PasswordBearer(tokenUrl="login", scheme_name="Bearer", auto_error=False)


async def get_app(request: Request) -> App:
    """Hand a route the front door."""
    app: App = request.app.state.app
    return app


AppDep = Annotated[App, Depends(get_app)]


async def maybe_signed_in(token: Annotated[str | None, Depends(_bearer)], app: AppDep) -> Actor | None:
    """Identify the caller by the token they sent, if they sent one.

    A bad token is judged here, before the rest of the request is.
    """
    return await run_in_threadpool(app.authenticate, token) if token else None


MaybeSignedIn = Annotated[Actor | None, Depends(maybe_signed_in)]


async def signed_in(actor: MaybeSignedIn) -> Actor:
    """Require a caller that we know."""
    if actor is None:
        raise NotAuthenticated
    return actor


SignedIn = Annotated[Actor, Depends(signed_in)]


async def admin(actor: SignedIn) -> Actor:
    """Require an administrator, before the rest of the request is judged."""
    actor.require_admin()
    return actor


Admin = Annotated[Actor, Depends(admin)]


async def reader(request: Request, actor: MaybeSignedIn) -> Actor:
    """Require a caller that we know, unless PUBLIC_READS lets everybody read."""
    if actor is None and not request.app.state.public_reads:
        raise NotAuthenticated
    return actor or ANONYMOUS


Reader = Annotated[Actor, Depends(reader)]
