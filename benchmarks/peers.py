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
from email.message import Message
from http.client import HTTPConnection
from itertools import islice
from pathlib import Path
from typing import Any, Final

import jwt
from sqlalchemy import URL

from application.views import Claims
from benchmarks.data import VOTERS
from benchmarks.databases import postmaster
from benchmarks.processes import ProcessorTime, family_seconds
from infrastructure.tokens import JwtTokenCodec
from tests.support.command import COMMAND, environment, plain
from tests.support.postgres import free_port

ROOT: Final = Path(__file__).parents[1]
NODE: Final = Path(__file__).with_name("node")
SECRET_KEY: Final = secrets.token_hex(32)
TOKEN_LIFETIME: Final = timedelta(days=1)
START_SECONDS: Final = 60
END_SECONDS: Final = 15


class PeerError(Exception):
    """A server cannot be measured."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A server's response; a body without content is None."""

    status: int
    body: Any
    headers: Message


@dataclass(frozen=True, slots=True)
class Running:
    """A server that runs. Its tokens are in a file, one a line, of the first accounts.

    `database` is the first of PostgreSQL's processes; SQLite has none.
    """

    name: str
    port: int
    process: int
    tokens: Path
    database: int | None = None

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        caller: int | None = 1,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request, as one of the accounts or as none.

        Raises:
            PeerError: the answer is no JSON.
        """
        sent = {**self._authorization(caller), "Content-Type": "application/json", **(headers or {})}
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request(method, path, None if body is None else json.dumps(body), sent)
            response = connection.getresponse()
            whole = response.read()
        try:
            return Answer(response.status, json.loads(whole) if whole else None, response.headers)
        except ValueError:
            raise PeerError(f"{self.name} answered {method} {path} with {whole[:200]!r}") from None

    def processor_time(self) -> ProcessorTime:
        """Return the processor time that it and its database have used."""
        database = family_seconds(self.database) if self.database else 0.0
        return ProcessorTime(family_seconds(self.process), database)

    def _authorization(self, caller: int | None) -> dict[str, str]:
        if caller is None:
            return {}
        with self.tokens.open() as lines:
            return {"Authorization": f"Bearer {next(islice(lines, caller - 1, None)).strip()}"}


@contextmanager
def agora(
    url: URL,
    folder: Path,
    workers: int = 1,
    name: str = "agora",
    settings: Mapping[str, str] | None = None,
    command: Path = COMMAND,
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
    words: list[str | Path] = [command, "serve", "--workers", str(workers), "--port"]
    with _served(name, lambda port: [*words, str(port)], settings, folder, _sessions(folder), url) as running:
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
    with _served("naive", lambda port: [*command, *quiet, str(port)], settings, folder, tokens, url) as running:
        yield running


@contextmanager
def fastify(
    url: URL, folder: Path, name: str = "fastify", settings: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """Run the server for Node; `settings` as fastify.js names them."""
    command: list[str | Path] = ["node", NODE / "fastify.js"]
    settings = {**_libpq(url), **(settings or {}), "NODE_ENV": "production"}
    with _served(name, lambda _: command, settings, folder, _sessions(folder), url) as running:
        yield running


@contextmanager
def bun(url: URL, folder: Path, name: str = "bun", settings: Mapping[str, str] | None = None) -> Iterator[Running]:
    """Run the server for Bun; `settings` as bun.js names them."""
    binary = next((NODE / "node_modules" / "@oven").glob("*/bin/bun"), None)
    if binary is None:
        raise PeerError("npm installed no Bun: there is none for this platform")
    command = [binary, NODE / "bun.js"]
    settings = {**_libpq(url), **(settings or {}), "NODE_ENV": "production"}
    with _served(name, lambda _: command, settings, folder, _sessions(folder), url) as running:
        yield running


def _libpq(url: URL) -> dict[str, str]:
    """Name a database by libpq's variables."""
    return {
        "PGHOST": url.host or "",
        "PGPORT": str(url.port),
        "PGUSER": url.username or "",
        "PGPASSWORD": url.password or "",
        "PGDATABASE": url.database or "",
        "SECRET_KEY": SECRET_KEY,
    }


def install_node_packages() -> None:
    """Install what the servers for Node and Bun need, as their lock file pins it.

    Raises:
        PeerError: node or npm is missing, or npm failed.
    """
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise PeerError(
            "the servers for Node and Bun need node and npm; on Debian: apt install npm; or leave them out by --peers"
        )
    installed, lock = NODE / "node_modules" / ".package-lock.json", NODE / "package-lock.json"
    if installed.exists() and installed.stat().st_mtime > lock.stat().st_mtime:
        return
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=NODE, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PeerError(f"npm could not install the servers for Node and Bun\n{done.stderr}")


def _voters() -> range:
    return range(1, VOTERS + 1)


def _sessions(folder: Path) -> Path:
    """Write the access tokens of the sessions that benchmarks/data.py opened."""
    codec = JwtTokenCodec([SECRET_KEY], "HS256", TOKEN_LIFETIME)
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
    url: URL,
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
    running = Running(name, port, process.pid, tokens, postmaster(url))
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
