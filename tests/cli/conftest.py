"""Where commands run: in an empty folder, with settings that name a database or nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL

from tests.support.backends import PostgresServer
from tests.support.command import CHEAP_HASHES, NAMES, plain


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The empty folder that commands run in; what they set in the environment is removed afterwards."""
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        monkeypatch.setenv(name, CHEAP_HASHES.get(name, ""))
    return tmp_path


@pytest.fixture
def at(url: URL, monkeypatch: pytest.MonkeyPatch) -> URL:
    """A migrated, empty database of each kind, which the settings name."""
    monkeypatch.setenv("DATABASE_URL", plain(url))
    return url


@pytest.fixture(params=["sqlite", "postgres"])
def blank(request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[URL]:
    """A database of each kind that was never migrated, which the settings name."""
    if request.param == "sqlite":
        (folder / "blank.db").touch(0o600)
        monkeypatch.setenv("DATABASE_URL", "sqlite:///blank.db")
        yield URL.create("sqlite", database=str(folder / "blank.db"))
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    with server.database(migrated=False) as url:
        monkeypatch.setenv("DATABASE_URL", plain(url))
        yield url
