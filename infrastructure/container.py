"""The wiring diagram: which adapter stands behind which port. The only place where all of it meets."""

from datetime import timedelta

from dependency_injector import containers, providers

from application.admin import SeeDashboard
from application.app import App
from application.posts import DeletePost, EditPost, ListPosts, ReadPost, WritePost
from application.sessions import Authenticate, SignIn
from application.users import CreateAdmin, ListUsers, RegisterUser, SeeOwnAccount, SeeUser
from application.votes import CastVote
from infrastructure.clock import SystemClock
from infrastructure.database.admin import SqlDashboardReader
from infrastructure.database.engine import Database
from infrastructure.database.migrations import Migrations, SqlHealth
from infrastructure.database.posts import SqlPostReader
from infrastructure.database.unit_of_work import SqlUnitOfWorkFactory
from infrastructure.database.users import SqlUserReader
from infrastructure.passwords import Argon2PasswordHasher
from infrastructure.settings import Settings, load_settings
from infrastructure.tokens import JwtTokenCodec


def _codec(settings: Settings) -> JwtTokenCodec:
    lifetime = timedelta(minutes=settings.access_token_expire_minutes)
    return JwtTokenCodec(settings.signing_key(), settings.algorithm, lifetime)


class Container(containers.DeclarativeContainer):
    """Everything that one process is made of, each made once and when first asked for."""

    settings = providers.Singleton(load_settings)

    clock = providers.Singleton(SystemClock)
    hasher = providers.Singleton(Argon2PasswordHasher)
    tokens = providers.Singleton(_codec, settings)

    database = providers.Singleton(Database, settings.provided.url, settings.provided.threads)
    uow = providers.Singleton(SqlUnitOfWorkFactory, database)
    users = providers.Singleton(SqlUserReader, database.provided.read)
    posts = providers.Singleton(SqlPostReader, database.provided.read)
    dashboard = providers.Singleton(SqlDashboardReader, database.provided.read)
    migrations = providers.Singleton(Migrations, settings.provided.url)
    health = providers.Singleton(SqlHealth, database, migrations)

    app = providers.Singleton(
        App,
        register_user=providers.Singleton(RegisterUser, uow, hasher, clock),
        create_admin=providers.Singleton(CreateAdmin, uow, hasher, clock),
        see_user=providers.Singleton(SeeUser, users),
        see_own_account=providers.Singleton(SeeOwnAccount, users),
        list_users=providers.Singleton(ListUsers, users),
        sign_in=providers.Singleton(SignIn, users, hasher, tokens, clock),
        authenticate=providers.Singleton(Authenticate, users, tokens, clock),
        write_post=providers.Singleton(WritePost, uow, clock),
        read_post=providers.Singleton(ReadPost, posts),
        list_posts=providers.Singleton(ListPosts, posts),
        edit_post=providers.Singleton(EditPost, uow, clock),
        delete_post=providers.Singleton(DeletePost, uow),
        cast_vote=providers.Singleton(CastVote, uow, clock),
        see_dashboard=providers.Singleton(SeeDashboard, dashboard, clock),
        health=health,
    )
