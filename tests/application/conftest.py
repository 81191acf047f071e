"""The front door, on fakes."""

from dataclasses import dataclass

import pytest

from application.admin import SeeDashboard
from application.app import App
from application.posts import DeletePost, EditPost, ListPosts, ReadPost, WritePost
from application.sessions import Authenticate, SignIn
from application.users import CreateAdmin, ListUsers, RegisterUser, SeeOwnAccount, SeeUser
from application.votes import CastVote
from domain.users import Actor
from tests.fakes import (
    FrozenClock,
    MemoryDashboardReader,
    MemoryDatabase,
    MemoryPostReader,
    MemoryUserReader,
    PlainHasher,
    PlainTokens,
    StaticHealth,
)

PASSWORD = "correct horse"


@dataclass
class World:
    """The application and everything that it stands on."""

    database: MemoryDatabase
    clock: FrozenClock
    hasher: PlainHasher
    app: App

    def person(self, name: str = "ann") -> Actor:
        return Actor(self.app.register_user(f"{name}@example.com", PASSWORD, name).id)

    def admin(self, name: str = "root") -> Actor:
        view = self.app.create_admin(f"{name}@example.com", PASSWORD, name)
        return Actor(view.id, view.role)


@pytest.fixture
def world() -> World:
    database, clock, hasher, tokens = MemoryDatabase(), FrozenClock(), PlainHasher(), PlainTokens()
    uow, users, posts = database.transaction, MemoryUserReader(database), MemoryPostReader(database)
    app = App(
        register_user=RegisterUser(uow, hasher, clock),
        create_admin=CreateAdmin(uow, hasher, clock),
        see_user=SeeUser(users),
        see_own_account=SeeOwnAccount(users),
        list_users=ListUsers(users),
        sign_in=SignIn(users, hasher, tokens, clock),
        authenticate=Authenticate(users, tokens, clock),
        write_post=WritePost(uow, clock),
        read_post=ReadPost(posts),
        list_posts=ListPosts(posts),
        edit_post=EditPost(uow, clock),
        delete_post=DeletePost(uow),
        cast_vote=CastVote(uow, clock),
        see_dashboard=SeeDashboard(MemoryDashboardReader(database), clock),
        health=StaticHealth(database="ok"),
    )
    return World(database, clock, hasher, app)
