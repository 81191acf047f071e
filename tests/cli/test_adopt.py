"""Taking over the database of the public course's application, as the command does it."""

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bcrypt
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import URL, Connection, inspect, text

from domain.users import Role
from infrastructure.container import Container
from infrastructure.database.engine import open_engine
from infrastructure.database.schema import Migrations
from infrastructure.database.tables import metadata
from tests.support.backends import PostgresServer, contents, require_true_counters, sql_backend
from tests.support.command import plain, run, run_command
from tests.support.course import LATE_CHAPTER, POSTGRESQL, SQLITE
from tests.support.samples import add_post, add_user
from tests.support.schema import shape

PASSWORD = "password123"  # as people in courses choose it
HASH = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
JANUARY, MARCH = "2022-01-01 10:00:00", "2022-03-01 10:00:00.123456"

ROWS = (
    f"INSERT INTO users (id, email, password, created_at) VALUES (3, 'Sanjeev@Gmail.com', '{HASH}', '{JANUARY}')",
    f"INSERT INTO users (id, email, password, created_at) VALUES (7, 'ann@example.com', '{HASH}', '{MARCH}')",
    f"INSERT INTO posts (id, title, content, owner_id, created_at) VALUES (5, ' top\tten ', '\u2800', 3, '{MARCH}')",
    f"INSERT INTO posts VALUES (9, 'draft', 'of mine', false, '{MARCH}', 7)",
    "INSERT INTO votes (user_id, post_id) VALUES (3, 5), (7, 5), (7, 9)",
)


def execute(url: URL, *statements: str) -> None:
    if url.get_backend_name() == "sqlite":
        Path(str(url.database)).touch()
    engine = open_engine(url, connections=1)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def asked(url: URL, question: Callable[[Connection], Any]) -> Any:
    engine = open_engine(url, connections=1)
    with engine.connect() as connection:
        answer = question(connection)
    engine.dispose()
    return answer


def dump(url: URL) -> dict[str, Any]:
    """Read everything in a database of any shape: its schema and its rows."""

    def read(connection: Connection) -> dict[str, Any]:
        inspector = inspect(connection)
        names = sorted(inspector.get_table_names())
        return {"schema": shape(inspector)} | {
            name: sorted(map(repr, connection.execute(text(f"SELECT * FROM {name}")))) for name in names
        }

    found: dict[str, Any] = asked(url, read)
    return found


@pytest.fixture
def course(blank: URL) -> URL:
    """The course's database, of each kind, with a little in it."""
    execute(blank, *(SQLITE if blank.get_backend_name() == "sqlite" else POSTGRESQL), *ROWS)
    return blank


def require_agoras_schema(url: URL, fresh: URL) -> None:
    """Compare with what migrations make of an empty database."""
    Migrations(url).require_current()
    Migrations(fresh).upgrade()
    schemas = [asked(each, lambda connection: shape(inspect(connection))) for each in (url, fresh)]
    assert schemas[0] == schemas[1]
    options = {
        "compare_type": True,
        "target_metadata": metadata,
        "include_object": lambda thing, *_: thing.info.get("dialect") in {None, url.get_backend_name()},
    }
    assert (
        asked(url, lambda connection: compare_metadata(MigrationContext.configure(connection, opts=options), metadata))
        == []
    )


@pytest.fixture
def fresh(course: URL, folder: Path, request: pytest.FixtureRequest) -> Any:
    """Another empty database of the same kind."""
    if course.get_backend_name() == "sqlite":
        yield URL.create("sqlite", database=str(folder / "fresh.db"))
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    with server.database(migrated=False) as url:
        yield url


@pytest.mark.parametrize("late", [(), LATE_CHAPTER])
def test_looking_changes_nothing_and_says_what_would_be_done(course: URL, late: tuple[str, ...]) -> None:
    execute(course, *late)
    before = dump(course)
    done = run("adopt")
    assert (done.code, done.errors) == (0, "")
    assert "2 users, 2 posts and 3 votes can become Agora's" in done.output
    assert "nothing was changed" in done.output
    assert ("1 phone numbers are dropped" in done.output) is bool(late)
    assert dump(course) == before


