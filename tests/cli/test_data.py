"""Whole databases from the command line: filling one, and moving one through a file."""

import io
import json
import os
import pty
import re
import signal
import sqlite3
import subprocess
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from threading import Timer
from typing import IO

import pytest
from sqlalchemy import URL, inspect, text

from domain.sessions import RefreshHashes, Session
from infrastructure.container import Container
from infrastructure.database.engine import open_engine
from infrastructure.database.tables import FILLED, NUMBERED
from infrastructure.operations.archive import KINDS, VERSIONS, Archive
from infrastructure.timeouts import DEFAULT_TIMEOUTS
from interfaces.cli.data import writing
from tests.support.backends import PostgresServer, contents, empty, require_true_counters, sql_backend
from tests.support.command import COMMAND, environment, plain, run, run_command
from tests.support.filled import TEXT, fill
from tests.support.process import kept
from tests.support.samples import NOW, add_post, add_user
from tests.support.schema import shape

# demo

FEW = ("--users", "30", "--posts", "50", "--votes", "400")


def test_a_demo_is_as_large_as_asked_for_and_its_counters_are_true(at: URL) -> None:
    done = run("demo", *FEW)
    assert (done.code, done.errors) == (0, "")
    assert done.output.startswith("30 users, 50 posts and 400 votes generated\n")
    found = contents(at)
    assert [len(found[table]) for table in ("users", "posts", "votes")] == [30, 50, 400]
    require_true_counters(at)


@pytest.mark.parametrize("lacking", [None, "ix_titles_title_key"])
def test_a_demo_leaves_the_schema_as_it_was(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, lacking: str | None
) -> None:
    with postgres.database() as url:
        monkeypatch.setenv("DATABASE_URL", plain(url))
        engine = open_engine(url, connections=1)
        with engine.begin() as connection:
            if lacking is not None:
                connection.execute(text(f"DROP INDEX {lacking}"))
            before = shape(inspect(connection))
        done = run("demo", *FEW)
        assert (done.code, done.errors) == (0, "")
        with engine.connect() as connection:
            assert shape(inspect(connection)) == before
        engine.dispose()


def test_a_demo_waits_for_a_lock_of_autovacuum(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with postgres.database() as url, closing(open_engine(url, connections=1).connect()) as autovacuum:
        monkeypatch.setenv("DATABASE_URL", plain(url))
        autovacuum.execute(text("LOCK TABLE users IN SHARE UPDATE EXCLUSIVE MODE"))
        cancellation = Timer(DEFAULT_TIMEOUTS.lock + 0.5, autovacuum.rollback)
        cancellation.start()
        done = run("demo", *FEW)
        cancellation.join()
        assert (done.code, done.errors) == (0, "")


def test_everybody_in_a_demo_signs_in_with_the_password_that_is_printed(at: URL) -> None:
    said = run("demo", *FEW).output
    email, password = re.findall(r"^sign in as (\S+), .* password: (\S{24})$", said, re.MULTILINE)[0]
    assert len({user.password_hash for user in contents(at)["users"]}) == 1
    container = Container()
    with closing(container.database()):
        app = container.app()
        tokens = app.commands.sign_in(email, password, user_agent="a browser", address="192.0.2.1")
        assert app.queries.get_own_account(app.queries.authenticate(tokens.access_token)).email == email


def test_life_goes_on_after_a_demo(at: URL) -> None:
    demo = run("demo", *FEW)
    assert (demo.code, demo.errors) == (0, "")
    done = run("users", "create-admin", "--email", "ann@example.com", "--generate")
    assert done.output.startswith("administrator ann@example.com created with id 31\n")
    assert len(contents(at)["users"]) == 31


def test_a_demo_is_for_empty_databases(at: URL) -> None:
    assert run("users", "create-admin", "--email", "ann@example.com", "--generate").code == 0
    before = contents(at)
    assert "this database has users already" in run("demo", *FEW).refused()
    assert contents(at) == before


@pytest.mark.usefixtures("at")
def test_a_demo_with_more_votes_than_people_can_cast_is_one_line() -> None:
    assert (
        "3 users can cast 27 on 9 published posts"
        in run("demo", "--users", "3", "--posts", "9", "--votes", "28").refused()
    )


@pytest.mark.usefixtures("blank")
def test_a_demo_needs_a_migrated_database() -> None:
    assert "run: agora migrate" in run("demo").refused()


@pytest.mark.parametrize("words", [("--users", "0"), ("--posts", "-1"), ("--votes", "-1"), ("--seed", "x")])
def test_a_demo_of_an_impossible_size_is_a_wrong_call(words: tuple[str, str]) -> None:
    assert run("demo", *words).code == 2


def test_the_real_command_fills_a_demo() -> None:
    assert run("migrate").code == 0
    done = run_command("demo", *FEW)
    assert (done.code, done.errors) == (0, "")
    assert done.output.startswith("30 users, 50 posts and 400 votes generated\n")
    assert "this database has users already" in run_command("demo", *FEW).refused()


# export and import

KEPT = tuple(table.name for table in FILLED)
EXPORTS = Path(__file__).parent / "exports"
"""An export that a release wrote, for each version of the format; written once, never changed."""


@pytest.fixture
def move_to(database_of: Callable[[str], URL], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], URL]:
    """Have the settings name the module's database of a kind."""

    def move(kind: str) -> URL:
        url = database_of(kind)
        monkeypatch.setenv("DATABASE_URL", plain(url))
        return url

    return move


