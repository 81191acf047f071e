"""The wiring diagram: the one place that binds adapters to ports."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import timedelta
from functools import partial
from typing import Any, Final, TypeVar, get_type_hints

from application.app import App
from application.passwords import CheckPassword, Guard, Limits
from application.posts import WritePost, WritePosts
from application.quotas import Quota
from application.sessions import ReadToken
from application.views import PostCommand, VoteCommand
from application.votes import CastVote, CastVotes
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

T = TypeVar("T")


def _codec(settings: Settings) -> JwtTokenCodec:
    lifetime = timedelta(minutes=settings.access_token_expire_minutes)
    return JwtTokenCodec(settings.signing_keys(), settings.algorithm, lifetime)


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
    opened = partial(open_database, settings.url, settings.database_connections, timeouts, metrics=metrics)
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


def _wired(kind: type[T], provided: Mapping[str, Any]) -> "providers.Singleton[T]":
    """Provide a dataclass by the names of its fields.

    A field receives what is provided under its name; without that it is such a dataclass itself.
    """
    hints = get_type_hints(kind)
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]  # each is a dataclass
    return providers.Singleton(kind, **{name: provided.get(name) or _wired(hints[name], provided) for name in names})


class Container(containers.DeclarativeContainer):
    """Everything that a process consists of, each made once, when first needed.

    Use cases receive it by name, so what they need is named as their fields.
    """

    settings = providers.Singleton(load_settings)
    timeouts = providers.Singleton(Timeouts)

    meter = metrics = providers.Singleton(_metrics, settings)

    clock = providers.Singleton(SystemClock)
    timer = providers.Singleton(BoundedTimer)
    log = providers.Singleton(StructlogSecurityLog)
    to_ascii = providers.Object(to_ascii)
    common = providers.Singleton(BundledCommonPasswords)
    reserved_usernames = providers.Singleton(_reserved_usernames, settings)
    tokens = providers.Singleton(_codec, settings)
    refresh_tokens = providers.Singleton(_refresh_tokens, settings)
    overlap = providers.Singleton(timedelta, seconds=settings.provided.refresh_overlap_seconds)

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
        metrics,
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
    guard = _wired(Guard, locals())
    check = _wired(CheckPassword, locals())

    read_token = _wired(ReadToken, locals())
    cast_votes = _wired(CastVotes, locals())
    cast_vote = _wired(CastVote, locals())
    write_posts = _wired(WritePosts, locals())
    write_post = _wired(WritePost, locals())
    executor = providers.Singleton(
        _executor, settings, timeouts, metrics, cast_vote, cast_votes, write_post, write_posts
    )

    counters = providers.Singleton(Counters, database)
    doctor = providers.Singleton(Doctor, settings, migrations, counters, clock, timeouts)

    app = _wired(App, locals())
