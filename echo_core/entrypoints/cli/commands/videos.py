"""``echoctl videos``: what is there."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from echo_core.entrypoints.cli.calls import ask
from echo_core.entrypoints.cli.instance import Connection
from echo_core.entrypoints.cli.options import (
    DEFAULT_EMAIL,
    EmailOption,
    JsonOption,
    TokenFileOption,
    TokenOption,
    UrlOption,
)
from echo_core.entrypoints.cli.output import console, plain, say, write_json

if TYPE_CHECKING:
    from echo_core.entrypoints.cli.api import ApiClient
    from echo_core.entrypoints.cli.contract import VideoSummary

PAGE = 100
"""The most that the API gives at once."""
Status = Literal["awaiting_upload", "processing", "playable", "ready", "failed", "cancelled"]
"""The contract's, written out: its enumeration would cost every start of ``echoctl``."""
_AGES = ((86400, "d"), (3600, "h"), (60, "min"))


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command(rich_help_panel="Videos")(videos)


def videos(
    context: typer.Context,
    status: Annotated[Status | None, typer.Option("--status", help="Only videos in this state.")] = None,
    query: Annotated[str, typer.Option("--q", metavar="TEXT", help="Only with this in title or file name.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="At most so many, newest first.")] = 20,
    url: UrlOption = None,
    token: TokenOption = None,
    token_file: TokenFileOption = None,
    email: EmailOption = DEFAULT_EMAIL,
    as_json: JsonOption = False,
) -> None:
    """List your videos, newest first.

    Example: [bold]echoctl videos --status failed --json[/bold]
    """
    params: dict[str, str] = {**({"status": status} if status else {}), **({"q": query} if query else {})}

    async def question(api: ApiClient) -> list[dict[str, Any]]:
        return await fetch(api, params, limit)

    found = ask(context, Connection(url, token, token_file, email), question)
    if as_json:
        write_json({"items": found})
    elif found:
        _show(_rows(found))
    else:
        say("No videos." if not params else "No videos match.")


async def fetch(api: ApiClient, params: dict[str, str], limit: int) -> list[dict[str, Any]]:
    """The newest ``limit`` rows as the server wrote them, page by page."""
    rows: list[dict[str, Any]] = []
    cursor: str | None = None
    while len(rows) < limit:
        asked = {**params, "limit": str(min(PAGE, limit - len(rows))), **({"cursor": cursor} if cursor else {})}
        page = await api.call(dict[str, Any], "GET", "/videos", params=asked)
        rows.extend(page["items"])
        cursor = page.get("nextCursor")
        if not cursor:
            break
    return rows


def _rows(found: Sequence[dict[str, Any]]) -> Sequence[VideoSummary]:
    import msgspec

    from echo_core.entrypoints.cli.contract import VideoSummary

    return [msgspec.convert(row, VideoSummary) for row in found]


def _show(rows: Sequence[VideoSummary]) -> None:
    from rich.table import Table

    from echo_core.entrypoints.cli.views import duration_text

    table = Table(box=None, padding=(0, 1), header_style="dim")
    for heading in ("Id", "Title", "Status", "Length", "Age"):
        table.add_column(
            heading, no_wrap=heading != "Title", justify="right" if heading in {"Length", "Age"} else "left"
        )
    now = datetime.now(UTC)
    for row in rows:
        percent = (
            f" {row.percent:.0f} %" if row.percent is not None and row.status in {"processing", "playable"} else ""
        )
        length = duration_text(row.duration_seconds) if row.duration_seconds is not None else ""
        age = age_text((now - row.created_at).total_seconds())
        table.add_row(row.video_id, escaped(row.title), f"{row.status}{percent}", length, age)
    console(stderr=False).print(table)


def escaped(text: str) -> str:
    """Text of somebody's, for a cell: no control characters, and no markup of ours."""
    from rich.markup import escape

    return escape(plain(text))


def age_text(seconds: float) -> str:
    """``3 d``, ``5 h``, ``12 min``, ``now``."""
    return next((f"{int(seconds // unit)} {name}" for unit, name in _AGES if seconds >= unit), "now")
