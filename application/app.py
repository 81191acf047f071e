"""The front door: everything Agora does, one field per use case. Every interface holds this and nothing else."""

from dataclasses import dataclass

from application.admin import SeeDashboard
from application.ports import Health
from application.posts import DeletePost, EditPost, ListPosts, ReadPost, WritePost
from application.sessions import Authenticate, SignIn
from application.users import CreateAdmin, ListUsers, RegisterUser, SeeOwnAccount, SeeUser
from application.votes import CastVote


@dataclass(frozen=True, slots=True)
class App:
    """The product's table of contents."""

    # accounts
    register_user: RegisterUser
    create_admin: CreateAdmin
    see_user: SeeUser
    see_own_account: SeeOwnAccount
    list_users: ListUsers

    # signing in
    sign_in: SignIn
    authenticate: Authenticate

    # posts
    write_post: WritePost
    read_post: ReadPost
    list_posts: ListPosts
    edit_post: EditPost
    delete_post: DeletePost

    # votes
    cast_vote: CastVote

    # running it
    see_dashboard: SeeDashboard
    health: Health
