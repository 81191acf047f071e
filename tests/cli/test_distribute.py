"""Refusals of `agora distribute`. `make distributed` runs it in a cluster."""

from pathlib import Path

import pytest
from sqlalchemy import URL

from tests.support.command import plain, run


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite", "agora: SQLite is one file, which cannot be distributed; move to PostgreSQL"),
        ("postgres", "agora: the database has no extension citus; on every node install Citus 13"),
    ],
    indirect=["url"],
)
def test_database_without_citus_is_refused(
    url: URL, says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", plain(url))
    assert run("distribute", "--yes").refused().startswith(says)
