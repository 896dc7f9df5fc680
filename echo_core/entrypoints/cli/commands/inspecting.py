"""``echoctl plugins`` and ``echoctl openapi``: what this installation consists of and offers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from echo_core.entrypoints.cli.instance import settings_of
from echo_core.entrypoints.cli.options import JsonOption
from echo_core.entrypoints.cli.output import console, plain, say, write, write_json

if TYPE_CHECKING:
    from echo_core.application.services import PluginReport

PANEL = "Looking inside"
STYLES = {"loaded": "green", "failed": "bold red", "disabled": "dim"}


def register(app: typer.Typer) -> None:
    """Mount the commands."""
    for command in (plugins, openapi):
        app.command(rich_help_panel=PANEL)(command)


def plugins(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the installed plugins: what they provide, and why one does not work.

    Needs no running instance. An asterisk marks what the configuration selects. Plugins that provide commands are
    reached as [bold]echoctl PLUGIN[/bold].

    Example: [bold]echoctl plugins --json[/bold]
    """
    from echo_core import bootstrap

    reports = bootstrap.plugin_reports(settings_of(context))
    if as_json:
        write_json({"items": [_as_json(report) for report in reports]})
    elif reports:
        _show(reports)
    else:
        say("No plugins are installed.")


def _as_json(report: PluginReport) -> dict[str, object]:
    """As ``GET /api/v1/plugins`` writes it."""
    return {
        "name": report.name,
        "version": report.version,
        "status": report.status,
        "reason": report.reason,
        "selected": report.selected,
        "provides": {kind: list(names) for kind, names in report.provides.items()},
        "capabilities": dict(report.capabilities),
    }


def _show(reports: Sequence[PluginReport]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 1), header_style="dim")
    for heading in ("Name", "Version", "Status", "Provides", "Reason"):
        table.add_column(heading, overflow="fold")
    for report in reports:
        provides = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in report.provides.items())
        table.add_row(
            Text(plain(report.name) + ("*" if report.selected else "")),
            Text(plain(report.version)),
            Text(plain(report.status), style=STYLES.get(report.status, "")),
            Text(plain(provides)),
            Text(plain(report.reason)),
        )
    console(stderr=False).print(table)


def openapi(
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write it there instead of printing it.")
    ] = None,
) -> None:
    """Print the OpenAPI 3.1 document of the HTTP API. Needs no running instance.

    Example: [bold]echoctl openapi --out openapi.json[/bold]
    """
    from echo_core.entrypoints.http.api import ALL_OPERATIONS
    from echo_core.entrypoints.http.openapi import openapi_document

    text = json.dumps(openapi_document(ALL_OPERATIONS), indent=2, ensure_ascii=False)
    if out is None:
        write(text)
        return
    out.write_text(f"{text}\n", encoding="utf-8")
    say(f"Written to {out}.")
