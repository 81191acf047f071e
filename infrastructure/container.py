"""The wiring diagram: the one place that binds adapters to ports."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any, Final

from application.admin import GetDashboard
from application.app import App, Commands, Queries
from application.passwords import CheckPassword, Guard, Limits
from application.posts import DeletePost, EditPost, GetPost, ListPosts, WritePost, WritePostOnce, WritePosts
from application.quotas import Quota
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
from application.views import PostCommand, VoteCommand
from application.votes import CastVote, CastVotes, ListOwnVotes
from domain.users import RESERVED_USERNAMES
from infrastructure.clock import SystemClock
from infrastructure.common_passwords import BundledCommonPasswords
from infrastructure.database.admin import SqlDashboardReader
from infrastructure.database.engine import HEALTH_CONNECTIONS, Database, open_database
from infrastructure.database.posts import SqlPostReader
from infrastructure.database.schema import Migrations, SqlHealth
from infrastructure.database.throttle import SqlThrottle
from infrastructure.database.unit_of_work import SqlUnitOfWorkFactory
from infrastructure.database.users import SqlUserReader
from infrastructure.database.votes import SqlVoteReader
from infrastructure.domain_names import to_ascii
from infrastructure.environment import load_settings
from infrastructure.execution.deadline import BoundedTimer
from infrastructure.execution.greenlets import Executor, GreenletExecutor
from infrastructure.execution.group_commit import Group, GroupCommit
from infrastructure.execution.retry import RetryingExecutor
from infrastructure.execution.threads import WorkerThreads
from infrastructure.injection import containers, providers
from infrastructure.logs import StructlogSecurityLog
from infrastructure.metrics import Metrics
from infrastructure.operations.adoption import Adoption
from infrastructure.operations.archive import Archive
from infrastructure.operations.counters import Counters
from infrastructure.operations.demo import Demo
from infrastructure.operations.distribution import Distribution
from infrastructure.operations.doctor import Doctor
from infrastructure.passwords import CORES, Argon2PasswordHasher
from infrastructure.settings import Settings
from infrastructure.timeouts import Timeouts
from infrastructure.tokens import DerivedRefreshTokens, JwtTokenCodec, RandomRefreshTokens


def _codec(settings: Settings) -> JwtTokenCodec:
    previous = settings.secret_key_previous.get_secret_value() if settings.secret_key_previous else None
    lifetime = timedelta(minutes=settings.access_token_expire_minutes)
    return JwtTokenCodec(settings.signing_key(), previous, settings.algorithm, lifetime)


def _refresh_tokens(settings: Settings) -> RandomRefreshTokens:
    return DerivedRefreshTokens(settings.signing_keys()) if settings.refresh_overlap_seconds else RandomRefreshTokens()


SQLITE_THREADS: Final = 100
"""More than SQLite has connections: use cases wait on them for a connection, and for a core to hash on."""


GROUPS: Final = 4
"""Transactions that votes or posts share, at once: some begin while others commit. SQLite has one writer."""


def _executor(
    settings: Settings,
    timeouts: Timeouts,
    metrics: Metrics,
    cast_vote: CastVote,
    cast_votes: CastVotes,
    write_post: WritePost,
    write_posts: WritePosts,
) -> RetryingExecutor:
    executor: Executor = GreenletExecutor()
    in_flight = GROUPS
    if settings.url.get_backend_name() == "sqlite":
        reason = "all threads are in use; try again"
        share = max(1, settings.database_connections // 2)
        waiting = metrics.connections_waiting
        executor = WorkerThreads(SQLITE_THREADS, reason, timeouts.acquire, waiting=waiting, share=share)
        in_flight = 1
    groups: dict[Callable[..., Any], Group] = {
        cast_vote: Group(VoteCommand, partial(cast_votes, wait=False), cast_votes),
        write_post: Group(PostCommand, write_posts, write_posts),
    }
    return RetryingExecutor(GroupCommit(executor, groups, timeouts, in_flight), timeouts, metrics.retried)


def _database(settings: Settings, timeouts: Timeouts, metrics: Metrics) -> Database:
    opened = partial(
        open_database,
        settings.url,
        settings.database_connections,
        timeouts,
        in_use=metrics.connections_in_use,
        waiting=metrics.connections_waiting,
    )
    if settings.url.get_backend_name() == "sqlite":
        return opened()
    # Not as arguments of a provider: each Container() would copy these statements deeply, for tens of milliseconds.
    from infrastructure.database.prepared import BATCHED, PREPARED

    return opened(prepared=PREPARED, batched=BATCHED)


def _limits(settings: Settings) -> Limits:
    if not settings.throttle:
        return Limits(0, 0, 0, 0)
    return Limits(
        settings.throttle_account_failures,
        settings.throttle_address_failures,
        settings.throttle_new_address_failures,
        settings.throttle_registrations,
    )


def _reserved_usernames(settings: Settings) -> frozenset[str]:
    return RESERVED_USERNAMES.union(settings.reserved_usernames)


def _quota(settings: Settings) -> Quota:
    return Quota(settings.quota_rows, settings.quota_mib * 1024 * 1024)


def _metrics(settings: Settings) -> Metrics:
    if not settings.metrics:
        return Metrics()
    from infrastructure.prometheus import PrometheusMetrics

    return PrometheusMetrics()


class Container(containers.DeclarativeContainer):
    """Everything that a process consists of, each made once, when first needed."""

    settings = providers.Singleton(load_settings)
    timeouts = providers.Singleton(Timeouts)

    metrics = providers.Singleton(_metrics, settings)

    clock = providers.Singleton(SystemClock)
    timer = providers.Singleton(BoundedTimer)
    log = providers.Singleton(StructlogSecurityLog)
    to_ascii = providers.Object(to_ascii)
    common = providers.Singleton(BundledCommonPasswords)
    reserved_usernames = providers.Singleton(_reserved_usernames, settings)
    tokens = providers.Singleton(_codec, settings)
    refresh_tokens = providers.Singleton(_refresh_tokens, settings)
    refresh_overlap = providers.Singleton(timedelta, seconds=settings.provided.refresh_overlap_seconds)

    database = providers.Singleton(_database, settings, timeouts, metrics)
    uow = providers.Singleton(SqlUnitOfWorkFactory, database)
    users = providers.Singleton(SqlUserReader, database.provided.read)
    posts = providers.Singleton(SqlPostReader, database.provided.read)
    votes = providers.Singleton(SqlVoteReader, database.provided.read)

    hasher = providers.Singleton(
        Argon2PasswordHasher,
        settings.provided.argon2_memory_kib,
        settings.provided.argon2_time_cost,
        settings.provided.argon2_parallelism,
        CORES,
        timeouts,
        running=metrics.provided.hashes_running,
        waiting=metrics.provided.hashes_waiting,
        stored_kinds=users.provided.hash_kinds,
    )

    dashboard = providers.Singleton(SqlDashboardReader, database.provided.read)

    migrations = providers.Singleton(Migrations, settings.provided.url, timeouts)
    health_database = providers.Singleton(open_database, settings.provided.url, HEALTH_CONNECTIONS, timeouts)
    health = providers.Singleton(SqlHealth, health_database)

    adoption = providers.Singleton(Adoption, settings.provided.url, migrations)
    archive = providers.Singleton(Archive, settings.provided.url)
    distribution = providers.Singleton(Distribution, settings.provided.url, timeouts)
    demo = providers.Singleton(Demo, settings.provided.url, hasher, clock)

    throttle = providers.Singleton(SqlThrottle, database)
    limits = providers.Singleton(_limits, settings)
    quota = providers.Singleton(_quota, settings)
    guard = providers.Singleton(Guard, throttle, limits, metrics)
    read_token = providers.Singleton(ReadToken, tokens, clock)
    check = providers.Singleton(CheckPassword, hasher, guard, clock, timer)

    cast_votes = providers.Singleton(CastVotes, uow, clock, metrics, quota)
    cast_vote = providers.Singleton(CastVote, cast_votes)
    write_posts = providers.Singleton(WritePosts, uow, clock, quota)
    write_post = providers.Singleton(WritePost, write_posts)
    executor = providers.Singleton(
        _executor, settings, timeouts, metrics, cast_vote, cast_votes, write_post, write_posts
    )

    counters = providers.Singleton(Counters, database)
    doctor = providers.Singleton(Doctor, settings, migrations, counters, clock, timeouts)

    app = providers.Singleton(
        App,
        commands=providers.Singleton(
            Commands,
            register_user=providers.Singleton(
                RegisterUser, uow, hasher, common, guard, clock, reserved_usernames, log, to_ascii
            ),
            create_admin=providers.Singleton(CreateAdmin, uow, hasher, common, clock, log, to_ascii),
            edit_user=providers.Singleton(EditUser, uow, log),
            edit_own_account=providers.Singleton(
                EditOwnAccount, users, uow, check, guard, clock, reserved_usernames, log, to_ascii
            ),
            change_password=providers.Singleton(ChangePassword, users, uow, check, hasher, common, log),
            set_password=providers.Singleton(SetPassword, users, uow, hasher, common, log),
            delete_own_account=providers.Singleton(DeleteOwnAccount, users, uow, check, log),
            sign_in=providers.Singleton(
                SignIn, users, uow, check, hasher, tokens, refresh_tokens, clock, log, to_ascii
            ),
            refresh_session=providers.Singleton(
                RefreshSession, uow, tokens, refresh_tokens, clock, log, refresh_overlap
            ),
            sign_out=providers.Singleton(SignOut, uow, log),
            revoke_token=providers.Singleton(RevokeToken, uow, tokens, refresh_tokens, clock, log),
            end_session=providers.Singleton(EndSession, uow, log),
            end_sessions=providers.Singleton(EndSessions, uow, log),
            write_post=write_post,
            write_posts=write_posts,
            write_post_once=providers.Singleton(WritePostOnce, uow, clock, quota),
            edit_post=providers.Singleton(EditPost, uow, clock, quota),
            delete_post=providers.Singleton(DeletePost, uow),
            cast_vote=cast_vote,
            cast_votes=cast_votes,
        ),
        queries=providers.Singleton(
            Queries,
            get_user=providers.Singleton(GetUser, users),
            get_own_account=providers.Singleton(GetOwnAccount, users),
            list_users=providers.Singleton(ListUsers, users),
            get_account=providers.Singleton(GetAccount, users, clock, to_ascii),
            get_actor=providers.Singleton(GetActor, users),
            list_sessions=providers.Singleton(ListSessions, users, clock),
            authenticate=providers.Singleton(Authenticate, users, read_token),
            read_token=read_token,
            get_post=providers.Singleton(GetPost, posts),
            list_posts=providers.Singleton(ListPosts, posts),
            list_own_votes=providers.Singleton(ListOwnVotes, votes),
            get_dashboard=providers.Singleton(GetDashboard, dashboard, clock),
            health=health,
        ),
    )