@pytest.mark.parametrize("late", [(), LATE_CHAPTER])
def test_an_adopted_database_is_agoras_and_everybody_is_still_there(
    course: URL, fresh: URL, late: tuple[str, ...]
) -> None:
    execute(course, *late)
    done = run("adopt", "--apply")
    assert (done.code, done.errors) == (0, "")
    assert "2 users, 2 posts and 3 votes are Agora's now" in done.output
    require_agoras_schema(course, fresh)
    require_true_counters(course)
    found = contents(course)
    january = datetime(2022, 1, 1, 10, tzinfo=UTC)
    march = datetime(2022, 3, 1, 10, 0, 0, 123456, tzinfo=UTC)
    assert [
        (user.id, user.email, user.email_key, user.username, user.password_hash, user.role, user.is_active)
        for user in found["users"]
    ] == [
        (3, "Sanjeev@Gmail.com", "sanjeev@gmail.com", None, HASH, "user", True),
        (7, "ann@example.com", "ann@example.com", None, HASH, "user", True),
    ]
    assert [user.created_at for user in found["users"]] == [january, march]
    assert [
        (post.id, post.owner_id, post.title, post.content, post.published, post.created_at, post.updated_at)
        for post in found["posts"]
    ] == [(5, 3, "top\tten", "\u2800", True, march, march), (9, 7, "draft", "of mine", False, march, march)]
    assert [(post.version, post.upvotes, post.downvotes) for post in found["posts"]] == [(1, 2, 0), (1, 1, 0)]
    assert [(vote.post_id, vote.user_id, vote.dir, vote.created_at) for vote in found["votes"]] == [
        (5, 3, 1, march),
        (5, 7, 1, march),
        (9, 7, 1, march),
    ]


def test_life_goes_on_after_adoption(course: URL) -> None:
    execute(course, "DELETE FROM posts WHERE id = 9")
    assert run("adopt", "--apply").code == 0
    assert run("migrate").code == 0
    container = Container()
    with closing(container.database()):
        app = container.app()
        tokens = app.commands.sign_in("sanjeev@gmail.com", PASSWORD, user_agent="a browser", address="192.0.2.1")
        actor = app.queries.authenticate(tokens.access_token)
        assert (actor.id, actor.role) == (3, Role.USER)
        assert app.queries.get_post(actor, 5).my_vote == 1
    with sql_backend(course) as backend:
        newcomer = add_user(backend.uow, "newcomer")
        post = add_post(backend.uow, newcomer)
    assert newcomer.id == 8
    assert post.id > 5
    assert "this database is Agora's already" in run("adopt", "--apply").refused()


