"""``echoctl search``: where something is said, or named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from echo_core.entrypoints.cli.calls import ask
from echo_core.entrypoints.cli.commands.videos import escaped
from echo_core.entrypoints.cli.instance import Connection
from echo_core.entrypoints.cli.options import (
    DEFAULT_EMAIL,
    EmailOption,
    JsonOption,
    TokenFileOption,
    TokenOption,
    UrlOption,
)
from echo_core.entrypoints.cli.output import console, say, write_json

if TYPE_CHECKING:
    from echo_core.entrypoints.cli.api import ApiClient
    from echo_core.entrypoints.cli.contract import SearchedVideo, SearchPart

PAGE = 50
"""The most that the API gives at once."""


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command(rich_help_panel="Videos")(search)


def search(
    context: typer.Context,
    text: Annotated[str, typer.Argument(help='Words, "phrases", or, and - before what must not be there.')],
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="At most so many videos, best first.")] = 20,
    url: UrlOption = None,
    token: TokenOption = None,
    token_file: TokenFileOption = None,
    email: EmailOption = DEFAULT_EMAIL,
    as_json: JsonOption = False,
) -> None:
    """Find your videos by title, tags, description and what is said in them.

    Example: [bold]echoctl search '"new york" -rain' --json[/bold]
    """

    async def question(api: ApiClient) -> list[dict[str, Any]]:
        return await _fetch(api, text, limit)

    found = ask(context, Connection(url, token, token_file, email), question)
    if as_json:
        write_json({"items": found})
    elif found:
        _show(found)
    else:
        say("No videos match.")


async def _fetch(api: ApiClient, text: str, limit: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    cursor: str | None = None
    while len(rows) < limit:
        asked = {"q": text, "limit": str(min(PAGE, limit - len(rows))), **({"cursor": cursor} if cursor else {})}
        page = await api.call(dict[str, Any], "GET", "/search", params=asked)
        rows.extend(page["items"])
        cursor = page.get("nextCursor")
        if not cursor:
            break
    return rows


def _show(found: Sequence[dict[str, Any]]) -> None:
    import msgspec
    from rich.table import Table

    from echo_core.entrypoints.cli.contract import SearchedVideo
    from echo_core.entrypoints.cli.views import duration_text

    table = Table(box=None, padding=(0, 1), header_style="dim")
    table.add_column("Id", no_wrap=True)
    table.add_column("At", no_wrap=True, justify="right")
    table.add_column("Found")
    for row in found:
        video: SearchedVideo = msgspec.convert(row, SearchedVideo)
        table.add_row(video.video_id, "", _marked(video.title_parts) or escaped(video.title))
        for hit in video.hits:
            table.add_row("", duration_text(hit.start_seconds), _marked(hit.parts))
    console(stderr=False).print(table)


def _marked(parts: Sequence[SearchPart]) -> str:
    return "".join(f"[bold]{escaped(part.text)}[/bold]" if part.match else escaped(part.text) for part in parts)
