"""What is wrong, and what to do about it."""

from collections import Counter
from typing import Annotated, Final

import typer

from infrastructure.container import Container
from infrastructure.settings import SettingsError
from interfaces.cli.common import asking

COLOURS: Final = {"ok": typer.colors.GREEN, "warning": typer.colors.YELLOW, "problem": typer.colors.RED}


def doctor(
    workers: Annotated[int, typer.Option(min=1, help="Processes that serve, as agora serve is told.")] = 1,
) -> None:
    """Look at the settings, the files and the database, and say what is wrong and what to do about it.

    Nothing is changed, and no secret is shown. Problems end it with 1, warnings alone with 0.
    """
    found: Counter[str] = Counter()
    container = Container()
    try:
        examiner = container.doctor()
    except SettingsError as error:
        _show("problem", str(error))
        _show("warning", "nothing else was checked: the settings cannot be used")
        found["problem"] += 1
    else:
        with asking(container):
            for finding in examiner.examine(workers):
                _show(finding.level, finding.says, finding.remedy)
                found[finding.level] += 1
    if found["problem"]:
        typer.echo(f"agora: problems found: {found['problem']}", err=True)
        raise typer.Exit(1)


def _show(level: str, says: str, remedy: str = "") -> None:
    typer.echo(f"{typer.style(f'{level:<7}', fg=COLOURS[level])}  {says}")
    if remedy:
        typer.echo(f"         {remedy}")
