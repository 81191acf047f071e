"""Commands for whole databases: demo, export, import, adopt, distribute."""

import os
import secrets
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Annotated, Final

import typer

from application.errors import Refused
from interfaces.bootstrap import fillable_container, migrated_container, new_container

STANDARD: Final = "-"
"""Standard input or output instead of a file."""


def demo(
    users: Annotated[int, typer.Option(min=1, help="Users to generate.")] = 1_000,
    posts: Annotated[int, typer.Option(min=0, help="Posts to generate; one in twenty is a draft.")] = 10_000,
    votes: Annotated[
        int, typer.Option(min=0, help="Votes to generate, at most one per user and published post.")
    ] = 100_000,
    seed: Annotated[int, typer.Option(help="Seed of the random numbers.")] = 1,
) -> None:
    """Fill an empty database with generated users, posts and votes.

    For demonstrations and measurements.

    All users have the same generated password, which is printed.
    """
    container = fillable_container()
    password = secrets.token_urlsafe(18)
    with progress("generating") as show:
        email = container.demo().fill(users, posts, votes, seed, password, show)
    typer.echo(f"{users} users, {posts} posts and {votes} votes generated")
    typer.echo(f"sign in as {email}, or as any other user, with the password: {password}")


def export(
    file: Annotated[str, typer.Argument(help="File to write, or - for standard output.")],
) -> None:
    """Write users, posts and votes to a file that either database can import.

    It holds no sessions. It holds password hashes: keep it as safe as the database.
    """
    container = migrated_container()
    with writing(file) as out, progress("exporting") as show:
        counts = container.archive().export(out, show)
    typer.echo(f"{_row_counts(counts)} exported", err=file == STANDARD)


def import_(
    file: Annotated[str, typer.Argument(help="File to read, or - for standard input.")],
) -> None:
    """Read an exported file into an empty database: all of it, or nothing.

    Ids, passwords and counters stay as they are. All users have to sign in again.
    """
    container = fillable_container()
    with _reading(file) as (source, size), progress("importing") as show:
        counts = container.archive().restore(source, size, show)
    typer.echo(f"{_row_counts(counts)} imported")


def adopt(
    apply: Annotated[bool, typer.Option("--apply", help="Adopt the database, instead of only checking it.")] = False,
) -> None:
    """Adopt the database of the public FastAPI course's application, in place.

    Without --apply it only checks the database and lists the obstacles.
    """
    adoption = new_container().adoption()
    if apply:
        with progress("adopting") as show:
            survey = adoption.adopt(show)
    else:
        survey = adoption.survey()
    for obstacle in survey.obstacles:
        typer.echo(obstacle)
    if survey.obstacles:
        raise Refused(
            "the obstacles above prevent the adoption, and nothing was changed; remove them, then run agora adopt again"
        )
    typer.echo(
        "{users} users, {posts} posts and {votes} votes".format_map(survey.counts)
        + (" are Agora's now" if apply else " can become Agora's")
    )
    typer.echo("ids and passwords stay; votes count as upvotes; no account is an administrator")
    if survey.phone_numbers:
        typer.echo(f"{survey.phone_numbers} phone numbers are dropped: Agora stores none")
    if not apply:
        typer.echo("nothing was changed; to adopt it, stop all that uses the database and run: agora adopt --apply")


def distribute(
    shards: Annotated[int, typer.Option(min=1, help="Shards of each distributed table.")] = 32,
    yes: Annotated[bool, typer.Option("--yes", help="Distribute without asking.")] = False,
) -> None:
    """Distribute the database over the machines of a Citus cluster.

    What is distributed stays as it is. Requests that use a table wait until its rows are on their nodes, so stop the
    servers before.
    """
    distribution = migrated_container().distribution()
    steps = distribution.steps(shards)
    if not steps:
        typer.echo("the database is distributed already")
        return
    for step in steps:
        typer.echo(step)
    if not yes and not typer.confirm("distribute the database so?", err=True):
        raise Refused("nothing was distributed")
    distribution.apply(shards)
    typer.echo("the database is distributed; start the servers, or restart those that run")


@contextmanager
def progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on a terminal; elsewhere nothing.

    It is updated by the number done and the total.
    """
    with typer.progressbar(length=1, label=label, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:

        def show(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        yield show


@contextmanager
def writing(name: str, sync: Callable[[int], None] = os.fsync) -> Iterator[IO[bytes]]:
    """Open a file, which replaces the former one when it is whole and on disk."""
    try:
        if name == STANDARD:
            if sys.stdout is None:
                raise Refused("cannot write -: standard output is closed")
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
            return
        path = Path(name).resolve()
        if path.exists() and not path.is_file():  # a device or a pipe cannot be replaced
            with path.open("wb") as out:
                yield out
            return
        with (
            _exit_on_sigterm(),
            NamedTemporaryFile(dir=path.parent, prefix=f"{path.name}.", suffix=".part", delete=False) as part,
        ):
            try:
                yield part
                part.flush()
                sync(part.fileno())
                Path(part.name).replace(path)
            except BaseException:
                Path(part.name).unlink()
                raise
    except BrokenPipeError:  # the reader closed the pipe: no message
        raise
    except OSError as error:
        raise Refused(f"cannot write {name}: {error.strerror}") from error


@contextmanager
def _exit_on_sigterm() -> Iterator[None]:
    """Raise SystemExit at SIGTERM, so that the block cleans up."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _reading(name: str) -> Iterator[tuple[IO[bytes], int]]:
    """Open a file and return its size, 0 if unknown."""
    try:
        if name == STANDARD:
            yield sys.stdin.buffer, 0
            return
        with Path(name).open("rb") as source:
            yield source, os.fstat(source.fileno()).st_size
    except OSError as error:
        raise Refused(f"cannot read {name}: {error.strerror}") from error


def _row_counts(counts: Mapping[str, int]) -> str:
    *kinds, last = (f"{count} {kind}s" for kind, count in counts.items())
    return f"{', '.join(kinds)} and {last}"
