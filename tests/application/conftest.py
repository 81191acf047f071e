"""App on fakes."""

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
    GetAccount,
    GetOwnAccount,
    GetUser,
    ListUsers,
    RegisterUser,
    SetPassword,
)
from application.votes import CastVote, ListOwnVotes, RepairVotes, VerifyVotes
from domain.users import RESERVED_USERNAMES
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
    MemorySecurityLog,
    MemoryThrottle,
    MemoryTimer,
    NumberedRefreshTokens,
    PlainHasher,
    PlainTokens,
    StaticHealth,
)
from tests.support.app import COMMON, REGISTRATIONS, World


@pytest.fixture
def world() -> World:
    database, clock, hasher = MemoryDatabase(), FrozenClock(), PlainHasher()
    tokens, refresh_tokens = PlainTokens(), NumberedRefreshTokens()
    uow, users, posts = database.transaction, MemoryUserReader(database), MemoryPostReader(database)
    votes, meter, timer, log = MemoryVoteReader(database), MemoryMeter(), MemoryTimer(), MemorySecurityLog()
    guard = Guard(MemoryThrottle(), Limits(registrations_per_address=REGISTRATIONS), meter)
    check = CheckPassword(hasher, guard, clock, timer)
    app = App(
        commands=Commands(
            register_user=RegisterUser(uow, hasher, COMMON, guard, clock, RESERVED_USERNAMES, log),
            create_admin=CreateAdmin(uow, hasher, COMMON, clock, log),
            edit_user=EditUser(uow, log),
            edit_own_account=EditOwnAccount(users, uow, check, guard, clock, RESERVED_USERNAMES, log),
            change_password=ChangePassword(users, uow, check, hasher, COMMON, log),
            set_password=SetPassword(users, uow, hasher, COMMON, log),
            delete_own_account=DeleteOwnAccount(users, uow, check, log),
            sign_in=SignIn(users, uow, check, hasher, tokens, refresh_tokens, clock, log),
            refresh_session=RefreshSession(uow, tokens, refresh_tokens, clock, log),
            sign_out=SignOut(uow, log),
            end_session=EndSession(uow, log),
            end_sessions=EndSessions(uow, log),
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
    return World(database, clock, hasher, meter, timer, log, app)
