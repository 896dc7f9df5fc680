"""``echoctl storage``: do storage and database agree, and moving from one storage to another."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from echo_core.entrypoints.cli.commands.instance import seconds_of
from echo_core.entrypoints.cli.exits import ExitCode
from echo_core.entrypoints.cli.instance import settings_of
from echo_core.entrypoints.cli.options import JsonOption
from echo_core.entrypoints.cli.output import console, plain, say, write, write_json
from echo_core.entrypoints.cli.problems import CliError

if TYPE_CHECKING:
    from echo_core.application.storage_audit import Finding, StorageAudit

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")


def register(root: typer.Typer) -> None:
    """Mount the commands."""
    root.add_typer(
        app,
        name="storage",
        help="Compare storage and database; move to another storage.",
        rich_help_panel="Looking inside",
    )


@app.callback()
def storage() -> None:
    """Compare storage and database; move to another storage."""


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
    """Find objects that no row names, and rows whose object is gone or has another size or checksum.

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


@app.command()
def copy(
    context: typer.Context,
    source: Annotated[str, typer.Option("--from", metavar="STORAGE", help="Where the objects are, for example local.")],
    target: Annotated[str, typer.Option("--to", metavar="STORAGE", help="Where they shall be, for example gcs.")],
    parallel: Annotated[int, typer.Option("--parallel", min=1, max=64, help="So many objects at once.")] = 4,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be copied.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Copy every object of every video from one storage to another, while the instance runs.

    Both need their tables in the configuration; storage.backend says which one the instance uses. What is there already
    is not copied again, so an interrupted copy goes on where it was. Each copy is compared by its checksum; nothing is
    overwritten or taken from the old storage. Ends with 1 when anything failed.

    Run it, let jobs end, set storage.backend, restart, and run it again: it brings what came meanwhile, and writes down
    that the new storage keeps it.

    Example: [bold]echoctl storage copy --from local --to gcs --dry-run[/bold]
    """
    if source == target:
        raise CliError(
            "The objects are in this storage already: --from and --to are the same.",
            code="same_storage",
            exit_code=ExitCode.USAGE,
        )
    from echo_core import bootstrap
    from echo_core.entrypoints.cli.copying import copy_as_json, open_copy_view, summary

    settings = settings_of(context)
    with open_copy_view(console()) as view:
        result = asyncio.run(
            bootstrap.copy_storage(
                settings,
                source=source,
                target=target,
                parallel=parallel,
                dry_run=dry_run,
                begun=view.begin,
                told=view.told,
            )
        )
    if as_json:
        write_json(copy_as_json(result))
    selected = settings.storage.backend
    for line in summary(result, source=source, target=target, selected=selected, dry_run=dry_run):
        say(line)
    if result.failures:
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
