"""The front door: everything Agora does, one field per use case. Every interface holds this and nothing else."""

from dataclasses import dataclass

from application.admin import SeeDashboard
from application.ports import Health
from application.posts import DeletePost, EditPost, ListPosts, ReadPost, WritePost, WritePostOnce
from application.sessions import Authenticate, EndSession, EndSessions, ListSessions, RefreshSession, SignIn, SignOut
from application.users import (
    ChangePassword,
    CreateAdmin,
    DeleteOwnAccount,
    EditOwnAccount,
    EditUser,
    ExportOwnData,
    FindAccount,
    ListUsers,
    RegisterUser,
    SeeOwnAccount,
    SeeUser,
)
from application.votes import CastVote, ListOwnVotes, RepairVotes, VerifyVotes


@dataclass(frozen=True, slots=True)
class App:
    """The product's table of contents."""

    # accounts
    register_user: RegisterUser
    create_admin: CreateAdmin
    see_user: SeeUser
    see_own_account: SeeOwnAccount
    list_users: ListUsers
    find_account: FindAccount
    edit_user: EditUser
    edit_own_account: EditOwnAccount
    change_password: ChangePassword
    delete_own_account: DeleteOwnAccount
    export_own_data: ExportOwnData

    # sessions
    sign_in: SignIn
    refresh_session: RefreshSession
    sign_out: SignOut
    list_sessions: ListSessions
    end_session: EndSession
    end_sessions: EndSessions
    authenticate: Authenticate

    # posts
    write_post: WritePost
    write_post_once: WritePostOnce
    read_post: ReadPost
    list_posts: ListPosts
    edit_post: EditPost
    delete_post: DeletePost

    # votes
    cast_vote: CastVote
    list_own_votes: ListOwnVotes
    verify_votes: VerifyVotes
    repair_votes: RepairVotes

    # running it
    see_dashboard: SeeDashboard
    health: Health
