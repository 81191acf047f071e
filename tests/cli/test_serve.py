"""The command `agora serve`: what it refuses, and the real server, as its own processes, on each database."""

import json
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx2
import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import URL, text

from infrastructure.database.engine import open_engine
from infrastructure.database.schema import config
from infrastructure.timeouts import DEFAULT_TIMEOUTS
from interfaces.server.worker import stop_listening
from tests.support.backends import empty
from tests.support.command import COMMAND, plain, run, run_command
from tests.support.preparations import (
    RESTART_SECONDS,
    break_installation,
    reload_from_the_current_folder,
    restart_workers_soon,
)
from tests.support.process import low_numbers_taken, wait_for_state
from tests.support.proxy import Proxy
from tests.support.servers import Server, serving, starting

HEAD = ScriptDirectory.from_config(config()).get_current_head()
CLIENTS = 8
GOOD_KEY = "0123456789abcdef" * 4
PRODUCTION: dict[str, Any] = {"FASTAPI_ENV": "production", "SECRET_KEY": GOOD_KEY}
ANN = {"email": "ann@example.com", "password": "Ann's password"}


def token_from(client: httpx2.Client) -> dict[str, str]:
    """Sign in, and put the token into the header that carries it."""
    answer = client.post("/login", data={"username": ANN["email"], "password": ANN["password"]})
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


# What is refused.


def test_production_does_not_start_without_a_key() -> None:
    assert "SECRET_KEY is missing" in run_command("serve", FASTAPI_ENV="production").refused_in_the_log()


def test_production_does_not_start_on_settings_that_cannot_be_read(folder: Path) -> None:
    (folder / ".env").write_text("FASTAPI_ENV=production\nTHREADS=many\n")
    assert "DATABASE_CONNECTIONS" in run_command("serve").refused_in_the_log()


def test_production_does_not_start_on_files_that_cannot_be_read(folder: Path) -> None:
    (folder / ".env").write_bytes(b"\xff")
    assert ".env cannot be read: " in run_command("serve", FASTAPI_ENV="production").refused_in_the_log()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"SECRET_KEY": "hunter2"}, "SECRET_KEY is shorter than 32 bytes"),
        ({"SECRET_KEY": "replace-me-with-the-output-of-openssl-rand-hex-32"}, "SECRET_KEY is a known sample"),
    ],
)
def test_production_does_not_start_on_weak_settings(values: dict[str, str], words: str) -> None:
    said = run_command("serve", FASTAPI_ENV="production", **values).refused_in_the_log()
    assert words in said
    assert values["SECRET_KEY"] not in said


def test_an_unmigrated_database_is_not_served(blank: URL) -> None:
    assert "run: agora migrate" in run_command("serve", DATABASE_URL=plain(blank)).refused()


@pytest.mark.parametrize("command", ["serve", "migrate"])
def test_a_schema_of_a_newer_release_is_not_touched(at: URL, command: str) -> None:
    engine = open_engine(at, connections=1)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    try:
        assert "newer than this release" in run_command(command, DATABASE_URL=plain(at)).refused()
    finally:
        with engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = :head"), {"head": HEAD})
        engine.dispose()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"password": "wrong"}, "password authentication failed"),
        ({"username": "stranger"}, "password authentication failed"),
        ({"database": "nowhere"}, 'database "nowhere" does not exist'),
    ],
)
def test_a_database_that_refuses_us_is_not_waited_for(
    database_of: Callable[[str], URL], wrong: dict[str, Any], words: str
) -> None:
    at = plain(database_of("postgres").set(**wrong))
    assert words in run_command("serve", DATABASE_URL=at).refused()
    assert words in run_command("serve", DATABASE_URL=at, **PRODUCTION).refused_in_the_log()


@contextmanager
def started_early(url: URL, workers: int = 1, **settings: Any) -> Iterator[tuple[Server, Event]]:
    """Start the server before its database, which comes up with the event."""
    is_up = Event()
    with (
        Proxy(lambda: url.port if is_up.is_set() else None) as way,
        starting(url.set(port=way.port), workers, **settings) as server,
    ):
        server.wait_until_it_says("waiting for the database")
        yield server, is_up


