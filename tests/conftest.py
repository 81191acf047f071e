"""What tests are given: storages of every kind. A database lives for a module and is emptied for each test."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import structlog
from sqlalchemy import URL

from infrastructure.database.schema import Migrations
from infrastructure.settings import Settings
from tests.fakes.memory import MemoryDatabase
from tests.support import citus
from tests.support.backends import Backend, PostgresServer, emptying, memory_backend, sql_backend
from tests.support.postgres import running_server
from tests.support.reaper import passing_folder, reaper

for _name in Settings.model_fields:  # the environment of the person who runs the tests decides nothing
    os.environ.pop(_name.upper(), None)

# Targets of their own name these.
collect_ignore = ["browser", "checklist", "clients", "distributed", "patroni", "pooler", "proxy"]
if citus.BINARIES:  # plans, round trips and locks of one server
    collect_ignore += [f"contracts/test_{name}.py" for name in ("plans", "costs", "locks")]

reaper()  # before anything that has to inherit its mark

# What is logged without Agora's own configuration: structlog's traceback, with all values in colours, takes seconds.
_renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
structlog.configure([*structlog.get_config()["processors"][:-1], _renderer])

SHARED_MEMORY = Path("/dev/shm")  # a commit to a file there waits for no disk


def pytest_unconfigure() -> None:
    """Leave no process and no folder behind."""
    reaper().close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A real PostgreSQL server."""
    with running_server() as url:
        server = PostgresServer(url)
        yield server
        server.close()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file, to be copied."""
    file = tmp_path_factory.mktemp("sqlite") / "template.db"
    Migrations(URL.create("sqlite", database=str(file))).upgrade()
    return file


@pytest.fixture(scope="module")
def database_of(request: pytest.FixtureRequest) -> Iterator[Callable[[str], URL]]:
    """Make the migrated database of a module at its first use: of the kind "sqlite" or "postgres"."""
    urls: dict[str, URL] = {}

    def database(kind: str) -> URL:
        if kind not in urls and kind == "postgres":
            server: PostgresServer = request.getfixturevalue("postgres")
            urls[kind] = stack.enter_context(server.database())
        elif kind not in urls:
            memory = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else Path("/tmp")
            file = stack.enter_context(passing_folder("agora-", memory)) / "agora.db"
            shutil.copy(request.getfixturevalue("sqlite_template"), file)
            urls[kind] = URL.create("sqlite", database=str(file))
        return urls[kind]

    with ExitStack() as stack:
        yield database


@pytest.fixture(scope="module")
def emptied(database_of: Callable[[str], URL]) -> Iterator[Callable[[str], URL]]:
    """Empty the database of a module, of one kind, and give its URL."""
    emptiers: dict[str, Callable[[], None]] = {}

    def emptied_database(kind: str) -> URL:
        url = database_of(kind)
        if kind not in emptiers:
            emptiers[kind] = stack.enter_context(emptying(url))
        emptiers[kind]()
        return url

    with ExitStack() as stack:
        yield emptied_database


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, emptied: Callable[[str], URL]) -> URL:
    """A migrated, empty database of each kind."""
    return emptied(request.param)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def backend(request: pytest.FixtureRequest, emptied: Callable[[str], URL]) -> Iterator[Backend]:
    """An empty storage of each kind, behind the ports."""
    if request.param == "memory":
        yield memory_backend(MemoryDatabase())
        return
    with sql_backend(emptied(request.param)) as backend:
        yield backend
