"""The schema's history: up, down and up again on data, and equal to the tables at its end."""

import io
import re
import shutil
import sqlite3
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
from alembic import command
from sqlalchemy import URL, Engine, event, inspect, text

import migrations
from application.errors import TransactionAborted
from application.paging import NEWEST_FIRST, Window
from application.views import PostFilter
from infrastructure.database.engine import open_engine
from infrastructure.database.schema import Migrations, config
from infrastructure.database.tables import metadata
from infrastructure.operations.archive import Archive
from infrastructure.operations.bulk import last_ids
from infrastructure.timeouts import Timeouts
from tests.support.backends import PostgresServer, sql_backend
from tests.support.command import plain, run_command
from tests.support.filled import fill
from tests.support.samples import add_post, add_user
from tests.support.schema import REVISIONS, shape

AT = "'2026-01-01 00:00:00.000000'"
FIRST_RELEASE = (
    f"INSERT INTO users VALUES (7, 'A@b.c', 'a@b.c', 'Ann', 'ann', 'a@b.c', 'a hash', 'admin', true, {AT})",
    f"INSERT INTO posts VALUES (8, 7, 'T', 'C', false, {AT}, {AT}, 3, 0, 1, -1, 0.5)",
    "INSERT INTO titles VALUES (8, 't')",
    f"INSERT INTO votes VALUES (8, 7, -1, {AT})",
)
"""A row in each table, as the first release wrote them."""

OLDEST = ("users", "posts", "votes")

ADDED_COLUMN = '''"""Add a column to posts, as `make migration` writes it."""

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{down_revision}"


def upgrade() -> None:
    with op.batch_alter_table("posts", schema=None) as batch_op:
        batch_op.add_column(sa.Column("mood", sa.Text(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("posts", schema=None) as batch_op:
        batch_op.drop_column("mood")
'''


