"""What `agora doctor` finds, and that its remedies help, on each database."""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import psycopg2
import pytest
from sqlalchemy import URL

from infrastructure.container import Container
from infrastructure.database.engine import HEALTH_CONNECTIONS, open_engine
from infrastructure.environment import load_settings
from infrastructure.operations.configuration import check_encryption
from infrastructure.settings import database_url
from tests.support.backends import PostgresServer, sql_backend
from tests.support.command import plain, run, run_command
from tests.support.course import LATE_CHAPTER, POSTGRESQL, SQLITE
from tests.support.postgres import free_port, private_server
from tests.support.reaper import passing_folder
from tests.support.samples import add_post, add_user

SECRET = "hunter2"
GOOD_KEY = "0123456789abcdef" * 4


@pytest.fixture(autouse=True)
def good_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret key that nothing is wrong with."""
    monkeypatch.setenv("SECRET_KEY", GOOD_KEY)


@pytest.fixture
def own_postgres(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[URL]:
    """A migrated PostgreSQL database of its own, which the settings name."""
    with postgres.database() as url:
        monkeypatch.setenv("DATABASE_URL", plain(url))
        yield url


@pytest.fixture
def public_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that every user of this machine can read, with a database in it."""
    with passing_folder("agora doctor ", Path("/tmp")) as folder:
        folder.chmod(0o755)
        monkeypatch.chdir(folder)
        assert run("migrate").code == 0
        yield folder


