"""App on fakes: the container's wiring, with fakes behind the ports."""

from collections.abc import Iterator
from dataclasses import fields

import pytest

from application.passwords import Limits
from infrastructure.container import Container
from infrastructure.settings import Settings
from tests.fakes.memory import MemoryDatabase
from tests.fakes.services import (
    FrozenClock,
    MemoryMeter,
    MemorySecurityLog,
    MemoryTimer,
    NumberedRefreshTokens,
    PlainHasher,
    PlainTokens,
    StaticHealth,
)
from tests.support.app import COMMON, REGISTRATIONS, World, container_with
from tests.support.backends import Backend, memory_backend


@pytest.fixture
def world() -> Iterator[World]:
    database, clock, hasher = MemoryDatabase(), FrozenClock(), PlainHasher()
    backend = memory_backend(database)
    storage = {place.name: getattr(backend, place.name) for place in fields(Backend) if hasattr(Container, place.name)}
    meter, timer, log = MemoryMeter(), MemoryTimer(), MemorySecurityLog()
    container = container_with(
        settings=Settings(),
        limits=Limits(registrations_per_address=REGISTRATIONS),
        **storage,
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
    assert not database.wrong_counters()