def test_no_id_that_the_course_gave_is_given_again(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with postgres.database(migrated=False) as url:
        monkeypatch.setenv("DATABASE_URL", plain(url))
        execute(url, *POSTGRESQL, "SELECT setval('users_id_seq', 20)", "SELECT setval('posts_id_seq', 30)", *ROWS)
        assert run("adopt", "--apply").code == 0
        with sql_backend(url) as backend:
            newcomer = add_user(backend.uow, "newcomer")
            assert (newcomer.id, add_post(backend.uow, newcomer).id) == (21, 31)


def require_in_the_way(url: URL, expected: set[str]) -> None:
    """See that both ways to call the command name exactly these, and that neither changes anything."""
    before = dump(url)
    require_named(expected)
    assert dump(url) == before


def require_named(expected: set[str]) -> None:
    """See that both ways to call the command name exactly these."""
    for words in (("adopt",), ("adopt", "--apply")):
        done = run(*words)
        assert done.code == 1
        assert set(done.output.splitlines()) == expected
        assert done.errors.startswith("agora: the obstacles above prevent the adoption, and nothing was changed")
        assert done.errors.count("\n") == 1


def test_rows_that_agora_cannot_hold_are_named_and_nothing_is_changed(course: URL) -> None:
    execute(
        course,
        f"INSERT INTO users VALUES (11, 'ANN@example.com', '{HASH}', '{JANUARY}')",
        f"INSERT INTO users VALUES (12, 'ann', '{HASH}', '{JANUARY}')",
        f"INSERT INTO users VALUES (13, 'plain@example.com', 'password123', '{JANUARY}')",
        f"INSERT INTO posts VALUES (21, '  ', 'b', true, '{MARCH}', 7)",
        f"INSERT INTO posts VALUES (22, '{'x' * 301}', 'b', true, '{MARCH}', 7)",
        f"INSERT INTO posts VALUES (23, 'a', '', true, '{MARCH}', 7)",
        f"INSERT INTO posts VALUES (24, 'a', '{'x' * 65_537}', true, '{MARCH}', 7)",
        f"INSERT INTO posts VALUES (-1, 'a', 'b', true, '{MARCH}', 7)",
    )
    require_in_the_way(
        course,
        {
            "users 7, 11: they have the same e-mail in several spellings: ann@example.com, ANN@example.com",
            "user 12: this is not an e-mail address",
            "user 13: its password is no hash that Agora can verify",
            "post 21: the title is blank; write something",
            "post 22: the title has 301 characters; 300 are allowed",
            "post 23: the content is blank; write something",
            "post 24: the content has 65537 characters; 65536 are allowed",
            "post -1: ids begin with 1",
        },
    )


def test_international_domains_are_one_address_or_two(course: URL) -> None:
    emails = ("bob@straße.de", "bob@xn--strae-oqa.de", "ann@straße.de", "ann@strasse.de")
    execute(
        course,
        *(f"INSERT INTO users VALUES ({n}, '{email}', '{HASH}', '{JANUARY}')" for n, email in enumerate(emails, 11)),
    )
    require_in_the_way(
        course,
        {
            "users 11, 12: they have the same e-mail in several spellings: bob@straße.de, bob@xn--strae-oqa.de",
        },
    )


def test_tables_unlike_the_course_are_named_and_nothing_changes(course: URL) -> None:
    execute(
        course,
        "ALTER TABLE posts ADD COLUMN rating INTEGER",
        "ALTER TABLE votes RENAME COLUMN post_id TO about",
        "CREATE TABLE sessions (id INTEGER)",
        "CREATE TABLE notes (post_id INTEGER REFERENCES posts (id))",
    )
    require_in_the_way(
        course,
        {
            "table posts: Agora has no column rating; drop it if it is not needed",
            "table votes: it has no column post_id",
            "table votes: Agora has no column about; drop it if it is not needed",
            "table sessions: Agora creates a table of this name; rename or drop this one",
            "table notes: it refers to posts, which is replaced; drop its foreign key",
        },
    )


def test_settling_what_stood_in_the_way_is_enough(course: URL) -> None:
    execute(course, f"INSERT INTO users VALUES (11, 'ANN@example.com', '{HASH}', '{JANUARY}')")
    assert run("adopt", "--apply").code == 1
    execute(course, "UPDATE users SET email = 'ann.too@example.com' WHERE id = 11")
    assert run("adopt", "--apply").code == 0
    assert len(contents(course)["users"]) == 3


def test_what_only_sqlite_can_hold_is_named_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "sqlite:///course.db")
    url = URL.create("sqlite", database=str(folder / "course.db"))
    execute(
        url,
        *SQLITE,
        *ROWS,
        "UPDATE posts SET title = 'a' || char(0) || 'b' WHERE id = 9",
    )
    done = run("adopt")
    assert done.code == 1
    assert "post 9: the title has a NUL or a lone surrogate" in done.output