def export(folder: Path, name: str = "export.ndjson") -> bytes:
    """Export what the settings name, and read the file."""
    done = run("export", name)
    assert (done.code, done.errors) == (0, "")
    return (folder / name).read_bytes()


def sealed(lines: bytes) -> bytes:
    """Write the trailer that belongs after the lines."""
    kinds = Counter(next(iter(json.loads(line))) for line in lines.splitlines()[1:])
    counts = {f"{kind}s": kinds[kind] for kind in KINDS}
    return lines + json.dumps({**counts, "sha256": sha256(lines).hexdigest()}).encode() + b"\n"


def held(exported: bytes) -> str:
    """Count the rows of an export in the words of the command."""
    *counts, _checksum = json.loads(exported.splitlines()[-1]).items()
    *kinds, last = (f"{count} {kind}" for kind, count in counts)
    return f"{', '.join(kinds)} and {last}"


def lines_of(exported: bytes) -> bytes:
    """Leave out the trailer."""
    return b"".join(exported.splitlines(keepends=True)[:-1])


def test_an_instance_moves_from_sqlite_to_postgresql_and_back(move_to: Callable[[str], URL], folder: Path) -> None:
    for kind in ("sqlite", "postgres"):
        empty(move_to(kind))
    fill(move_to("sqlite"))
    before = contents(move_to("sqlite"))
    exported = export(folder)

    move_to("postgres")
    done = run("import", "export.ndjson")
    assert (done.code, done.output) == (0, f"{held(exported)} imported\n")
    there = contents(move_to("postgres"))
    assert {table: there[table] for table in KEPT} == {table: before[table] for table in KEPT}
    assert export(folder, "again.ndjson") == exported

    empty(move_to("sqlite"))
    assert run("import", "again.ndjson").code == 0
    back = contents(move_to("sqlite"))
    assert {table: back[table] for table in KEPT} == {table: before[table] for table in KEPT}
    assert back["sessions"] == []
    assert export(folder, "back.ndjson") == exported
    assert all(before[table.name] for table in (*FILLED, *NUMBERED))
    assert TEXT in {post.content for post in back["posts"]}


def test_new_rows_never_get_an_id_that_was_given_before(at: URL, folder: Path) -> None:
    fill(at)
    exported = export(folder)
    empty(at)
    assert run("import", "export.ndjson").code == 0
    with sql_backend(at) as backend:
        newcomer = add_user(backend.uow, "newcomer")
        post = add_post(backend.uow, newcomer)
        with backend.uow() as tx:
            refresh = RefreshHashes("family", "secret")
            session = tx.sessions.add(Session.open(user_id=newcomer.id, user_agent="", refresh=refresh, now=NOW))
    new = {"users": newcomer.id, "posts": post.id, "sessions": session.id}
    assert new == {"users": 5, "posts": 4, "sessions": 2}
    assert new.keys() == {table.name for table in NUMBERED}
    assert json.loads(exported.splitlines()[0])["last_ids"] == {name: number - 1 for name, number in new.items()}


