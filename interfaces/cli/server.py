"""Running the server, and what it stands on."""

import os
import signal
import socket
import sys
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Final

import structlog
import typer

from application.errors import Unavailable
from infrastructure.container import Container
from infrastructure.logs import configure_logs
from infrastructure.metrics import counting_together
from infrastructure.settings import Settings, is_production, masked, origin
from interfaces.cli.common import EXPECTED
from interfaces.cli.processes import Config, give_up, run_server

log = structlog.get_logger()

PROTOCOL = "interfaces.http.protocol:DeadlineProtocol" if find_spec("httptools") else "auto"

CLIENTS_MAX: Final = 1_000
"""Connections that one worker keeps open at once; more are told to come back."""

KEEP_ALIVE_SECONDS: Final = 5
"""How long a connection stays open between two requests; a proxy in front must close it earlier."""

SILENCE_SECONDS: Final = 15
"""How long a worker may say nothing to its parent before another takes its place: a slow machine starts it slowly."""

GRACE_SECONDS: Final = 10
"""How long requests at work may take when the server is told to end; whoever ends it must wait longer."""


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 picks a free one.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, help="Processes that serve.")] = 1,
) -> None:
    """Serve the API over HTTP."""
    for end in (signal.SIGINT, signal.SIGTERM):
        signal.signal(end, lambda *_: sys.exit())  # uvicorn ends in good order, then raises it once more
    if not is_production():
        _serve(host, port, workers)
        return
    configure_logs(Settings(fastapi_env="production"))  # from the first line on, whatever the other settings are worth
    try:
        _serve(host, port, workers)
    except EXPECTED as error:
        give_up(error)


def _serve(host: str, port: int, workers: int) -> None:
    container = Container()
    settings = container.settings()
    settings.require_servable()
    configure_logs(settings)
    migrations = container.migrations()
    migrations.when_up(migrations.require_current, lambda said: log.warning("waiting for the database", reason=said))
    port = _free_port(host, port)
    for warning in settings.warnings():
        log.warning(warning)
    if settings.secret_key is None:
        # Handed down, so that every worker reads every other's tokens.
        os.environ["SECRET_KEY"] = settings.signing_key()
    at = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    if settings.fastapi_env == "production":
        log.info("serving", api=at, data=_place(settings))
    else:
        typer.echo(f"API   {at}\nDocs  {at}/docs\nData  {_place(settings)}", err=True)
    with counting_together(workers) if settings.metrics else nullcontext():
        run_server(
            Config(
                settings,
                "interfaces.http.api:serve",
                factory=True,
                host=host,
                port=port,
                workers=workers,
                http=PROTOCOL,
                ws="none",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                limit_concurrency=CLIENTS_MAX,
                timeout_graceful_shutdown=GRACE_SECONDS,
                timeout_worker_healthcheck=SILENCE_SECONDS,
                log_config=None,
            )
        )


def migrate() -> None:
    """Bring the database's schema up to date. What is up to date stays as it is."""
    container = Container()
    migrations = container.migrations()
    migrations.when_up(migrations.upgrade, lambda said: typer.echo(f"waiting for the database: {said}", err=True))
    typer.echo(f"{_place(container.settings())} is up to date")


def show_settings() -> None:
    """Show every setting in force, and where it comes from; secrets are masked."""
    settings = Container().settings()
    rows = [(name.upper(), masked(value), origin(name)) for name, value in settings]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, value, source in rows:
        typer.echo(f"{name:<{widths[0]}}  {value:<{widths[1]}}  {source}")
    typer.echo(f"\nThe database is {_place(settings)}")


def _free_port(host: str, port: int) -> int:
    """Find the port to listen on, or say in one line why it cannot be: uvicorn would say it amid its log."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host, port), family=family) as probe:
            found: int = probe.getsockname()[1]
            return found
    except OSError as error:
        raise Unavailable(f"cannot listen: {error.strerror}") from None


def _place(settings: Settings) -> str:
    url = settings.url
    if url.get_backend_name() == "sqlite":
        return f"the file {Path(url.database or '').absolute()}"
    return url.set(query={}).render_as_string(hide_password=True)  # a query may hold a password too