def test_a_database_that_is_not_up_yet_is_waited_for(database_of: Callable[[str], URL]) -> None:
    with started_early(database_of("postgres")) as (server, is_up):
        is_up.set()
        server.wait_until_started()
        assert httpx2.get(f"{server.address}/health/ready").status_code == 200
        assert server.end() == 0
    assert "Traceback" not in server.said


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_waits_for_its_database_can_be_ended(
    database_of: Callable[[str], URL], how: signal.Signals
) -> None:
    with started_early(database_of("postgres"), **PRODUCTION) as (server, _):
        assert server.end(how) == 0
    assert set(events(server)) == {"waiting for the database"}


def test_a_port_that_is_taken_is_one_line(at: URL) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = run_command("serve", "--port", str(port), DATABASE_URL=plain(at)).refused()
    assert "Address already in use" in said
    assert str(port) in said
    assert "choose another --port" in said


def test_an_address_that_is_not_ours_is_one_line(at: URL) -> None:
    words = ("serve", "--host", "192.0.2.1", "--port", "0")
    assert "cannot listen" in run_command(*words, DATABASE_URL=plain(at)).refused()


@pytest.mark.parametrize("words", [("--port", "-1"), ("--port", "65536"), ("--port", "http"), ("--workers", "0")])
def test_a_port_or_a_number_of_workers_that_cannot_be_is_a_wrong_call(words: tuple[str, str]) -> None:
    done = run_command("serve", *words)
    assert done.code == 2
    assert words[0] in done.errors


# What is logged in production, where each line is a JSON object, and what becomes of workers that cannot start.


def events(server: Server) -> list[str]:
    """Tell what each line of a server's log says, in production."""
    return [json.loads(line)["event"] for line in server.said.splitlines()]


BROKEN: dict[str, Any] = {"prepare": break_installation, **PRODUCTION}
"""Each process finds the installation broken."""


@pytest.mark.parametrize("workers", [1, 2])
def test_every_line_is_an_object_also_while_the_database_is_waited_for(
    database_of: Callable[[str], URL], workers: int
) -> None:
    with started_early(database_of("postgres"), workers, **PRODUCTION) as (server, is_up):
        is_up.set()
        server.wait_until_started()
        assert httpx2.get(f"{server.address}/health/ready").status_code == 200
        assert server.end() == 0
    assert events(server)[0] == "waiting for the database"
    assert "request" in events(server)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_of_which_nothing_can_start_ends_and_says_why(database_of: Callable[[str], URL], workers: int) -> None:
    with starting(database_of("sqlite"), workers, **BROKEN) as server:
        assert server.wait() == 1
    assert events(server).count("uncaught") == workers
    assert events(server).count("no worker is left") == workers - 1
    assert "builtins.ModuleNotFoundError" in server.said


def test_development_server_that_cannot_start_prints_a_traceback(database_of: Callable[[str], URL]) -> None:
    with starting(database_of("sqlite"), **BROKEN | {"FASTAPI_ENV": "development"}) as server:
        assert server.wait() == 1
    assert "ModuleNotFoundError: import of interfaces.server.protocol halted" in server.said


def test_failed_worker_is_restarted_while_the_others_serve(database_of: Callable[[str], URL], folder: Path) -> None:
    with serving(database_of("sqlite"), workers=2, prepare=restart_workers_soon, **PRODUCTION) as server:
        (folder / ".env").write_text("DATABASE_CONNECTIONS=0\n")
        os.kill(server.workers[0], signal.SIGKILL)
        server.wait_until_it_says("a worker failed", 2)
        assert httpx2.get(f"{server.address}/health/ready").status_code == 200
        (folder / ".env").unlink()
        server.wait_until_it_says("Application startup complete", 3)
        assert httpx2.get(f"{server.address}/health/ready").status_code == 200
        assert server.end() == 0
    lines = [json.loads(line) for line in server.said.splitlines()]
    assert all("DATABASE_CONNECTIONS" in line["reason"] for line in lines if line["event"] == "cannot serve")
    tries = [datetime.fromisoformat(line["timestamp"]) for line in lines if line["event"] == "a worker failed"]
    assert min(later - earlier for earlier, later in pairwise(tries)) >= timedelta(seconds=RESTART_SECONDS)
    assert events(server).count("a worker ended") == 1


# The real server.


