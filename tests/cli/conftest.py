"""Where commands run: in an empty folder, with settings that name a database or nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL

from tests.support.backends import PostgresServer
from tests.support.command import NAMES, plain


def _serve_elsewhere(*_words: object, **_options: object) -> None:
    pytest.fail("this should have been refused, and would now serve")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that commands run in, an empty one; what they put into the environment goes again.

    Serving is for processes of its own: here it would never end.
    """
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        monkeypatch.setenv(name, "")
    monkeypatch.setattr("interfaces.cli.server.run_server", _serve_elsewhere)
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
        monkeypatch.setenv("DATABASE_URL", "sqlite:///blank.db")
        yield URL.create("sqlite", database=str(folder / "blank.db"))
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    with server.database(migrated=False) as url:
        monkeypatch.setenv("DATABASE_URL", plain(url))
        yield url
