"""Accounts, from the command line."""

import secrets
import sys
from contextlib import closing
from typing import Annotated, BinaryIO

import typer

from infrastructure.container import Container
from interfaces.emails import require_email

app = typer.Typer(help="Accounts.", no_args_is_help=True)


@app.callback()
def users() -> None:
    """Accounts."""


def _email(text: str) -> str:
    try:
        return require_email(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _first_line(stream: BinaryIO) -> str:
    """Read a line, as UTF-8 wherever we are; what is none becomes what no password may hold."""
    return stream.readline().decode(errors="surrogateescape").removesuffix("\n").removesuffix("\r")


@app.command("create-admin")
def create_admin(
    email: Annotated[str, typer.Option(callback=_email, help="E-mail that the administrator signs in with.")],
    username: Annotated[str | None, typer.Option(help="Name that others see.")] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from the first line of standard input.")
    ] = False,
    generate: Annotated[bool, typer.Option("--generate", help="Make a password up, and print it.")] = False,
) -> None:
    """Open an administrator's account. Asks for the password, unless told where it comes from."""
    if password_stdin and generate:
        raise typer.BadParameter("--password-stdin and --generate exclude each other: choose one")
    container = Container()
    container.migrations().require_current()
    if generate:
        password = secrets.token_urlsafe(18)
    elif password_stdin:
        password = _first_line(sys.stdin.buffer)
    else:
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    with closing(container.database()):
        user = container.app().create_admin(email, password, username)
    typer.echo(f"administrator {user.email} created with id {user.id}")
    if generate:
        typer.echo(f"password: {password}")
