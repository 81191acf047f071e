"""The real API, in this process, on a real database of each kind."""

from collections.abc import Iterator

import pytest
from sqlalchemy import URL

from tests.fakes.services import FrozenClock
from tests.support.api import Api, Person, running_api


@pytest.fixture
def api(url: URL) -> Iterator[Api]:
    """The API on an empty database of each kind."""
    with running_api(url) as api:
        yield api


@pytest.fixture
def clock() -> FrozenClock:
    """The clock of `frozen_api`: midnight on New Year's Day of 2026, until told otherwise."""
    return FrozenClock()


@pytest.fixture
def frozen_api(url: URL, clock: FrozenClock) -> Iterator[Api]:
    """The API on an empty database of each kind, where time stands still."""
    with running_api(url, {"clock": clock}) as api:
        yield api


@pytest.fixture
def ann(api: Api) -> Person:
    """Somebody who writes."""
    return api.person("ann")


@pytest.fixture
def bob(api: Api) -> Person:
    """A stranger to Ann."""
    return api.person("bob")


@pytest.fixture
def root(api: Api) -> Person:
    """An administrator."""
    return api.admin()
