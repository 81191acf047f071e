"""App on fakes: the container's wiring, with fakes behind the ports."""

from collections.abc import Iterator

import pytest

from application.passwords import Limits
from infrastructure.settings import Settings
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
from tests.support.app import COMMON, REGISTRATIONS, World, container_with


@pytest.fixture
def world() -> Iterator[World]:
    database, clock, hasher = MemoryDatabase(), FrozenClock(), PlainHasher()
    users, posts, votes = MemoryUserReader(database), MemoryPostReader(database), MemoryVoteReader(database)
    meter, timer, log = MemoryMeter(), MemoryTimer(), MemorySecurityLog()
    container = container_with(
        settings=Settings(),
        limits=Limits(registrations_per_address=REGISTRATIONS),
        uow=database.transaction,
        users=users,
        posts=posts,
        votes=votes,
        dashboard=MemoryDashboardReader(database),
        throttle=MemoryThrottle(),
        health=StaticHealth(database="ok"),
        clock=clock,
        hasher=hasher,
        common=COMMON,
        metrics=meter,
        timer=timer,
        log=log,
        tokens=PlainTokens(),
        refresh_tokens=NumberedRefreshTokens(),
    )
    world = World(container.app(), database, clock, hasher, meter, timer, log)
    yield world
    assert not list(world.wrong_counters())