@pytest.fixture(params=["sqlite", "postgres"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """A database with nothing in it."""
    if request.param == "sqlite":
        (file := tmp_path / "a % b.db").touch()
        yield from _open(URL.create("sqlite", database=str(file)))
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    with server.database(migrated=False) as url:
        yield from _open(url)


def _open(url: URL) -> Iterator[Engine]:
    engine = open_engine(url, connections=4)
    yield engine
    engine.dispose()


def walk(engine: Engine, step: Callable[..., object], *revision: str, scripts: Path | None = None) -> None:
    with engine.connect() as connection:
        alembic = config()
        if scripts is not None:
            alembic.set_main_option("script_location", str(scripts))
        alembic.attributes["connection"] = connection
        step(alembic, *revision)


def rows(engine: Engine) -> dict[str, list[Any]]:
    with engine.connect() as connection:
        return {
            table.name: list(connection.execute(table.select().order_by(*table.primary_key)))
            for table in metadata.sorted_tables
        }


def every_row(engine: Engine) -> dict[str, list[dict[str, Any]]]:
    """Read all rows as they are stored, whatever the revision."""
    with engine.connect() as connection:
        return {
            name: sorted((dict(row) for row in connection.execute(text(f"SELECT * FROM {name}")).mappings()), key=repr)
            for name in set(inspect(connection).get_table_names()) - {"alembic_version"}
        }


def test_each_step_down_and_up_keeps_every_row_that_both_schemas_hold(engine: Engine) -> None:
    walk(engine, command.upgrade, "head")
    fill(engine.url)
    for revision in reversed(REVISIONS[1:]):
        above = every_row(engine)
        walk(engine, command.downgrade, "-1")
        below = every_row(engine)
        walk(engine, command.upgrade, revision)
        again = every_row(engine)
        for table in above.keys() & below.keys():
            require_equal_columns(above[table], below[table])
            counters = metadata.tables[table].info["counters"]
            lost = {name for row in above[table] for name in row.keys() & {*counters} if name not in below[table][0]}
            require_equal_columns(above[table], again[table], but=lost)  # what those counted has gone with its table
        walk(engine, command.downgrade, "-1")


def require_equal_columns(rows: list[dict[str, Any]], others: list[dict[str, Any]], but: Collection[str] = ()) -> None:
    shared = (set(rows[0]) & set(others[0])).difference(but) if rows and others else set()
    assert len(rows) == len(others)
    assert sorted([repr({name: row[name] for name in sorted(shared)}) for row in rows]) == sorted(
        [repr({name: row[name] for name in sorted(shared)}) for row in others]
    )


def test_a_column_comes_and_goes_without_loss(engine: Engine, tmp_path: Path) -> None:
    walk(engine, command.upgrade, "head")
    fill(engine.url)
    with engine.begin() as connection:  # the last ids are those of deleted rows
        connection.execute(text("DELETE FROM posts WHERE id = (SELECT max(id) FROM posts)"))
    with engine.connect() as connection:
        before, schema, last = every_row(engine), shape(inspect(connection)), last_ids(connection)
    copy = tmp_path / "migrations"
    shutil.copytree(Path(migrations.__file__).parent, copy)
    (copy / "versions" / "20991231_9999_mood.py").write_text(
        ADDED_COLUMN.format(revision="9999", down_revision=REVISIONS[-1])
    )

    walk(engine, command.upgrade, "9999", scripts=copy)
    assert {post["mood"] for post in every_row(engine)["posts"]} == {None}
    walk(engine, command.downgrade, "-1", scripts=copy)

    assert every_row(engine) == before
    assert all(before.values())
    with engine.connect() as connection:
        assert (shape(inspect(connection)), last_ids(connection)) == (schema, last)


def test_a_step_that_loses_a_referenced_row_is_not_committed(tmp_path: Path) -> None:
    (file := tmp_path / "agora.db").touch()
    engine = open_engine(URL.create("sqlite", database=str(file)), connections=1)
    walk(engine, command.upgrade, "head")
    fill(engine.url)
    before = every_row(engine)
    copy = tmp_path / "migrations"
    shutil.copytree(Path(migrations.__file__).parent, copy)
    (copy / "versions" / "20991231_9999_loss.py").write_text(
        ADDED_COLUMN.format(revision="9999", down_revision=REVISIONS[-1]).replace(
            "    with op.batch", "    op.execute('DELETE FROM posts')\n    with op.batch", 1
        )
    )

    with pytest.raises(RuntimeError, match="refers to a missing row of posts"):
        walk(engine, command.upgrade, "9999", scripts=copy)

    assert every_row(engine) == before
    engine.dispose()


def test_new_revision_has_the_next_number(engine: Engine, tmp_path: Path) -> None:
    walk(engine, command.upgrade, "head")
    copy = tmp_path / "migrations"
    shutil.copytree(Path(migrations.__file__).parent, copy)

    walk(engine, lambda alembic: command.revision(alembic, "add mood", autogenerate=True), scripts=copy)

    (new,) = {file.name for file in (copy / "versions").iterdir()} - {
        file.name for file in (Path(migrations.__file__).parent / "versions").iterdir()
    }
    assert new == f"{int(REVISIONS[-1]) + 1:04}_add_mood.py"


def test_new_revision_does_not_repeat_the_uses_of_a_table(engine: Engine, tmp_path: Path) -> None:
    walk(engine, command.upgrade, "0005")
    copy = tmp_path / "migrations"
    shutil.copytree(Path(migrations.__file__).parent, copy)
    for step in (copy / "versions").glob("*_*_*.py"):
        if step.name.split("_")[1] > "0005":
            step.unlink()

    walk(engine, lambda alembic: command.revision(alembic, "quotas", autogenerate=True), scripts=copy)

    (new,) = (copy / "versions").glob("*_quotas.py")
    assert "create_table" in new.read_text()
    assert "info" not in new.read_text()


@pytest.mark.parametrize("revision", REVISIONS)
def test_each_step_goes_up_down_and_up_again(engine: Engine, revision: str) -> None:
    walk(engine, command.upgrade, revision)
    walk(engine, command.downgrade, "-1")
    walk(engine, command.upgrade, revision)


def test_the_whole_history_goes_up_down_and_up_again_with_data(engine: Engine) -> None:
    for _ in range(2):
        walk(engine, command.upgrade, "head")
        fill(engine.url)
        assert all(rows(engine).values())
        walk(engine, command.downgrade, "base")
        with engine.connect() as connection:
            left = set(inspect(connection).get_table_names()) - {"alembic_version", "sqlite_sequence"}
        assert not left
    walk(engine, command.upgrade, "head")
    assert not any(rows(engine).values())


def test_a_populated_database_of_the_first_release_comes_through_unchanged(engine: Engine) -> None:
    walk(engine, command.upgrade, "0001")
    with engine.begin() as connection:
        for statement in FIRST_RELEASE:
            connection.execute(text(statement))
        names = {table: [found["name"] for found in inspect(connection).get_columns(table)] for table in OLDEST}
        before = [connection.execute(text(f"SELECT {', '.join(names[table])} FROM {table}")).all() for table in OLDEST]

    walk(engine, command.upgrade, "head")

    with engine.connect() as connection:
        after = [connection.execute(text(f"SELECT {', '.join(names[table])} FROM {table}")).all() for table in OLDEST]
    assert after == before
    assert all(after)


def test_what_a_schema_lacks_and_what_is_unknown_of_it_is_named(engine: Engine) -> None:
    schema = Migrations(engine.url)
    for done, revision in enumerate(["base", *REVISIONS]):
        if done:
            walk(engine, command.upgrade, revision)
        with engine.connect() as connection:
            assert schema.pending(connection) == REVISIONS[done:]
            assert schema.unknown(connection) == []
            assert schema.is_current(connection) is (revision == REVISIONS[-1])
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'later'"))
        assert schema.unknown(connection) == ["later"]


def test_migrating_what_is_up_to_date_changes_no_row(engine: Engine) -> None:
    Migrations(engine.url).upgrade()
    fill(engine.url)
    before = rows(engine)

    Migrations(engine.url).upgrade()

    assert rows(engine) == before


def test_a_look_at_the_schema_takes_no_lock(engine: Engine) -> None:
    Migrations(engine.url).upgrade()
    with engine.begin() as other:
        other.execute(text("UPDATE users SET role = 'user'"))  # on SQLite a writer has locked the file
        Migrations(engine.url.update_query_dict({"timeout": "0"} if other.dialect.name == "sqlite" else {})).upgrade()
        Migrations(engine.url).require_current()


def test_a_file_that_is_locked_is_waited_for(tmp_path: Path) -> None:
    url = URL.create("sqlite", database=str(tmp_path / "agora.db"), query={"timeout": "0"})
    Migrations(url).upgrade()
    heard = []
    with closing(sqlite3.connect(str(url.database), isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")

        def hear(said: str) -> None:
            heard.append(said)
            other.close()

        schema = Migrations(url)
        schema.when_available(schema.require_current, hear)
    assert heard == ["database is locked"]


def test_the_tables_need_no_further_migration(engine: Engine) -> None:
    walk(engine, command.upgrade, "head")

    walk(engine, command.check)  # raises where one would be written


def test_the_tables_and_the_migrations_make_the_same_schema(engine: Engine) -> None:
    walk(engine, command.upgrade, "head")
    with engine.connect() as connection:
        migrated = shape(inspect(connection))
    walk(engine, command.downgrade, "base")

    metadata.create_all(engine)

    with engine.connect() as connection:
        assert shape(inspect(connection)) == migrated


def test_a_step_that_fails_leaves_nothing_behind(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE votes (id integer)"))  # in the way of the third table

    with pytest.raises(Exception, match="votes"):
        walk(engine, command.upgrade, "head")

    with engine.connect() as connection:
        left = set(inspect(connection).get_table_names()) - {"sqlite_sequence"}
    assert left == {"votes"}


def test_four_processes_that_migrate_at_once_apply_each_step_once(engine: Engine) -> None:
    migrate = partial(run_command, "migrate", DATABASE_URL=plain(engine.url))
    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(migrate) for _ in range(4)]

    assert [run.result().code for run in runs] == [0] * 4, [run.result().errors for run in runs]
    Migrations(engine.url).require_current()


def test_migration_waits_briefly_for_a_lock(postgres: PostgresServer) -> None:
    with postgres.database(migrated=False) as url:
        Migrations(url).upgrade("0004")
        with closing(open_engine(url, connections=1).connect()) as other:
            other.execute(text("LOCK TABLE users IN ACCESS SHARE MODE"))
            end_of_patience = Timer(20, other.rollback)
            end_of_patience.start()
            with pytest.raises(TransactionAborted):
                Migrations(url, Timeouts(operation_lock=0.1)).upgrade()
            end_of_patience.cancel()
        Migrations(url).upgrade()


@pytest.mark.parametrize("queries", [1, 2])
def test_schema_that_appears_during_the_check_is_agoras(engine: Engine, queries: int) -> None:
    migrations, migrating = Migrations(engine.url), count(1)

    def migrate(*_: object) -> None:
        if next(migrating) == queries:
            Migrations(engine.url).upgrade()

    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        event.listen(connection, "after_cursor_execute", migrate)
        assert migrations.unmanaged(connection) is None
    assert next(migrating) > queries
    Migrations(engine.url).require_current()


@pytest.mark.parametrize(
    ("url", "quoted"),
    [("sqlite:///x.db", "INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT"), ("postgresql://u:p%40ss%25@h/n", "BIGINT")],
)
def test_the_history_is_printed_as_sql_without_a_database(
    monkeypatch: pytest.MonkeyPatch, url: str, quoted: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    alembic = config()
    alembic.output_buffer = io.StringIO()

    command.upgrade(alembic, "head", sql=True)

    printed = alembic.output_buffer.getvalue()
    assert quoted in printed
    for table in metadata.tables:
        assert f"CREATE TABLE {table} (" in printed


def test_searches_have_an_index_on_postgresql(postgres: PostgresServer) -> None:
    with postgres.database() as url:
        for table, index in (("titles", "ix_titles_title_key"), ("users", "ix_users_search_key")):
            with closing(open_engine(url, connections=1).connect()) as connection:
                found = {row["name"]: row for row in inspect(connection).get_indexes(table)}
            assert found[index]["dialect_options"]["postgresql_using"] == "gin"


def test_search_works_where_the_extension_cannot_be_installed(
    postgres: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    with postgres.database(migrated=False) as url, tenant(url) as theirs:
        Migrations(theirs).upgrade()
        Migrations(theirs).require_current()

        warnings = [record.getMessage() for record in caplog.records if record.name == "agora.migrations"]
        (said,) = [each for each in warnings if "Ask the administrator" in each]
        assert len(warnings) == 2
        with sql_backend(theirs) as backend:
            ann = add_user(backend.uow, "ann")
            add_post(backend.uow, ann, "A needle")
            found = backend.posts.list(ann, PostFilter(search="NEEDLE"), NEWEST_FIRST, Window()).items
        assert [post.title for post in found] == ["A needle"]

        remedy = re.findall(r"^    (.+;)$", said, re.MULTILINE)
        run(url, *remedy)
        Migrations(theirs).upgrade()  # as the other warning says; then nothing is missing
        engine = open_engine(url, connections=1)
        walk(engine, command.check)
        engine.dispose()


@contextmanager
def tenant(url: URL) -> Iterator[URL]:
    """A role that may create tables in a database, and nothing else there."""
    role = f"tenant_{url.database}"
    run(url, f"CREATE ROLE {role} LOGIN PASSWORD 'x'", f"GRANT ALL ON SCHEMA public TO {role}")
    try:
        yield url.set(username=role, password="x")
    finally:
        run(url, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def search_indexes(url: URL) -> set[str]:
    """Name the indexes that searches use."""
    with closing(open_engine(url, connections=1).connect()) as connection:
        return {
            str(row["name"])
            for table in metadata.tables
            for row in inspect(connection).get_indexes(table)
            if row["dialect_options"].get("postgresql_using") == "gin"
        }


def test_extension_in_any_schema_is_found(postgres: PostgresServer, tmp_path: Path) -> None:
    with postgres.database() as source:
        expected = search_indexes(source)
        with sql_backend(source) as backend:
            add_post(backend.uow, add_user(backend.uow, "ann"))
        with (tmp_path / "exported").open("wb") as out:
            Archive(source).export(out, lambda *_: None)
    with postgres.database(migrated=False) as url, tenant(url) as theirs:
        schema = '"Extensions, of all"'
        run(url, f"CREATE SCHEMA {schema}", f"CREATE EXTENSION pg_trgm SCHEMA {schema}")
        run(url, f"GRANT USAGE ON SCHEMA {schema} TO {theirs.username}")

        Migrations(theirs).upgrade()

        assert search_indexes(url) == expected
        with (tmp_path / "exported").open("rb") as source_file:
            Archive(theirs).restore(source_file, 0, lambda *_: None)  # drops the indexes and creates them again
        assert search_indexes(url) == expected


def test_extension_that_the_role_may_not_use_is_a_warning(
    postgres: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    with postgres.database(migrated=False) as url, tenant(url) as theirs:
        run(url, "CREATE SCHEMA extensions", "CREATE EXTENSION pg_trgm SCHEMA extensions")

        Migrations(theirs).upgrade()

        Migrations(theirs).require_current()
        said = [record.getMessage() for record in caplog.records if record.name == "agora.migrations"]
        assert search_indexes(url) == set()
        remedy = [statement for each in said for statement in re.findall(r"^    (.+;)$", each, re.MULTILINE)]
        run(url.update_query_dict({"options": "-csearch_path=public,extensions"}), *remedy)
        assert len(search_indexes(url)) == 2  # those of step 0005 are built by the next `agora migrate`


def run(url: URL, *statements: str) -> None:
    engine = open_engine(url, connections=1)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()
