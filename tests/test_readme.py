"""The README's transcript, executed verbatim against the real server."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import run
from tests.support.postgres import free_port
from tests.support.reaper import reaper_mark

README = Path(__file__).parent.parent / "README.md"
AGORA = Path(sys.executable).with_name("agora")
READY_SECONDS = 30
MARK = "---- end of the output ----"

pytestmark = pytest.mark.skipif(
    shutil.which("curl") is None or shutil.which("bash") is None,
    reason="the transcript needs curl and bash, and one of them is not installed",
)


def transcript() -> list[tuple[str, str]]:
    """Read the commands, each with its expected output. A backslash at the end continues a command."""
    (block,) = re.findall(r"^```console\n(.*?)^```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    steps = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    found = [re.match(r"(?:.*\\\n)*.*\n", step) for step in steps]
    return [(typed[0].strip(), step[typed.end() :]) for typed, step in zip(found, steps, strict=True) if typed]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Environment of a shell without the developer's configuration."""
    programs = f"{AGORA.parent}{os.pathsep}{os.environ['PATH']}"
    return {"PATH": programs, "HOME": str(tmp_path), "PYTHONUTF8": "1", **reaper_mark()}


@pytest.fixture
def address(tmp_path: Path, environment: dict[str, str]) -> Iterator[str]:
    """Serve on a fresh SQLite file, with no configuration."""
    subprocess.run([AGORA, "migrate"], cwd=tmp_path, env=environment, check=True, capture_output=True)
    port = free_port()
    log = tmp_path / "log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [AGORA, "serve", "--port", str(port)], cwd=tmp_path, env=environment, stdout=output, stderr=output
        ) as server,
    ):
        try:
            wait_until_live(server, port, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(timeout=READY_SECONDS)


def wait_until_live(server: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    until = time.monotonic() + READY_SECONDS
    while not is_live(port):
        if server.poll() is not None or time.monotonic() > until:
            pytest.fail(f"the server did not start:\n{log.read_text(encoding='utf-8')}")
        time.sleep(0.05)


def is_live(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health/live")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def comparable(output: str) -> list[Any]:
    """Parse an output line by line, as JSON where possible, with times masked."""
    return [parsed(re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", "<moment>", line)) for line in output.splitlines()]


def parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return line


def test_transcript_prints_what_the_readme_shows(tmp_path: Path, environment: dict[str, str], address: str) -> None:
    (first, nothing), *steps = transcript()
    assert (first, nothing) == ("AGORA=http://127.0.0.1:8000", "")
    script = [f"AGORA={address}"]
    for command, _ in steps:
        script += [command, f"echo '{MARK}'"]

    shell = subprocess.run(
        ["bash", "--noprofile", "--norc", "-c", "\n".join(script)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )

    assert (shell.returncode, shell.stderr) == (0, "")
    outputs = shell.stdout.split(f"{MARK}\n")[:-1]
    for (command, expected), output in zip(steps, outputs, strict=True):
        assert comparable(output) == comparable(expected), command


def test_demo_fills_a_file_of_its_own_after_the_transcript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    demo, serve = re.findall(r"^DATABASE_URL=.*", README.read_text(encoding="utf-8"), re.MULTILINE)
    found = re.fullmatch(r"DATABASE_URL=(sqlite:///(\S+)) \.venv/bin/agora demo", demo)
    assert found is not None
    assert serve.startswith(f"DATABASE_URL={found[1]} .venv/bin/agora serve")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", "")
    assert run("migrate").code == 0
    assert run("users", "create-admin", "--email", "ann@example.com", "--generate").code == 0

    monkeypatch.setenv("DATABASE_URL", found[1])
    done = run("demo", "--users", "5", "--posts", "5", "--votes", "5")

    assert done.output.startswith("5 users, 5 posts and 5 votes generated\n")
    assert (tmp_path / found[2]).exists()


def test_commands_of_the_readme_can_be_typed_as_they_stand() -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert [line for line in lines if not re.match(r"(make|export) |(DATABASE_URL=\S+ )?\.venv/bin/agora ", line)] == []


def test_transcript_covers_registration_to_sign_out() -> None:
    commands = "\n".join(command for command, _ in transcript())
    paths = ("/users", "/login", "/posts", "/vote", "/refresh", "/logout")

    assert [path for path in paths if f"$AGORA{path}" not in commands] == []
