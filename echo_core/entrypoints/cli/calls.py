"""What commands that only ask the server have in common."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

import typer

from echo_core.entrypoints.cli.exits import ExitCode
from echo_core.entrypoints.cli.instance import Connection, resolve_target
from echo_core.entrypoints.cli.problems import CliError

if TYPE_CHECKING:
    from echo_core.entrypoints.cli.api import ApiClient

Result = TypeVar("Result")


def ask(context: typer.Context, connection: Connection, question: Callable[[ApiClient], Awaitable[Result]]) -> Result:
    """Run ``question`` with a client of the instance that was meant. Raises ``CliError``."""
    from echo_core.entrypoints.cli.api import ApiClient, open_http

    async def run() -> Result:
        target = resolve_target(context, connection)
        async with open_http(target.url) as http:
            return await question(ApiClient(target, http))

    return asyncio.run(run())


def checked_id(text: str) -> str:
    """An id as the contract writes it. Raises ``CliError`` (``invalid_id``)."""
    try:
        return str(UUID(text))
    except ValueError:
        raise CliError(
            f"{text!r} is not an id.",
            code="invalid_id",
            remedy="Ids look like 0190a6f2-…; 'echoctl videos' lists them.",
            exit_code=ExitCode.USAGE,
        ) from None
