"""``echoctl storage``: do storage and database agree?"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from echo_core.entrypoints.cli.commands.instance import seconds_of
from echo_core.entrypoints.cli.exits import ExitCode
from echo_core.entrypoints.cli.instance import settings_of
from echo_core.entrypoints.cli.options import JsonOption
from echo_core.entrypoints.cli.output import plain, say, write, write_json

if TYPE_CHECKING:
    from echo_core.application.storage_audit import Finding, StorageAudit

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")


def register(root: typer.Typer) -> None:
    """Mount the commands."""
    root.add_typer(app, name="storage", help="Compare storage and database.", rich_help_panel="Looking inside")


@app.callback()
def storage() -> None:
    """Compare storage and database."""


@app.command()
def audit(
    context: typer.Context,
    fix: Annotated[
        bool, typer.Option("--fix", help="Delete what no row names; make anew what is missing, from its source.")
    ] = False,
    older_than: Annotated[
        str,
        typer.Option("--older-than", metavar="DURATION", help="Leave younger objects alone: 90m, 24h, 7d, 0s."),
    ] = "24h",
    as_json: JsonOption = False,
) -> None:
    """Find objects that no row names, and rows whose object is gone or has another size.

    Works beside a running instance, on its configuration. Without --fix nothing is changed. Ends with 1 when something
    is wrong and was not mended.

    Example: [bold]echoctl storage audit[/bold]

    Example: [bold]echoctl storage audit --fix --json[/bold]
    """
    from echo_core import bootstrap

    def tell(finding: Finding) -> None:
        if not as_json:
            outcome = finding.mended or finding.remedy
            write(f"{finding.kind:<8} {plain(finding.key)}  {finding.size_bytes} bytes: {outcome}")

    age = timedelta(seconds=seconds_of(older_than, none=True))
    result = asyncio.run(bootstrap.audit_storage(settings_of(context), fix=fix, older_than=age, found=tell))
    if as_json:
        write_json(_as_json(result))
    mended = len(result.findings) - result.unmended
    say(
        f"{result.videos} videos, {result.objects} objects, {result.size_bytes / 1e9:.2f} GB; "
        f"{len(result.findings)} disagreements, {mended} mended; "
        f"{result.young} objects too young or at work, {result.foreign} not Echo's."
    )
    if result.unmended:
        raise typer.Exit(ExitCode.FAILED)


def _as_json(result: StorageAudit) -> dict[str, object]:
    return {
        "videos": result.videos,
        "objects": result.objects,
        "sizeBytes": result.size_bytes,
        "young": result.young,
        "foreign": result.foreign,
        "findings": [
            {
                "kind": finding.kind.value,
                "key": finding.key,
                "videoId": str(finding.video_id),
                "sizeBytes": finding.size_bytes,
                "mended": finding.mended,
                "remedy": "" if finding.mended else finding.remedy,
            }
            for finding in result.findings
        ],
        "unmended": result.unmended,
    }
