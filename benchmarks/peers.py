"""Measured servers, on free loopback ports."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from itertools import islice
from pathlib import Path
from typing import Any, Final

import jwt
from sqlalchemy import URL

from application.views import Claims
from benchmarks.data import VOTERS
from infrastructure.tokens import JwtTokenCodec
from tests.support.command import COMMAND, environment, plain
from tests.support.postgres import free_port

ROOT: Final = Path(__file__).parents[1]
FASTIFY: Final = Path(__file__).with_name("fastify")
SECRET_KEY: Final = secrets.token_hex(32)
TOKEN_LIFETIME: Final = timedelta(days=1)
START_SECONDS: Final = 60
END_SECONDS: Final = 15


class PeerError(Exception):
    """A server cannot be measured."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A server's response."""

    status: int
    body: Any
    links: str


@dataclass(frozen=True, slots=True)
class Running:
    """A server that runs. Its tokens are in a file, one a line, of the first accounts."""

    name: str
    port: int
    process: int
    tokens: Path

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, body: object = None, *, caller: int = 1) -> Answer:
        """Send one request, as one of the accounts.

        Raises:
            PeerError: the answer is no JSON.
        """
        with self.tokens.open() as lines:
            token = next(islice(lines, caller - 1, None)).strip()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            whole = response.read()
        try:
            return Answer(response.status, json.loads(whole), response.headers.get("Link", ""))
        except ValueError:
            raise PeerError(f"{self.name} answered {method} {path} with {whole[:200]!r}") from None


@contextmanager
def agora(
    url: URL, folder: Path, workers: int = 1, name: str = "agora", settings: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """Run Agora as in production, throttling included; `settings` adds others."""
    settings = {
        **(settings or {}),
        "FASTAPI_ENV": "production",
        "DATABASE_URL": plain(url),
        "SECRET_KEY": SECRET_KEY,
        "ACCESS_TOKEN_EXPIRE_MINUTES": str(int(TOKEN_LIFETIME.total_seconds() // 60)),
        "LOG_LEVEL": "WARNING",
    }
    command: list[str | Path] = [COMMAND, "serve", "--workers", str(workers), "--port"]
    with _served(name, lambda port: [*command, str(port)], settings, folder, _sessions(folder)) as running:
        yield running


@contextmanager
def naive(url: URL, folder: Path) -> Iterator[Running]:
    """Run the naive application."""
    ends = datetime.now(UTC) + TOKEN_LIFETIME
    tokens = _written(
        folder / "naive.tokens", (jwt.encode({"sub": str(user), "exp": ends}, SECRET_KEY) for user in _voters())
    )
    settings = {"DATABASE_URL": plain(url), "SECRET_KEY": SECRET_KEY}
    command: list[str | Path] = [sys.executable, "-m", "uvicorn", "--app-dir", ROOT, "benchmarks.naive.app:app"]
    quiet = ["--no-access-log", "--log-level", "warning", "--port"]
    with _served("naive", lambda port: [*command, *quiet, str(port)], settings, folder, tokens) as running:
        yield running


@contextmanager
def fastify(url: URL, folder: Path) -> Iterator[Running]:
    """Run the server that is written by hand for Node."""
    settings = {
        "PGHOST": url.host or "",
        "PGPORT": str(url.port),
        "PGUSER": url.username or "",
        "PGPASSWORD": url.password or "",
        "PGDATABASE": url.database or "",
        "SECRET_KEY": SECRET_KEY,
        "NODE_ENV": "production",
    }
    with _served("fastify", lambda _: ["node", FASTIFY / "server.js"], settings, folder, _sessions(folder)) as running:
        yield running


def install_fastify() -> None:
    """Install what the server for Node needs, as its lock file pins it.

    Raises:
        PeerError: node or npm is missing, or npm failed.
    """
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise PeerError("Fastify is left out: it needs node and npm; on Debian: apt install npm")
    installed, lock = FASTIFY / "node_modules" / ".package-lock.json", FASTIFY / "package-lock.json"
    if installed.exists() and installed.stat().st_mtime > lock.stat().st_mtime:
        return
    done = subprocess.run(
        [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
        cwd=FASTIFY,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise PeerError(f"Fastify is left out: npm could not install what it needs\n{done.stderr}")


def require_agreement(peers: Sequence[Running], posts: int) -> None:
    """Require equal responses of all peers, so that ratios compare equal work.

    Raises:
        PeerError: two of them differ.
    """
    new = {"title": "The same title", "content": "The same content."}
    for status, method, path, body in (
        (200, "GET", "/posts?limit=10", None),
        (200, "GET", f"/posts/{posts // 2}", None),
        (200, "PUT", f"/posts/{posts // 3}/vote", {"dir": 1}),
        (200, "PUT", f"/posts/{posts // 3}/vote", {"dir": -1}),
        (201, "POST", "/posts", new),
    ):
        answers = [peer.ask(method, path, body) for peer in peers]
        for peer, answer in zip(peers, answers, strict=True):
            if answer.status != status:
                raise PeerError(f"{method} {path}: {peer.name} answers {answer.status}, not {status}")
            differing = set(_leaves(answer.body)) ^ set(_leaves(answers[0].body))
            names = {name for name, _ in differing} - ({"created_at", "updated_at"} if body is new else set())
            if names:
                raise PeerError(
                    f"{method} {path}: {peer.name} differs from {peers[0].name} in {', '.join(sorted(names))}"
                )


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Name every value in a JSON document by the way to it."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, repr(value)


def _voters() -> range:
    return range(1, VOTERS + 1)


def _sessions(folder: Path) -> Path:
    """Write the access tokens of the sessions that benchmarks/data.py opened."""
    codec = JwtTokenCodec(SECRET_KEY, None, "HS256", TOKEN_LIFETIME)
    now = datetime.now(UTC)
    return _written(
        folder / "sessions.tokens", (codec.issue(Claims(user, user), now).access_token for user in _voters())
    )


def _written(file: Path, lines: Iterable[str]) -> Path:
    if not file.exists():
        file.write_text("".join(f"{line}\n" for line in lines))
    return file


@contextmanager
def _served(
    name: str,
    command: Callable[[int], Sequence[str | Path]],
    settings: Mapping[str, str],
    folder: Path,
    tokens: Path,
) -> Iterator[Running]:
    port = free_port()
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command(port),
            cwd=folder,  # where no .env file lies
            env=environment(**settings, PORT=str(port)),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    running = Running(name, port, process.pid, tokens)
    try:
        until = time.monotonic() + START_SECONDS
        while not _answers(running):
            if process.poll() is not None or time.monotonic() > until:
                raise PeerError(f"{name} did not start:\n{log.read_text(errors='replace')}")
            time.sleep(0.05)
        yield running
    finally:
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _answers(running: Running) -> bool:
    try:
        return running.ask("GET", "/posts?limit=1").status == 200  # noqa: PLR2004 - HTTP's OK
    except OSError:
        return False
