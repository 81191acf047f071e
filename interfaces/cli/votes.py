"""Votes, from the command line: whether the counters on posts are true, and making them so."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

import typer

from application.views import Recount
from domain.votes import Tally
from interfaces.cli.common import examples, front_door

NAMED_MAX: Final = 20
"""Posts that are named one by one; a number tells the rest."""

app = typer.Typer(help="The counters on posts, against the votes.", no_args_is_help=True)


@app.callback()
def votes() -> None:
    """The counters on posts, against the votes."""


@app.command(epilog=examples("agora votes verify", "agora votes verify || agora votes repair"))
def verify() -> None:
    """Compare the counters, score and rank of every post with its votes. Writes nothing; safe while people vote."""
    with front_door() as agora:
        found = Recounted.watch(agora.queries.verify_votes())
    found.show()
    if found.wrong:
        typer.echo(f"agora: {found} disagree with their votes; run: agora votes repair", err=True)
        raise typer.Exit(1)
    typer.echo(f"{found} disagree with their votes")


@app.command(epilog=examples("agora votes repair"))
def repair() -> None:
    """Make the counters, score and rank of every post true again, from its votes. Safe while people vote."""
    with front_door() as agora:
        found = Recounted.watch(agora.commands.repair_votes())
    found.show()
    typer.echo(f"{found} disagreed with their votes and are repaired")


@dataclass(slots=True)
class Recounted:
    """How many posts were counted, how many of them were wrong, and the first of these."""

    posts: int = 0
    wrong: int = 0
    named: list[Recount] = field(default_factory=list)

    @classmethod
    def watch(cls, batches: Iterable[Sequence[Recount]]) -> Self:
        """Count the posts of all batches and those that disagree with their votes."""
        found = cls()
        for batch in batches:
            wrong = [recount for recount in batch if not recount.agrees]
            found.posts += len(batch)
            found.wrong += len(wrong)
            found.named += wrong[: NAMED_MAX - len(found.named)]
        return found

    def show(self) -> None:
        """Name the first posts that were wrong, one a line."""
        for recount in self.named:
            kept, counted = _said(recount.stored, recount.stored_hot), _said(recount.counted, recount.counted_hot)
            typer.echo(f"post {recount.post_id}: {kept}; its votes: {counted}")
        if self.wrong > len(self.named):
            typer.echo(f"and {self.wrong - len(self.named)} more")

    def __str__(self) -> str:
        return f"{self.wrong or 'none'} of {self.posts} posts"


def _said(tally: Tally, hot: float) -> str:
    return f"{tally.upvotes} up, {tally.downvotes} down, rank {hot:.4f}"
