"""Who is asking, and the desk where their requests are taken: what routes depend on."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any, ParamSpec, Protocol, TypeVar

from fastapi import Depends, Request
from fastapi.security import OAuth2PasswordBearer

from application.app import App
from domain.users import ANONYMOUS, Actor, NotAuthenticated
from interfaces.http.addresses import Proxies
from interfaces.http.paging import Cursors

P = ParamSpec("P")
T = TypeVar("T")

_bearer = OAuth2PasswordBearer(tokenUrl="login", scheme_name="Bearer", auto_error=False)


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
    """The front door, and how to go through it: `await desk.run(desk.app.read_post, actor, post_id)`.

    `run_long` is for what hashes passwords or hands out everything: no other request is to wait for it.
    """

    app: App
    run: Run
    run_long: Run
    cursors: Cursors
    proxies: Proxies
    public_reads: bool


async def get_desk(request: Request) -> Desk:
    """Hand a route the desk."""
    desk: Desk = request.app.state.desk
    return desk


DeskDep = Annotated[Desk, Depends(get_desk)]


async def client_address(request: Request, desk: DeskDep) -> str:
    """Tell where the request comes from, as far as it can be believed."""
    return desk.proxies.client(request.scope)


ClientAddress = Annotated[str, Depends(client_address)]


async def maybe_signed_in(
    request: Request, token: Annotated[str | None, Depends(_bearer)], desk: DeskDep
) -> Actor | None:
    """Identify the caller by the token they sent, if they sent one, and note them for the log.

    A bad token is judged here, before the rest of the request is.
    """
    if not token:
        return None
    actor = await desk.run(desk.app.authenticate, token)
    request.state.user_id = actor.id
    return actor


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


async def reader(desk: DeskDep, actor: MaybeSignedIn) -> Actor:
    """Require a caller that we know, unless PUBLIC_READS lets everybody read."""
    if actor is None and not desk.public_reads:
        raise NotAuthenticated
    return actor or ANONYMOUS


Reader = Annotated[Actor, Depends(reader)]