def test_each_version_of_the_format_has_a_stored_export() -> None:
    assert [f"{version}.ndjson" for version in VERSIONS] == sorted(file.name for file in EXPORTS.iterdir())


def test_the_latest_stored_export_holds_each_kind_with_each_field() -> None:
    _, *lines, _ = map(json.loads, (EXPORTS / f"{VERSIONS[-1]}.ndjson").read_bytes().splitlines())
    held_fields = {kind: [*fields] for line in lines for kind, fields in line.items()}
    assert held_fields == {kind: [*fields.model_fields] for kind, (_, fields, _) in KINDS.items()}


@pytest.mark.parametrize("file", sorted(EXPORTS.iterdir()), ids=lambda file: file.name)
def test_exports_of_earlier_releases_are_read(at: URL, file: Path) -> None:
    empty(at)
    done = run("import", str(file))
    assert (done.code, done.output) == (0, f"{held(file.read_bytes())} imported\n")
    found = contents(at)
    assert [user.email for user in found["users"]] == ["ann@example.com", "bob@example.com", "Ünï@Bücher.example"]
    assert TEXT in {post.content for post in found["posts"]}
    require_true_counters(at)


def test_an_export_is_lines_of_json_with_a_checksum_over_them(at: URL, folder: Path) -> None:
    fill(at)
    exported = export(folder)
    first, *_, last = (json.loads(line) for line in exported.splitlines())
    assert (first["format"], first["version"]) == ("agora-export", VERSIONS[-1])
    assert last == json.loads(sealed(lines_of(exported)).splitlines()[-1])
    assert last == {**last, "users": 3, "posts": 2, "votes": 3}
    assert sealed(lines_of(exported)).splitlines()[:-1] == exported.splitlines()[:-1]
    assert (folder / "export.ndjson").stat().st_mode & 0o777 == 0o600
    assert not list(folder.glob("*.part"))


def test_standard_streams_stand_in_for_files(at: URL, folder: Path) -> None:
    fill(at)
    exported = export(folder)
    done = run("export", "-")
    assert (done.output.encode(), done.errors) == (exported, f"{held(exported)} exported\n")
    empty(at)
    assert run("import", "-", typed=exported).output == f"{held(exported)} imported\n"
    assert export(folder, "again.ndjson") == exported


@pytest.mark.usefixtures("at")
def test_an_empty_instance_moves_too(folder: Path) -> None:
    exported = export(folder)
    assert run("import", "export.ndjson").output == f"{held(exported)} imported\n"
    assert export(folder) == exported


def test_an_import_is_for_empty_databases(at: URL, folder: Path) -> None:
    fill(at)
    export(folder)
    before = contents(at)
    assert "this database has users already" in run("import", "export.ndjson").refused()
    assert contents(at) == before


def test_an_export_that_is_told_to_end_leaves_what_was_there(
    at: URL, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(at)
    before = export(folder)
    write = Archive.export

    def ended(archive: Archive, out: IO[bytes], progress: Callable[[int, int], None]) -> None:
        write(archive, out, progress)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Archive, "export", ended)
    with kept():
        signal.signal(signal.SIGTERM, lambda *_: pytest.fail("the signal was not handled"))
        assert run("export", "export.ndjson").code == 128 + signal.SIGTERM
    assert (folder / "export.ndjson").read_bytes() == before
    assert not list(folder.glob("*.part"))


def _last_line(exported: bytes) -> bytes:
    return exported[len(lines_of(exported)) :]


