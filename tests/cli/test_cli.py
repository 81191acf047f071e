"""What operators type, and what they read: everything but serving."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.metadata import version
from pathlib import Path
from runpy import run_module
from threading import Timer
from typing import Any

import pytest
from dependency_injector import providers
from sqlalchemy import URL

from domain.users import InvalidCredentials, Role
from infrastructure.container import Container
from infrastructure.database.engine import open_database, open_engine
from infrastructure.database.schema import Migrations
from infrastructure.timeouts import Timeouts
from tests.support.backends import PostgresServer
from tests.support.command import COMMAND, NAMES, environment, plain, run, run_command
from tests.support.connections import connection_of
from tests.support.forks import Forked
from tests.support.postgres import free_port
from tests.support.proxy import Proxy
from tests.support.schema import REVISIONS

PASSWORD = "correct horse, battery: staple"
SECRET = "hunter2"


@contextmanager
def timeouts(**seconds: float) -> Iterator[None]:
    """Build containers with these timeouts in the block."""
    with Container.timeouts.override(providers.Object(Timeouts(**seconds))):  # type: ignore[arg-type]
        yield


def signs_in_as_admin(email: str, password: str) -> bool:
    """Sign in on the database that the settings name."""
    container = Container()
    with closing(container.database()):
        app = container.app()
        tokens = app.commands.sign_in(email, password, user_agent="a browser", address="192.0.2.1")
        actor = app.queries.authenticate(tokens.access_token)
        return app.queries.get_own_account(actor).role is Role.ADMIN and actor.is_admin


def count_users(url: URL) -> object:
    with closing(open_database(url, 1)) as database, database.read() as querier:
        return connection_of(querier).exec_driver_sql("SELECT count(*) FROM users").scalar_one()


# Help.


def test_command_line_imports_no_framework_before_a_command_runs() -> None:
    code = "import agora.__main__, sys; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"fastapi", "sqlalchemy", "pydantic", "alembic", "rich"} & set(modules)


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_both_options_show_the_help(word: str) -> None:
    assert "Agora: a posts-and-votes backend." in run(word).output


def test_version_is_shown() -> None:
    assert run("--version").output == f"agora {version('agora')}\n"


def test_python_runs_the_module_agora(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["agora", "--version"])
    with pytest.raises(SystemExit, match=r"^0$"):
        run_module("agora", run_name="__main__")
    assert capsys.readouterr().out == f"agora {version('agora')}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_is_shown_for_each_shell(shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    assert f"_AGORA_COMPLETE=complete_{shell}" in run("--show-completion", shell).output


def test_completion_suggests_commands_and_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_AGORA_COMPLETE", "complete_bash")
    for typed, suggested in (("agora se", {"serve", "settings"}), ("agora migrate --t", {"--to"})):
        monkeypatch.setenv("COMP_WORDS", typed)
        monkeypatch.setenv("COMP_CWORD", str(len(typed.split()) - 1))
        assert set(run().output.split()) == suggested


def test_help_lists_the_commands() -> None:
    done = run("--help")
    assert (done.code, done.errors) == (0, "")
    for command in ("serve", "migrate", "settings", "doctor", "users", "votes"):
        assert f"{command} " in done.output


@pytest.mark.parametrize("words", [(), ("users",)])
def test_a_command_without_its_words_shows_help(words: tuple[str, ...]) -> None:
    done = run(*words)
    assert done.code == 2
    assert "Usage: agora" in done.output + done.errors


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("serve",), ("--host", "--port", "--workers", "Examples:")),
        (("migrate",), ("up to date", "--to", "--yes", "Examples:")),
        (("settings",), ("masked", "Examples:")),
        (("doctor",), ("--workers", "Examples:")),
        (("votes",), ("verify", "repair")),
        (
            ("users",),
            ("create-admin", "set-password", "list", "show", "promote", "demote", "deactivate", "activate", "sessions"),
        ),
        (("users", "create-admin"), ("--email", "--username", "--password-stdin", "--generate")),
    ],
)
def test_every_command_has_help(words: tuple[str, ...], named: tuple[str, ...]) -> None:
    done = run(*words, "--help")
    assert (done.code, done.errors) == (0, "")
    for name in named:
        assert name in done.output


@pytest.mark.parametrize("words", [("nothing",), ("serve", "--nothing"), ("users", "create-admin"), ("migrate", "x")])
def test_a_wrong_call_is_no_traceback(words: tuple[str, ...]) -> None:
    done = run(*words)
    assert done.code == 2
    assert "Usage: agora" in done.errors
    assert "Traceback" not in done.errors


# migrate


def test_migrating_makes_the_schema(blank: URL) -> None:
    done = run("migrate")
    assert (done.code, done.errors) == (0, "")
    *steps, last = done.output.splitlines()
    assert steps[0] == "applied 0001 (Users, posts and votes)"
    assert [step.split()[1] for step in steps] == REVISIONS
    assert last.endswith(" is up to date")
    assert count_users(blank) == 0
    Migrations(blank).require_current()


def test_migrating_twice_keeps_everything(blank: URL) -> None:
    assert run("migrate").code == 0
    assert run("users", "create-admin", "--email", "ann@example.com", "--generate").code == 0
    done = run("migrate")
    assert (done.code, done.errors) == (0, "")
    assert done.output.endswith(" was up to date already\n")
    assert done.output.count("\n") == 1
    assert count_users(blank) == 1


def test_migrating_to_a_revision_goes_up_and_down(blank: URL) -> None:
    first, second, *_, last = REVISIONS
    done = run("migrate", "--to", second)
    assert [line.partition(" (")[0] for line in done.output.splitlines()[:-1]] == [
        f"applied {first}",
        f"applied {second}",
    ]
    assert done.output.endswith(f" is at {second}\n")
    assert run("migrate", "--to", second).output.count("\n") == 1
    assert run("migrate").output.count("applied ") == len(REVISIONS) - 2

    refused = run("migrate", "--to", second, typed="n\n")
    assert refused.code == 1
    assert refused.errors.endswith("agora: nothing was reverted\n")
    assert f": revert {last}, " in refused.errors
    Migrations(blank).require_current()

    done = run("migrate", "--to", second, "--yes")
    assert (done.code, done.errors) == (0, "")
    reverted = [line.split()[:2] for line in done.output.splitlines()[:-1]]
    assert reverted == [["reverted", name] for name in reversed(REVISIONS[2:])]
    assert "schema is older" in run("users", "list").refused()
    assert run("migrate", "--to", last, typed="").output.count("applied ") == len(REVISIONS) - 2
    assert run("migrate", "--to", first, typed="y\n").code == 0


def test_migrating_to_an_unknown_revision_names_those_that_exist() -> None:
    for target in ("base", "head", "-1", "later"):
        said = run("migrate", "--to", target).refused()
        assert said == f"agora: there is no revision {target}; this release has {', '.join(REVISIONS)}\n"


def test_the_real_command_migrates(postgres: PostgresServer) -> None:
    with postgres.database(migrated=False) as url:
        done = run_command("migrate", DATABASE_URL=plain(url))
        assert (done.code, done.errors) == (0, "")
        assert count_users(url) == 0


def test_migrating_says_which_database_and_never_its_password(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with postgres.database(migrated=False) as url:
        monkeypatch.setenv("DATABASE_URL", plain(url))
        done = run("migrate")
    assert done.output.splitlines()[-1] == f"{url.render_as_string()} is up to date"
    assert url.password is not None
    assert url.password not in done.output


def test_without_settings_the_data_is_a_file_here(folder: Path) -> None:
    assert run("migrate").output.splitlines()[-1] == f"the file {folder / 'agora.db'} is up to date"
    assert (folder / "agora.db").exists()


def test_migrating_waits_for_a_database_that_is_not_up_yet(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = iter((None, None))
    with (
        timeouts(response=0.5),
        postgres.database(migrated=False) as url,
        Proxy(lambda: next(nowhere, url.port)) as way,
    ):
        monkeypatch.setenv("DATABASE_URL", plain(url.set(port=way.port)))
        done = run("migrate")
        Migrations(url).require_current()
    assert done.code == 0
    assert "is up to date" in done.output
    assert [line.partition(": ")[0] for line in done.errors.splitlines()] == ["waiting for the database"] * 2


def test_migrating_creates_a_file_that_others_cannot_read(folder: Path) -> None:
    assert run("migrate").code == 0
    assert run("users", "create-admin", "--email", "ann@example.com", "--generate").code == 0
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}


# A database that is not there.


@pytest.mark.parametrize("url", ["", "sqlite:///{folder}/agora.db", "sqlite:///file:agora.db?uri=true"])
@pytest.mark.parametrize(
    "words",
    [
        ("serve",),
        ("users", "list"),
        ("users", "create-admin", "--email", "ann@example.com", "--generate"),
        ("votes", "verify"),
        ("export", "export.ndjson"),
        ("adopt",),
        ("adopt", "--apply"),
    ],
)
def test_missing_database_is_not_created(
    words: tuple[str, ...], url: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", url.format(folder=folder))
    said = run(*words).refused()
    if "uri=" in url:
        assert "unable to open database file" in said
    else:
        assert said.startswith(f"agora: there is no database at {folder / 'agora.db'}; name the right one")
    assert list(folder.iterdir()) == []


def test_missing_database_is_created_to_be_filled(folder: Path) -> None:
    assert run("demo", "--users", "2", "--posts", "1", "--votes", "1").code == 0
    assert run("export", "export.ndjson").code == 0
    for file in folder.glob("agora.db*"):
        file.unlink()
    assert run("import", "export.ndjson").output == "2 users, 1 posts and 1 votes imported\n"


# settings


def test_settings_shows_every_setting_with_its_origin(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / ".env").write_text(f"SECRET_KEY={SECRET}\nPUBLIC_READS=yes\nTHREADS=2\n")
    (folder / ".env.testing").write_text("DATABASE_CONNECTIONS=3\nCORS_ORIGINS=https://a.example,https://b.example\n")
    monkeypatch.setenv("FASTAPI_ENV", "testing")
    monkeypatch.setenv("LOG_LEVEL", "debug")
    done = run("settings")
    assert (done.code, done.errors) == (0, "")
    table, _, place = done.output.partition("\n\n")
    shown = {name: (value, source) for name, value, source in (line.split() for line in table.splitlines())}
    assert set(shown) == NAMES
    assert shown["FASTAPI_ENV"] == ("testing", "environment")
    assert shown["LOG_LEVEL"] == ("DEBUG", "environment")
    assert shown["DATABASE_CONNECTIONS"] == ("3", ".env.testing")
    assert shown["CORS_ORIGINS"] == ("https://a.example,https://b.example", ".env.testing")
    assert shown["PUBLIC_READS"] == ("true", ".env")
    assert shown["SECRET_KEY"] == ("********", ".env")
    assert shown["DATABASE_URL"] == ("-", "default")
    assert shown["ACCESS_TOKEN_EXPIRE_MINUTES"] == ("30", "default")
    assert place == f"The database is the file {folder / 'agora.db'}\n"


@pytest.mark.parametrize(
    "values",
    [
        {"DATABASE_URL": f"postgresql://ann:{SECRET}@db.example:6543/forum"},
        {"DATABASE_URL": f"postgres://ann:p@{SECRET}/:x@db.example:6543/forum"},
        {"DATABASE_URL": f"postgresql://ann@db.example:6543/forum?password={SECRET}"},
        {"DB_USER": "ann", "DB_HOST": "db.example", "DB_PORT": "6543", "DB_NAME": "forum", "DB_PASSWORD": SECRET},
    ],
)
def test_settings_never_shows_a_secret(values: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SECRET_KEY": f"{SECRET} {SECRET}", **values}.items():
        monkeypatch.setenv(name, value)
    done = run("settings")
    assert (done.code, done.errors) == (0, "")
    assert SECRET not in done.output
    place = done.output.splitlines()[-1].replace(":***@", "@")
    assert place == "The database is postgresql+psycopg2://ann@db.example:6543/forum"


def test_settings_that_cannot_be_read_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_CONNECTIONS", "many")
    monkeypatch.setenv("SECRET_KEY", SECRET)
    assert "DATABASE_CONNECTIONS" in run("settings").refused()


@pytest.mark.parametrize("words", [("settings",), ("migrate",), ("serve",)])
def test_a_bad_address_is_one_line_without_its_password(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"mysql://ann:{SECRET}@db.example/forum")
    said = run(*words).refused()
    assert "mysql://: Agora speaks postgresql:// and sqlite:///" in said
    assert SECRET not in said


# users create-admin


def create_admin(*words: str, email: str = "ann@example.com", typed: str = "") -> tuple[str, ...]:
    """Create an administrator and tell the lines that were printed."""
    done = run("users", "create-admin", "--email", email, *words, typed=typed)
    assert (done.code, done.errors) == (0, "")
    return tuple(done.output.splitlines())


@pytest.mark.usefixtures("at")
@pytest.mark.parametrize(
    ("words", "typed"),
    [
        (("--generate",), ""),
        (("--password-stdin",), "a new password\n"),
        ((), "a new password\na new password\n"),
    ],
)
def test_a_lost_password_is_replaced(words: tuple[str, ...], typed: str) -> None:
    (_, before) = create_admin("--generate")
    done = run("users", "set-password", "--email", "Ann@Example.com", *words, typed=typed)
    assert (done.code, done.errors, len(done.events)) == (0, "", 1)
    said = [line for line in done.output.splitlines() if not line.strip().startswith(("Password:", "Repeat"))]
    assert said[0] == "ann@example.com has a new password, and all its sessions have ended"
    assert signs_in_as_admin("ann@example.com", said[1].removeprefix("password: ") if said[1:] else "a new password")
    with pytest.raises(InvalidCredentials):
        signs_in_as_admin("ann@example.com", before.removeprefix("password: "))


@pytest.mark.usefixtures("at")
@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--email", "missing@example.com", "--generate"), "user with e-mail: missing@example.com not found"),
        (("--email", "7", "--generate"), "this is not an e-mail address"),
        (("--email", "ann@example.com", "--password-stdin"), "a password has 8 to 128 characters"),
    ],
)
def test_a_password_that_cannot_be_set_is_one_line(words: tuple[str, ...], reason: str) -> None:
    create_admin("--generate")
    assert reason in run("users", "set-password", *words, typed="short\n").refused()


@pytest.mark.usefixtures("at")
def test_password_that_nothing_enters_has_a_remedy() -> None:
    done = run("users", "create-admin", "--email", "ann@example.com", typed="")
    assert done.code == 1
    assert "name its source: --password-stdin or --generate" in done.errors


@pytest.mark.usefixtures("at")
@pytest.mark.parametrize("ending", ["\n", "\r\n", "", "\nanother line\n"])
def test_a_password_comes_from_the_first_line_of_standard_input(ending: str) -> None:
    lines = create_admin("--password-stdin", typed=f"{PASSWORD}{ending}")
    assert lines == ("administrator ann@example.com created with id 1",)
    assert signs_in_as_admin("ann@example.com", PASSWORD)


@pytest.mark.usefixtures("at")
def test_a_byte_order_mark_does_not_belong_to_a_password() -> None:
    create_admin("--password-stdin", typed=f"\ufeff{PASSWORD}\n")
    assert signs_in_as_admin("ann@example.com", PASSWORD)


@pytest.mark.usefixtures("at")
def test_blanks_belong_to_a_password() -> None:
    create_admin("--password-stdin", typed="  eight  \n")
    assert signs_in_as_admin("ann@example.com", "  eight  ")


@pytest.mark.usefixtures("at")
def test_a_password_that_is_made_up_is_printed_and_works() -> None:
    told, password = create_admin("--generate")
    assert told == "administrator ann@example.com created with id 1"
    assert re.fullmatch(r"password: \S{24}", password)
    assert signs_in_as_admin("ann@example.com", password.removeprefix("password: "))


@pytest.mark.usefixtures("at")
def test_no_two_passwords_that_are_made_up_are_alike() -> None:
    assert create_admin("--generate")[1] != create_admin("--generate", email="bob@example.com")[1]


@pytest.mark.usefixtures("at")
def test_a_password_that_is_asked_for_is_never_echoed() -> None:
    lines = create_admin(typed=f"{PASSWORD}\n{PASSWORD}\n")
    assert [line.strip() for line in lines] == [
        "Password:",
        "Repeat for confirmation:",
        "administrator ann@example.com created with id 1",
    ]
    assert signs_in_as_admin("ann@example.com", PASSWORD)


def test_a_password_typed_in_two_ways_is_asked_for_again(at: URL) -> None:
    done = run("users", "create-admin", "--email", "ann@example.com", typed=f"{PASSWORD}\nother\n")
    assert done.code == 1
    assert PASSWORD not in done.output + done.errors
    assert "do not match" in done.output + done.errors
    assert count_users(at) == 0


@pytest.mark.usefixtures("at")
def test_an_administrator_may_have_a_username() -> None:
    create_admin("--generate", "--username", "Ann_7")
    done = run("users", "create-admin", "--email", "bob@example.com", "--username", "ann_7", "--generate")
    assert "this username is taken" in done.refused()


def test_a_password_comes_from_one_place_only(at: URL) -> None:
    words = ("users", "create-admin", "--email", "ann@example.com", "--password-stdin", "--generate")
    done = run(*words, typed=f"{PASSWORD}\n")
    assert done.code == 2
    assert "exclude each other" in done.errors
    assert count_users(at) == 0


@pytest.mark.parametrize("email", ["", "ann", "@example.com", "ann@", "ann@example", "a b@example.com", "a@b@c.org"])
def test_what_is_no_email_is_refused(at: URL, email: str) -> None:
    done = run("users", "create-admin", "--email", email, "--password-stdin", typed=f"{PASSWORD}\n")
    assert done.code == 2
    assert "Invalid value for '--email'" in done.errors
    assert "Traceback" not in done.errors
    assert count_users(at) == 0


@pytest.mark.parametrize("again", ["ann@example.com", "Ann@EXAMPLE.com", " ann@example.com "])
def test_an_email_that_is_taken_is_one_line(at: URL, again: str) -> None:
    create_admin("--generate")
    done = run("users", "create-admin", "--email", again, "--generate")
    assert done.refused() == "agora: this e-mail is already registered; sign in, or register with another one\n"
    assert count_users(at) == 1


@pytest.mark.parametrize(
    "password", ["password1", "PassWord1", "iloveyou", "Ann@EXAMPLE.com", "ann2026!", "agora-1234", "        "]
)
def test_a_password_that_is_easily_guessed_is_one_line(at: URL, password: str) -> None:
    done = run("users", "create-admin", "--email", "ann@example.com", "--password-stdin", typed=f"{password}\n")
    assert re.search("among the most used ones|little more than your own|is blank", done.refused())
    assert count_users(at) == 0


@pytest.mark.parametrize("password", ["", "short", "x" * 7, "x" * 129, "\udcff" * 8, "with a \0 in it"])
def test_a_password_that_breaks_a_rule_is_one_line_that_does_not_repeat_it(at: URL, password: str) -> None:
    typed = password.encode("utf-8", "surrogateescape") + b"\n"
    said = run("users", "create-admin", "--email", "ann@example.com", "--password-stdin", typed=typed).refused()
    assert "a password has" in said
    assert len(password) < 7 or password not in said
    assert count_users(at) == 0


def test_a_username_that_breaks_a_rule_is_one_line(at: URL) -> None:
    done = run("users", "create-admin", "--email", "ann@example.com", "--username", "no blanks", "--generate")
    assert "a username has" in done.refused()
    assert count_users(at) == 0


@pytest.mark.usefixtures("blank")
def test_missing_schema_is_reported_before_the_password_prompt() -> None:
    done = run("users", "create-admin", "--email", "ann@example.com", typed=f"{PASSWORD}\n{PASSWORD}\n")
    assert "run: agora migrate" in done.refused()


def test_the_real_command_creates_an_administrator() -> None:
    assert run("migrate").code == 0
    words = ("users", "create-admin", "--email", "ann@example.com", "--password-stdin")
    done = run_command(*words, typed=f"{PASSWORD}\n")
    assert (done.code, done.errors) == (0, "")
    assert done.output == "administrator ann@example.com created with id 1\n"
    assert signs_in_as_admin("ann@example.com", PASSWORD)
    assert "already registered" in run_command(*words, typed=f"{PASSWORD}\n").refused()


# A database that does not answer.

COMMANDS = [("migrate",), ("serve",), ("users", "create-admin", "--email", "ann@example.com", "--generate")]


@pytest.mark.parametrize("words", COMMANDS)
def test_a_server_that_does_not_listen_is_one_line(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", f"postgresql://ann:{SECRET}@127.0.0.1:{free_port()}/forum")
    with timeouts(startup=0):
        said = run(*words).refused()
    assert "agora: the database accepts no connection; try again (Connection refused" in said
    assert SECRET not in said


@pytest.mark.parametrize("words", COMMANDS)
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"password": SECRET}, "password authentication failed"),
        ({"database": "nowhere"}, '"nowhere" does not exist'),
    ],
)
def test_refused_connection_is_one_line_that_names_the_doctor(
    words: tuple[str, ...],
    wrong: dict[str, Any],
    said: str,
    postgres: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with postgres.database(migrated=False) as url:
        monkeypatch.setenv("DATABASE_URL", plain(url.set(**wrong)))
        refused = run(*words).refused()
    assert refused.startswith("agora: the database cannot be opened (")
    assert refused.endswith("; agora doctor says what to do\n")
    assert said in refused
    assert SECRET not in refused


@pytest.mark.parametrize("words", COMMANDS)
def test_a_file_that_cannot_be_opened_is_one_line(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "sqlite:///no/such/folder/agora.db")
    unopened = r"the database cannot be opened \(unable to open database file\); agora doctor says what to do"
    assert re.search(f"{unopened}|there is no database at /", run(*words).refused())


@pytest.mark.parametrize("words", COMMANDS)
def test_a_file_that_is_no_database_is_one_line(
    words: tuple[str, ...], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "diary.txt").write_text("Dear diary, " * 100)
    monkeypatch.setenv("DATABASE_URL", "sqlite:///diary.txt")
    said = run(*words).refused()
    assert said == "agora: the database cannot be opened (file is not a database); agora doctor says what to do\n"


@pytest.fixture(params=[1, 3])
def silent(request: pytest.FixtureRequest, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A database that falls silent when it has let us in, or two answers later; cut off after half a minute."""
    with (
        timeouts(startup=0, response=0.5),
        postgres.database() as url,
        Proxy(lambda: url.port, answers=request.param) as way,
    ):
        monkeypatch.setenv("DATABASE_URL", plain(url.set(port=way.port)))
        end_of_patience = Timer(30, way.cut)
        end_of_patience.start()
        yield
        end_of_patience.cancel()


