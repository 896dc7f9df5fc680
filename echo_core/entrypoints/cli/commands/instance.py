"""Running an instance: ``up``, ``serve``, ``worker``, ``migrate``, and ``token``."""

from __future__ import annotations

import asyncio
import gc
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from echo_core.entrypoints.cli.exits import ExitCode
from echo_core.entrypoints.cli.instance import config_path, settings_of
from echo_core.entrypoints.cli.output import say, write
from echo_core.entrypoints.cli.problems import CliError

PANEL = "Running an instance"
_DURATION = re.compile(r"(\d+)([smhd]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
MAX_TOKEN_S = 365 * 86400
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")


def register(app: typer.Typer) -> None:
    """Mount the commands."""
    for command in (up, serve, worker, migrate, token):
        app.command(rich_help_panel=PANEL)(command)


def up(context: typer.Context) -> None:
    """Start everything: database, queue, API and worker, in one terminal.

    Stays in the foreground until Ctrl-C or SIGTERM, then stops all that it started. Ends with 5 when this data_dir is
    in use already.

    Example: [bold]echoctl up[/bold]
    """
    from echo_core import bootstrap

    settings = settings_of(context)
    config = config_path(context.find_root().meta)
    argv = [sys.executable, "-m", "echo_core.entrypoints.cli"]
    if config is not None:
        argv += ["--config", str(config.resolve())]
    asyncio.run(bootstrap.up(settings, argv=argv, say=say))


def serve(context: typer.Context) -> None:
    """Run the API alone; its database and queue must be running.

    Example: [bold]ECHO_DATABASE__URL=postgresql://… echoctl serve[/bold]
    """
    with _imports_kept():
        from echo_core.entrypoints.http.server import serve as serve_api

    serve_api(settings_of(context))


def worker(context: typer.Context) -> None:
    """Run a worker alone. Start as many as you like, on as many machines as you like.

    SIGTERM lets running steps end within worker.shutdown_grace_s; what did not end is taken up by another worker.

    Example: [bold]ECHO_WORKER__CPU_SLOTS=4 echoctl worker[/bold]
    """
    from echo_core import bootstrap
    from echo_core.entrypoints.worker import work

    settings = settings_of(context)
    bootstrap.stand_back(settings)
    asyncio.run(work(settings))


GC_THRESHOLDS = (20_000, 20, 50)
"""For ``gc.set_threshold``. With the defaults, collections took a third of the processor time of telling 2,000 sockets
an event each; nearly all that a request or an event leaves is freed without them."""


@contextmanager
def _imports_kept() -> Iterator[None]:
    """Import without the garbage collector, then exempt from it what was imported, which stays for good.

    Looking through it again and again was a tenth of the start, and would be most of every full collection later. With
    thousands of connections the rest is large too: collections come more rarely than Python's defaults have them.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        gc.enable()


def migrate(
    context: typer.Context,
    sql: Annotated[
        bool, typer.Option("--sql", help="Print the SQL instead, for tools of your own. No database is needed.")
    ] = False,
    start: Annotated[
        str, typer.Option("--from", metavar="REVISION", help="With --sql: where the database is. Default: empty.")
    ] = "",
    logins: Annotated[
        bool, typer.Option("--logins", help="With --sql: set the passwords of the login roles, too. Keep it secret.")
    ] = False,
) -> None:
    """Bring the database up to date. Safe to repeat, and safe while an instance runs.

    Example: [bold]ECHO_DATABASE__URL=postgresql://… echoctl migrate[/bold]
    """
    from echo_core import bootstrap

    if (start or logins) and not sql:
        raise CliError("--from and --logins need --sql.", code="usage", exit_code=ExitCode.USAGE)
    if sql:
        write(bootstrap.migration_script(settings_of(context), start=start, logins=logins).rstrip("\n"))
        return
    asyncio.run(bootstrap.migrate_database(settings_of(context)))
    say("The database is up to date.")


def token(
    context: typer.Context,
    email: Annotated[str, typer.Option("--email", metavar="ADDRESS", help="Whom the token stands for.")],
    expires: Annotated[
        str, typer.Option("--expires", metavar="DURATION", help="Lifetime: 90s, 15m, 12h, 7d.", show_default=True)
    ] = "1h",
) -> None:
    """Print a bearer token of the local instance, and nothing else.

    The user is created at need. The instance must be running and keep its users itself.

    Example: [bold]export ECHO_TOKEN=$(echoctl token --email you@example.org)[/bold]
    """
    expires_in_s = seconds_of(expires)
    if _EMAIL.fullmatch(email) is None:
        raise CliError(f"{email!r} is not an e-mail address.", code="usage", exit_code=ExitCode.USAGE)
    from echo_core import bootstrap

    write(asyncio.run(bootstrap.issue_token(settings_of(context), email, expires_in_s)))


def seconds_of(duration: str, *, none: bool = False) -> int:
    """``90s``, ``15m``, ``12h``, ``7d`` or bare seconds, up to a year; 0 only with ``none``.

    Raises ``CliError`` (``usage``).
    """
    match = _DURATION.fullmatch(duration.strip())
    seconds = int(match[1]) * _SECONDS[match[2]] if match else -1
    if not (0 if none else 1) <= seconds <= MAX_TOKEN_S:
        raise CliError(
            f"{duration!r} is not a length of time.",
            code="usage",
            remedy="Give a number and a unit, such as 90s, 15m, 12h or 7d; at most 365d.",
            exit_code=ExitCode.USAGE,
        )
    return seconds