def _altered(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def alter(exported: bytes) -> bytes:
        assert old in exported
        return exported.replace(old, new, 1)

    return alter


def _forged(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    """Alter a line and make the checksum true again, as a forger would."""
    return lambda exported: sealed(_altered(old, new)(lines_of(exported)))


@pytest.fixture(scope="module")
def exported(database_of: Callable[[str], URL]) -> bytes:
    """An export of something of everything."""
    url = database_of("sqlite")
    empty(url)
    fill(url)
    written = io.BytesIO()
    Archive(url).export(written, lambda _done, _total: None)
    return written.getvalue()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda exported: exported[:-1], "cut off|checksum"),
        (lambda exported: exported[: len(exported) // 2], "cut off"),
        (lines_of, "cut off"),
        (lambda exported: exported.splitlines(keepends=True)[0], "cut off"),
        (lambda exported: exported + b"\n", "checksum"),
        (lambda exported: exported + exported, "checksum"),
        (lambda exported: lines_of(exported) + _last_line(exported).replace(b'"votes":3', b'"votes":2'), "checksum"),
        (lambda exported: lines_of(exported) + _last_line(exported).replace(b'"votes":3,', b""), "checksum"),
        (_altered(b'"dir":1', b'"dir":-1'), "checksum"),
        (_altered(b'"Liked"', b'"Loved"'), "checksum"),
        (_altered(b"\n", b"\r\n"), "checksum"),
        (_altered(b'{"user"', b'{"guest"'), "line 2 of this file"),
        (lambda _exported: b"", "no export of Agora"),
        (lambda _exported: b"Dear diary,\n", "no export of Agora"),
        (lambda _exported: b"[1]\n" * 9, "no export of Agora"),
        (lambda _exported: b"\x1f\x8b\x08\xff" * 1_000_000, "no export of Agora"),
        (lambda _exported: b"[" * 2_000_000, "no export of Agora"),
        (
            _altered(b'"version":%d,"last' % VERSIONS[-1], b'"version":%d,"last' % VERSIONS.stop),
            f"has version {VERSIONS.stop}",
        ),
        (_altered(b'"posts":3', b'"posts":true'), "line 1 of this file"),
        (_altered(b'"posts":3', b'"posts":-1'), "line 1 of this file"),
        (_forged(b'"id":1,', b'"id":0,'), "line 2 of this file"),
        (_forged(b'"id":1,', b'"id":true,'), "line 2 of this file"),
        (_forged(b'"id":1,', b'"id":"1",'), "line 2 of this file"),
        (_forged(b'"id":1,', b""), "line 2 of this file"),
        (_forged(b"ann@", b"ann"), "line 2 of this file"),
        (_forged(b'"ann"', b'"no blanks"'), "line 2 of this file"),
        (_forged(b"a hash", b"a\\u0000hash"), "line 2 of this file"),
        (_forged(b"a hash", b"a\\ud800hash"), "line 2 of this file"),
        (_forged(b'"role":"admin"', b'"role":"root"'), "line 2 of this file"),
        (_forged(b'"Liked"', b'" "'), "line 5 of this file"),
        (_forged(b'"upvotes":1', b'"upvotes":99999999999999999999'), "line 5 of this file"),
        (_forged(b'"dir":1', b'"dir":2'), "line 7 of this file"),
        (_forged(b".000001Z", b".000001"), "line 7 of this file"),
        (_forged(b"2026-01-01T12:00:00.000001Z", b"0001-01-01T00:00:00+23:00"), "line 7 of this file"),
    ],
)
def test_a_file_that_is_no_whole_and_unaltered_export_changes_nothing(
    move_to: Callable[[str], URL], exported: bytes, damage: Callable[[bytes], bytes], said: str
) -> None:
    url = move_to("sqlite")
    empty(url)
    assert re.search(said, run("import", "-", typed=damage(exported)).refused())
    assert not any(contents(url).values())


@pytest.mark.parametrize(
    "forge",
    [
        _forged(b'"id":1', b'"id":2'),
        _forged(b"ann@", b"bob@"),
        _forged(b'"owner_id":1', b'"owner_id":9'),
        _forged(b'"version":1,"upvotes"', b'"version":0,"upvotes"'),
        _forged(b'"dir":1', b'"dir":0'),
    ],
)
def test_lines_that_the_database_cannot_hold_together_change_nothing(
    at: URL, exported: bytes, forge: Callable[[bytes], bytes]
) -> None:
    assert "the lines of this file contradict each other" in run("import", "-", typed=forge(exported)).refused()
    assert not any(contents(at).values())


@pytest.mark.parametrize("cut", [lines_of, lambda exported: exported[:-1], _altered(b'"Liked"', b'"Loved"')])
def test_rows_before_a_damaged_line_are_rolled_back(at: URL, exported: bytes, cut: Callable[[bytes], bytes]) -> None:
    run("import", "-", typed=cut(exported)).refused()
    assert not any(contents(at).values())
    assert run("import", "-", typed=exported).code == 0


def test_export_is_on_disk_before_it_replaces_the_earlier_one(folder: Path) -> None:
    file = folder / "export"
    file.write_bytes(b"earlier")
    synced: list[tuple[int, bytes, bytes]] = []

    def sync(descriptor: int) -> None:
        synced.append((os.fstat(descriptor).st_ino, os.pread(descriptor, 9, 0), file.read_bytes()))

    with writing(str(file), sync) as out:
        out.write(b"later")

    assert synced == [(file.stat().st_ino, b"later", b"earlier")]


def test_an_export_that_fails_leaves_the_earlier_one_as_it_was(folder: Path) -> None:
    assert run("migrate").code == 0
    earlier = export(folder)
    with sqlite3.connect(folder / "agora.db") as database:
        database.execute("DROP TABLE votes")
    database.close()
    assert "no such table" in run("export", "export.ndjson").refused()
    assert (folder / "export.ndjson").read_bytes() == earlier
    assert not list(folder.glob("*.part"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("import", "nowhere.ndjson"), "cannot read nowhere.ndjson: No such file"),
        (("import", "."), "cannot read .: Is a directory"),
        (("export", "nowhere/export.ndjson"), "cannot write nowhere/export.ndjson: No such file"),
        (("export", "."), "cannot write .: Is a directory"),
        (("export", "/dev/full"), "cannot write /dev/full: No space left"),
    ],
)
@pytest.mark.usefixtures("at")
def test_a_file_that_cannot_be_read_or_written_is_one_line(words: tuple[str, str], said: str) -> None:
    assert said in run(*words).refused()


