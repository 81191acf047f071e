"""Step 0005 and its `finish`: keys of rows that the previous release wrote, and still writes meanwhile."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Connection, Engine, Result, inspect, text

from application.errors import Refused
from application.paging import NEWEST_FIRST, Window
from application.views import PostFilter
from domain.text import fold
from domain.users import OPERATOR, email_key
from infrastructure.database.engine import open_engine
from infrastructure.database.schema import STEPS, Migrations
from infrastructure.domain_names import to_ascii
from tests.support.backends import PostgresServer, sql_backend

AT = "'2026-01-01 00:00:00.000000'"
TITLES = 1_200
"""More than a batch."""


@pytest.fixture(params=["sqlite", "postgres"])
def previous(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """A database with the schema of the previous release."""
    if request.param == "sqlite":
        url = URL.create("sqlite", database=str(tmp_path / "agora.db"))
        Migrations(url).upgrade("0004")
        with closing_engine(url) as engine:
            yield engine
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    with server.database(migrated=False) as url:
        Migrations(url).upgrade("0004")
        with closing_engine(url) as engine:
            yield engine


@contextmanager
def closing_engine(url: URL) -> Iterator[Engine]:
    engine = open_engine(url, connections=2)
    yield engine
    engine.dispose()


def previous_key(email: str) -> str:
    local, _, domain = email.rpartition("@")
    return f"{local.casefold()}@{domain.encode('idna').decode()}"


def register(connection: Connection, user_id: int, email: str) -> None:
    """Store an account as the previous release did."""
    connection.execute(
        text(
            "INSERT INTO users (id, email, email_key, username, username_key, search_key, password_hash, role,"
            f" is_active, created_at) VALUES (:id, :email, :key, NULL, NULL, :search, 'h', 'user', true, {AT})"
        ),
        {"id": user_id, "email": email, "key": previous_key(email), "search": f"{email}\n".lower()},
    )


def write(connection: Connection, titles: dict[int, str]) -> None:
    """Store posts of user 1 as the previous release did."""
    connection.execute(
        text(
            "INSERT INTO posts (id, owner_id, title, content, published, created_at, updated_at, version, upvotes,"
            f" downvotes, score, hot) VALUES (:id, 1, :title, 'c', true, {AT}, {AT}, 1, 0, 0, 0, 0)"
        ),
        [{"id": number, "title": title} for number, title in titles.items()],
    )
    connection.execute(
        text("INSERT INTO titles (post_id, title_key) VALUES (:id, :key)"),
        [{"id": number, "key": title.lower()} for number, title in titles.items()],
    )


def pairs(result: Result[*tuple[Any, ...]]) -> dict[Any, Any]:
    return {row[0]: row[1] for row in result}


def keys(engine: Engine) -> dict[str, Any]:
    with engine.connect() as connection:
        return {
            "emails": pairs(connection.execute(text("SELECT email, email_key FROM users"))),
            "users": pairs(connection.execute(text("SELECT search_key, search_folded FROM users"))),
            "titles": pairs(connection.execute(text("SELECT post_id, title_folded FROM titles"))),
        }


def found(engine: Engine, search: str) -> list[str]:
    with sql_backend(engine.url) as backend:
        return [
            post.title for post in backend.posts.list(OPERATOR, PostFilter(search=search), NEWEST_FIRST, Window()).items
        ]


def test_rows_of_the_previous_release_get_their_keys(previous: Engine) -> None:
    emails = ["Ann@x.org", "bob@straße.de", "\u017fam@bücher.example", "i@straße.de", "İ@strasse.de"]
    titles = {number: f"Title {number}" for number in range(1, TITLES)} | {TITLES: "ΟΔΥΣΣΕΥΣ", TITLES + 1: "Straße"}
    with previous.begin() as connection:
        for number, email in enumerate(emails, 1):
            register(connection, number, email)
        write(connection, titles)

    said = Migrations(previous.url).upgrade("0005")

    assert said == [
        "applied 0005 (Folded keys for searches, and e-mail keys by IDNA 2008)",
        f"computed {TITLES + 1} search keys of titles",
        f"computed {len(emails)} search keys of users",
    ]
    stored = keys(previous)
    assert stored["emails"] == {email: email_key(email, to_ascii) for email in emails}
    assert stored["titles"] == {number: fold(title) for number, title in titles.items()}
    assert all(folded == fold(key) for key, folded in stored["users"].items())
    Migrations(previous.url).upgrade()
    assert (found(previous, "ΟΔΥΣ"), found(previous, "STRASSE")) == (["ΟΔΥΣΣΕΥΣ"], ["Straße"])
    assert keys(previous) == stored


def test_rows_that_the_previous_release_writes_meanwhile_are_repaired(previous: Engine) -> None:
    with previous.begin() as connection:
        register(connection, 1, "ann@x.org")
        write(connection, {1: "First", 2: "Second", 3: "Third"})
    Migrations(previous.url).upgrade()
    with previous.begin() as connection:
        register(connection, 2, "bob@straße.de")
        write(connection, {4: "ΟΔΥΣΣΕΥΣ"})
        connection.execute(text("UPDATE posts SET title = 'ΑΣ' WHERE id = 2"))
        connection.execute(text("UPDATE titles SET title_key = 'ας' WHERE post_id = 2"))
        connection.execute(text("UPDATE users SET search_key = 'ann@y.org\n', email = 'ann@y.org' WHERE id = 1"))

    assert Migrations(previous.url).upgrade() == [
        "computed 1 keys of e-mails",
        "computed 2 search keys of titles",
        "computed 2 search keys of users",
    ]

    assert keys(previous)["titles"] == {1: "first", 2: fold("ΑΣ"), 3: "third", 4: fold("ΟΔΥΣΣΕΥΣ")}
    assert keys(previous)["emails"]["bob@straße.de"] == "bob@xn--strae-oqa.de"
    assert found(previous, "ΟΔΥΣ") == ["ΟΔΥΣΣΕΥΣ"]


@pytest.mark.parametrize(
    "emails",
    [("bob@straße.de", "bob@xn--strae-oqa.de"), ("İ@x.org", "i@x.org"), ("a@xn--strae-oqa.de", "A@STRA\u1e9eE.de")],
)
def test_accounts_that_would_share_an_email_stop_the_migration(previous: Engine, emails: tuple[str, str]) -> None:
    with previous.begin() as connection:
        for number, email in enumerate((*emails, "ann@straße.de", "ann@strasse.fr"), 1):
            register(connection, number, email)

    with pytest.raises(Refused, match="nothing was changed: users 1, 2: they have the same e-mail in several") as said:
        Migrations(previous.url).upgrade()

    assert all(email in str(said.value) for email in emails)
    with previous.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == "0004"
        assert "search_folded" not in {column["name"] for column in inspect(connection).get_columns("users")}
        stored = pairs(connection.execute(text("SELECT email, email_key FROM users")))
        assert stored == {email: previous_key(email) for email in stored}
        connection.execute(text("DELETE FROM users WHERE id = 2"))
        connection.commit()
    Migrations(previous.url).upgrade()
    assert keys(previous)["emails"]["ann@straße.de"] == "ann@xn--strae-oqa.de"


def test_account_that_would_share_an_email_later_is_a_warning(
    previous: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    with previous.begin() as connection:
        register(connection, 1, "bob@xn--strae-oqa.de")
    Migrations(previous.url).upgrade()
    with previous.begin() as connection:
        register(connection, 2, "bob@straße.de")  # by a worker of the previous release

    assert Migrations(previous.url).upgrade() == ["computed 1 search keys of users"]

    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("users 1, 2: they have the same e-mail in several spellings: bob@xn--strae-oqa.de, bob@str")
    assert keys(previous)["emails"]["bob@straße.de"] == "bob@strasse.de"


def test_address_without_a_key_by_the_new_rule_is_a_warning(previous: Engine, caplog: pytest.LogCaptureFixture) -> None:
    with previous.begin() as connection:
        register(connection, 1, "ann@i♥.example")

    Migrations(previous.url).upgrade()

    (said,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert said == "user 1 cannot sign in: ann@i♥.example is no e-mail address by IDNA 2008; change it"


def test_reverting_restores_the_previous_keys_or_names_obstacles(previous: Engine) -> None:
    with previous.begin() as connection:
        register(connection, 1, "ann@straße.de")
    Migrations(previous.url).upgrade()
    with previous.begin() as connection:
        register(connection, 2, "ann@strasse.de")

    with pytest.raises(Refused, match=r"users 1, 2: .*: ann@straße\.de, ann@strasse\.de"):
        Migrations(previous.url).downgrade("0004")
    with previous.begin() as connection:
        connection.execute(text("DELETE FROM users WHERE id = 2"))
    reverted = [["reverted", name] for name in reversed(STEPS) if name > "0004"]
    assert [line.split()[:2] for line in Migrations(previous.url).downgrade("0004")] == reverted

    with previous.connect() as connection:
        assert connection.execute(text("SELECT email_key FROM users")).scalars().all() == ["ann@strasse.de"]


@pytest.mark.parametrize("left", ["nothing", "an invalid index"])
def test_indexes_of_a_filled_database_are_built_beside_its_writers(postgres: PostgresServer, left: str) -> None:
    with postgres.database(migrated=False) as url, closing_engine(url) as engine:
        Migrations(url).upgrade("0004")
        with engine.begin() as connection:
            register(connection, 1, "ann@x.org")
        Migrations(url).upgrade()
        if left == "an invalid index":
            with engine.begin() as connection:
                connection.execute(
                    text("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ix_users_search_folded'::regclass")
                )
            Migrations(url).upgrade()
        with engine.connect() as connection:
            valid = text(
                "SELECT indexrelid::regclass::text FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid"
                " WHERE indisvalid AND relname LIKE 'ix_%_folded' ORDER BY 1"
            )
            assert connection.execute(valid).scalars().all() == ["ix_titles_title_folded", "ix_users_search_folded"]


def test_indexes_follow_once_the_role_may_use_the_extension(
    postgres: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    with postgres.database(migrated=False) as url, closing_engine(url) as engine:
        role = f"folder_{url.database}"
        with engine.begin() as connection:
            connection.execute(text(f"CREATE ROLE {role} LOGIN PASSWORD 'x'"))
            connection.execute(text(f"GRANT ALL ON SCHEMA public TO {role}"))
            connection.execute(text("CREATE SCHEMA kept"))
            connection.execute(text("CREATE EXTENSION pg_trgm SCHEMA kept"))
        try:
            theirs = Migrations(url.set(username=role, password="x"))
            theirs.upgrade()
            assert sum("its schema is closed to this role" in line.getMessage() for line in caplog.records) == 1
            with engine.begin() as connection:
                connection.execute(text(f"GRANT USAGE ON SCHEMA kept TO {role}"))
            assert theirs.upgrade() == []
            with engine.connect() as connection:
                assert inspect(connection).has_index("titles", "ix_titles_title_folded")
                assert inspect(connection).has_index("users", "ix_users_search_folded")
        finally:
            with engine.begin() as connection:
                connection.execute(text(f"DROP OWNED BY {role}"))
                connection.execute(text(f"DROP ROLE {role}"))
