"""Who is asking, and the desk where their requests are taken: what routes depend on."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any, ParamSpec, Protocol, TypeVar

from fastapi import Depends, Request
from fastapi.security import OAuth2PasswordBearer
from fastapi.security.base import SecurityBase

from application.app import App
from domain.users import ANONYMOUS, Actor, NotAuthenticated
from interfaces.http.addresses import Proxies
from interfaces.http.leaving import Leaving
from interfaces.http.paging import Cursors

P = ParamSpec("P")
T = TypeVar("T")


class Run(Protocol):
    """Runs a use case where it holds nobody up."""

    def __call__(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        """Run it when it is its turn.

        Raises:
            Unavailable: too many others are waiting.
        """
        ...


@dataclass(frozen=True, slots=True)
class Desk:
    """The front door, and how to go through it: `await desk.run(desk.app.queries.get_post, actor, post_id)`."""

    app: App
    run: Run
    cursors: Cursors
    proxies: Proxies
    public_reads: bool
    leaving: Leaving


async def get_desk(request: Request) -> Desk:
    """Hand a route the desk."""
    desk: Desk = request.app.state.desk
    return desk


DeskDep = Annotated[Desk, Depends(get_desk)]


async def client_address(request: Request, desk: DeskDep) -> str:
    """Tell where the request comes from, as far as it can be believed."""
    return desk.proxies.client(request.scope)


ClientAddress = Annotated[str, Depends(client_address)]


class MaybeSigned(SecurityBase):
    """Identifies the caller by the token they sent, if they sent one, and notes them for the log.

    A bad token is judged here, before the rest of the request is. These are one dependency each: FastAPI would solve
    what they depended on anew wherever it occurs, at a price for every request.
    """

    _bearer = OAuth2PasswordBearer(tokenUrl="login", scheme_name="Bearer", auto_error=False)
    model = _bearer.model
    scheme_name = _bearer.scheme_name

    async def identify(self, request: Request) -> Actor | None:
        """Tell who sent the token."""
        token = await self._bearer(request)
        if not token:
            return None
        desk: Desk = request.app.state.desk
        actor = await desk.run(desk.app.queries.authenticate, token)
        request.state.user_id = actor.id
        return actor

    async def __call__(self, request: Request) -> Actor | None:
        """Identify the caller, or nobody."""
        return await self.identify(request)


class Signed(MaybeSigned):
    """Requires a caller that we know."""

    async def __call__(self, request: Request) -> Actor:
        """Identify the caller."""
        actor = await self.identify(request)
        if actor is None:
            raise NotAuthenticated
        return actor


class SignedAdmin(Signed):
    """Requires an administrator, before the rest of the request is judged."""

    async def __call__(self, request: Request) -> Actor:
        """Identify the administrator."""
        actor = await super().__call__(request)
        actor.require_admin()
        return actor


class Reading(MaybeSigned):
    """Requires a caller that we know, unless PUBLIC_READS lets everybody read."""

    async def __call__(self, request: Request) -> Actor:
        """Identify the reader."""
        actor = await self.identify(request)
        if actor is None and not request.app.state.desk.public_reads:
            raise NotAuthenticated
        return actor or ANONYMOUS


MaybeSignedIn = Annotated[Actor | None, Depends(MaybeSigned())]
SignedIn = Annotated[Actor, Depends(Signed())]
Admin = Annotated[Actor, Depends(SignedAdmin())]
Reader = Annotated[Actor, Depends(Reading())]
