"""The settings: where each comes from, which database they mean, and what is refused, in one line, with no secret."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from sqlalchemy import URL, create_engine

from infrastructure.environment import load_settings, origin
from infrastructure.settings import KNOWN_SECRETS, SettingsError, database_url, masked

HOUSE = Path(__file__).parents[2]
GOOD_KEY = "0123456789abcdef" * 4
SECRET = "hunter2"
PRODUCTION = {"FASTAPI_ENV": "production", "DATABASE_URL": "sqlite:///agora.db"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that Agora is started in, an empty one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(file: Path, **values: object) -> None:
    file.write_text("".join(f"{name}={value}\n" for name, value in values.items()))


def set_environment(monkeypatch: pytest.MonkeyPatch, values: Mapping[str, str]) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def refusal() -> str:
    """Load the settings, have them refused, and tell in which words."""
    with pytest.raises(SettingsError) as refused:
        load_settings().require_servable()
    words = str(refused.value)
    assert words
    assert "\n" not in words
    assert SECRET not in words
    return words


# Where a setting comes from.


def test_the_nearest_source_wins(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def in_force() -> tuple[int, str]:
        return load_settings().database_connections, origin("database_connections")

    assert in_force() == (8, "default")
    write(folder / ".env", DATABASE_CONNECTIONS=2)
    assert in_force() == (2, ".env")
    write(folder / ".env.development", DATABASE_CONNECTIONS=3)
    assert in_force() == (3, ".env.development")
    monkeypatch.setenv("DATABASE_CONNECTIONS", "4")
    assert in_force() == (4, "environment")


def test_each_setting_is_looked_up_for_itself(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder / ".env", DATABASE_CONNECTIONS=2, LOG_LEVEL="ERROR", DB_HOST="common.example")
    write(folder / ".env.development", DATABASE_CONNECTIONS=3, LOG_LEVEL="DEBUG")
    monkeypatch.setenv("DATABASE_CONNECTIONS", "4")
    settings = load_settings()
    assert (settings.database_connections, settings.log_level, settings.db_host) == (4, "DEBUG", "common.example")
    assert [origin(name) for name in ("database_connections", "log_level", "db_host", "db_port")] == [
        "environment",
        ".env.development",
        ".env",
        "default",
    ]


@pytest.mark.parametrize("environment", ["development", "testing", "production"])
def test_the_environment_names_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch, environment: str) -> None:
    for threads, name in enumerate(("development", "testing", "production"), start=1):
        write(folder / f".env.{name}", DATABASE_CONNECTIONS=threads, DB_NAME=name)
    monkeypatch.setenv("FASTAPI_ENV", environment)
    assert load_settings().db_name == environment
    assert load_settings().fastapi_env == environment
    assert origin("db_name") == f".env.{environment}"


def test_the_common_file_may_name_the_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder / ".env", FASTAPI_ENV="testing", DATABASE_CONNECTIONS=1)
    write(folder / ".env.testing", DATABASE_CONNECTIONS=2)
    write(folder / ".env.production", DATABASE_CONNECTIONS=3)
    assert (load_settings().fastapi_env, load_settings().database_connections) == ("testing", 2)
    assert origin("fastapi_env") == ".env"
    monkeypatch.setenv("FASTAPI_ENV", "production")
    assert (load_settings().fastapi_env, load_settings().database_connections) == ("production", 3)
    assert origin("fastapi_env") == "environment"


def test_the_files_may_lie_elsewhere(folder: Path) -> None:
    (folder / "elsewhere").mkdir()
    write(folder / ".env", DATABASE_CONNECTIONS=2)
    write(folder / "elsewhere" / ".env", DATABASE_CONNECTIONS=3)
    assert load_settings(folder / "elsewhere").database_connections == 3
    assert origin("database_connections", folder / "elsewhere") == ".env"


def test_an_empty_value_counts_as_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder / ".env", DATABASE_CONNECTIONS=2, SECRET_KEY=GOOD_KEY, FASTAPI_ENV="testing", DB_HOST="")
    write(folder / ".env.testing", DATABASE_CONNECTIONS="", SECRET_KEY="")
    for name in ("DATABASE_CONNECTIONS", "SECRET_KEY", "FASTAPI_ENV", "DATABASE_URL", "LOG_LEVEL", "CORS_ORIGINS"):
        monkeypatch.setenv(name, "")
    settings = load_settings()
    assert (settings.database_connections, origin("database_connections")) == (2, ".env")
    assert settings.secret_key == SecretStr(GOOD_KEY)
    assert (settings.fastapi_env, origin("fastapi_env")) == ("testing", ".env")
    assert (settings.log_level, origin("log_level")) == ("INFO", "default")
    assert settings.url == URL.create("sqlite", database="agora.db")
    assert origin("db_host") == "default"


def test_levels_are_read_whatever_their_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_LEVEL", "debug")
    assert (load_settings().log_level, origin("log_level")) == ("DEBUG", "environment")


def test_a_name_in_other_letters_is_another_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder / ".env", database_connections=2, Log_Level="DEBUG")
    monkeypatch.setenv("threads", "5")
    monkeypatch.setenv("Secret_Key", GOOD_KEY)
    settings = load_settings()
    assert (settings.database_connections, settings.log_level, settings.secret_key) == (8, "INFO", None)
    assert [origin(name) for name in ("database_connections", "log_level", "secret_key")] == ["default"] * 3


def test_the_file_of_an_environment_cannot_make_it_another_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder / ".env.production", FASTAPI_ENV="development", DATABASE_CONNECTIONS=3)
    write(folder / ".env", FASTAPI_ENV="production")
    assert (load_settings().fastapi_env, load_settings().database_connections) == ("production", 3)
    monkeypatch.setenv("FASTAPI_ENV", "production")
    assert (load_settings().fastapi_env, load_settings().database_connections) == ("production", 3)
    assert "SECRET_KEY is missing" in refusal()


@pytest.mark.parametrize(
    "text",
    ["${DATABASE_CONNECTIONS}", "$DATABASE_CONNECTIONS", "a${MISSING}b", "${MISSING:-default}", "$$", "100%", "a#b"],
)
def test_what_stands_in_a_file_is_taken_as_it_stands(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("DATABASE_CONNECTIONS", "4")
    write(folder / ".env", DB_PASSWORD=text, SECRET_KEY=f"'{text}'", DB_NAME=f'"{text}"')
    settings = load_settings()
    assert settings.db_password == settings.secret_key == SecretStr(text)
    assert settings.db_name == text


def test_a_file_may_hold_comments_quotes_and_exports(folder: Path) -> None:
    (folder / ".env").write_text(
        "# a comment\nexport DATABASE_CONNECTIONS=2 # two\n\nDB_PASSWORD='a # b'\nDB_NAME=\"a b\"\nLOG_LEVEL\n"
    )
    settings = load_settings()
    assert (settings.database_connections, settings.db_password, settings.db_name) == (2, SecretStr("a # b"), "a b")
    assert settings.log_level == "INFO"


@pytest.mark.parametrize("name", [".env", ".env.development"])
def test_byte_order_mark_is_no_part_of_a_file_or_a_value(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (folder / name).write_text("DATABASE_CONNECTIONS=2\n", encoding="utf-8-sig")
    monkeypatch.setenv("DB_PASSWORD", "\ufeffhunter2")
    settings = load_settings()
    assert (settings.database_connections, settings.db_password) == (2, SecretStr(SECRET))


def test_names_that_agora_does_not_know_are_let_be(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder / ".env", ANOTHER_PROGRAMS="setting", DATABASE_CONNECTIONS=2)
    monkeypatch.setenv("HOME_BREW", "yes")
    assert load_settings().database_connections == 2


def test_the_sample_file_can_be_copied(folder: Path) -> None:
    (folder / ".env").write_text((HOUSE / ".env.example").read_text())
    load_settings().require_servable()


@pytest.mark.parametrize(
    "text",
    [
        " https://a.example/ ,, http://b.example:3000,",
        '["https://a.example", "http://b.example:3000"]',
        ' [ "https://a.example/","" , " http://b.example:3000 "]',
        "HTTPS://A.Example:443,http://b.example:03000,https://a.example",
    ],
)
def test_origins_are_a_list_with_commas_or_in_json(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("CORS_ORIGINS", text)
    assert load_settings().cors_origins == ("https://a.example", "http://b.example:3000")


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("http://a.example:80", "http://a.example"),
        ("http://a.example:443", "http://a.example:443"),
        ("https://Bücher.example", "https://xn--bcher-kva.example"),
        ("https://straße.de", "https://xn--strae-oqa.de"),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
        ("http://my_service:8080", "http://my_service:8080"),
        ("http://localhost:5173", "http://localhost:5173"),
        ("http://127.0.0.1", "http://127.0.0.1"),
        ("http://[0:0:0:0:0:0:0:1]:80", "http://[::1]"),
        ("https://a.example.", "https://a.example."),
        ("capacitor://localhost", "capacitor://localhost"),
        ("chrome-extension://ABCdef", "chrome-extension://abcdef"),
        ("*", "*"),
    ],
)
def test_origin_is_compared_as_browsers_send_it(monkeypatch: pytest.MonkeyPatch, written: str, sent: str) -> None:
    monkeypatch.setenv("CORS_ORIGINS", written)
    assert load_settings().cors_origins == (sent,)


@pytest.mark.parametrize(
    "text",
    [
        "https://a.example/app",
        "https://a.example?x",
        "https://a.example#x",
        "a.example",
        "//a.example",
        "https:a.example",
        "https://",
        "https://*.example",
        "https://a.example:*",
        '"https://a.example"',
        "'https://a.example'",
        "https://a.example;https://b.example",
        "https://a.example;",
        "https://a.example https://b.example",
        "https://ann:hunter2@a.example",
        "https://a.example:0",
        "https://a.example:65536",
        "https://a.example:https",
        "https://a..example",
        "https://256.0.0.1",
        "https://[::1",
        "https://[::g]",
        "https://b\N{ZERO WIDTH JOINER}.example",
        "wss://a.example",
        "file:///app",
        "null",
        "^https://.*$",
    ],
)
def test_origin_that_no_page_has_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("CORS_ORIGINS", f"https://good.example,{text}")
    assert refusal().startswith("CORS_ORIGINS: entry 2 is no origin; write only a scheme, a host")


@pytest.mark.parametrize("name", ["CORS_ORIGINS", "TRUSTED_PROXIES"])
@pytest.mark.parametrize("text", ["[", '["a"', "[1]", '["a", null]', "[" * 100_000])
def test_list_that_is_no_json_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    monkeypatch.setenv(name, text)
    assert refusal().startswith(f"{name}: this is no JSON list of texts; separate the entries by commas")


@pytest.mark.parametrize(
    ("text", "networks"),
    [
        (" 10.0.0.0/8,, 192.0.2.7 ,2001:db8::/32,", ("10.0.0.0/8", "192.0.2.7", "2001:db8::/32")),
        ('["10.0.0.0/8", "192.0.2.7"]', ("10.0.0.0/8", "192.0.2.7")),
        ("10.1.2.3/8,10.0.0.0/255.0.0.0,192.0.2.7/32", ("10.0.0.0/8", "192.0.2.7")),
        ("2001:0DB8::/32", ("2001:db8::/32",)),
        ("::ffff:10.0.0.0/104,::ffff:192.0.2.7", ("10.0.0.0/8", "192.0.2.7")),
        ("::/0", ("::/0",)),
    ],
)
def test_proxies_are_a_list_of_networks(monkeypatch: pytest.MonkeyPatch, text: str, networks: tuple[str, ...]) -> None:
    monkeypatch.setenv("TRUSTED_PROXIES", text)
    assert load_settings().trusted_proxies == networks


def test_reserved_usernames_are_split_and_lower_cased(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESERVED_USERNAMES", " Staff,, press_2 ,")
    assert load_settings().reserved_usernames == ("staff", "press_2")


@pytest.mark.parametrize("names", ["*", "X-Ünlike", "two words", "a:b"])
def test_cors_header_that_is_no_name_is_refused(monkeypatch: pytest.MonkeyPatch, names: str) -> None:
    monkeypatch.setenv("CORS_HEADERS", names)
    with pytest.raises(SettingsError, match="CORS_HEADERS"):
        load_settings()


@pytest.mark.parametrize("names", ["me", "two words", "stäff", "staff;press", "x" * 33])
def test_reserved_username_that_no_account_can_have_is_refused(monkeypatch: pytest.MonkeyPatch, names: str) -> None:
    monkeypatch.setenv("RESERVED_USERNAMES", names)
    with pytest.raises(SettingsError, match="RESERVED_USERNAMES"):
        load_settings()


def test_limits_and_costs_have_the_defaults_that_the_documentation_tells() -> None:
    settings = load_settings()
    assert (settings.argon2_memory_kib, settings.argon2_time_cost, settings.argon2_parallelism) == (19_456, 2, 1)
    assert settings.throttle is True
    assert (settings.throttle_account_failures, settings.throttle_address_failures) == (5, 30)
    assert settings.throttle_registrations == 1_000


# Which database.


def test_without_a_word_the_database_is_a_file_in_this_folder() -> None:
    assert load_settings().url == URL.create("sqlite", database="agora.db")


@pytest.mark.parametrize(
    ("given_name", "value", "changed"),
    [
        ("DB_HOST", "db.example", {"host": "db.example"}),
        ("DB_PORT", "6543", {"port": 6543}),
        ("DB_USER", "ann", {"username": "ann"}),
        ("DB_PASSWORD", "p@ss", {"password": "p@ss"}),
        ("DB_NAME", "forum", {"database": "forum"}),
    ],
)
def test_one_part_means_postgresql_and_the_others_have_defaults(
    monkeypatch: pytest.MonkeyPatch, given_name: str, value: str, changed: dict[str, Any]
) -> None:
    monkeypatch.setenv(given_name, value)
    usual = URL.create("postgresql+psycopg2", "postgres", None, "localhost", 5432, "agora")
    assert load_settings().url == usual._replace(**changed)


def test_the_url_wins_over_the_parts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, {"DB_HOST": "parts.example", "DB_PASSWORD": "parts"})
    write(folder / ".env", DATABASE_URL="postgresql://ann:whole@whole.example/forum")
    url = load_settings().url
    assert (url.host, url.password) == ("whole.example", "whole")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_every_way_to_say_postgresql_means_psycopg2(scheme: str) -> None:
    url = database_url(f"{scheme}://ann:secret@db.example:6543/forum?sslmode=require")
    assert url == URL.create(
        "postgresql+psycopg2", "ann", "secret", "db.example", 6543, "forum", {"sslmode": "require"}
    )
    assert create_engine(url).dialect.driver == "psycopg2"


@pytest.mark.parametrize("scheme", ["sqlite", "sqlite+pysqlite"])
@pytest.mark.parametrize("file", ["agora.db", "/srv/agora/agora.db", "data/my agora.db", "/home/me@work/a:b@c.db"])
def test_a_file_is_sqlite(scheme: str, file: str) -> None:
    url = database_url(f"{scheme}:///{file}")
    assert (url.get_backend_name(), url.database, url.username, url.password) == ("sqlite", file, None, None)


@pytest.mark.parametrize(
    "text", ["postgresql://db.example/forum", "postgresql://ann@db.example/forum", "postgresql:///forum"]
)
def test_a_url_may_leave_the_password_to_others(text: str) -> None:
    assert database_url(text).password is None
    assert database_url(text).database == "forum"


def test_blanks_around_a_url_are_none_of_it() -> None:
    assert database_url(" postgresql://ann:x@db.example/forum\n").database == "forum"


PASSWORDS = [
    "postgress@123",
    "p%40ss",
    "a/b?c#d:e",
    "@",
    "@@:@/@",
    "100%",
    "a b+c&d=e",
    "'\"\\$!`",
    "pässwörd 🔑",
    "[::1]",
    "p@db.example:5432/other",
]


@pytest.mark.parametrize("password", PASSWORDS)
def test_a_password_in_the_parts_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch, password: str) -> None:
    monkeypatch.setenv("DB_PASSWORD", password)
    assert_password(load_settings().url, password, "localhost")


@pytest.mark.parametrize("password", PASSWORDS)
def test_a_password_in_the_url_may_be_escaped(monkeypatch: pytest.MonkeyPatch, password: str) -> None:
    monkeypatch.setenv("DATABASE_URL", f"postgresql://ann:{quote(password, safe='')}@db.example:5432/forum")
    assert_password(load_settings().url, password, "db.example")


@pytest.mark.parametrize("password", [password for password in PASSWORDS if password != "p%40ss"])
def test_a_password_in_the_url_may_stand_as_it_is(monkeypatch: pytest.MonkeyPatch, password: str) -> None:
    monkeypatch.setenv("DATABASE_URL", f"postgresql://ann:{password}@db.example:5432/forum")
    assert_password(load_settings().url, password, "db.example")


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("h1:5432,h2:6543", "h1,h2", "5432,6543"),
        ("h1,h2:6543", "h1,h2", "5432,6543"),
        ("10.0.0.1,[::1]:6543", "10.0.0.1,::1", "5432,6543"),
        ("%2Frun,%2Ftmp", "/run,/tmp", "5432,5432"),
    ],
)
def test_several_servers_are_tried_in_turn(text: str, host: str, port: str) -> None:
    url = database_url(f"postgresql://ann:p,w@{text}/forum?target_session_attrs=read-write")
    _, told = create_engine(url).dialect.create_connect_args(url)
    assert told == {
        "user": "ann",
        "password": "p,w",
        "host": host,
        "port": port,
        "dbname": "forum",
        "target_session_attrs": "read-write",
    }


@pytest.mark.parametrize("text", ["h1:5432,h2:port", "h1,", ",h2", "h1,h 2", "h1,[::1"])
def test_malformed_list_of_servers_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        database_url(f"postgresql://ann:{SECRET}@{text}/forum")


def test_escaped_folder_is_that_of_a_socket() -> None:
    assert database_url("postgresql://ann:x@%2Fvar%2Frun%2Fpostgresql/forum").host == "/var/run/postgresql"


def test_what_looks_escaped_in_a_url_is_escaped() -> None:
    assert database_url("postgresql://ann:p%40ss@db.example/forum").password == "p@ss"
    assert database_url("postgresql://ann:p%2540ss@db.example/forum").password == "p%40ss"


def test_a_user_in_the_url_may_be_escaped() -> None:
    assert database_url("postgresql://ann%40corp:x@db.example/forum").username == "ann@corp"


@pytest.mark.parametrize("password", ["postgress@123", "p%40ss", "a/b?c:e"])
def test_a_password_in_a_file_is_taken_as_it_is(folder: Path, password: str) -> None:
    write(folder / ".env", DB_PASSWORD=password)
    assert_password(load_settings().url, password, "localhost")


STORABLE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


@settings(deadline=None)
@given(STORABLE)
def test_any_password_reaches_the_driver_from_the_parts(password: str) -> None:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("DB_PASSWORD", password)
        assert_password(load_settings().url, password, "localhost")


@settings(deadline=None)
@given(STORABLE)
def test_any_password_reaches_the_driver_from_the_url(password: str) -> None:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("DATABASE_URL", f"postgres://ann:{quote(password, safe='')}@db.example:5432/forum")
        assert_password(load_settings().url, password, "db.example")


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\n%"), min_size=1))
def test_any_password_of_one_line_may_stand_in_the_url_as_it_is(password: str) -> None:
    assert_password(database_url(f"postgres://ann:{password}@db.example:5432/forum"), password, "db.example")


def assert_password(url: URL, password: str, host: str) -> None:
    """Look at what the driver is told, and at the rest of the address, which the password must leave alone."""
    _, told = create_engine(url).dialect.create_connect_args(url)
    assert told["password"] == password
    assert (told["host"], told["port"]) == (host, 5432)


# What is refused.


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FASTAPI_ENV", "prod"),
        ("DB_PORT", "0"),
        ("DB_PORT", "65536"),
        ("DB_PORT", "five"),
        ("ALGORITHM", "none"),
        ("ALGORITHM", "RS256"),
        ("ACCESS_TOKEN_EXPIRE_MINUTES", "0"),
        ("ACCESS_TOKEN_EXPIRE_MINUTES", "1441"),
        ("ACCESS_TOKEN_EXPIRE_MINUTES", "1.5"),
        ("PUBLIC_READS", "2"),
        ("DATABASE_CONNECTIONS", "0"),
        ("DATABASE_CONNECTIONS", "101"),
        ("LOG_LEVEL", "LOUD"),
        ("ARGON2_MEMORY_KIB", "7"),
        ("ARGON2_MEMORY_KIB", "4194305"),
        ("ARGON2_TIME_COST", "0"),
        ("ARGON2_TIME_COST", "101"),
        ("ARGON2_PARALLELISM", "0"),
        ("ARGON2_PARALLELISM", "17"),
        ("THROTTLE", "sometimes"),
        ("THROTTLE_ACCOUNT_FAILURES", "-1"),
        ("THROTTLE_ADDRESS_FAILURES", "many"),
        ("THROTTLE_REGISTRATIONS", "1.5"),
        ("FORWARDED_HEADER", "X-Real-IP"),
        ("TRUSTED_PROXIES", "proxy.example"),
        ("TRUSTED_PROXIES", "10.0.0.0/33"),
        ("TRUSTED_PROXIES", "10.0.0.1, *"),
        ("TRUSTED_PROXIES", "10.0.0.1;10.0.0.2"),
        ("TRUSTED_PROXIES", "'10.0.0.1'"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    set_environment(monkeypatch, {"SECRET_KEY": SECRET, "DB_PASSWORD": SECRET, name: value})
    words = refusal()
    assert words.startswith(f"{name}: ")
    assert "docs/settings.md" in words


def test_all_that_is_wrong_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, {"DATABASE_CONNECTIONS": "0", "LOG_LEVEL": "LOUD"})
    assert "DATABASE_CONNECTIONS: " in refusal()
    assert "LOG_LEVEL: " in refusal()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (SECRET, "is not a URL"),
        (f"postgresql:/ann:{SECRET}@db.example/forum", "is not a URL"),
        (f"//ann:{SECRET}@db.example/forum", "is not a URL"),
        (f"postgresql://ann:\n{SECRET}@db.example/forum", "is not a URL"),
        (f"mysql://ann:{SECRET}@db.example/forum", "begins with mysql://"),
        (f"postgresql+asyncpg://ann:{SECRET}@db.example/forum", "begins with postgresql+asyncpg://"),
        (f"sqlite+aiosqlite:///{SECRET}.db", "begins with sqlite+aiosqlite://"),
        (f"postgresql://ann:{SECRET}@db.example:port/forum", "cannot be read"),
        (f"postgresql://ann:{SECRET}%00@db.example/forum", "NUL"),
        ("sqlite:///agora%00.db?cache=%00", "NUL"),
        ("sqlite://", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite://agora.db", "names no file"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite:///file::memory:?uri=true", "in memory"),
        ("sqlite:///file:agora?mode=memory&cache=shared&uri=true", "in memory"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused(monkeypatch: pytest.MonkeyPatch, text: str, words: str) -> None:
    set_environment(monkeypatch, {"DATABASE_URL": text, "SECRET_KEY": SECRET})
    assert words in refusal()
    assert "DATABASE_URL" in refusal()


@pytest.mark.parametrize(
    "name", ["DB_HOST", "DB_USER", "DB_PASSWORD", "DB_NAME", "DATABASE_URL", "SECRET_KEY", "SECRET_KEY_PREVIOUS"]
)
def test_bytes_that_are_no_text_are_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, os.fsdecode(b"postgresql://ann:\xff" + SECRET.encode() + b"@db.example/forum"))
    assert refusal().startswith(f"{name}: ")


@pytest.mark.parametrize("name", [".env", ".env.development"])
def test_a_file_that_is_no_text_is_refused(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"DB_PASSWORD=\xff" + SECRET.encode())
    assert ".env" in refusal()


def test_no_look_at_the_settings_shows_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"postgresql://ann:{SECRET}@db.example/forum"
    set_environment(monkeypatch, {"SECRET_KEY": SECRET, "DB_PASSWORD": SECRET, "DATABASE_URL": url})
    settings = load_settings()
    for look in (repr(settings), str(settings), repr(settings.model_dump()), repr(settings.url), str(settings.url)):
        assert SECRET not in look


# Production.


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "SECRET_KEY is missing"),
        ({"SECRET_KEY": ""}, "SECRET_KEY is missing"),
        ({"SECRET_KEY": SECRET}, "SECRET_KEY is shorter than 32 bytes"),
        ({"SECRET_KEY": SECRET.ljust(31, "x")}, "SECRET_KEY is shorter than 32 bytes"),
        *(({"SECRET_KEY": key}, "SECRET_KEY is a known sample") for key in sorted(KNOWN_SECRETS)),
        *(
            ({"SECRET_KEY": GOOD_KEY, "SECRET_KEY_PREVIOUS": key}, "SECRET_KEY_PREVIOUS is a known sample")
            for key in sorted(KNOWN_SECRETS)
        ),
        ({"SECRET_KEY": GOOD_KEY, "SECRET_KEY_PREVIOUS": SECRET}, "SECRET_KEY_PREVIOUS is shorter than 32 bytes"),
    ],
)
def test_production_refuses_what_is_weak(monkeypatch: pytest.MonkeyPatch, values: dict[str, str], words: str) -> None:
    set_environment(monkeypatch, PRODUCTION | values)
    said = refusal()
    assert said.startswith(words)
    for value in values.values():
        assert len(value) <= 4 or value not in said


def test_production_says_all_that_is_weak_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, PRODUCTION | {"SECRET_KEY_PREVIOUS": SECRET})
    assert "SECRET_KEY is missing" in refusal()
    assert "SECRET_KEY_PREVIOUS is shorter" in refusal()


@pytest.mark.parametrize("value", ["", "sqlite:///agora.db"])
def test_production_needs_a_setting_that_names_the_database(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    values = {"FASTAPI_ENV": "production", "SECRET_KEY": GOOD_KEY, "DATABASE_URL": value, "DATABSE_URL": "misspelt"}
    set_environment(monkeypatch, values)
    if value:
        load_settings().require_servable()
    else:
        assert refusal().startswith("no setting names the database: set DATABASE_URL")


@pytest.mark.parametrize("environment", ["development", "testing"])
def test_elsewhere_weak_settings_do(monkeypatch: pytest.MonkeyPatch, environment: str) -> None:
    weak = {"SECRET_KEY": "short"}
    set_environment(monkeypatch, {"FASTAPI_ENV": environment, **weak})
    load_settings().require_servable()


@pytest.mark.parametrize(
    "values",
    [
        {"SECRET_KEY": GOOD_KEY},
        {"SECRET_KEY": "x" * 32},
        {"SECRET_KEY": "ü" * 16},
        {"SECRET_KEY": GOOD_KEY, "SECRET_KEY_PREVIOUS": "x" * 32},
        {"SECRET_KEY": GOOD_KEY, "CORS_ORIGINS": "*"},
    ],
)
def test_production_takes_what_is_strong(monkeypatch: pytest.MonkeyPatch, values: dict[str, str]) -> None:
    set_environment(monkeypatch, PRODUCTION | values)
    load_settings().require_servable()


# What is allowed, and may not be meant.


def warnings(monkeypatch: pytest.MonkeyPatch, **values: str) -> list[str]:
    set_environment(monkeypatch, values)
    found = load_settings().warnings()
    assert all("\n" not in warning and SECRET not in warning for warning in found)
    return found


@pytest.mark.parametrize(
    ("name", "because"),
    [
        ("CORS_CREDENTIALS", "CORS never allows credentials"),
        ("DATABASE_READ_URL", "all reads go to DATABASE_URL"),
        ("DATABASE_READ_URL_FILE", "all reads go to DATABASE_URL"),
    ],
)
def test_dropped_setting_is_warned_about(monkeypatch: pytest.MonkeyPatch, name: str, because: str) -> None:
    (warning,) = warnings(monkeypatch, SECRET_KEY=GOOD_KEY, **{name: SECRET})
    assert warning == f"{name} is no longer a setting: {because}; remove it"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("DATABSE_URL", "DATABASE_URL"),
        ("DATABASE_URI", "DATABASE_URL"),
        ("SECERT_KEY", "SECRET_KEY"),
        ("CORS_ORIGIN", "CORS_ORIGINS"),
        ("TRUST_PROXIES", "TRUSTED_PROXIES"),
        ("DB_PASWORD", "DB_PASSWORD"),
        ("log_level", "LOG_LEVEL"),
    ],
)
@pytest.mark.parametrize("source", ["environment", ".env", ".env.development"])
def test_misspelt_name_is_warned_about(
    folder: Path, monkeypatch: pytest.MonkeyPatch, source: str, name: str, meant: str
) -> None:
    if source == "environment":
        monkeypatch.setenv(name, SECRET)
    else:
        write(folder / source, **{name: SECRET})
    assert warnings(monkeypatch, SECRET_KEY=GOOD_KEY) == [f"{name} is no setting; rename it if it means {meant}"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("TEST_DATABASE_URL", "x"), ("DATABSE_URL", ""), ("PGHOST", "x"), ("DB_URL", "x"), ("SECRET", "x")],
)
def test_other_name_is_not_warned_about(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    assert warnings(monkeypatch, SECRET_KEY=GOOD_KEY, **{name: value}) == []


def test_old_name_is_still_read_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    (warning,) = warnings(monkeypatch, SECRET_KEY=GOOD_KEY, THREADS="5")
    assert warning == "THREADS is now called DATABASE_CONNECTIONS; rename it"
    assert load_settings().database_connections == 5
    assert origin("database_connections") == "environment"


def test_new_name_wins_over_the_old_one_in_the_same_source(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder / ".env", THREADS=5, DATABASE_CONNECTIONS=6)
    assert load_settings().database_connections == 6
    monkeypatch.setenv("THREADS", "7")
    assert load_settings().database_connections == 7


def test_a_key_that_is_made_up_is_warned_about(monkeypatch: pytest.MonkeyPatch) -> None:
    (warning,) = warnings(monkeypatch)
    assert "SECRET_KEY is not set" in warning
    assert "openssl rand -hex 32" in warning


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
@pytest.mark.parametrize("size", [32, 47, 48, 63, 64])
def test_a_key_shorter_than_its_algorithm_asks_for_is_warned_about(
    monkeypatch: pytest.MonkeyPatch, algorithm: str, size: int
) -> None:
    asked = {"HS256": 32, "HS384": 48, "HS512": 64}[algorithm]
    key = "ü" * (size // 2) + "x" * (size % 2)
    found = warnings(monkeypatch, SECRET_KEY=key, ALGORITHM=algorithm)
    assert [f"shorter than the {asked} bytes that {algorithm} asks for" in warning for warning in found] == (
        [True] if size < asked else []
    )


@pytest.mark.parametrize(("environment", "warned"), [("production", True), ("testing", False), ("development", False)])
def test_no_throttle_in_production_is_warned_about(
    monkeypatch: pytest.MonkeyPatch, environment: str, *, warned: bool
) -> None:
    found = warnings(monkeypatch, FASTAPI_ENV=environment, SECRET_KEY=GOOD_KEY, THROTTLE="false")
    assert ["THROTTLE is off" in warning for warning in found] == [True] * warned


def test_what_is_strong_is_not_warned_about(monkeypatch: pytest.MonkeyPatch) -> None:
    assert warnings(monkeypatch, SECRET_KEY=GOOD_KEY, **PRODUCTION) == []


# Keys, and what people see.


def test_the_key_that_is_set_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", GOOD_KEY)
    assert load_settings().signing_key() == GOOD_KEY


def test_missing_key_is_generated_at_each_start() -> None:
    first, second = load_settings().signing_key(), load_settings().signing_key()
    assert first != second
    assert min(len(first), len(second)) >= 64


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (SecretStr(SECRET), "********"),
        (SecretStr("a much longer secret"), "********"),
        ((), "-"),
        (("https://a.example", "https://b.example"), "https://a.example,https://b.example"),
        (True, "true"),
        (False, "false"),
        (30, "30"),
        ("INFO", "INFO"),
    ],
)
def test_a_value_is_shown_to_people_unless_it_is_secret(value: object, shown: str) -> None:
    assert masked(value) == shown


# A line that is none.


@pytest.mark.parametrize("line", [f"SECRET_KEY {SECRET}", f"SECRET_KEY: {SECRET}", f"SECRET_KEY='{SECRET}"])
@pytest.mark.parametrize("name", [".env", ".env.development"])
def test_a_line_that_cannot_be_read_is_refused_by_its_number(folder: Path, line: str, name: str) -> None:
    (folder / name).write_text(f"# A comment\nTHREADS=2\n\n  \n{line}\nLOG_LEVEL=ERROR\n")
    assert refusal().startswith(f"{name}, line 5: write NAME=value")


def test_comments_blank_lines_and_empty_values_are_no_such_lines(folder: Path) -> None:
    (folder / ".env").write_text("\n# A comment\nexport DATABASE_CONNECTIONS=2 # ours\n\nDB_HOST=\n   \n# the end")
    assert load_settings().database_connections == 2