def test_values_of_other_types_are_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "sqlite:///course.db")
    url = URL.create("sqlite", database=str(folder / "course.db"))
    execute(
        url,
        *SQLITE,
        *ROWS,
        f"INSERT INTO users VALUES (11, x'ff', '{HASH}', '{JANUARY}')",
        f"INSERT INTO users VALUES (12, 'c@example.com', x'24', '{JANUARY}')",
        f"INSERT INTO users VALUES (13, 'd@example.com', '{HASH}', 'yesterday')",
        f"INSERT INTO users VALUES (14, 'e@example.com', '{HASH}', 1700000000)",
        f"INSERT INTO users VALUES (15, 'f@example.com', '{HASH}', '10000-01-01 00:00:00')",
        f"INSERT INTO users VALUES (16, 'g@example.com', '{HASH}', '0001-01-01 00:00:00+23:59')",
        f"INSERT INTO posts VALUES (21, x'ff', 'b', true, '{MARCH}', 7)",
        f"INSERT INTO posts VALUES (22, 'a', x'62', true, '{MARCH}', 7)",
        f"INSERT INTO posts VALUES (23, 'a', 'b', 'TRUE', '{MARCH}', 7)",
        f"INSERT INTO posts VALUES (24, 'a', 'b', 2, '{MARCH}', 7)",
        f"INSERT INTO posts VALUES (25, CAST(x'ff' AS TEXT), 'b', true, '{MARCH}', 7)",
        "INSERT INTO posts VALUES (26, 'a', 'b', true, x'', 7)",
    )
    no_time = "its created_at is no time in the years 1 to 9999"
    require_named(
        {
            "user 11: its email is no text",
            "user 12: its password is no text",
            *(f"user {number}: {no_time}" for number in (13, 14, 15, 16)),
            "post 21: its title is no text",
            "post 22: its content is no text",
            "post 23: its published is neither true nor false",
            "post 24: its published is neither true nor false",
            "post 25: the title has a NUL or a lone surrogate; remove it",
            f"post 26: {no_time}",
        },
    )


@pytest.fixture
def course_on_postgres(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[URL]:
    """The course's database on PostgreSQL, with a little in it."""
    with postgres.database(migrated=False) as url:
        monkeypatch.setenv("DATABASE_URL", plain(url))
        execute(url, *POSTGRESQL, *ROWS)
        yield url


def test_dates_that_python_has_not_are_named(course_on_postgres: URL) -> None:
    execute(
        course_on_postgres,
        f"INSERT INTO users VALUES (11, 'a@example.com', '{HASH}', '10000-01-01')",
        f"INSERT INTO users VALUES (12, 'b@example.com', '{HASH}', '0044-03-15 BC')",
        f"INSERT INTO users VALUES (13, 'c@example.com', '{HASH}', '9999-12-31 23:59:59.999999Z')",
        f"INSERT INTO users VALUES (14, 'd@example.com', '{HASH}', '0001-01-01 00:00:00Z')",
        "INSERT INTO posts VALUES (21, 'a', 'b', true, 'infinity', 7)",
        "INSERT INTO posts VALUES (22, 'a', 'b', true, '-infinity', 7)",
        "INSERT INTO votes (user_id, post_id) VALUES (13, 5)",
    )
    no_time = "its created_at is no time in the years 1 to 9999"
    require_named(
        {f"user {number}: {no_time}" for number in (11, 12)} | {f"post {number}: {no_time}" for number in (21, 22)}
    )
    execute(course_on_postgres, "DELETE FROM users WHERE id IN (11, 12)", "DELETE FROM posts WHERE id IN (21, 22)")
    assert run("adopt", "--apply").code == 0


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        (["CREATE VIEW mine AS SELECT title FROM posts"], "view mine: it depends on posts, which is replaced; drop it"),
        (
            ["CREATE MATERIALIZED VIEW mine AS SELECT title FROM posts"],
            "materialized view mine: it depends on posts, which is replaced; drop it",
        ),
        (
            ["CREATE FUNCTION mine() RETURNS bigint BEGIN ATOMIC SELECT count(*) FROM votes; END"],
            "function mine(): it depends on votes, which is replaced; drop it",
        ),
        (["CREATE TABLE mine () INHERITS (users)"], "table mine: it depends on users, which is replaced; drop it"),
        (
            ["CREATE TABLE mine (all_of users)"],
            "column all_of of table mine: it depends on users, which is replaced; drop it",
        ),
        (
            ["CREATE SCHEMA other", "CREATE TABLE other.mine (post_id integer REFERENCES posts)"],
            "constraint mine_post_id_fkey on table other.mine: it depends on posts, which is replaced; drop it",
        ),
        (
            ["CREATE VIEW sessions AS SELECT 1 AS id"],
            "view sessions: Agora creates a table of this name; rename or drop it",
        ),
        (
            ["ALTER TABLE posts ALTER published DROP DEFAULT, ALTER published TYPE text"],
            "table posts: column published has the type TEXT, and Agora needs BOOLEAN; convert it",
        ),
        (
            ["ALTER TABLE users ALTER created_at DROP DEFAULT, ALTER created_at TYPE date"],
            "table users: column created_at has the type DATE, and Agora needs DATETIME; convert it",
        ),
    ],
)
def test_what_postgresql_would_refuse_is_named(course_on_postgres: URL, statements: list[str], said: str) -> None:
    execute(course_on_postgres, *statements)
    require_named({said})


