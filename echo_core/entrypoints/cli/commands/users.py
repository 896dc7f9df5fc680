"""``echoctl users``: the users that the instance keeps itself."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from echo_core.entrypoints.cli.exits import ExitCode
from echo_core.entrypoints.cli.instance import settings_of
from echo_core.entrypoints.cli.options import JsonOption
from echo_core.entrypoints.cli.output import plain, say, write, write_json
from echo_core.entrypoints.cli.problems import CliError

if TYPE_CHECKING:
    from echo_core.adapters.settings import Settings
    from echo_core.plugin_api.identity import LocalUser

PAGE = 500
MAX_PASSWORD_FILE_BYTES = 4096
"""Longer than any password; keeps a wrong path from being swallowed."""

EmailArgument = Annotated[str, typer.Argument(metavar="EMAIL", help="Address of the user.")]
PasswordOption = Annotated[
    Path | None,
    typer.Option("--password-file", metavar="FILE", help="Where the password is; '-' reads it from standard input."),
]

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")


def register(root: typer.Typer) -> None:
    """Mount the commands."""
    root.add_typer(app, name="users", help="The users of this instance.", rich_help_panel="Running an instance")


@app.callback()
def users() -> None:
    """The users that this instance keeps itself; its database must be running."""


@app.command()
def add(context: typer.Context, email: EmailArgument, password_file: PasswordOption = None) -> None:
    """Create a user, and print its id. Asks for the password unless a file has it.

    Example: [bold]echoctl users add you@example.org[/bold]
    """
    settings, password = settings_of(context), _password(password_file)
    write(str(asyncio.run(_add(settings, email, password)).id))


@app.command("list")
def list_all(context: typer.Context, as_json: JsonOption = False) -> None:
    """List all users, by address.

    Example: [bold]echoctl users list --json[/bold]
    """
    found = asyncio.run(_list(settings_of(context)))
    if as_json:
        write_json({"items": [_as_json(user) for user in found]})
        return
    for user in found:
        seen = f"{user.last_sign_in_at:%Y-%m-%d %H:%M}" if user.last_sign_in_at is not None else "never signed in"
        write(f"{user.id}  {plain(user.email)}  {seen}")
    if not found:
        say("There are no users yet.")


@app.command()
def reset_password(context: typer.Context, email: EmailArgument, password_file: PasswordOption = None) -> None:
    """Give a user another password; it is signed out everywhere.

    Example: [bold]echoctl users reset-password you@example.org[/bold]
    """
    settings, password = settings_of(context), _password(password_file)
    asyncio.run(_set_password(settings, email, password))
    say("The password is changed.")


async def _add(settings: Settings, email: str, password: str) -> LocalUser:
    from echo_core import bootstrap

    async with bootstrap.open_identity(settings) as identity:
        return await identity.add_user(email, password)


async def _list(settings: Settings) -> list[LocalUser]:
    from echo_core import bootstrap

    found: list[LocalUser] = []
    async with bootstrap.open_identity(settings) as identity:
        while page := await identity.list_users(after=found[-1].email if found else "", limit=PAGE):
            found.extend(page)
    return found


async def _set_password(settings: Settings, email: str, password: str) -> None:
    from echo_core import bootstrap

    async with bootstrap.open_identity(settings) as identity:
        await identity.set_password(email, password)


def _password(file: Path | None) -> str:
    """From the file, without its last line end, or from the terminal. Raises ``CliError`` (``usage``)."""
    if file is None:
        if not sys.stdin.isatty():
            raise CliError(
                "There is no terminal to ask for the password.",
                code="usage",
                remedy="Name a file that holds it: --password-file FILE; '-' stands for standard input.",
                exit_code=ExitCode.USAGE,
            )
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    if str(file) == "-":
        content = sys.stdin.buffer.read(MAX_PASSWORD_FILE_BYTES + 1)
    else:
        with file.open("rb") as opened:
            content = opened.read(MAX_PASSWORD_FILE_BYTES + 1)
    try:
        password = content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        password = ""
    if not password or len(content) > MAX_PASSWORD_FILE_BYTES:
        raise CliError(
            f"{plain(str(file))} holds no password, or more than one.", code="usage", exit_code=ExitCode.USAGE
        )
    return password


def _as_json(user: LocalUser) -> dict[str, object]:
    return {
        "id": str(user.id),
        "email": user.email,
        "createdAt": user.created_at.isoformat(),
        "lastSignInAt": user.last_sign_in_at.isoformat() if user.last_sign_in_at is not None else None,
    }
