"""App: one field per use case. Every interface calls this and nothing else."""

from dataclasses import dataclass

from application.admin import GetDashboard
from application.ports.services import Health
from application.posts import DeletePost, EditPost, GetPost, ListPosts, WritePost, WritePostOnce, WritePosts
from application.sessions import (
    Authenticate,
    EndSession,
    EndSessions,
    ListSessions,
    ReadToken,
    RefreshSession,
    RevokeToken,
    SignIn,
    SignOut,
)
from application.users import (
    ChangePassword,
    CreateAdmin,
    DeleteOwnAccount,
    EditOwnAccount,
    EditUser,
    GetAccount,
    GetActor,
    GetOwnAccount,
    GetUser,
    ListUsers,
    RegisterUser,
    SetPassword,
)
from application.votes import CastVote, CastVotes, ListOwnVotes


@dataclass(frozen=True, slots=True)
class Commands:
    """Use cases that write, each in transactions of its own."""

    # accounts
    register_user: RegisterUser
    create_admin: CreateAdmin
    edit_user: EditUser
    edit_own_account: EditOwnAccount
    change_password: ChangePassword
    set_password: SetPassword
    delete_own_account: DeleteOwnAccount

    # sessions
    sign_in: SignIn
    refresh_session: RefreshSession
    sign_out: SignOut
    revoke_token: RevokeToken
    end_session: EndSession
    end_sessions: EndSessions

    # posts
    write_post: WritePost
    write_posts: WritePosts
    write_post_once: WritePostOnce
    edit_post: EditPost
    delete_post: DeletePost

    # votes
    cast_vote: CastVote
    cast_votes: CastVotes


@dataclass(frozen=True, slots=True)
class Queries:
    """Use cases that read and change nothing."""

    # accounts
    get_user: GetUser
    get_own_account: GetOwnAccount
    list_users: ListUsers
    get_account: GetAccount
    get_actor: GetActor

    # sessions
    authenticate: Authenticate
    read_token: ReadToken
    list_sessions: ListSessions

    # posts
    get_post: GetPost
    list_posts: ListPosts

    # votes
    list_own_votes: ListOwnVotes

    # operation
    get_dashboard: GetDashboard
    health: Health


@dataclass(frozen=True, slots=True)
class App:
    """All commands and all queries."""

    commands: Commands
    queries: Queries
