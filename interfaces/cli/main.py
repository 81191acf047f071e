"""The command `agora`. Exit codes: 0 done, 1 refused or failed with one clear line, 2 wrongly called."""

import sys

import typer

from interfaces.cli import data, doctor, server, users, votes
from interfaces.cli.common import EXPECTED, examples, reason

app = typer.Typer(
    help="Agora: a posts-and-votes backend.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("serve", epilog=examples("agora serve --host 0.0.0.0 --port 8000 --workers 4"))(server.serve)
app.command("migrate", epilog=examples("agora migrate"))(server.migrate)
app.command("settings", epilog=examples("agora settings"))(server.show_settings)
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
app.add_typer(users.app, name="users")
app.add_typer(votes.app, name="votes")


def main() -> None:
    """Run the command; what is refused ends with one line that says why."""
    try:
        app()
    except EXPECTED as error:
        sys.exit(f"agora: {reason(error)}")
