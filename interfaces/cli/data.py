"""Whole databases: filling one, and moving one through a file."""

import os
import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Annotated, Final

import typer

from application.ports import Refused
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
        with NamedTemporaryFile(dir=path.parent, prefix=f"{path.name}.", suffix=".part", delete=False) as part:
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
