"""App on fakes."""

from dataclasses import dataclass

import pytest

from application.admin import GetDashboard
from application.app import App, Commands, Queries
from application.passwords import CheckPassword, Guard, Limits
from application.posts import DeletePost, EditPost, GetPost, ListPosts, WritePost, WritePostOnce
from application.sessions import Authenticate, EndSession, EndSessions, ListSessions, RefreshSession, SignIn, SignOut
from application.users import (
    ChangePassword,
    CreateAdmin,
    DeleteOwnAccount,
    EditOwnAccount,
    EditUser,
    ExportOwnData,
    GetAccount,
    GetOwnAccount,
    GetUser,
    ListUsers,
    RegisterUser,
)
from application.views import Tokens
from application.votes import CastVote, ListOwnVotes, RepairVotes, VerifyVotes
from domain.users import Actor
from tests.fakes.memory import (
    MemoryDashboardReader,
    MemoryDatabase,
    MemoryPostReader,
    MemoryUserReader,
    MemoryVoteReader,
)
from tests.fakes.services import (
    FrozenClock,
    MemoryMeter,
    MemoryThrottle,
    NumberedRefreshTokens,
    PlainHasher,
    PlainTokens,
    StaticHealth,
)

PASSWORD = "correct horse"
HOME, ELSEWHERE = "192.0.2.1", "198.51.100.1"
REGISTRATIONS = 40
COMMON = frozenset({"password1"})


@dataclass
class World:
    """App with the fakes that it uses."""

    database: MemoryDatabase
    clock: FrozenClock
    hasher: PlainHasher
    meter: MemoryMeter
    app: App

    def person(self, name: str = "ann") -> Actor:
        return Actor(self.app.commands.register_user(f"{name}@example.com", PASSWORD, name, address=HOME).id)

    def sign_in(self, name: str = "ann", password: str = PASSWORD, *, address: str = HOME) -> Tokens:
        return self.app.commands.sign_in(f"{name}@example.com", password, user_agent="a browser", address=address)

    def signed_in(self, name: str = "ann") -> Actor:
        return self.app.queries.authenticate(self.sign_in(name).access_token)

    def admin(self, name: str = "root") -> Actor:
        view = self.app.commands.create_admin(f"{name}@example.com", PASSWORD, name)
        return Actor(view.id, view.role)


@pytest.fixture
def world() -> World:
    database, clock, hasher = MemoryDatabase(), FrozenClock(), PlainHasher()
    tokens, refresh_tokens = PlainTokens(), NumberedRefreshTokens()
    uow, users, posts = database.transaction, MemoryUserReader(database), MemoryPostReader(database)
    votes, meter = MemoryVoteReader(database), MemoryMeter()
    guard = Guard(MemoryThrottle(), Limits(registrations_per_address=REGISTRATIONS), meter)
    check = CheckPassword(hasher, guard, clock)
    app = App(
        commands=Commands(
            register_user=RegisterUser(uow, hasher, COMMON, guard, clock),
            create_admin=CreateAdmin(uow, hasher, COMMON, clock),
            edit_user=EditUser(uow),
            edit_own_account=EditOwnAccount(users, uow, check),
            change_password=ChangePassword(users, uow, check, hasher, COMMON),
            delete_own_account=DeleteOwnAccount(users, uow, check),
            sign_in=SignIn(users, uow, check, hasher, tokens, refresh_tokens, clock),
            refresh_session=RefreshSession(uow, tokens, refresh_tokens, clock),
            sign_out=SignOut(uow),
            end_session=EndSession(uow),
            end_sessions=EndSessions(uow),
            write_post=WritePost(uow, clock),
            write_post_once=WritePostOnce(uow, clock),
            edit_post=EditPost(uow, clock),
            delete_post=DeletePost(uow),
            cast_vote=CastVote(uow, clock, meter),
            repair_votes=RepairVotes(VerifyVotes(votes), uow),
        ),
        queries=Queries(
            get_user=GetUser(users),
            get_own_account=GetOwnAccount(users),
            export_own_data=ExportOwnData(users, posts, votes),
            get_account=GetAccount(users, clock),
            list_users=ListUsers(users),
            list_sessions=ListSessions(users, clock),
            authenticate=Authenticate(users, tokens, clock),
            get_post=GetPost(posts),
            list_posts=ListPosts(posts),
            list_own_votes=ListOwnVotes(votes),
            verify_votes=VerifyVotes(votes),
            get_dashboard=GetDashboard(MemoryDashboardReader(database), clock),
            health=StaticHealth(database="ok"),
        ),
    )
    return World(database, clock, hasher, meter, app)
