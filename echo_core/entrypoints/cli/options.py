"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from echo_core.entrypoints.cli.output import remember_json

DEFAULT_EMAIL = "owner@echo.localhost"
"""The user in whose name an embedded instance is used when nobody says otherwise (RFC 6761 reserves the domain)."""

CONNECTION_PANEL = "Connection"

JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON on standard output.", callback=remember_json, is_eager=True)
]
UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="ECHO_URL",
        metavar="URL",
        help="Address of the instance. Default: the local one of the configuration.",
        rich_help_panel=CONNECTION_PANEL,
    ),
]
TokenOption = Annotated[
    str | None,
    typer.Option(
        "--token",
        envvar="ECHO_TOKEN",
        metavar="JWT",
        help="Bearer token. Default: made on the spot when the instance is the local embedded one.",
        rich_help_panel=CONNECTION_PANEL,
    ),
]
TokenFileOption = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        metavar="FILE",
        help="Read the token from a file; it is read again when the token has expired.",
        rich_help_panel=CONNECTION_PANEL,
    ),
]
EmailOption = Annotated[
    str,
    typer.Option(
        "--email",
        metavar="ADDRESS",
        help="Whom a token that is made on the spot stands for.",
        rich_help_panel=CONNECTION_PANEL,
    ),
]
