"""Commands that verify and repair the counters on posts."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from itertools import chain
from typing import Annotated, Final

import typer

from application.views import Counter, Recount
from interfaces.bootstrap import migrated_container
from interfaces.cli.common import examples

NAMED_MAX: Final = 20
"""Posts that are listed; the others are counted."""


def commands(of: Counter) -> typer.Typer:
    """Build the commands of one counter."""
    app = typer.Typer(help=f"Counters on posts, compared with the {of}.", no_args_is_help=True, rich_markup_mode=None)

    @app.command(epilog=examples(f"agora {of} verify", f"agora {of} verify --repair"))
    def verify(
        is_repairing: Annotated[bool, typer.Option("--repair", help="Correct what disagrees.")] = False,
    ) -> None:
        """Compare the counters of every post with the rows that they count.

        Safe while people write.
        """
        if is_repairing:
            repair()
            return
        container = migrated_container()
        with closing(container.database()):
            wrong, found = _show(container.counters().verify(of), of)
        if wrong:
            typer.echo(f"agora: {found} disagree with their {of}; run: agora {of} verify --repair", err=True)
            raise typer.Exit(1)
        typer.echo(f"{found} disagree with their {of}")

    @app.command(epilog=examples(f"agora {of} repair"))
    def repair() -> None:
        """Correct the counters of every post.

        The same as verify --repair.
        """
        container = migrated_container()
        with closing(container.database()):
            _, found = _show(container.counters().repair(of), of)
        typer.echo(f"{found} disagreed with their {of} and are repaired")

    return app


def _show(batches: Iterable[Sequence[Recount]], of: Counter) -> tuple[int, str]:
    """List the first posts that disagree; return the number, alone and in words."""
    posts = wrong = 0
    for recount in chain.from_iterable(batches):
        posts += 1
        if not recount.agrees:
            wrong += 1
            if wrong <= NAMED_MAX:
                typer.echo(f"post {recount.post_id}: {_text(recount.stored)}; its {of}: {_text(recount.counted)}")
    if wrong > NAMED_MAX:
        typer.echo(f"and {wrong - NAMED_MAX} more")
    return wrong, f"{wrong or 'none'} of {posts} posts"


def _text(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