def test_rows_whose_owner_is_gone_are_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "sqlite:///course.db")
    url = URL.create("sqlite", database=str(folder / "course.db"))
    execute(url, *(re.sub(r",\s+FOREIGN KEY.* CASCADE", "", statement, flags=re.DOTALL) for statement in SQLITE))
    execute(url, *ROWS, "DELETE FROM users WHERE id = 7")
    done = run("adopt", "--apply")
    assert done.code == 1
    assert "post 9: its owner, user 7, does not exist" in done.output
    assert "vote of user 7 on post 5: the voter or the post does not exist" in done.output


def test_a_view_on_the_tables_is_named(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with postgres.database(migrated=False) as url:
        monkeypatch.setenv("DATABASE_URL", plain(url))
        execute(url, *POSTGRESQL, "CREATE VIEW titles_only AS SELECT title FROM posts")
        done = run("adopt")
        assert done.code == 1
        assert "view titles_only: it depends on posts" in done.output


def test_tables_that_have_nothing_to_do_with_it_are_left_alone(course: URL) -> None:
    execute(course, "CREATE TABLE products (id INTEGER)", "INSERT INTO products VALUES (1)")
    assert run("adopt", "--apply").code == 0
    assert dump(course)["products"] == ["(1,)"]


def test_a_role_that_does_not_own_the_tables_is_refused_in_one_line(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with postgres.database(migrated=False) as url:
        execute(url, *POSTGRESQL, *ROWS, "CREATE ROLE reader LOGIN PASSWORD 'secret'")
        try:
            execute(url, "GRANT SELECT ON users, posts, votes TO reader")
            monkeypatch.setenv("DATABASE_URL", plain(url.set(username="reader", password="secret")))
            done = run("adopt")
            assert done.code == 1
            assert f"table posts: it belongs to {url.username}; run this as its owner" in done.output
            assert "may not create tables in it; run: GRANT CREATE ON SCHEMA public TO reader" in done.output
            assert "permission denied" in run("adopt", "--apply").refused()
        finally:
            execute(url, "DROP OWNED BY reader", "DROP ROLE reader")


@pytest.mark.usefixtures("blank")
def test_where_there_is_nothing_of_the_course_there_is_nothing_to_adopt() -> None:
    for words in (("adopt",), ("adopt", "--apply")):
        assert "this database has no tables users, posts and votes" in run(*words).refused()


@pytest.mark.usefixtures("at")
def test_what_is_agoras_already_is_not_adopted() -> None:
    for words in (("adopt",), ("adopt", "--apply")):
        assert "this database is Agora's already" in run(*words).refused()


def test_the_real_command_adopts(folder: Path) -> None:
    url = URL.create("sqlite", database=str(folder / "agora.db"))
    execute(url, *SQLITE, *ROWS)
    done = run_command("adopt", "--apply")
    assert (done.code, done.errors) == (0, "")
    assert "2 users, 2 posts and 3 votes are Agora's now" in done.output
    assert "up to date" in run_command("migrate").output