@pytest.mark.usefixtures("blank")
@pytest.mark.parametrize("words", [("export", "export.ndjson"), ("import", "export.ndjson")])
def test_exports_and_imports_need_a_migrated_database(words: tuple[str, str], folder: Path) -> None:
    assert "run: agora migrate" in run(*words).refused()
    assert not (folder / "export.ndjson").exists()


@pytest.mark.usefixtures("at")
def test_byte_order_mark_before_an_export_is_skipped(folder: Path, many_users: bytes) -> None:
    (folder / "export.ndjson").write_bytes(BOM_UTF8 + many_users)
    assert run("import", "export.ndjson").code == 0


def test_an_import_that_is_killed_leaves_nothing(at: URL, many_users: bytes) -> None:
    with subprocess.Popen(
        [COMMAND, "import", "-"], env=environment(DATABASE_URL=plain(at)), stdin=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        process.stdin.write(lines_of(many_users))  # returns when all is read but what a pipe holds
        process.stdin.flush()
        process.kill()
    assert not any(contents(at).values())
    done = run_command("import", "-", typed=many_users.decode(), DATABASE_URL=plain(at))
    assert (done.code, done.output) == (0, f"{held(many_users)} imported\n")


@pytest.fixture(scope="module")
def many_users() -> bytes:
    """An export with more users than a batch, and more of them than a pipe holds."""
    header = {"format": "agora-export", "version": VERSIONS[-1], "last_ids": {"users": 0, "posts": 0, "sessions": 0}}
    user = {
        "username": None,
        "password_hash": "x" * 97,
        "role": "user",
        "is_active": True,
        "created_at": "2026-01-01T00:00:00.000000Z",
    }
    people = ({"user": {"id": number, "email": f"{number}@example.com", **user}} for number in range(1, 11_501))
    return sealed(b"".join(json.dumps(line).encode() + b"\n" for line in (header, *people)))


def test_a_bar_is_shown_on_a_terminal_only(at: URL, folder: Path) -> None:
    fill(at)
    exported = export(folder)
    terminal, other_end = pty.openpty()
    done = subprocess.run(
        [COMMAND, "export", "-"],
        env=environment(DATABASE_URL=plain(at)),
        stdout=subprocess.PIPE,
        stderr=other_end,
        check=True,
    )
    os.close(other_end)
    assert done.stdout == exported
    shown = os.read(terminal, 65_536)
    os.close(terminal)
    assert b"exporting" in shown
    assert b"100%" in shown
