"""The command that checks an installation."""

from contextlib import closing
from typing import Annotated, Final

import typer

from interfaces.bootstrap import new_container

COLOURS: Final = {"ok": typer.colors.GREEN, "warning": typer.colors.YELLOW, "problem": typer.colors.RED}


def doctor(
    workers: Annotated[int, typer.Option(min=1, help="Processes that serve, as in agora serve.")] = 1,
    count_votes: Annotated[
        bool, typer.Option("--votes", help="Also compare the counters of every post with its votes.")
    ] = False,
) -> None:
    """Check settings, files and database, and show findings with remedies.

    It changes nothing and shows no secret. The exit code is 1 if there is a problem, and 0 otherwise.
    """
    from infrastructure.settings import SettingsError

    problems = 0
    container = new_container()
    try:
        examiner = container.doctor()
    except SettingsError as error:
        _show("problem", str(error))
        _show("warning", "nothing else was checked: the settings cannot be used")
        problems = 1
    else:
        with closing(container.database()):
            for finding in examiner.examine(workers, count_votes=count_votes):
                _show(finding.level, finding.says, finding.remedy)
                problems += finding.level == "problem"
    if problems:
        typer.echo(f"agora: problems found: {problems}", err=True)
        raise typer.Exit(1)


def _show(level: str, says: str, remedy: str = "") -> None:
    typer.echo(f"{typer.style(f'{level:<7}', fg=COLOURS[level])}  {says}")
    if remedy:
        typer.echo(f"         {remedy}")
