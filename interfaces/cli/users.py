"""Commands for accounts. They act as the operator, who needs no account."""

import secrets
import sys
from codecs import BOM_UTF8
from typing import Annotated, BinaryIO, Final

import typer

from application.errors import Refused
from application.paging import Window
from application.views import UserView
from domain.text import is_storable
from domain.users import OPERATOR, Role
from interfaces.bootstrap import open_app
from interfaces.cli.common import examples, show_table, visible

ROWS_MAX: Final = 2**31 - 1
"""Limit of `--limit` and `--skip`: operators may list all accounts."""

app = typer.Typer(help="Accounts.", no_args_is_help=True, rich_markup_mode=None)
sessions = typer.Typer(help="Sessions of accounts.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(sessions, name="sessions")


def _email(text: str) -> str:
    from interfaces.emails import require_email

    try:
        return require_email(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _storable(text: str) -> str:
    if not is_storable(text):
        raise typer.BadParameter("the text is not valid UTF-8")
    return text


def _account(text: str) -> int | str:
    """Parse an account: digits are an id, a text with @ is an e-mail."""
    if text.isascii() and text.isdigit():
        return int(text[:40])  # out of range already; Python parses at most 4,300 digits
    if "@" in text and is_storable(text):
        return text
    raise typer.BadParameter("name an account by its id, like 7, or its e-mail, like ann@example.com")


Who = Annotated[str, typer.Argument(parser=_account, metavar="WHO", help="The account: its id or its e-mail.")]


def _first_line(stream: BinaryIO) -> str:
    """Read a line of UTF-8 in any locale, without a byte order mark.

    Other bytes become characters that no password may contain.
    """
    line = stream.readline().removeprefix(BOM_UTF8)
    return line.decode(errors="surrogateescape").removesuffix("\n").removesuffix("\r")


PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from the first line of standard input.")
]
Generate = Annotated[bool, typer.Option("--generate", help="Generate a password, and print it.")]


def _require_one_source(password_stdin: bool, generate: bool) -> None:
    if password_stdin and generate:
        raise typer.BadParameter("--password-stdin and --generate exclude each other: choose one")


def _password(password_stdin: bool, generate: bool) -> str:
    """Take a new password from its source: generated, standard input or a prompt."""
    if generate:
        return secrets.token_urlsafe(18)
    if password_stdin:
        return _first_line(sys.stdin.buffer)
    try:
        asked: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    except typer.Abort:
        if sys.stdin.isatty():  # the user ended the prompt
            raise
        raise Refused("no password was entered; name its source: --password-stdin or --generate") from None
    return asked


@app.command(
    "create-admin",
    epilog=examples(
        "agora users create-admin --email root@example.com",
        "agora users create-admin --email root@example.com --password-stdin < password.txt",
    ),
)
def create_admin(
    email: Annotated[str, typer.Option(callback=_email, help="E-mail that the administrator signs in with.")],
    username: Annotated[str | None, typer.Option(help="Name that others see.")] = None,
    password_stdin: PasswordStdin = False,
    generate: Generate = False,
) -> None:
    """Open an administrator's account.

    Prompts for the password unless an option sets its source.
    """
    _require_one_source(password_stdin, generate)
    with open_app() as agora:
        password = _password(password_stdin, generate)
        user = agora.commands.create_admin(email, password, username)
    typer.echo(f"administrator {user.email} created with id {user.id}")
    if generate:
        typer.echo(f"password: {password}")


@app.command(
    "set-password",
    epilog=examples(
        "agora users set-password --email ann@example.com",
        "agora users set-password --email ann@example.com --generate",
    ),
)
def set_password(
    email: Annotated[str, typer.Option(callback=_storable, help="E-mail of the account.")],
    password_stdin: PasswordStdin = False,
    generate: Generate = False,
) -> None:
    """Set the password of an account that lost it, and end all its sessions.

    Prompts for the password unless an option sets its source.
    """
    _require_one_source(password_stdin, generate)
    with open_app() as agora:
        user = agora.queries.get_account(OPERATOR, email).profile
        password = _password(password_stdin, generate)
        agora.commands.set_password(OPERATOR, user.id, password)
    typer.echo(visible(f"{user.email} has a new password, and all its sessions have ended"))
    if generate:
        typer.echo(f"password: {password}")


@app.command(
    "list",
    epilog=examples("agora users list", "agora users list --search ann", "agora users list --limit 20 --skip 40"),
)
def list_users(
    search: Annotated[
        str, typer.Option(callback=_storable, help="Text to find in e-mails and usernames; empty finds all.")
    ] = "",
    limit: Annotated[int, typer.Option(min=1, max=ROWS_MAX, help="Accounts to show, at most.")] = 50,
    skip: Annotated[int, typer.Option(min=0, max=ROWS_MAX, help="Accounts to leave out first.")] = 0,
) -> None:
    """List accounts by id, one per line.

    Id, e-mail, username, role, state and date of creation.
    """
    with open_app() as agora:
        page = agora.queries.list_users(OPERATOR, search, Window(limit, skip))
    show_table([_row(user) for user in page.items])
    if page.last:
        typer.echo(f"there are more: --skip {skip + limit}", err=True)


@app.command(epilog=examples("agora users show 7", "agora users show ann@example.com"))
def show(who: Who) -> None:
    """Show one account and its sessions."""
    with open_app() as agora:
        account = agora.queries.get_account(OPERATOR, who)
    user = account.profile
    show_table(
        [
            ("id", str(user.id)),
            ("email", user.email),
            ("username", user.username or "-"),
            ("role", user.role),
            ("active", "yes" if user.is_active else "no"),
            ("created", f"{user.created_at:%Y-%m-%d %H:%M:%S}Z"),
            ("sessions", str(len(account.sessions))),
        ]
    )
    for session in account.sessions:
        used = f"{session.last_used_at:%Y-%m-%d %H:%M:%S}Z"
        typer.echo(visible(f"  session {session.id}, last used {used}: {session.user_agent or '-'}"))


@app.command(epilog=examples("agora users promote ann@example.com"))
def promote(who: Who) -> None:
    """Give an account the administrator's role."""
    _edit(who, "is an administrator", role=Role.ADMIN)


@app.command(epilog=examples("agora users demote ann@example.com"))
def demote(who: Who) -> None:
    """Remove the administrator's role from an account.

    The last active administrator keeps it.
    """
    _edit(who, "is no administrator", role=Role.USER)


@app.command(epilog=examples("agora users deactivate 7"))
def deactivate(who: Who) -> None:
    """Forbid an account to sign in, and end all its sessions.

    The last active administrator stays active.
    """
    _edit(who, "is deactivated, and all its sessions have ended", is_active=False)


@app.command(epilog=examples("agora users activate 7"))
def activate(who: Who) -> None:
    """Allow a deactivated account to sign in again."""
    _edit(who, "is active", is_active=True)


@sessions.command(epilog=examples("agora users sessions end ann@example.com"))
def end(who: Who) -> None:
    """End all sessions of an account: its tokens stop working at once.

    It may sign in again.
    """
    with open_app() as agora:
        user = agora.queries.get_account(OPERATOR, who).profile
        agora.commands.end_sessions(OPERATOR, user.id)
    typer.echo(visible(f"all sessions of {user.email} have ended"))


def _edit(who: int | str, outcome: str, *, role: Role | None = None, is_active: bool | None = None) -> None:
    with open_app() as agora:
        user = agora.queries.get_account(OPERATOR, who).profile
        agora.commands.edit_user(OPERATOR, user.id, role, is_active)
    typer.echo(visible(f"{user.email} {outcome}"))


def _row(user: UserView) -> tuple[str, ...]:
    active = "active" if user.is_active else "inactive"
    return (str(user.id), user.email, user.username or "-", user.role, active, f"{user.created_at:%Y-%m-%d}")
