"""``echoctl doctor``: what is wrong, and what to do about it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from echo_core.entrypoints.cli.examination import Examination, Hop, Status
from echo_core.entrypoints.cli.exits import ExitCode
from echo_core.entrypoints.cli.instance import (
    Connection,
    Target,
    checked_url,
    resolve_target,
    same_origin,
    settings_of,
)
from echo_core.entrypoints.cli.options import (
    DEFAULT_EMAIL,
    EmailOption,
    JsonOption,
    TokenFileOption,
    TokenOption,
    UrlOption,
)
from echo_core.entrypoints.cli.output import console, plain, say, write_json
from echo_core.entrypoints.cli.problems import explained

if TYPE_CHECKING:
    from rich.console import Console

    from echo_core.adapters.settings import Settings

MARKS = {"ok": ("ok", "green"), "failed": ("FAILED", "bold red"), "skipped": ("skipped", "dim")}
STATUS_OF: Mapping[bool | None, Status] = {True: "ok", False: "failed", None: "skipped"}
NAME_WIDTH = 20


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command(rich_help_panel="Looking inside")(doctor)


def doctor(
    context: typer.Context,
    offline: Annotated[
        bool, typer.Option("--offline", help="Only the configuration and what Echo depends on; no clip.")
    ] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=1, help="Patience with the processing of the clip.")
    ] = 120.0,
    url: UrlOption = None,
    token: TokenOption = None,
    token_file: TokenFileOption = None,
    email: EmailOption = DEFAULT_EMAIL,
    as_json: JsonOption = False,
) -> None:
    """Examine this installation: configuration, dependencies, and a tiny clip from upload to playback.

    The clip takes the way of every video, from the browser's preflight to a range request for its first segment, and is
    deleted afterwards. With the --url of another machine only that way is examined. Ends with 1 when anything failed.

    Example: [bold]echoctl doctor[/bold]

    Example: [bold]echoctl doctor --url https://video.example --token-file ~/.echo-token --json[/bold]
    """
    out = console(stderr=as_json)
    examination = Examination(lambda hop: _show(out, hop))
    connection = Connection(url, token, token_file, email)
    asyncio.run(_examine(context, examination, connection, offline=offline, timeout_s=timeout))
    if as_json:
        write_json({"ok": examination.ok, "hops": [hop.as_json() for hop in examination.hops]})
    if not examination.ok:
        failed = [hop.name for hop in examination.hops if hop.status == "failed"]
        say(f"Failed: {', '.join(failed)}.")
        raise typer.Exit(ExitCode.FAILED)
    say("Everything that was examined works.")


async def _examine(
    context: typer.Context, examination: Examination, connection: Connection, *, offline: bool, timeout_s: float
) -> None:
    settings = await _configuration(context, examination)
    elsewhere = connection.url is not None and (
        settings is None or not same_origin(checked_url(connection.url), _local_url(settings))
    )
    if settings is not None and not elsewhere:
        await _dependencies(examination, settings)
    if offline:
        return
    if settings is None and not (elsewhere and (connection.token or connection.token_file)):
        _skip_round_trip(examination, "configuration failed")
        return
    try:
        target = resolve_target(context, connection)
    except Exception as error:
        problem = explained(error)
        if problem is None:
            raise
        examination.add(
            Hop(name="token", status="failed", detail=problem.message, remedy=problem.remedy, code=problem.code)
        )
        _skip_round_trip(examination, "token failed")
        return
    await _round_trip(examination, target, browser_origins(target, None if elsewhere else settings), timeout_s)


async def _configuration(context: typer.Context, examination: Examination) -> Settings | None:
    found: list[Settings] = []

    async def load() -> str:
        found.append(settings_of(context))
        return f"data_dir {found[0].data_dir}"

    await examination.hop("configuration", load)
    return found[0] if found else None


def _local_url(settings: Settings) -> str:
    from echo_core import bootstrap

    return bootstrap.local_url(settings)


async def _dependencies(examination: Examination, settings: Settings) -> None:
    from echo_core import bootstrap

    for check in await bootstrap.check_dependencies(settings):
        examination.add(
            Hop(
                name=check.name,
                status=STATUS_OF[check.ok],
                detail=plain(check.detail),
                remedy=plain(check.remedy),
                code="dependency_failed" if check.ok is False else "",
                seconds=check.seconds,
            )
        )


def browser_origins(target: Target, settings: Settings | None) -> Sequence[str]:
    """Where pages may come from that upload: the instance's own address, and what it lets in from elsewhere."""
    from echo_core.entrypoints.cli.round_trip import origin_of

    if settings is None:
        return [origin_of(target.url)]
    return [origin for origin in settings.page_origins if origin != "*"]


def _skip_round_trip(examination: Examination, because: str) -> None:
    from echo_core.entrypoints.cli.round_trip import HOPS

    done = {hop.name for hop in examination.hops}
    examination.skip(*(name for name in HOPS if name not in done), because=because)


async def _round_trip(examination: Examination, target: Target, origins: Sequence[str], timeout_s: float) -> None:
    from echo_core.entrypoints.cli.api import ApiClient, open_http
    from echo_core.entrypoints.cli.backoff import Backoff
    from echo_core.entrypoints.cli.round_trip import RoundTrip

    async with open_http(target.url) as client:
        api = ApiClient(target, client, backoff=Backoff(max_tries=3))
        await RoundTrip(examination, api, client, origins=origins, timeout_s=timeout_s).run()


def _show(out: Console, hop: Hop) -> None:
    from rich.text import Text

    mark, style = MARKS[hop.status]
    line = Text.assemble((f"{mark:>8}", style), f"  {hop.name:<{NAME_WIDTH}} ", (plain(hop.detail), ""))
    if hop.status == "ok":
        line.append(f"  {hop.seconds * 1000:.0f} ms", style="dim")
    out.print(line, soft_wrap=True)
    if hop.status == "failed" and hop.remedy:
        out.print(Text.assemble(" " * 10, ("What to do: ", "bold"), hop.remedy), soft_wrap=True)
