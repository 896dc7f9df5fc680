"""What goes where: results to standard output, everything that is meant for a person meanwhile to standard error.

Both respect ``NO_COLOR`` and terminals that are none (rich does), and nothing that came from a server or a file name
reaches the terminal with control characters in it.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from typing import TYPE_CHECKING

import typer

from echo_core.entrypoints.cli.problems import CliError

if TYPE_CHECKING:
    from rich.console import Console

JSON_KEY = "echo.json"
"""In the root context's ``meta``: whether the command was asked for JSON."""
PIPE_WIDTH = 160
"""Columns of a table that goes to a file or a pipe; rich would cut it to 80."""


def plain(text: str) -> str:
    """The text without control characters: no title or file name may steer the terminal."""
    return "".join(" " if unicodedata.category(c) in {"Cc", "Cf", "Cs"} and c != "\u200d" else c for c in text)


def write(text: str) -> None:
    """A line of the result."""
    typer.echo(text)


def write_json(value: Mapping[str, object]) -> None:
    """The result as one JSON document."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def say(text: str) -> None:
    """A line for whoever watches."""
    typer.echo(text, err=True)


def console(*, stderr: bool = True) -> Console:
    """A rich console; without a terminal it is wide enough not to cut tables."""
    from rich.console import Console

    made = Console(stderr=stderr, highlight=False)
    return made if made.is_terminal else Console(stderr=stderr, highlight=False, width=PIPE_WIDTH)


def say_problem(error: CliError) -> None:
    """The failure on standard error: message, remedy, code."""
    from rich.text import Text

    request = f", request {plain(error.request_id)}" if error.request_id else ""
    lines = [Text.assemble(("Error: ", "bold red"), "\n".join(plain(line) for line in error.message.split("\n")))]
    if error.remedy:
        lines.append(Text.assemble(("  What to do: ", "bold"), plain(error.remedy)))
    lines.append(Text(f"  ({plain(error.code)}{request})", style="dim"))
    out = console()
    for line in lines:
        # Never wrapped: people copy commands and ids out of these.
        out.print(line, soft_wrap=True)


def remember_json(context: typer.Context, value: bool) -> bool:
    """Callback of ``--json``: an error is then told as JSON as well."""
    if value:
        context.find_root().meta[JSON_KEY] = True
    return value