@pytest.mark.usefixtures("silent")
@pytest.mark.parametrize("words", [*COMMANDS, ("votes", "verify"), ("votes", "repair"), ("users", "list")])
def test_a_database_that_falls_silent_is_one_line(words: tuple[str, ...]) -> None:
    assert "no response in time" in run(*words).refused()


@pytest.mark.usefixtures("silent")
def test_the_doctor_finds_a_database_that_falls_silent() -> None:
    done = run("doctor")
    assert "no response in time" in done.output
    assert "Traceback" not in done.errors


@pytest.mark.parametrize("after", [1, 3])
def test_a_database_that_falls_silent_is_waited_for(after: int, postgres: PostgresServer) -> None:
    heard = []
    with postgres.database(migrated=False) as url, Proxy(lambda: url.port, answers=after) as way:

        def hear(said: str) -> None:
            heard.append(said)
            way.flow()

        end_of_patience = Timer(30, way.cut)
        end_of_patience.start()
        migrations = Migrations(url.set(port=way.port), Timeouts(response=0.5))
        migrations.when_available(migrations.upgrade, hear)
        end_of_patience.cancel()
        Migrations(url).require_current()
    assert heard == ["no response in time"]


@contextmanager
def tenant(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, *, migrated: bool) -> Iterator[None]:
    """Name a database in which we may look around, and nothing else."""
    with postgres.database(migrated=migrated) as url:
        role = f"tenant_{url.database}"
        engine = open_engine(url, connections=1).execution_options(isolation_level="AUTOCOMMIT")
        with engine.connect() as owner:
            owner.exec_driver_sql(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
            try:
                monkeypatch.setenv("DATABASE_URL", plain(url.set(username=role, password="x")))
                yield
            finally:
                owner.exec_driver_sql(f"DROP ROLE {role}")
        engine.dispose()


@pytest.mark.parametrize("words", [*COMMANDS, ("votes", "verify"), ("demo",), ("export", "-")])
def test_missing_rights_are_one_line(
    words: tuple[str, ...], postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tenant(postgres, monkeypatch, migrated=True):
        said = run(*words).refused()
    assert said == "agora: the database refuses: permission denied for table alembic_version\n"


def test_a_schema_that_we_may_not_change_is_one_line(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with tenant(postgres, monkeypatch, migrated=False):
        said = run("migrate").refused()
    assert said == "agora: the database refuses: permission denied for schema public\n"


def test_missing_rights_are_one_line_of_the_log(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with tenant(postgres, monkeypatch, migrated=True):
        said = run_command(
            "serve", DATABASE_URL=os.environ["DATABASE_URL"], FASTAPI_ENV="production", SECRET_KEY=SECRET * 8
        )
    assert said.refused_in_the_log() == "the database refuses: permission denied for table alembic_version"


# The system around a command.


def test_deleted_working_directory_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "gone").mkdir()
    monkeypatch.chdir(folder / "gone")
    (folder / "gone").rmdir()
    for words in (("settings",), ("migrate",), ("users", "list"), ("serve",), ("doctor",), ("adopt",)):
        assert "the working directory was deleted; change to another one" in run(*words).refused()


def test_full_standard_output_is_one_line(folder: Path) -> None:
    with Path("/dev/full").open("w") as full, (folder / "errors").open("w+") as errors:
        streams = full.fileno(), full.fileno(), errors.fileno()
        assert Forked(("settings",), environment(), streams, session=False).wait(60) == 1
        errors.seek(0)
        assert errors.read() == "agora: the system refuses: No space left on device\n"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("users create-admin --email ann@example.com --password-stdin <&-", "a password has"),
        ("export - >&-", "cannot write -: standard output is closed"),
    ],
)
def test_closed_standard_stream_is_no_traceback(command: str, said: str) -> None:
    assert run("migrate").code == 0
    shell = ["/bin/sh", "-c", f"exec {COMMAND} {command}"]
    done = subprocess.run(shell, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("at")
def test_host_that_is_no_name_is_one_line() -> None:
    assert "cannot listen: " in run("serve", "--host", "\udcff").refused()


def test_the_real_command_fails_with_one_line_too() -> None:
    said = run_command(
        "users", "list", DATABASE_URL=f"postgresql://ann:{SECRET}@127.0.0.1:{free_port()}/forum"
    ).refused()
    assert SECRET not in said
