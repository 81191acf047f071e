"""Dependencies of routes: the application, the caller, the client's address."""

from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Annotated, Any, ParamSpec, Protocol, TypeVar

from fastapi import Depends, Request
from fastapi.security import OAuth2PasswordBearer
from fastapi.security.base import SecurityBase

from application.app import App
from domain.users import ANONYMOUS, Actor, NotAuthenticated
from interfaces.http.drain import Drain
from interfaces.http.paging import Cursors
from interfaces.http.problems import Raises
from interfaces.http.proxies import Proxies

P = ParamSpec("P")
T = TypeVar("T")


class Run(Protocol):
    """Runs a use case without blocking the event loop."""

    def __call__(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        """Run the use case and return its result.

        Raises:
            Unavailable: the server is at its limit.
        """
        ...


@dataclass(frozen=True, slots=True)
class ApiState:
    """What routes use: `await state.run(state.app.queries.get_post, actor, post_id)`."""

    app: App
    run: Run
    cursors: Cursors
    proxies: Proxies
    public_reads: bool
    drain: Drain
    serve: Callable[[Hashable], object]
    """Records the account or address that the request serves, among which waits are shared out."""
    renew_deadline: Callable[[], None]
    """Between the parts of a streamed response, each of which has the time of a request."""


async def get_state(request: Request) -> ApiState:
    """Get the state that the API was built with."""
    state: ApiState = request.app.state.api
    return state


StateDep = Annotated[ApiState, Depends(get_state), Raises({"unavailable"})]


async def client_address(request: Request, state: StateDep) -> str:
    """Get the client's address, as far as it can be trusted."""
    return state.proxies.client(request.scope)


ClientAddress = Annotated[str, Depends(client_address), Raises({"rate-limited"})]


class OptionalCaller(SecurityBase):
    """Authenticate the caller if the request has a token.

    The account is recorded for the log. An invalid token is refused before the rest of the request is validated.
    Each of these classes is a single dependency that takes the request alone: FastAPI would resolve nested ones again
    at every occurrence.
    """

    _bearer = OAuth2PasswordBearer(
        tokenUrl="login",
        refreshUrl="refresh",
        scheme_name="Bearer",
        description="Sign in with the e-mail of the account as `username`. Leave the client's fields empty.",
        auto_error=False,
    )
    model = _bearer.model
    scheme_name = _bearer.scheme_name

    async def authenticate(self, request: Request) -> Actor | None:
        """Return the account of the token, or None without a token."""
        token = await self._bearer(request)
        if not token:
            return None
        state: ApiState = request.app.state.api
        actor = await state.run(state.app.queries.authenticate, token)
        request.state.user_id = actor.id
        state.serve(actor.id)
        return actor

    async def __call__(self, request: Request) -> Actor | None:
        """Return the caller, or None without a token."""
        return await self.authenticate(request)


class RequiredCaller(OptionalCaller):
    """Require a token."""

    async def __call__(self, request: Request) -> Actor:
        """Return the caller."""
        actor = await self.authenticate(request)
        if actor is None:
            raise NotAuthenticated
        return actor


class RequiredAdmin(RequiredCaller):
    """Require an administrator's token, before the rest of the request is validated."""

    async def __call__(self, request: Request) -> Actor:
        """Return the administrator."""
        actor = await super().__call__(request)
        actor.require_admin()
        return actor


class ReadingCaller(OptionalCaller):
    """Require a token unless `PUBLIC_READS` is on."""

    async def __call__(self, request: Request) -> Actor:
        """Return the caller, or `ANONYMOUS`."""
        actor = await self.authenticate(request)
        if actor is not None:
            return actor
        state: ApiState = request.app.state.api
        if not state.public_reads:
            raise NotAuthenticated
        state.serve(state.proxies.client(request.scope))
        return ANONYMOUS


_TOKEN_PROBLEMS = Raises({"not-authenticated", "invalid-token"})

MaybeSignedIn = Annotated[Actor | None, Depends(OptionalCaller()), Raises({"invalid-token"})]
SignedIn = Annotated[Actor, Depends(RequiredCaller()), _TOKEN_PROBLEMS]
Admin = Annotated[Actor, Depends(RequiredAdmin()), _TOKEN_PROBLEMS, Raises({"admins-only"})]
ReadingActor = Annotated[Actor, Depends(ReadingCaller()), _TOKEN_PROBLEMS]
