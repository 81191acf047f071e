"""Whole databases: filling one."""

import secrets
from typing import Annotated

import typer

from infrastructure.container import Container
from interfaces.cli.progress import progress


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
