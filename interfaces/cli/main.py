"""The command `agora`.

Exit codes: 0 success, 1 refused or failed with one line, 2 wrong usage.
"""

import atexit
import gc
import os
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

import typer

from application.views import Counter
from interfaces.cli import counters, data, doctor, server, users
from interfaces.cli.common import examples

app = typer.Typer(
    help="Agora: a posts-and-votes backend.",
    no_args_is_help=True,
    rich_markup_mode=None,  # rich costs more to import than all else that help needs
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(is_asked: bool) -> None:
    if is_asked:
        from importlib.metadata import version

        typer.echo(f"agora {version('agora')}")
        raise typer.Exit


@app.callback()
def agora(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Agora: a posts-and-votes backend."""


app.command(epilog=examples("agora serve --host 0.0.0.0 --port 8000 --workers 4", "agora serve --reload"))(server.serve)
app.command(epilog=examples("agora migrate", "agora migrate --to 0003"))(server.migrate)
app.command("settings", epilog=examples("agora settings"))(server.show_settings)
app.command("openapi", epilog=examples("agora openapi > openapi.json"))(server.show_openapi)
app.command("doctor", epilog=examples("agora doctor", "agora doctor --workers 4"))(doctor.doctor)
app.command("demo", epilog=examples("agora demo", "agora demo --users 20000 --posts 300000 --votes 1000000 --seed 7"))(
    data.demo
)
app.command("export", epilog=examples("agora export backup.ndjson", "agora export - | gzip > backup.ndjson.gz"))(
    data.export
)
app.command("import", epilog=examples("agora import backup.ndjson", "gunzip < backup.ndjson.gz | agora import -"))(
    data.import_
)
app.command("adopt", epilog=examples("agora adopt", "agora adopt --apply"))(data.adopt)
app.command("distribute", epilog=examples("agora distribute", "agora distribute --shards 64 --yes"))(data.distribute)
app.add_typer(users.app, name="users")
for of in Counter:
    app.add_typer(counters.commands(of), name=of)


def main() -> None:
    """Run the command; an expected failure exits with one line."""
    # The collector would traverse all that is imported, many times meanwhile and once at exit: a quarter of a command.
    gc.set_threshold(20_000, 20, 20)
    atexit.register(gc.freeze)
    if sys.stdin is None:  # standard input is closed
        sys.stdin = Path(os.devnull).open()  # noqa: SIM115
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as Python does on standard error: a name is no failure
    try:
        app(prog_name="agora")
    except Exception as error:
        from interfaces.failures import EXPECTED, reason

        if not isinstance(error, EXPECTED):
            raise
        if isinstance(error, OSError):
            _discard_output()
        sys.exit(f"agora: {reason(error)}")


def _discard_output() -> None:
    """Discard output that Python would fail to write again when it exits."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
