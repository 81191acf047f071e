"""Checks of the settings, of their files, and of the way to the database."""

import os
import stat
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from shlex import quote

from sqlalchemy import URL

from infrastructure.operations.findings import Finding, ok, problem, warning
from infrastructure.operations.sqlite_files import is_open_to_others, is_reachable_file
from infrastructure.settings import DATABASE_PARTS, Settings


def check_env_files(settings: Settings) -> Iterator[Finding]:
    """Warn of `.env` files that every user of this machine can read."""
    for file in (Path(".env").absolute(), Path(f".env.{settings.fastapi_env}").absolute()):
        if is_reachable_file(file) and file.stat().st_mode & stat.S_IROTH and is_open_to_others(file.parent):
            yield warning(
                f"every user of this machine can read {file}, where secrets are", f"run: chmod o= {quote(str(file))}"
            )


def check_encryption(url: URL) -> Iterator[Finding]:
    """Warn of a connection over a network that does not verify the server's name."""
    host = str(url.host or url.query.get("host") or os.environ.get("PGHOST", ""))
    mode = str(url.query.get("sslmode") or os.environ.get("PGSSLMODE") or "prefer")
    remote = [each for each in host.split(",") if not _is_local(each)]
    if remote and mode != "verify-full":
        yield warning(
            f"the connection to {', '.join(remote)} can be read or redirected on the network: sslmode is {mode}",
            "add sslmode=verify-full to the parameters of DATABASE_URL after a ?, or set PGSSLMODE=verify-full in the"
            " environment; sslrootcert names the certificate authority",
        )


def _is_local(host: str) -> bool:
    try:
        return host in {"", "localhost"} or host.startswith("/") or ip_address(host).is_loopback
    except ValueError:  # a name
        return False


def check_settings(settings: Settings) -> Iterator[Finding]:
    """Check the settings: what production refuses, and what is probably unintended."""
    production = settings.fastapi_env == "production"
    weaknesses = settings.weaknesses()
    for weakness in weaknesses:
        says, _, remedy = weakness.partition(": ")
        if production:
            yield problem(says, remedy)
        else:
            yield warning(f"{says}, which production refuses", remedy)
    parts = [name for name in DATABASE_PARTS if getattr(settings, name.lower()) is not None]
    if settings.database_url is not None and parts:
        yield warning(
            f"{', '.join(parts)} have no effect while DATABASE_URL is set",
            "remove either of them",
        )
    named = {weakness.partition(" ")[0] for weakness in weaknesses}
    warnings = [said for said in settings.warnings() if said.partition(" ")[0] not in named]
    for found in warnings:
        says, _, remedy = found.partition("; ")
        yield warning(says, remedy)
    if not weaknesses and not warnings:
        yield ok(f"the settings are fit for use; FASTAPI_ENV is {settings.fastapi_env}")
