"""The servers that are measured, each one process (or as many workers as asked for) on a free port of loopback."""

import http.client
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import jwt
from sqlalchemy import URL

from application.views import Claims
from benchmarks.data import VOTERS, Data
from benchmarks.databases import Databases
from benchmarks.naive.models import Base
from infrastructure.tokens import JwtTokenCodec
from tests.cli.command import COMMAND, environment, plain
from tests.postgres import free_port

ROOT: Final = Path(__file__).parents[1]
FASTIFY: Final = Path(__file__).with_name("fastify")
SECRET_KEY: Final = secrets.token_hex(32)
TOKEN_LIFETIME: Final = timedelta(days=1)
START_SECONDS: Final = 60
END_SECONDS: Final = 15


class PeerError(Exception):
    """A server did not start."""


@dataclass(frozen=True, slots=True)
class Running:
    """A server that runs."""

    name: str
    address: str
    process: int
    tokens: Path
    """A file of access tokens, one a line, each of another account."""


@contextmanager
def agora(url: URL, folder: Path, workers: int = 1, name: str = "agora") -> Iterator[Running]:
    """Run Agora as in production, throttling included."""
    settings = {
        "FASTAPI_ENV": "production",
        "DATABASE_URL": plain(url),
        "SECRET_KEY": SECRET_KEY,
        "ACCESS_TOKEN_EXPIRE_MINUTES": str(int(TOKEN_LIFETIME.total_seconds() // 60)),
        "LOG_LEVEL": "WARNING",
    }
    command = [COMMAND, "serve", "--workers", str(workers), "--port"]
    with _served(name, lambda port: [*command, str(port)], settings, folder, _tokens(folder)) as running:
        yield running


@contextmanager
def naive(url: URL, folder: Path) -> Iterator[Running]:
    """Run the naive application."""
    settings = {"DATABASE_URL": plain(url), "SECRET_KEY": SECRET_KEY}
    command = [sys.executable, "-m", "uvicorn", "--app-dir", ROOT, "benchmarks.naive.app:app"]
    quiet = ["--no-access-log", "--log-level", "warning", "--port"]
    ends = datetime.now(UTC) + TOKEN_LIFETIME
    tokens = _written(
        folder / "naive.tokens", (jwt.encode({"sub": str(user), "exp": ends}, SECRET_KEY) for user in _voters())
    )
    with _served("naive", lambda port: [*command, *quiet, str(port)], settings, folder, tokens) as running:
        yield running


@contextmanager
def fastify(url: URL, folder: Path) -> Iterator[Running]:
    """Run the server written by hand for Node."""
    settings = {
        "PGHOST": url.host or "",
        "PGPORT": str(url.port),
        "PGUSER": url.username or "",
        "PGPASSWORD": url.password or "",
        "PGDATABASE": url.database or "",
        "SECRET_KEY": SECRET_KEY,
        "NODE_ENV": "production",
    }
    node = shutil.which("node") or "node"
    command = [node, FASTIFY / "server.js"]
    with _served("fastify", lambda _: command, settings, folder, _tokens(folder)) as running:
        yield running


def install_fastify() -> None:
    """Install what the server for Node needs, as its lock file pins it.

    Raises:
        PeerError: node or npm is missing, or npm failed.
    """
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise PeerError("node or npm is missing, so Agora is not measured against Fastify; on Debian: apt install npm")
    installed, lock = FASTIFY / "node_modules" / ".package-lock.json", FASTIFY / "package-lock.json"
    if installed.exists() and installed.stat().st_mtime > lock.stat().st_mtime:
        return
    done = subprocess.run(  # noqa: S603 - our own arguments
        [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
        cwd=FASTIFY,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise PeerError(f"npm could not install what Fastify needs:\n{done.stderr}")


def _voters() -> range:
    return range(1, VOTERS + 1)


def _tokens(folder: Path) -> Path:
    codec = JwtTokenCodec(SECRET_KEY, None, "HS256", TOKEN_LIFETIME)
    now = datetime.now(UTC)
    return _written(folder / "tokens", (codec.issue(Claims(user, user), now).access_token for user in _voters()))


def _written(file: Path, lines: Iterator[str]) -> Path:
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
        process = subprocess.Popen(  # noqa: S603 - our own arguments
            command(port),
            cwd=folder,  # where no .env file lies
            env=environment(**settings, PORT=str(port)),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        until = time.monotonic() + START_SECONDS
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > until:
                raise PeerError(f"{name} did not start:\n{log.read_text(errors='replace')}")
            time.sleep(0.05)
        yield Running(name, f"http://127.0.0.1:{port}", process.pid, tokens)
    finally:
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/posts")
        connection.getresponse().read()
    except OSError:
        return False
    else:
        return True
    finally:
        connection.close()
