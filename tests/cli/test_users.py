"""What operators do with accounts, through the command, on each database."""

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import URL

from application.ports.storage import UnitOfWorkFactory
from domain.sessions import RefreshHashes, Session
from domain.users import Role
from tests.support.backends import sql_backend
from tests.support.command import run, run_command
from tests.support.samples import NOW, a_user, add_user


@pytest.fixture
def uow(at: URL) -> Iterator[UnitOfWorkFactory]:
    """The database that the command works on, behind the ports."""
    with sql_backend(at) as backend:
        yield backend.uow


def sign_in(uow: UnitOfWorkFactory, user_id: int, user_agent: str = "a browser") -> None:
    """Open a session that lives as long as any test."""
    with uow() as tx:
        refresh = RefreshHashes(f"{user_id} on {user_agent}", "secret")
        now = NOW.replace(year=2999)
        tx.sessions.add(Session.open(user_id=user_id, user_agent=user_agent, refresh=refresh, now=now))


def lines(*words: str) -> list[str]:
    """Run a command that succeeds and tell what it printed."""
    done = run("users", *words)
    assert (done.code, done.errors) == (0, "")
    return done.output.splitlines()


# list


def test_the_list_is_one_aligned_line_for_each_account(uow: UnitOfWorkFactory) -> None:
    add_user(uow, "ann")
    add_user(uow, "other_account", Role.ADMIN)
    with uow() as tx:
        tx.users.add(replace(a_user("bob"), username=None, is_active=False))

    assert lines("list") == [
        "1  ann@example.com            ann            user   active    2026-01-01",
        "2  other_account@example.com  other_account  admin  active    2026-01-01",
        "3  bob@example.com            -              user   inactive  2026-01-01",
    ]


@pytest.mark.usefixtures("at")
def test_list_without_accounts_is_empty() -> None:
    assert lines("list") == []


def test_a_list_is_searched_and_cut_into_pages(uow: UnitOfWorkFactory) -> None:
    for number in range(5):
        add_user(uow, f"user{number}")

    assert [line.split()[0] for line in lines("list", "--search", "USER3")] == ["4"]
    done = run("users", "list", "--limit", "2", "--skip", "2")
    assert [line.split()[0] for line in done.output.splitlines()] == ["3", "4"]
    assert done.errors == "there are more: --skip 4\n"
    assert [line.split()[0] for line in lines("list", "--limit", "2", "--skip", "3")] == ["4", "5"]


@pytest.mark.parametrize(
    "words", [("--limit", "0"), ("--limit", str(2**63)), ("--skip", "-1"), ("--search", "\udcff"), ("--limit", "few")]
)
@pytest.mark.usefixtures("at")
def test_a_page_that_cannot_be_is_a_wrong_call(words: tuple[str, str]) -> None:
    done = run("users", "list", *words)
    assert done.code == 2
    assert "Usage: agora users list" in done.errors


# show


@pytest.mark.parametrize("who", ["1", "ann@example.com", "ANN@Example.com"])
def test_an_account_is_shown_by_id_or_email_with_its_sessions(uow: UnitOfWorkFactory, who: str) -> None:
    ann, bob = add_user(uow, "ann"), add_user(uow, "bob")
    sign_in(uow, ann.id, "evil \x1b[2J browser")
    sign_in(uow, bob.id)

    shown = lines("show", who)

    assert shown[:6] == [
        "id        1",
        "email     ann@example.com",
        "username  ann",
        "role      user",
        "active    yes",
        "created   2026-01-01 12:00:00Z",
    ]
    assert shown[6:] == [
        "sessions  1",
        "  session 1, last used 2999-01-01 12:00:00Z: evil \N{REPLACEMENT CHARACTER}[2J browser",
    ]


COMMANDS = [("show",), ("promote",), ("demote",), ("deactivate",), ("activate",), ("sessions", "end")]


@pytest.mark.usefixtures("at")
@pytest.mark.parametrize("words", COMMANDS)
def test_an_account_that_is_not_there_is_one_line(words: tuple[str, ...]) -> None:
    assert "user with e-mail: missing@example.com not found" in run("users", *words, "missing@example.com").refused()


@pytest.mark.usefixtures("at")
@pytest.mark.parametrize("who", ["7", "0", "9" * 5_000])
def test_unknown_account_is_one_line(who: str) -> None:
    assert f"user with id: {who[:40]} not found" in run("users", "show", who).refused()


@pytest.mark.parametrize("who", ["ann", "-1", "", "7.0", "²", "a@\udcff"])
def test_what_names_no_account_is_a_wrong_call(who: str) -> None:
    done = run("users", "deactivate", "--", who)
    assert done.code == 2
    assert "name an account by its id" in " ".join(done.errors.replace("│", " ").split())


