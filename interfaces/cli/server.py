"""The commands that start the server and prepare its database."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from application.errors import Refused, Unavailable
from interfaces.bootstrap import new_container
from interfaces.cli.common import show_table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from infrastructure.settings import Settings


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; `::` for IPv6 and IPv4.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 picks a free one.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, help="Processes that serve.")] = 1,
    reload: Annotated[
        bool, typer.Option("--reload", help="Restart when the code changes; for development, with one worker.")
    ] = False,
) -> None:
    """Serve the API over HTTP."""
    from infrastructure.environment import is_production
    from infrastructure.logs import configure_logs
    from infrastructure.settings import Settings
    from interfaces.failures import EXPECTED, exit_with_error

    if reload and workers > 1:
        raise typer.BadParameter("--reload serves with one worker; leave out --workers")
    for end in (signal.SIGINT, signal.SIGTERM):
        signal.signal(end, lambda *_: sys.exit())  # uvicorn shuts down gracefully, then raises the signal again
    if not is_production():
        _serve(host, port, workers, reload=reload)
        return
    if reload:
        raise typer.BadParameter("--reload is for development, and FASTAPI_ENV is production")
    configure_logs(Settings(fastapi_env="production"))  # from the first line on, even if other settings are invalid
    try:
        _serve(host, port, workers, reload=False)
    except EXPECTED as error:
        exit_with_error(error)


def _serve(host: str, port: int, workers: int, *, reload: bool) -> None:
    import structlog

    from infrastructure.logs import configure_logs
    from infrastructure.prometheus import counting_together
    from interfaces.server.supervisor import run_server

    log = structlog.get_logger()
    container = new_container()
    settings = container.settings()
    settings.require_servable()
    configure_logs(settings)
    migrations = container.migrations()
    migrations.when_available(
        migrations.require_current, lambda reason: log.warning("waiting for the database", reason=reason)
    )
    port = _free_port(host, port)
    for warning in settings.warnings():
        log.warning(warning)
    if settings.secret_key is None:
        # Inherited by the workers: each accepts the tokens of the others.
        os.environ["SECRET_KEY"] = settings.signing_key()
    at = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    if settings.fastapi_env == "production":
        log.info("serving", api=at, data=_place(settings))
    else:
        docs = f"Docs  {at}/docs\n" if settings.api_docs else ""
        typer.echo(f"API   {at}\n{docs}Data  {_place(settings)}", err=True)
    with counting_together(workers) if settings.metrics else nullcontext():
        run_server(settings, container.timeouts(), host=host, port=port, workers=workers, reload=reload)


def migrate(
    to: Annotated[str | None, typer.Option(metavar="REVISION", help="Migrate up or down to this revision.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Revert steps without asking.")] = False,
) -> None:
    """Bring the database's schema up to date. What is up to date stays as it is."""
    container = new_container()
    migrations, place = container.migrations(), _place(container.settings())
    if to is None:
        done = migrations.when_available(migrations.upgrade, _show_wait)
        _show(done)
        typer.echo(f"{place} is up to date" if done else f"{place} was up to date already")
        return
    later = migrations.when_available(lambda: migrations.applied_after(to), _show_wait)
    if later:
        steps = ", ".join(later)
        question = f"{place}: revert {steps}, and lose the data that only these hold?"
        if not yes and not typer.confirm(question, err=True):
            raise Refused("nothing was reverted")
        _show(migrations.downgrade(to))
    else:
        _show(migrations.upgrade(to))
    typer.echo(f"{place} is at {to}")


def _show(steps: Iterable[str]) -> None:
    for step in steps:
        typer.echo(step)


def show_settings() -> None:
    """Show every setting in force, and where it comes from; secrets are masked."""
    from infrastructure.environment import origin
    from infrastructure.settings import masked

    settings = new_container().settings()
    place = _place(settings)
    show_table([(name.upper(), masked(value), origin(name)) for name, value in settings])
    typer.echo(f"\nThe database is {place}")


def show_openapi() -> None:
    """Write the OpenAPI document, without a database."""
    from interfaces.http.api import create_api
    from interfaces.http.openapi import as_text

    typer.echo(as_text(create_api(new_container()).openapi()))


def _show_wait(reason: str) -> None:
    typer.echo(f"waiting for the database: {reason}", err=True)


def _free_port(host: str, port: int) -> int:
    """Find the port to listen on, or fail in one line.

    uvicorn would bury the reason in its log.
    """
    import socket

    try:
        host.encode("idna")
    except UnicodeError:
        raise Unavailable("cannot listen: the host is neither a name nor an address") from None
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host, port), family=family) as probe:
            found: int = probe.getsockname()[1]
            return found
    except OSError as error:
        remedy = "choose another --port, or an address of this machine as --host"
        raise Unavailable(f"cannot listen: {error.strerror}; {remedy}") from None


def _place(settings: Settings) -> str:
    url = settings.url
    if url.get_backend_name() == "sqlite":
        return f"the file {Path(url.database or '').absolute()}"
    hosts = {name: url.query[name] for name in ("host", "port") if name in url.query}
    return url.set(query=hosts).render_as_string(hide_password=True)  # a query may contain a password too
