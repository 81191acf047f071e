"""Who is asking, and the front door: what routes depend on."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, ParamSpec, TypeVar

from anyio import CapacityLimiter, Semaphore, fail_after, to_thread
from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.security import OAuth2PasswordBearer

from application.app import App
from application.ports import Unavailable
from domain.users import ANONYMOUS, Actor, NotAuthenticated

P = ParamSpec("P")
T = TypeVar("T")

_bearer = OAuth2PasswordBearer(tokenUrl="login", scheme_name="Bearer", auto_error=False)


async def get_app(request: Request) -> App:
    """Hand a route the front door."""
    app: App = request.app.state.app
    return app


AppDep = Annotated[App, Depends(get_app)]


async def client_address(request: Request) -> str:
    """Tell where the request comes from, as far as it can be believed."""
    address: str = request.app.state.proxies.client(request.scope)
    return address


ClientAddress = Annotated[str, Depends(client_address)]


class SlowLane:
    """Runs what hashes passwords on threads of its own, one for each core, so that no other request waits for it."""

    def __init__(self, turns: int, wait_seconds: float = 2.0) -> None:
        self._turns = Semaphore(turns)
        self._threads = CapacityLimiter(turns)
        self._wait_seconds = wait_seconds

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run work when it is its turn.

        Raises:
            Unavailable: too many others are waiting.
        """
        try:
            with fail_after(self._wait_seconds):
                await self._turns.acquire()
        except TimeoutError:
            raise Unavailable("too many passwords are being checked at once") from None
        try:
            return await to_thread.run_sync(partial(work, *args, **kwargs), limiter=self._threads)
        finally:
            self._turns.release()


async def slow_lane(request: Request) -> SlowLane:
    """Hand a route the lane for what takes long."""
    lane: SlowLane = request.app.state.slow_lane
    return lane


SlowLaneDep = Annotated[SlowLane, Depends(slow_lane)]


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