@pytest.mark.usefixtures("at")
def test_names_that_the_output_cannot_encode_are_escaped() -> None:
    assert run("users", "create-admin", "--email", "日本@example.com", "--generate", encoding="latin-1").code == 0
    done = run("users", "list", encoding="latin-1")
    assert (done.code, done.errors) == (0, "")
    assert r"\u65e5\u672c@example.com" in done.output


@pytest.mark.parametrize("words", [("list",), ("promote", "1")])
@pytest.mark.usefixtures("blank")
def test_before_the_schema_is_made_there_are_no_accounts(words: tuple[str, ...]) -> None:
    assert "run: agora migrate" in run("users", *words).refused()


@pytest.mark.parametrize("words", [("list",), *COMMANDS])
def test_every_command_shows_examples(words: tuple[str, ...]) -> None:
    done = run("users", *words, "--help")
    assert "Examples:" in done.output
    assert f"agora users {' '.join(words)}" in done.output.partition("Examples:")[2]


# promote, demote, deactivate, activate


def test_the_role_is_given_and_taken(uow: UnitOfWorkFactory) -> None:
    add_user(uow, "root", Role.ADMIN)
    add_user(uow, "ann")

    assert lines("promote", "ann@example.com") == ["ann@example.com is an administrator"]
    assert lines("promote", "2") == ["ann@example.com is an administrator"]
    assert lines("demote", "1") == ["root@example.com is no administrator"]
    with uow() as tx:
        assert [admin.email for admin in tx.users.lock_admins()] == ["ann@example.com"]


@pytest.mark.parametrize("word", ["demote", "deactivate"])
def test_the_last_active_administrator_stays(uow: UnitOfWorkFactory, word: str) -> None:
    root = add_user(uow, "root", Role.ADMIN)
    with uow() as tx:
        tx.users.add(replace(a_user("other", Role.ADMIN), is_active=False))
    sign_in(uow, root.id)

    assert "the last active administrator" in run("users", word, "root@example.com").refused()

    assert "sessions  1" in lines("show", "1")
    with uow() as tx:
        assert tx.users.lock(root.id).is_active_admin


def test_a_deactivated_account_is_signed_out_and_can_be_activated(uow: UnitOfWorkFactory) -> None:
    ann = add_user(uow, "ann")
    sign_in(uow, ann.id)

    assert lines("deactivate", "1") == ["ann@example.com is deactivated, and all its sessions have ended"]
    assert {"active    no", "sessions  0"} <= set(lines("show", "1"))
    assert lines("activate", "1") == ["ann@example.com is active"]
    assert {"active    yes", "sessions  0"} <= set(lines("show", "1"))


def events(*words: str) -> list[dict[str, object]]:
    """Run a command and tell the security events that it logged in production."""
    return [json.loads(line) | {"timestamp": ""} for line in run("users", *words).events]


def test_what_operators_do_is_in_the_log(uow: UnitOfWorkFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    ann = add_user(uow, "ann", Role.ADMIN)
    monkeypatch.setenv("FASTAPI_ENV", "production")
    done = {"event": "security", "actor": "operator", "subject": ann.id, "timestamp": ""}
    success = done | {"outcome": "success", "level": "info"}

    assert events("promote", "ann@example.com") == [success | {"action": "promote"}]
    assert events("demote", "ann@example.com") == [
        done | {"action": "demote", "outcome": "refused", "reason": "last-admin", "level": "warning"}
    ]
    assert events("sessions", "end", "1") == [success | {"action": "end-sessions"}]
    assert events("show", "1") == []
    created = events("create-admin", "--email", "root@example.com", "--generate")
    assert created == [success | {"action": "create-admin", "subject": 2}]


# sessions end


def test_ending_sessions_ends_all_of_one_account(uow: UnitOfWorkFactory) -> None:
    ann, bob = add_user(uow, "ann"), add_user(uow, "bob")
    for user_agent in ("a browser", "a phone"):
        sign_in(uow, ann.id, user_agent)
    sign_in(uow, bob.id)

    assert lines("sessions", "end", "ann@example.com") == ["all sessions of ann@example.com have ended"]

    assert "sessions  0" in lines("show", "1")
    assert "sessions  1" in lines("show", "2")


def test_the_real_command_does_it_too() -> None:
    assert run("migrate").code == 0
    assert run("users", "create-admin", "--email", "ann@example.com", "--generate").code == 0
    assert "the last active administrator" in run_command("users", "demote", "1").refused()
