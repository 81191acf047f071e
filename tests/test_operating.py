"""Commands of docs/operating.md, executed verbatim: backups, restores, downgrades."""

import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, text
from sqlalchemy.exc import ProgrammingError

from application.errors import Unavailable
from application.votes import CastVote, CastVotes
from domain.votes import Direction
from infrastructure.database.engine import HEALTH_CONNECTIONS, open_engine
from infrastructure.database.schema import Migrations
from infrastructure.database.tables import metadata
from infrastructure.prometheus import PrometheusMetrics
from tests.fakes.services import FrozenClock
from tests.support.api import running_api
from tests.support.backends import PostgresServer, sql_backend
from tests.support.command import environment, plain
from tests.support.postgres import PASSWORD, find_binaries, private_server
from tests.support.reference import rows
from tests.support.samples import add_post, add_user

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")


def commands(heading: str, language: str = "sh") -> str:
    """Collect the commands of one section."""
    (section,) = re.findall(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    blocks = re.findall(rf"^ *```{language}\n(.*?)^ *```$", section, re.MULTILINE | re.DOTALL)
    assert blocks, f"no commands under {heading}"
    return "".join(blocks)


def do(script: str, folder: Path, **values: str) -> str:
    """Run commands in a folder, with Agora's and PostgreSQL's programs on the path."""
    programs = os.pathsep.join([str(Path(sys.executable).parent), str(find_binaries()), os.environ["PATH"]])
    done = subprocess.run(
        ["sh", "-c", script],
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
        CastVote(CastVotes(backend.uow, FrozenClock()))(bob, post.id, Direction.DOWN)


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


@pytest.fixture(scope="module")
def own() -> Iterator[URL]:
    """A PostgreSQL with the superuser `postgres` and, in the URL, a role as the README creates it."""
    with private_server() as server:
        url = server.url.set(username="clerk", database="forum")
        password = PASSWORD.replace("'", "''")
        engine = open_engine(server.url, connections=1)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for statement in (
                "CREATE ROLE postgres SUPERUSER LOGIN PASSWORD 'another'",
                f"CREATE ROLE clerk LOGIN PASSWORD '{password}'",
                "CREATE DATABASE forum OWNER clerk",
            ):
                connection.exec_driver_sql(statement.replace("%", "%%"))
        engine.dispose()
        Migrations(url).upgrade()
        yield url


def test_serving_role_reads_and_writes_rows_and_changes_no_table(own: URL, tmp_path: Path) -> None:
    for name in ("db_password", "db_owner_password"):
        (tmp_path / name).write_text(f"{name} 'of' Agora\n")
    where = {"PGHOST": str(own.host), "PGPORT": str(own.port), "PGUSER": "postgres", "PGPASSWORD": "another"}
    script = (ROOT / "deploy" / "roles.sql").read_text()
    (tmp_path / "roles.sql").write_text(script.replace("agora", "club"))  # the server's superuser is called agora
    do("psql --dbname=postgres --file=roles.sql", tmp_path, SECRETS=str(tmp_path), **where)
    owner = own.set(username="club_owner", password="db_owner_password 'of' Agora", database="club")
    serving = owner.set(username="club", password="db_password 'of' Agora")

    Migrations(owner).upgrade()

    with running_api(serving, throttle=True) as api:
        ann, bob = api.person("ann"), api.person("bob")
        post = {"title": "A title", "content": "Some content"}
        path = ann("POST", "/posts", json=post, headers={"Idempotency-Key": "k"}).headers["Location"]
        assert bob("PUT", f"{path}/vote", json={"dir": 1}).status_code == 200
        assert ann("PATCH", path, json={"title": "Another"}).json()["votes"] == 1
        assert api.client.post("/login", data={"username": ann.email, "password": "wrong"}).status_code == 403
        assert len(ann("GET", "/posts?search=another").json()) == 1
        assert api.client.get("/health/ready").status_code == 200
        assert bob("DELETE", "/users/me", json={"current_password": bob.password}).status_code == 204
        assert ann("DELETE", path).status_code == 204
    engine = open_engine(serving, connections=1)
    for statement in (
        "CREATE TABLE x (id int)",
        "CREATE TEMPORARY TABLE x (id int)",
        "CREATE SCHEMA x",
        "ALTER TABLE users ADD x int",
        "DROP TABLE votes",
        "TRUNCATE votes",
    ):
        with engine.connect() as connection, pytest.raises(ProgrammingError, match=r"permission denied|must be owner"):
            connection.execute(text(statement))
    engine.dispose()
    stranger = where | {"PGUSER": str(own.username), "PGPASSWORD": str(own.password)}
    with pytest.raises(AssertionError, match="permission denied for database"):
        do("psql --dbname=club --command='SELECT 1'", tmp_path, **stranger)


def test_no_role_is_created_without_a_password(own: URL, tmp_path: Path) -> None:
    where = {"PGHOST": str(own.host), "PGPORT": str(own.port), "PGUSER": "postgres", "PGPASSWORD": "another"}
    script = (ROOT / "deploy" / "roles.sql").read_text()
    (tmp_path / "roles.sql").write_text(script.replace("agora", "guild"))
    (tmp_path / "db_owner_password").write_text("a password\n")

    with pytest.raises(AssertionError, match="a password is missing"):
        do("psql --dbname=postgres --file=roles.sql", tmp_path, SECRETS=str(tmp_path), **where)

    roles = "SELECT rolname FROM pg_roles WHERE rolname LIKE 'guild%'"
    assert do(f'psql --dbname=postgres --tuples-only --command="{roles}"', tmp_path, **where).strip() == ""


def test_postgresql_restore_equals_the_backup(own: URL, tmp_path: Path) -> None:
    restored = own.set(database="forum_restored")
    passwords = tmp_path / "passwords"
    passwords.write_text("*:*:*:postgres:another\n")
    passwords.chmod(0o600)
    place = {
        "PGHOST": str(own.host),
        "PGPORT": str(own.port),
        "PGUSER": str(own.username),
        "PGPASSWORD": str(own.password),
        "PGDATABASE": str(own.database),
        "PGPASSFILE": str(passwords),  # instead of a prompt for the superuser's
    }
    fill(own, "before")
    before = stored(own)

    do(commands("Back up PostgreSQL"), tmp_path, **place)
    fill(own, "after")
    do(commands("Restore PostgreSQL"), tmp_path, **place)

    assert stat.S_IMODE((tmp_path / "agora.dump").stat().st_mode) == 0o600
    assert stored(restored) == before
    assert stored(own) != before
    Migrations(restored).upgrade()
    Migrations(restored).require_current()
    fill(restored, "later")  # ids continue after the last
    assert len(stored(restored)["posts"]) == 2 * len(before["posts"])


def test_sqlite_restore_equals_the_backup(sqlite_template: Path, tmp_path: Path) -> None:
    file = tmp_path / "agora.db"
    shutil.copy(sqlite_template, file)
    url = URL.create("sqlite", database=str(file))
    serving = open_engine(url, connections=1)  # while the file is open, its latest rows are in the -wal file
    with serving.connect() as connection:
        connection.execute(text("SELECT 1 FROM users"))
        connection.rollback()
        fill(url, "before")
        before = stored(url)
        assert (tmp_path / "agora.db-wal").stat().st_size > 0

        do(commands("Back up SQLite"), tmp_path)
        fill(url, "after")
    serving.dispose()
    latest = stored(url)
    (tmp_path / "agora.db-wal").touch()
    said = do(commands("Restore SQLite"), tmp_path)

    assert said.startswith("ok 2 2 1\n")
    assert {file.name for file in (tmp_path / "replaced").iterdir()} >= {"agora.db", "agora.db-wal"}
    assert stored(url.set(database=str(tmp_path / "replaced" / "agora.db"))) == latest
    for name in ("agora.db", "agora-backup.db"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert file.owner() == tmp_path.owner()
    assert stored(url) == before
    Migrations(url).require_current()
    fill(url, "later")
    assert len(stored(url)["posts"]) == 2 * len(before["posts"])


def test_backup_does_not_overwrite_a_backup(sqlite_template: Path, tmp_path: Path) -> None:
    shutil.copy(sqlite_template, tmp_path / "agora.db")
    do(commands("Back up SQLite"), tmp_path)

    with pytest.raises(AssertionError, match="output file already exists"):
        do(commands("Back up SQLite"), tmp_path)


def test_backup_of_a_missing_file_fails(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="unable to open database file"):
        do(commands("Back up SQLite"), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("backup", "said"),
    [(None, "unable to open database file"), (b"", "no such table"), (b"Dear diary" * 1_000, "not a database")],
)
def test_restore_of_an_invalid_backup_changes_nothing(
    backup: bytes | None, said: str, sqlite_template: Path, tmp_path: Path
) -> None:
    shutil.copy(sqlite_template, tmp_path / "agora.db")
    before = (tmp_path / "agora.db").read_bytes()
    if backup is not None:
        (tmp_path / "agora-backup.db").write_bytes(backup)

    with pytest.raises(AssertionError, match=said):
        do(commands("Restore SQLite"), tmp_path)

    assert (tmp_path / "agora.db").read_bytes() == before
    assert not (tmp_path / "replaced").exists()


def test_downgrade_and_upgrade_again(sqlite_template: Path, tmp_path: Path) -> None:
    shutil.copy(sqlite_template, tmp_path / "agora.db")
    url = URL.create("sqlite", database=str(tmp_path / "agora.db"))
    settings = tmp_path / "etc"
    settings.mkdir()
    (settings / ".env.production").write_text(f"DATABASE_URL={plain(url)}\n")
    typed = commands("Roll back")
    for there, here in (
        ("/etc/agora", settings),
        ("/opt/agora/.venv/bin", Path(sys.executable).parent),
        ("runuser -u agora -- ", ""),
    ):
        assert there in typed
        typed = typed.replace(there, str(here))

    do(typed, tmp_path)

    with pytest.raises(Unavailable, match="older than this release"):
        Migrations(url).require_current()
    assert list(settings.iterdir()) == [settings / ".env.production"]
    do("agora migrate", tmp_path)
    Migrations(url).require_current()


def test_monitoring_queries_return_rows(postgres: PostgresServer) -> None:
    queries = commands("What to watch", "sql").split(";\n")[:-1]
    with postgres.database() as url:
        engine = open_engine(url, connections=1)
        with engine.connect() as connection:
            results = [connection.execute(text(query)).all() for query in queries]
        engine.dispose()

    assert all(results)
    assert len(queries) == 3


def test_every_watched_metric_is_documented() -> None:
    watched = {name.removesuffix("_bucket") for name in re.findall(r"\bagora_\w+(?=[{)\[])", PAGE)}
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert watched <= set(re.findall(r"`(agora_\w+)`", page))
    assert {"agora_http_errors_total", "agora_database_connections_waiting"} <= watched


def test_counters_in_alerts_start_at_0() -> None:
    server = PrometheusMetrics().page().decode()
    growing = re.findall(r"rate\((agora_\w+_total)(?:\{(\w+)(!?=)\"(\w+)\"\})?\[", PAGE)
    for name, label, how, value in growing:
        started = re.findall(rf"^{name}(?:\{{(.*)\}})? 0\.0$", server, re.MULTILINE)
        assert f'{label}="{value}"' in started if how == "=" else started
    assert len(growing) >= 3


def test_the_table_of_connections_follows_the_formula() -> None:
    (table,) = re.findall(r"^\| Workers \|.*?\n\n", PAGE, re.MULTILINE | re.DOTALL)
    for workers, connections, total in ([int(cell) for cell in row] for row in rows(table)):
        assert total == workers * (connections + HEALTH_CONNECTIONS)


def test_every_section_of_the_security_standard_is_judged_once() -> None:
    table = PAGE.partition("## Security standard")[2].partition("\n## ")[0]
    judged = [(section, state) for section, state, _ in rows(table[table.index("| Section") :])]
    sections = [number for section, _ in judged for number in re.findall(r"\b\d+\.\d+\b", section)]

    assert {state for _, state in judged} == {"met", "partly", "not"}
    assert len(sections) == len(set(sections))
    assert {int(section.split(".")[0]) for section in sections} == set(range(1, 17)) - {5}
