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
    """An author."""
    return api.person("ann")


@pytest.fixture
def bob(api: Api) -> Person:
    """A stranger to Ann."""
    return api.person("bob")


@pytest.fixture
def root(api: Api) -> Person:
    """An administrator."""
    return api.admin()


ON_POSTGRESQL_ALONE = {
    f"tests.http.test_{name}" for name in ("access_log", "cors", "ground_rules", "refused_bodies", "roles")
}
"""Modules about HTTP itself. What the storages do in them, the contracts require of every storage.

The modules about a feature run on both, and so do hostile values and what has to do with threads or connections.
"""


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of some modules on one kind of database."""
    if "url" in metafunc.fixturenames and metafunc.module.__name__ in ON_POSTGRESQL_ALONE:
        metafunc.definition.add_marker(pytest.mark.parametrize("url", ["postgres"], indirect=True))
