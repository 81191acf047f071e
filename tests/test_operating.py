"""What docs/operating.md has operators do, done as it stands there: backups, restores, and the way back."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, make_url, text

from application.ports import Unavailable
from application.votes import CastVote
from domain.votes import Direction
from infrastructure.database.engine import PostgresDatabase, open_database, open_engine
from infrastructure.database.migrations import Migrations
from infrastructure.database.tables import metadata
from tests.backends import PostgresServer, sql_backend
from tests.cli.command import environment, plain
from tests.fakes import FrozenClock
from tests.postgres import find_binaries
from tests.samples import add_post, add_user
from tests.test_docs import rows

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")


def commands(heading: str, language: str = "sh") -> str:
    """Collect the commands under a heading, up to the next one."""
    (section,) = re.findall(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    blocks = re.findall(rf"^ *```{language}\n(.*?)^ *```$", section, re.MULTILINE | re.DOTALL)
    assert blocks, f"nothing to do under {heading}"
    return "".join(blocks)


def do(script: str, folder: Path, **values: str) -> str:
    """Type commands in a folder, with Agora's and PostgreSQL's programs at hand, until one fails."""
    programs = os.pathsep.join([str(Path(sys.executable).parent), str(find_binaries()), os.environ["PATH"]])
    done = subprocess.run(
        ["sh", "-e", "-c", script],
        cwd=folder,
        env=environment(PATH=programs, **values),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def fill(url: URL, name: str) -> None:
    with sql_backend(url) as backend:
        ann, bob = add_user(backend.uow, f"{name}_ann"), add_user(backend.uow, f"{name}_bob")
        post = add_post(backend.uow, ann)
        add_post(backend.uow, ann, published=False)
        CastVote(backend.uow, FrozenClock())(bob, post.id, Direction.DOWN)


def stored(url: URL) -> dict[str, list[Any]]:
    engine = open_engine(url, connections=1)
    try:
        with engine.connect() as connection:
            return {
                table.name: list(connection.execute(table.select().order_by(*table.primary_key)))
                for table in metadata.sorted_tables
            }
    finally:
        engine.dispose()


@contextmanager
def dropped_afterwards(url: URL, name: str) -> Iterator[URL]:
    try:
        yield url.set(database=name)
    finally:
        engine = open_engine(url, connections=1)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
        engine.dispose()


def test_postgres_comes_back_as_it_was_backed_up(postgres: PostgresServer, tmp_path: Path) -> None:
    with postgres.database() as url, dropped_afterwards(url, f"{url.database}_restored") as restored:
        place = {
            "PGHOST": str(url.host),
            "PGPORT": str(url.port),
            "PGUSER": str(url.username),
            "PGPASSWORD": str(url.password),
            "PGDATABASE": str(url.database),
        }
        fill(url, "before")
        before = stored(url)

        do(commands("Back up PostgreSQL"), tmp_path, **place)
        fill(url, "after")
        do(commands("Restore PostgreSQL"), tmp_path, **place)

        assert stored(restored) == before
        assert stored(url) != before
        Migrations(restored).require_current()
        fill(restored, "later")  # ids go on where they were
        assert len(stored(restored)["posts"]) == 2 * len(before["posts"])


def test_sqlite_comes_back_as_it_was_backed_up(sqlite_template: Path, tmp_path: Path) -> None:
    file = tmp_path / "agora.db"
    shutil.copy(sqlite_template, file)
    url = URL.create("sqlite", database=str(file))
    serving = open_engine(url, connections=1)  # as long as somebody has it open, the latest rows are beside the file
    with serving.connect() as connection:
        connection.execute(text("SELECT 1 FROM users"))
        connection.rollback()
        fill(url, "before")
        before = stored(url)
        assert (tmp_path / "agora.db-wal").stat().st_size > 0

        do(commands("Back up SQLite"), tmp_path)
        fill(url, "after")
    serving.dispose()
    said = do(commands("Restore SQLite"), tmp_path)

    assert said.startswith("ok\n")
    assert stored(url) == before
    Migrations(url).require_current()
    fill(url, "later")
    assert len(stored(url)["posts"]) == 2 * len(before["posts"])


def test_a_backup_is_not_written_over(sqlite_template: Path, tmp_path: Path) -> None:
    shutil.copy(sqlite_template, tmp_path / "agora.db")
    do(commands("Back up SQLite"), tmp_path)

    with pytest.raises(AssertionError, match="output file already exists"):
        do(commands("Back up SQLite"), tmp_path)


def test_the_way_back_leads_back_and_forth(sqlite_template: Path, tmp_path: Path) -> None:
    shutil.copy(sqlite_template, tmp_path / "agora.db")
    url = URL.create("sqlite", database=str(tmp_path / "agora.db"))

    do(commands("Roll back"), ROOT, DATABASE_URL=plain(url))

    with pytest.raises(Unavailable, match="older than this release"):
        Migrations(url).require_current()
    do("agora migrate", tmp_path)
    Migrations(url).require_current()


def test_every_question_to_postgres_has_an_answer(postgres: PostgresServer) -> None:
    questions = commands("What to watch", "sql").split(";\n")[:-1]
    with postgres.database() as url:
        engine = open_engine(url, connections=1)
        with engine.connect() as connection:
            answers = [connection.execute(text(question)).all() for question in questions]
        engine.dispose()

    assert all(answers)
    assert len(questions) == 3


def test_every_metric_that_is_watched_is_there_to_be_seen() -> None:
    watched = {name.removesuffix("_bucket") for name in re.findall(r"\bagora_\w+", PAGE)}
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert watched <= set(re.findall(r"`(agora_\w+)`", page))
    assert "agora_http_requests_total" in watched


def test_the_table_of_connections_is_what_a_worker_opens() -> None:
    (table,) = re.findall(r"^\| Cores \|.*?\n\n", PAGE, re.MULTILINE | re.DOTALL)
    for cores, workers, threads, connections in ([int(cell) for cell in row] for row in rows(table)):
        database = open_database(make_url("postgresql+psycopg2://"), threads, cores)
        assert isinstance(database, PostgresDatabase)
        pools: list[Any] = [database.engine.pool, database._on_loop.pool]
        assert workers * sum(pool.size() for pool in pools) == connections