@contextmanager
def as_unprivileged() -> Iterator[None]:
    """Be no administrator of this machine, if we are."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65_534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def execute(url: URL, *statements: str) -> None:
    engine = open_engine(url, connections=1)
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


def execute_alone(url: URL, statement: str) -> None:
    """Execute a statement outside a transaction."""
    engine = open_engine(url, connections=1)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()


def findings(*words: str, code: int = 0) -> dict[str, list[str]]:
    """Run the command, and tell what it found by level, each finding with its remedy in one line."""
    done = run("doctor", *words)
    assert done.code == code, done.output + done.errors
    assert SECRET not in done.output + done.errors
    found: dict[str, list[str]] = {"ok": [], "warning": [], "problem": []}
    for line in done.output.replace("\n         ", " -> ").splitlines():
        level, _, says = line.partition(" ")
        found[level].append(says.strip())
    assert done.errors == (f"agora: problems found: {len(found['problem'])}\n" if code else "")
    return found


def only(found: list[str]) -> str:
    assert len(found) == 1, found
    return found[0]


@pytest.mark.usefixtures("at")
def test_nothing_wrong_is_a_list_of_what_is_right() -> None:
    found = findings("--votes")
    assert found["warning"] == found["problem"] == []
    assert {
        "the settings are fit for use; FASTAPI_ENV is development",
        "the database responds",
        "the schema is this release's",
        "none of 0 posts disagree with their votes",
    } <= set(found["ok"])


@pytest.mark.parametrize("words", [("--workers", "0"), ("--workers", "many"), ("everything",)])
def test_a_wrong_call_is_told_apart(words: tuple[str, ...]) -> None:
    assert run("doctor", *words).code == 2


def test_the_real_command_ends_as_its_manual_says() -> None:
    done = run_command("doctor", FASTAPI_ENV="production")
    assert done.code == 1
    assert "problem  SECRET_KEY is missing\n         set it to the output of" in done.output
    assert done.errors == "agora: problems found: 3\n"
    assert "problem  no setting names the database\n         set DATABASE_URL, or DB_HOST" in done.output
    assert "agora doctor --workers 4" in run("doctor", "--help").output


# The settings.


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"SECRET_KEY": ""}, "SECRET_KEY is missing.*-> set it to the output of `openssl rand -hex 32`"),
        ({"SECRET_KEY": SECRET}, "SECRET_KEY is shorter than 32 bytes.*-> set it to"),
        ({"SECRET_KEY": "replace-me-with-the-output-of-openssl-rand-hex-32"}, "SECRET_KEY is a known sample.*-> set"),
        ({"SECRET_KEY_PREVIOUS": SECRET}, "SECRET_KEY_PREVIOUS is shorter than 32 bytes.*-> leave it out"),
    ],
)
@pytest.mark.usefixtures("at")
def test_a_weak_setting_is_a_problem_in_production_and_a_warning_elsewhere(
    values: dict[str, str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    found = findings()
    assert re.match(says, only(found["warning"]))
    assert found["problem"] == []
    monkeypatch.setenv("FASTAPI_ENV", "production")
    found = findings(code=1)
    assert re.match(says, only(found["problem"]))
    assert found["warning"] == []


@pytest.mark.usefixtures("at")
def test_what_serving_warns_of_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTAPI_ENV", "production")
    monkeypatch.setenv("THROTTLE", "off")
    assert only(findings()["warning"]).startswith("THROTTLE is off -> ")


@pytest.mark.usefixtures("at")
def test_two_ways_of_naming_the_database_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", SECRET)
    monkeypatch.setenv("DB_NAME", "forum")
    said = only(findings()["warning"])
    assert said.startswith("DB_PASSWORD, DB_NAME have no effect while DATABASE_URL is set -> ")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"DATABASE_URL": f"postgresql+asyncpg://ann:{SECRET}@db.example/forum"}, "write postgresql:// instead"),
        ({"DATABASE_URL": "sqlite+aiosqlite:///agora.db"}, "write sqlite:// instead"),
        ({"DATABASE_URL": f"mysql://ann:{SECRET}@db.example/forum"}, "Agora speaks postgresql:// and sqlite:///"),
        ({"DATABASE_URL": "sqlite://agora.db"}, "write sqlite:///agora.db"),
        ({"DATABASE_URL": f"db.example/{SECRET}"}, "write postgresql://user:password@host:5432/name"),
        ({"DATABASE_URL": f"postgresql://ann:{SECRET}%00@db.example/forum"}, "write %25 for a % that means itself"),
        ({"DATABASE_CONNECTIONS": "many"}, "DATABASE_CONNECTIONS: "),
    ],
)
def test_invalid_settings_are_a_problem_with_a_remedy(
    values: dict[str, str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    found = findings(code=1)
    assert says in only(found["problem"])
    assert only(found["warning"]).startswith("nothing else was checked")


@pytest.mark.parametrize("name", [".env", ".env.development"])
def test_env_file_that_everybody_can_read_is_a_warning(public_folder: Path, name: str) -> None:
    file = public_folder / name
    file.write_text(f"SECRET_KEY={GOOD_KEY}\n")
    file.chmod(0o644)
    said = only(findings()["warning"])
    assert said == f"every user of this machine can read {file}, where secrets are -> run: chmod o= '{file}'"
    subprocess.run(["/bin/sh", "-c", said.partition("run: ")[2]], check=True)
    assert findings()["warning"] == []


@pytest.mark.parametrize(
    ("url", "mode", "said"),
    [
        ("postgresql://ann@db.example/forum", "", "connection to db.example can be .*: sslmode is prefer"),
        ("postgresql://ann@10.0.0.1/forum?sslmode=require", "", "sslmode is require"),
        (
            "postgresql://ann@127.0.0.1,db.example/forum",
            "verify-ca",
            "connection to db.example .*: sslmode is verify-ca",
        ),
        ("postgresql:///forum?host=db.example", "", "connection to db.example"),
        ("postgresql://ann@db.example/forum?sslmode=verify-full", "", None),
        ("postgresql://ann@db.example/forum", "verify-full", None),
        ("postgresql://ann@localhost/forum", "", None),
        ("postgresql://ann@[::1]/forum", "", None),
        ("postgresql://ann@%2Frun/forum", "", None),
        ("postgresql:///forum", "", None),
    ],
)
def test_connection_over_a_network_has_to_verify_the_server(
    url: str, mode: str, said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSSLMODE", mode)
    found = list(check_encryption(database_url(url)))
    assert [bool(said and re.search(said, each.says)) for each in found] == ([True] if said else [])
    assert all("add sslmode=verify-full to the parameters of DATABASE_URL" in each.remedy for each in found)


# The database's door.


def test_a_server_that_does_not_listen_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", f"postgresql://ann:{SECRET}@127.0.0.1:{free_port()}/forum")
    found = findings(code=1)
    assert re.match("the database cannot be reached: .*Connection refused.* -> start Postgre", only(found["problem"]))
    assert "were not checked: it cannot be reached" in only(found["warning"])


@pytest.mark.parametrize(
    ("place", "remedy"),
    [
        ("127.0.0.1:{closed}", "start PostgreSQL, or name the host and port where it listens"),
        ("127.0.0.1:{silent}", "check the host, the port and the firewalls between"),
        ("no-such-host.invalid:{port}", "correct the name of the host"),
    ],
)
def test_remedies_for_a_wrong_place_help(
    own_postgres: URL, monkeypatch: pytest.MonkeyPatch, place: str, remedy: str
) -> None:
    right = f"{own_postgres.host}:{own_postgres.port}"
    assert f"@{right}/" in plain(own_postgres)
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        wrong = place.format(closed=free_port(), silent=silent.getsockname()[1], port=own_postgres.port)
        monkeypatch.setenv("DATABASE_URL", plain(own_postgres).replace(f"@{right}/", f"@{wrong}/"))
        assert only(findings(code=1)["problem"]).endswith(f"-> {remedy}")
    monkeypatch.setenv("DATABASE_URL", plain(own_postgres))
    assert findings()["problem"] == []


def test_remedy_for_a_server_without_free_connections_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    most = 4
    with private_server(max_connections=str(most), superuser_reserved_connections="0") as server, ExitStack() as taken:
        monkeypatch.setenv("DATABASE_URL", plain(server.url))
        address = server.url.translate_connect_args(username="user", database="dbname")
        for _ in range(most):
            taken.enter_context(closing(psycopg2.connect(**address)))
        assert only(findings(code=1)["problem"]).endswith(
            "-> raise max_connections in postgresql.conf and restart PostgreSQL, or start fewer workers"
        )
        taken.close()
        assert "cannot be reached" not in " ".join(findings(code=1)["problem"])


def test_a_database_that_is_not_there_is_a_problem(own_postgres: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", plain(own_postgres.set(database="nowhere")))
    said = only(findings(code=1)["problem"])
    assert (
        f'"nowhere" does not exist -> create the database: CREATE DATABASE nowhere OWNER {own_postgres.username};'
        in said
    )


def test_remedies_for_a_missing_role_and_database_help(own_postgres: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"{own_postgres.database}_clerk"
    engine = open_engine(own_postgres, connections=1).execution_options(isolation_level="AUTOCOMMIT")
    monkeypatch.setenv("DATABASE_URL", plain(own_postgres.set(username=name, password=GOOD_KEY, database=name)))
    with engine.connect() as connection:
        try:
            said = []
            for pattern in ("if there is no such role: (.*)$", "create the database: (.*); or name"):
                said.append(only(findings(code=1)["problem"]))
                remedy = re.search(pattern, said[-1])
                assert remedy, said
                connection.exec_driver_sql(remedy[1].replace("'...'", f"'{GOOD_KEY}'"))
            assert only(findings(code=1)["problem"]).endswith("-> run: agora migrate")
            assert run("migrate").code == 0
            assert findings()["problem"] == []
        finally:
            connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {name}")
            connection.exec_driver_sql(f"DROP ROLE IF EXISTS {name}")
    engine.dispose()


@pytest.mark.parametrize("revoked", ["CREATE", "CREATE, USAGE"])
def test_role_that_may_not_create_tables_gets_a_grant_that_helps(
    blank: URL, monkeypatch: pytest.MonkeyPatch, revoked: str
) -> None:
    if blank.get_backend_name() == "sqlite":
        return
    execute(
        blank,
        "DROP ROLE IF EXISTS clerk",
        f"CREATE ROLE clerk LOGIN PASSWORD '{GOOD_KEY}'",
        f"REVOKE {revoked} ON SCHEMA public FROM PUBLIC",
    )
    try:
        monkeypatch.setenv("DATABASE_URL", plain(blank.set(username="clerk", password=GOOD_KEY)))
        said = only(findings(code=1)["problem"])
        grant = re.search(f"in the database {blank.database}: (GRANT .*); then run: agora migrate$", said)
        assert grant, said
        execute(blank, grant[1])
        assert only(findings(code=1)["problem"]).endswith("-> run: agora migrate")
        assert run("migrate").code == 0
        assert findings()["problem"] == []
    finally:
        execute(blank, "DROP OWNED BY clerk", "DROP ROLE clerk")


def test_pending_migrations_are_for_the_owner_of_the_tables(own_postgres: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    execute(
        own_postgres,
        "UPDATE alembic_version SET version_num = '0001'",
        "DROP ROLE IF EXISTS clerk",
        f"CREATE ROLE clerk LOGIN PASSWORD '{GOOD_KEY}'",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO clerk",
    )
    try:
        monkeypatch.setenv("DATABASE_URL", plain(own_postgres.set(username="clerk", password=GOOD_KEY)))
        said = only(findings(code=1)["problem"])
        assert said.endswith(f"-> run as {own_postgres.username}, who owns tables of it: agora migrate")
    finally:
        execute(own_postgres, "DROP OWNED BY clerk", "DROP ROLE clerk")


def test_remedy_for_a_socket_that_is_not_there_helps(own_postgres: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    url, host = plain(own_postgres), f"@{own_postgres.host}:"
    assert host in url
    monkeypatch.setenv("DATABASE_URL", url.replace(host, "@%2Fno%2Fsuch:"))
    assert only(findings(code=1)["problem"]).endswith("-> start PostgreSQL, or name the folder where its socket is")
    monkeypatch.setenv("DATABASE_URL", url.replace(host, f"@127.0.0.1:{free_port()},{own_postgres.host}:"))
    assert findings()["problem"] == []


def test_refused_password_has_a_remedy_for_how_it_is_written(
    own_postgres: URL, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, password = own_postgres, f"{SECRET}%40"
    place = f"{url.host}:{url.port}/{url.database}"
    monkeypatch.setenv("DATABASE_URL", f"postgresql://{url.username}:{password}@{place}")
    said = only(findings(code=1)["problem"])
    assert "password authentication failed" in said
    assert "write % as %25" in said
    assert "put the value between single quotes" in said

    monkeypatch.setenv("DATABASE_URL", "")
    (folder / ".env").write_text(
        f"DB_HOST={url.host}\nDB_PORT={url.port}\nDB_NAME={url.database}\nDB_USER={url.username}\n"
        f"DB_PASSWORD={password}\n"
    )
    said = only(findings(code=1)["problem"])
    assert "set DB_PASSWORD instead, which needs no escaping" in said
    assert "in a shell or a .env file, put the value between single quotes" in said


# What is in the database.


@pytest.mark.usefixtures("blank")
def test_pending_migrations_are_a_problem_until_they_are_made() -> None:
    found = findings("--votes", code=1)
    assert re.match("migrations are pending: 0001, 0002.* -> run: agora migrate", only(found["problem"]))
    assert only(found["warning"]).startswith("the counters were not checked")
    assert run("migrate").code == 0
    assert findings()["warning"] == []


def test_missing_file_is_a_problem_until_it_is_migrated(folder: Path) -> None:
    said = only(findings(code=1)["problem"])
    assert said == f"there is no database {folder / 'agora.db'} yet -> run: agora migrate"
    assert not (folder / "agora.db").exists()
    assert run("migrate").code == 0
    assert findings()["problem"] == []


def test_a_schema_ahead_of_the_code_is_a_problem(blank: URL) -> None:
    assert run("migrate").code == 0
    execute(blank, "UPDATE alembic_version SET version_num = 'later'")
    said = only(findings(code=1)["problem"])
    assert said.startswith("the schema is newer than this release, which does not know later -> install the release")


def test_a_check_that_cannot_be_made_says_so(blank: URL) -> None:
    assert run("migrate").code == 0
    execute(blank, "ALTER TABLE alembic_version RENAME COLUMN version_num TO version_number")
    found = findings("--votes")
    assert re.match("the schema could not be checked: .*version_num", found["warning"][0])
    assert found["warning"][1].startswith("the counters were not checked")


def test_tables_that_the_role_may_not_use_are_a_problem_with_what_to_type(
    own_postgres: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = own_postgres.username
    execute(
        own_postgres,
        'DROP ROLE IF EXISTS "a clerk"',
        f"CREATE ROLE \"a clerk\" LOGIN PASSWORD '{GOOD_KEY}'",
        'GRANT SELECT ON posts TO "a clerk"',
    )
    try:
        monkeypatch.setenv("DATABASE_URL", plain(own_postgres.set(username="a clerk", password=GOOD_KEY)))
        found = findings("--votes", code=1)
        said = only(found["problem"])
        assert said.startswith('"a clerk" may not read and write alembic_version, ')
        assert (
            f"which belong to {owner} -> as {owner} or a superuser, in the database {own_postgres.database}: " in said
        )
        assert not any("schema" in text for text in found["ok"])
        assert only(found["warning"]).startswith("the counters were not checked: the schema is not this release's")

        execute(
            own_postgres, said.partition("GRANT ")[0].rpartition(f"{own_postgres.database}: ")[2].partition(" or,")[0]
        )
        assert findings()["problem"] == []
    finally:
        execute(
            own_postgres, f'REASSIGN OWNED BY "a clerk" TO {owner}', 'DROP OWNED BY "a clerk"', 'DROP ROLE "a clerk"'
        )


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ("DROP TABLE answers", "table answers is missing"),
        ("DROP INDEX ix_sessions_user_id", "table sessions has no index ix_sessions_user_id (user_id)"),
        (
            "ALTER TABLE sessions RENAME COLUMN user_agent TO agent",
            "table sessions has no column user_agent of type TEXT",
        ),
        ("ALTER TABLE votes DROP CONSTRAINT ck_votes_dir", "table votes has no check constraint ck_votes_dir"),
        ("ALTER TABLE users DROP CONSTRAINT uq_users_email_key", "table users has no unique constraint (email_key)"),
        (
            "ALTER TABLE votes DROP CONSTRAINT fk_votes_user_id_users",
            "table votes has no foreign key (user_id) to users (id) ON DELETE CASCADE",
        ),
        ("ALTER TABLE votes DROP CONSTRAINT pk_votes", "table votes has no primary key (post_id, user_id)"),
        ("ALTER TABLE users ALTER email DROP NOT NULL", "table users has no column email of type TEXT NOT NULL"),
        ("ALTER TABLE users ALTER role TYPE text", "table users has no column role of type VARCHAR(16) NOT NULL"),
        (
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ix_sessions_user_id'::regclass",
            "index ix_sessions_user_id is invalid: its build failed",
        ),
    ],
)
def test_table_unlike_the_releases_is_named_and_its_remedy_helps(blank: URL, broken: str, says: str) -> None:
    if blank.get_backend_name() == "sqlite" and re.search("CONSTRAINT|ALTER [a-z]+ |pg_index", broken):
        return
    assert run("migrate").code == 0
    execute(blank, broken)
    problems = findings("--votes", code=1)["problem"]
    assert only(problems).startswith(f"{says}")
    remedy = re.search("(?:run|create it empty): (.*);?$", only(problems))
    if remedy is None:
        assert "restore a backup; or agora export, then agora migrate" in only(problems)
        return
    execute(blank, *filter(None, remedy[1].split(";")))
    assert findings()["problem"] == []


def test_columns_and_indexes_of_others_are_warned_about(blank: URL) -> None:
    assert run("migrate").code == 0
    execute(blank, "ALTER TABLE posts ADD COLUMN rating INTEGER", "CREATE INDEX mine ON votes (dir)")
    assert findings()["warning"] == [
        "table posts: Agora has no column rating of type INTEGER -> drop it if it is not needed",
        "table votes: Agora has no index mine (dir) -> drop it if it is not needed",
    ]


@pytest.mark.parametrize("numbered", [False, True])
def test_a_database_of_the_courses_application_is_to_be_adopted(blank: URL, numbered: bool) -> None:
    execute(blank, *(POSTGRESQL if blank.get_backend_name() == "postgresql" else SQLITE))
    if numbered:
        execute(blank, *LATE_CHAPTER)
    said = only(findings(code=1)["problem"])
    assert said == "the tables users, posts and votes are those of the public course's application -> run: agora adopt"
    for command in ("migrate", "votes verify"):
        assert run(*command.split()).refused().endswith("those of the public course's application; run: agora adopt\n")
    assert run("adopt", "--apply").code == 0
    assert findings()["problem"] == []


@pytest.mark.parametrize("numbered", [False, True])
def test_table_of_another_application_is_named(blank: URL, numbered: bool) -> None:
    execute(blank, "CREATE TABLE posts (number integer)", *(LATE_CHAPTER[2:] if numbered else ()))
    said = only(findings(code=1)["problem"])
    assert said.startswith(
        "the database has a table posts that Agora did not create -> name another database, or rename"
    )
    assert "the database has a table posts that Agora did not create; name another" in run("migrate").refused()
    execute(blank, "DROP TABLE posts", *(["DROP TABLE alembic_version"] if numbered else []))
    assert run("migrate").code == 0


def test_counters_that_disagree_are_a_problem_until_they_are_repaired(at: URL) -> None:
    with sql_backend(at) as backend:
        add_post(backend.uow, add_user(backend.uow))
    execute(at, "UPDATE posts SET upvotes = 1, score = 1")
    assert (
        only(findings("--votes", code=1)["problem"])
        == "1 of 1 posts disagree with their votes -> run: agora votes verify --repair"
    )
    assert findings()["problem"] == []  # votes are counted on request only
    assert run("votes", "verify", "--repair").code == 0
    assert findings("--votes")["problem"] == []


# PostgreSQL alone.


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_database_that_is_not_utf8_is_refused_with_a_remedy(
    postgres: PostgresServer, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with postgres.database(migrated=False, encoding=encoding) as url:
        monkeypatch.setenv("DATABASE_URL", plain(url))
        said = f"agora: the database {url.database} has the encoding {encoding}, and Agora's text needs UTF8; create "
        for command in ("migrate", "serve", "adopt", "adopt --apply", "users list"):
            assert run(*command.split()).refused().startswith(said)
        found = only(findings(code=1)["problem"])
        assert found.replace(" -> ", "; ") == said.partition(": ")[2] + found.partition("-> create ")[2]

        remedy = found.partition("UTF8: ")[2].replace("...", f"{url.database}_utf8")
        name = remedy.split()[2]
        execute_alone(url, remedy)
        try:
            monkeypatch.setenv("DATABASE_URL", plain(url.set(database=name)))
            assert run("migrate").code == 0
            assert findings()["problem"] == []
        finally:
            execute_alone(url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.parametrize(("seconds", "level", "code"), [(5, "warning", 0), (-60, "problem", 1)])
def test_clocks_that_are_apart_are_found(own_postgres: URL, seconds: int, level: str, code: int) -> None:
    execute(
        own_postgres,
        "CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS"
        f" $$ SELECT pg_catalog.clock_timestamp() + interval '{seconds} s' $$",
        f"ALTER DATABASE {own_postgres.database} SET search_path = public, pg_catalog",
    )
    said = only(findings(code=code)[level])
    assert re.match(rf"this machine's clock .* {abs(seconds)}\.\d seconds apart -> .*NTP", said)


def test_a_pool_that_is_larger_than_the_database_allows_is_a_problem(
    own_postgres: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_CONNECTIONS", "16")
    each = load_settings().database_connections + HEALTH_CONNECTIONS
    limit = 2 * each - 16
    execute(own_postgres, f"ALTER DATABASE {own_postgres.database} CONNECTION LIMIT {limit}")
    assert any(f"connections: {each} for each worker, {each} for 1;" in said for said in findings()["ok"])

    said = only(findings("--workers", "2", code=1)["problem"])

    assert f"connections: {each} for each worker, {each * 2} for 2; PostgreSQL allows {limit}" in said
    higher = re.search(r"; or run: (ALTER DATABASE \w+ CONNECTION LIMIT \d+)$", said)
    assert higher
    fewer = re.search("set DATABASE_CONNECTIONS to at most ([0-9]+)", said)
    assert fewer
    monkeypatch.setenv("DATABASE_CONNECTIONS", fewer[1])
    assert findings("--workers", "2")["problem"] == []
    assert "start fewer workers" in only(findings("--workers", str(each * 2), code=1)["problem"])
    monkeypatch.setenv("DATABASE_CONNECTIONS", "16")
    execute(own_postgres, higher[1])
    assert findings("--workers", "2")["problem"] == []


def test_remedy_for_too_few_connections_counts_the_reserved_ones(
    own_postgres: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(own_postgres, connections=1)
    with engine.connect() as connection:
        most, kept = (
            int(connection.exec_driver_sql(f"SHOW {name}").scalar_one())
            for name in ("max_connections", "superuser_reserved_connections")
        )
    engine.dispose()
    monkeypatch.setenv("DATABASE_CONNECTIONS", "100")
    workers = most // 100 + 1
    said = only(findings("--workers", str(workers), code=1)["problem"])
    others = re.search("others hold ([0-9]+)", said)
    assert others
    assert f"allows {most - kept}, " in said
    needed = workers * (100 + HEALTH_CONNECTIONS) + int(others[1]) + kept
    assert f"or set max_connections = {needed} in postgresql.conf and restart PostgreSQL, which keeps {kept}" in said


# SQLite alone: its files.


def test_files_that_everybody_can_read_or_write_are_found(public_folder: Path) -> None:
    file, log = public_folder / "agora.db", public_folder / "agora.db-wal"
    assert findings()["warning"] == []
    file.chmod(0o644)
    said = only(findings()["warning"])
    assert said.startswith(f"every user of this machine can read {file}, with e-mails and password hashes")
    assert said.endswith(f"-> run: chmod o= '{file}'")
    file.chmod(0o600)
    log.touch()
    log.chmod(0o666)
    assert only(findings(code=1)["problem"]).startswith(f"every user of this machine can write {log} -> run: chmod")
    public_folder.chmod(0o750)
    file.chmod(0o644)
    assert findings()["warning"] == []


def test_a_folder_that_is_not_there_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "sqlite:///no/such/folder/agora.db")
    assert "there is no folder" in only(findings(code=1)["problem"])


def test_a_file_and_a_folder_that_are_closed_to_the_server_are_problems(public_folder: Path) -> None:
    file = public_folder / "agora.db"
    file.chmod(0o444)
    public_folder.chmod(0o555)
    examiner = Container().doctor()  # read first: Agora itself may lie in a folder that others cannot enter
    with as_unprivileged():
        found = [finding for finding in examiner.examine(1, count_votes=True) if finding.level == "problem"]
    problems = [f"{finding.says} -> {finding.remedy}" for finding in found]
    public_folder.chmod(0o755)
    assert any(re.match(f"the folder {public_folder} is closed to .* -> run: chown .*", said) for said in problems)
    assert any(re.match(f".* cannot read and write {file} -> run: chown .*", said) for said in problems)


def test_a_folder_that_cannot_be_entered_is_a_problem(public_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = public_folder / "inner"
    inner.mkdir(0o755)
    shutil.move(public_folder / "agora.db", inner / "agora.db")
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{inner / 'agora.db'}")
    examiner = Container().doctor()
    for folder, remedy in ((inner, "chown .* && chmod u[+]rwx"), (public_folder, "chmod a[+]x")):
        folder.chmod(0o600)
        with as_unprivileged():
            found = [finding for finding in examiner.examine(1, count_votes=True) if finding.level != "ok"]
        folder.chmod(0o755)
        assert [finding.level for finding in found] == ["problem", "warning"]
        assert str(folder) in found[0].says
        assert re.match(f"run: {remedy} '{folder}'", found[0].remedy)


def test_a_folder_in_the_place_of_the_file_is_a_problem(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{folder}")
    said = only(findings(code=1)["problem"])
    assert said == f"{folder} is a folder, not a file -> name a file in it: DATABASE_URL=sqlite:///{folder}/agora.db"


def test_several_workers_on_a_file_are_a_warning(public_folder: Path) -> None:
    assert findings()["warning"] == []
    assert re.match("SQLite has one writer .* -> start one worker", only(findings("--workers", "2")["warning"]))
    assert public_folder.exists()


def test_a_file_that_is_no_database_is_a_problem(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "diary.txt").write_text("Dear diary, " * 100)
    monkeypatch.setenv("DATABASE_URL", "sqlite:///diary.txt")
    assert "-> name another file in DATABASE_URL" in only(findings(code=1)["problem"])
    monkeypatch.setenv("DATABASE_URL", "sqlite:///forum.db")
    assert only(findings(code=1)["problem"]).endswith("-> run: agora migrate")


def test_files_that_are_named_by_a_uri_are_not_checked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///file:{folder / 'agora.db'}?uri=true")
    assert run("migrate").code == 0
    assert only(findings()["warning"]).startswith("the files of the database were not checked")
