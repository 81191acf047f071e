"""Whole databases: filling one, moving one through a file, taking one over."""

import os
import secrets
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Annotated, Final

import typer

from application.errors import Refused
from infrastructure.container import Container
from interfaces.cli.progress import progress

STANDARD: Final = "-"
"""Names standard input or output instead of a file."""


def demo(
    users: Annotated[int, typer.Option(min=1, help="People to invent.")] = 1_000,
    posts: Annotated[int, typer.Option(min=0, help="Posts to invent; one in twenty is a draft.")] = 10_000,
    votes: Annotated[
        int, typer.Option(min=0, help="Votes to invent, at most one by each person on each post.")
    ] = 100_000,
    seed: Annotated[int, typer.Option(help="Number that decides what is invented.")] = 1,
) -> None:
    """Fill an empty database with invented people, posts and votes, to look at and to measure with.

    Everybody in it has the same password, which is made up and printed.
    """
    container = Container()
    container.migrations().require_current()
    password = secrets.token_urlsafe(18)
    with progress("inventing") as show:
        email = container.demo().fill(users, posts, votes, seed, password, show)
    typer.echo(f"{users} people, {posts} posts and {votes} votes invented")
    typer.echo(f"sign in as {email}, or as anybody else of them, with the password: {password}")


def export(
    file: Annotated[str, typer.Argument(help="File to write, or - for standard output.")],
) -> None:
    """Write the whole instance into a file, from which it can be imported into a database of either kind.

    Users, posts and votes are in it; sessions are not. It holds password hashes: keep it as safe as the database.
    """
    container = Container()
    container.migrations().require_current()
    with _writing(file) as out, progress("exporting") as show:
        counts = container.archive().export(out, show)
    typer.echo(f"{_said(counts)} exported", err=file == STANDARD)


def import_(
    file: Annotated[str, typer.Argument(help="File to read, or - for standard input.")],
) -> None:
    """Read an exported instance into an empty database: all of it, or nothing.

    Ids, passwords and counters stay as they are. Everybody has to sign in anew.
    """
    container = Container()
    container.migrations().require_current()
    with _reading(file) as (source, size), progress("importing") as show:
        counts = container.archive().restore(source, size, show)
    typer.echo(f"{_said(counts)} imported")


def adopt(
    apply: Annotated[bool, typer.Option("--apply", help="Do it, instead of only saying what it would do.")] = False,
) -> None:
    """Make the database of the public FastAPI course's application Agora's, in place.

    Without --apply it only says what it would do, and what stands in the way.
    """
    adoption = Container().adoption()
    if apply:
        with progress("adopting") as show:
            survey = adoption.adopt(show)
    else:
        survey = adoption.survey()
    for obstacle in survey.obstacles:
        typer.echo(obstacle)
    if survey.obstacles:
        raise Refused(
            "what is listed above stands in the way, and nothing was changed; settle it, then run agora adopt again"
        )
    typer.echo(
        "{users} users, {posts} posts and {votes} votes".format_map(survey.counts)
        + (" are Agora's now" if apply else " can become Agora's")
    )
    typer.echo("ids and passwords stay; votes count as upvotes; nobody is an administrator")
    if survey.phone_numbers:
        typer.echo(f"phone numbers go, {survey.phone_numbers} in all: Agora keeps none")
    if not apply:
        typer.echo("nothing was changed; to do it, stop what uses the database and run: agora adopt --apply")


@contextmanager
def _writing(name: str) -> Iterator[IO[bytes]]:
    """Open a file that will be there when it is whole, and until then is what it was before."""
    try:
        if name == STANDARD:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
            return
        path = Path(name).resolve()
        if path.exists() and not path.is_file():  # a device or a pipe: nothing to put another file in the place of
            with path.open("wb") as out:
                yield out
            return
        with (
            _ended_in_order(),
            NamedTemporaryFile(dir=path.parent, prefix=f"{path.name}.", suffix=".part", delete=False) as part,
        ):
            try:
                yield part
                part.flush()
                os.fsync(part.fileno())
                Path(part.name).replace(path)
            except BaseException:
                Path(part.name).unlink()
                raise
    except BrokenPipeError:  # whoever read it had enough, which is known without being told
        raise
    except OSError as error:
        raise Refused(f"cannot write {name}: {error.strerror}") from error


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """Leave the block as by any exception when the process is told to end, instead of ending where it stands."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _reading(name: str) -> Iterator[tuple[IO[bytes], int]]:
    """Open a file, and tell its size, which is 0 where nobody knows it."""
    try:
        if name == STANDARD:
            yield sys.stdin.buffer, 0
            return
        with Path(name).open("rb") as source:
            yield source, os.fstat(source.fileno()).st_size
    except OSError as error:
        raise Refused(f"cannot read {name}: {error.strerror}") from error


def _said(counts: Mapping[str, int]) -> str:
    return f"{counts['user']} users, {counts['post']} posts and {counts['vote']} votes"