def test_the_server_says_where_everything_is_serves_and_ends_well(at: URL) -> None:
    with serving(at) as server, httpx2.Client(base_url=server.address) as client:
        assert re.fullmatch(r"http://127\.0\.0\.1:[1-9]\d+", server.address)
        assert f"Docs  {server.address}/docs\n" in server.said
        place = f"the file {at.database}" if at.get_backend_name() == "sqlite" else at.render_as_string()
        assert f"Data  {place}\n" in server.said
        assert "SECRET_KEY is not set; one was generated" in server.said
        assert client.get("/health/live").json() == {"status": "ok"}
        assert client.get("/health/ready").json()["checks"] == {"database": "ok", "migrations": "ok"}
        assert client.get("/docs").status_code == 200
        assert client.post("/users", json=ANN).status_code == 201
        assert client.get("/profile", headers=token_from(client)).json()["email"] == ANN["email"]
        assert server.end() == 0
    assert "Traceback" not in server.said
    assert ANN["password"] not in server.said
    assert not at.password or at.password not in server.said


def test_changed_file_reloads_the_server_and_tokens_stay_valid(database_of: Callable[[str], URL], folder: Path) -> None:
    source = folder / "changed.py"
    source.touch()
    empty(database_of("sqlite"))
    with (
        serving(database_of("sqlite"), prepare=reload_from_the_current_folder, options=["--reload"]) as server,
        # The reloader says that it runs before the server it starts listens.
        httpx2.Client(base_url=server.address, timeout=60, transport=httpx2.HTTPTransport(retries=5)) as client,
    ):
        assert client.post("/users", json=ANN).status_code == 201
        token = token_from(client)
        modified = source.stat().st_mtime
        while "detected changes in 'changed.py'" not in server.said:
            modified += 1  # again until seen: the first look at a file only notes its time
            os.utime(source, (modified, modified))
        server.wait_until_it_says("Application startup complete", 2)
        assert client.get("/profile", headers=token).status_code == 200
        assert server.end() == 0
    assert "Traceback" not in server.said


