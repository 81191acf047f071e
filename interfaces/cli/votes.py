"""Commands that verify and repair the counters on posts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final, Self

import typer

from application.views import Recount
from domain.votes import Tally
from interfaces.bootstrap import open_app
from interfaces.cli.common import examples

NAMED_MAX: Final = 20
"""Posts that are listed; the others are counted."""

app = typer.Typer(help="Counters on posts, compared with the votes.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def votes() -> None:
    """Counters on posts, compared with the votes."""


@app.command(epilog=examples("agora votes verify", "agora votes verify --repair"))
def verify(
    is_repairing: Annotated[bool, typer.Option("--repair", help="Correct what disagrees.")] = False,
) -> None:
    """Compare the counters, score and rank of every post with its votes.

    Safe while people vote.
    """
    if is_repairing:
        repair()
        return
    with open_app() as agora:
        found = Recounted.watch(agora.queries.verify_votes())
    found.show()
    if found.wrong:
        typer.echo(f"agora: {found} disagree with their votes; run: agora votes verify --repair", err=True)
        raise typer.Exit(1)
    typer.echo(f"{found} disagree with their votes")


@app.command(epilog=examples("agora votes repair"))
def repair() -> None:
    """Correct the counters, score and rank of every post.

    The same as agora votes verify --repair.
    """
    with open_app() as agora:
        found = Recounted.watch(agora.commands.repair_votes())
    found.show()
    typer.echo(f"{found} disagreed with their votes and are repaired")


@dataclass(slots=True)
class Recounted:
    """Numbers of posts counted and wrong, and the first wrong ones."""

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
        """List the first wrong posts."""
        for recount in self.named:
            kept, counted = (
                _tally_text(recount.stored, recount.stored_hot),
                _tally_text(recount.counted, recount.counted_hot),
            )
            typer.echo(f"post {recount.post_id}: {kept}; its votes: {counted}")
        if self.wrong > len(self.named):
            typer.echo(f"and {self.wrong - len(self.named)} more")

    def __str__(self) -> str:
        return f"{self.wrong or 'none'} of {self.posts} posts"


def _tally_text(tally: Tally, hot: float) -> str:
    return f"{tally.upvotes} up, {tally.downvotes} down, rank {hot:.4f}"
