"""Dependencies of routes: the application, the caller, the client's address."""

from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Annotated, Any, ParamSpec, Protocol, TypeVar

from fastapi import Depends, Request
from fastapi.security import OAuth2PasswordBearer
from fastapi.security.base import SecurityBase

from application.app import App
from application.views import Bearer, Caller
from domain.users import ANONYMOUS, Actor, NotAuthenticated
from interfaces.http.drain import Drain
from interfaces.http.paging import Cursors
from interfaces.http.problems import Raises
from interfaces.http.proxies import Proxies

P = ParamSpec("P")
T = TypeVar("T")
CallerT = TypeVar("CallerT", Actor, Bearer)


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

    async def __call__(self, request: Request) -> Actor:
        """Return the caller."""
        token = await self._bearer(request)
        if not token:
            return self.without_token(request)
        state: ApiState = request.app.state.api
        return _noted(request, await state.run(state.app.queries.authenticate, token))

    def without_token(self, _request: Request) -> Actor:
        """Return the caller of a request without a token."""
        return ANONYMOUS


def _noted(request: Request, caller: CallerT) -> CallerT:
    """Note the account for the log, and for the order of waiting requests."""
    request.state.user_id = caller.id
    state: ApiState = request.app.state.api
    state.serve(caller.id)
    return caller


class RequiredCaller(OptionalCaller):
    """Require a token."""

    def without_token(self, _request: Request) -> Actor:
        """Refuse a request without a token."""
        raise NotAuthenticated


class RequiredAdmin(RequiredCaller):
    """Require an administrator's token, before the rest of the request is validated."""

    async def __call__(self, request: Request) -> Actor:
        """Return the administrator."""
        actor = await super().__call__(request)
        actor.require_admin()
        return actor


class CheckedByUseCase(RequiredCaller):
    """Require a token, and leave the check of account and session to the use case.

    FastAPI's path checks them at once, so that an invalid token is refused before an invalid request.
    """

    async def on_fast_path(self, request: Request) -> Caller:
        """Return the bearer of the token of a valid request."""
        token = await self._bearer(request)
        if not token:
            return self.without_token(request)
        state: ApiState = request.app.state.api
        return _noted(request, state.app.queries.read_token(token))


class ReadingCaller(CheckedByUseCase):
    """Require a token unless `PUBLIC_READS` is on."""

    def without_token(self, request: Request) -> Actor:
        """Return `ANONYMOUS`; waits are shared out among addresses."""
        state: ApiState = request.app.state.api
        if not state.public_reads:
            raise NotAuthenticated
        state.serve(state.proxies.client(request.scope))
        return ANONYMOUS


_TOKEN_PROBLEMS = Raises({"not-authenticated", "invalid-token"})

MaybeSignedIn = Annotated[Actor, Depends(OptionalCaller()), Raises({"invalid-token"})]
SignedIn = Annotated[Actor, Depends(RequiredCaller()), _TOKEN_PROBLEMS]
Admin = Annotated[Actor, Depends(RequiredAdmin()), _TOKEN_PROBLEMS, Raises({"admins-only"})]
ServedCaller = Annotated[Caller, Depends(CheckedByUseCase()), _TOKEN_PROBLEMS]
Reader = Annotated[Caller, Depends(ReadingCaller()), _TOKEN_PROBLEMS]