@pytest.mark.parametrize(
    ("options", "settings", "reason"),
    [(["--workers", "2"], {}, "one worker"), ([], {"FASTAPI_ENV": "production"}, "for development")],
)
def test_reload_is_refused_where_it_does_not_belong(
    options: list[str], settings: dict[str, str], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    done = run("serve", "--reload", *options)
    assert done.code == 2
    assert reason in done.errors


@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_that_is_told_to_end_serves_on_and_is_not_ready(
    database_of: Callable[[str], URL], workers: int
) -> None:
    with (
        serving(database_of("sqlite"), workers, DRAIN_SECONDS="60") as server,
        httpx2.Client(base_url=server.address) as client,
    ):
        assert client.get("/health/ready").headers.get("Connection") is None
        os.killpg(server.process.pid, signal.SIGTERM)  # a worker is told twice: by its parent, too
        while (answer := client.get("/health/ready")).status_code == 200:
            pass
        assert (answer.status_code, answer.headers["Connection"]) == (503, "close")
        assert answer.json()["checks"] == {"database": "ok", "migrations": "ok", "server": "draining"}
        answer = client.get("/profile", headers={"Authorization": "Bearer x"})
        assert (answer.status_code, answer.headers["Connection"]) == (401, "close")
    assert "Traceback" not in server.said


def test_sighup_replaces_the_workers_without_a_failed_request(database_of: Callable[[str], URL]) -> None:
    statuses: list[int] = []

    def ask() -> None:
        with httpx2.Client(base_url=server.address, headers={"Connection": "close"}, timeout=30) as client:
            while not is_over.is_set():
                statuses.append(client.get("/health/live").status_code)

    with serving(database_of("sqlite"), workers=2) as server:
        before, is_over = set(server.workers), Event()
        clients = [Thread(target=ask) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        try:
            server.process.send_signal(signal.SIGHUP)
            server.wait_until_it_says("Finished server process", 2)
        finally:
            is_over.set()
            for client in clients:
                client.join()
        after = {int(worker) for worker in re.findall(r"Started server process \[(\d+)\]", server.said)} - before
        assert len(after) == 2
        assert httpx2.get(f"{server.address}/health/ready").status_code == 200
        assert server.end() == 0
    assert set(statuses) == {200}
    assert "Traceback" not in server.said


@pytest.mark.parametrize("drain", ["0", "1"])
def test_workers_whose_parent_was_killed_alone_leave(database_of: Callable[[str], URL], drain: str) -> None:
    with serving(database_of("sqlite"), workers=2, DRAIN_SECONDS=drain) as server:
        server.process.kill()
        server.wait()  # until no process is left that could log
    assert server.said.count("the parent is gone") == 2
    assert server.said.count("Finished server process") == 2
    assert "Traceback" not in server.said


def test_a_given_key_signs_across_restarts_and_is_not_warned_about(database_of: Callable[[str], URL]) -> None:
    at = database_of("sqlite")
    empty(at)
    with (
        serving(at, FASTAPI_ENV="production", SECRET_KEY=GOOD_KEY) as server,
        httpx2.Client(base_url=server.address) as client,
    ):
        assert client.post("/users", json=ANN).status_code == 201
        headers = token_from(client)
        assert server.end() == 0
    with serving(at, SECRET_KEY=GOOD_KEY) as server:
        assert httpx2.get(f"{server.address}/profile", headers=headers).status_code == 200
        assert server.end() == 0
    assert "warning" not in server.said
    assert GOOD_KEY not in server.said


def test_what_one_worker_signs_every_other_reads(at: URL) -> None:
    with serving(at, workers=2) as server:
        one, other = server.workers
        # A new connection for each request, so that any running worker accepts it.
        with httpx2.Client(base_url=server.address, headers={"Connection": "close"}, timeout=30) as client:
            assert client.post("/users", json=ANN).status_code == 201
            for signer, reader in ((one, other), (other, one)):
                with asleep(reader):
                    headers = token_from(client)
                with asleep(signer):
                    for _ in range(3):
                        assert client.get("/profile", headers=headers).status_code == 200
        assert server.end() == 0
    assert "Traceback" not in server.said


def test_all_workers_count_together_also_when_one_is_killed(database_of: Callable[[str], URL], folder: Path) -> None:
    with serving(database_of("sqlite"), workers=2, command=(COMMAND,), METRICS="true", TMPDIR=str(folder)) as server:
        one, other = server.workers
        with httpx2.Client(base_url=server.address, headers={"Connection": "close"}, timeout=30) as client:
            for sleeper in (one, other):
                with asleep(sleeper):
                    assert client.get("/health/ready").status_code == 200
            assert counted(client) == 2
            os.kill(one, signal.SIGKILL)
            server.wait_until_it_says("Application startup complete", 3)
            with asleep(other):
                assert client.get("/health/ready").status_code == 200
                assert counted(client) == 3
        assert [path.name for path in folder.glob("agora-metrics-*/gauge_livesum_*.db") if str(one) in path.name] == []
        assert server.end() == 0
    assert list(folder.glob("agora-metrics-*")) == []


def counted(client: httpx2.Client) -> float:
    """Tell how many times all workers together have said that they are ready."""
    line = 'agora_http_requests_total{method="GET",route="/health/ready",status="200"} '
    return float(client.get("/metrics").text.partition(line)[2].partition("\n")[0])


@contextmanager
def asleep(worker: int) -> Iterator[None]:
    """Stop a worker for a while; one that is just falling asleep could still take a connection with it."""
    os.kill(worker, signal.SIGSTOP)
    wait_for_state(worker, "T")
    try:
        yield
    finally:
        os.kill(worker, signal.SIGCONT)


def test_what_is_allowed_but_hardly_meant_is_warned_about_once(at: URL) -> None:
    short_key = GOOD_KEY[:32]
    with serving(
        at, workers=2, FASTAPI_ENV="production", SECRET_KEY=short_key, ALGORITHM="HS512", THROTTLE="false"
    ) as server:
        with httpx2.Client(base_url=server.address) as client:
            assert client.post("/users", json=ANN).status_code == 201
            assert client.get("/profile", headers=token_from(client)).status_code == 200
        assert server.end() == 0
    assert server.said.count("SECRET_KEY is shorter than the 64 bytes that HS512 asks for") == 1
    assert server.said.count("THROTTLE is off") == 1
    assert server.said.lower().count("warning") == 2
    assert short_key not in server.said


def test_without_settings_it_serves_a_file_in_its_folder_until_ctrl_c(folder: Path) -> None:
    assert run("migrate").code == 0
    with serving(URL.create("sqlite", database="agora.db"), command=(COMMAND,)) as server:
        assert f"Data  the file {folder / 'agora.db'}\n" in server.said
        assert httpx2.get(f"{server.address}/health/ready").status_code == 200
        assert server.end(signal.SIGINT) == 0


def test_a_socket_of_any_number_stops_listening() -> None:
    with low_numbers_taken(), socket.create_server(("127.0.0.1", 0)) as listener:
        assert listener.fileno() >= 1_024
        stop_listening(listener, DEFAULT_TIMEOUTS.backlog)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(listener.getsockname())
