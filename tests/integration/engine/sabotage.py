"""Ends a unit of work at one of its statements: before it, or between a commit and its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import asyncpg

from echo_core.adapters.postgres.errors import translated
from echo_core.adapters.postgres.transaction import Transaction

_TERMINATE = "select pg_terminate_backend(pid) from pg_stat_activity where pid = $1"


@dataclass(frozen=True)
class Crash:
    """Where and how. ``at`` counts statements from 1, ``begin`` and ``commit`` included, over all units of work of a
    use case. ``how``: ``kill`` ends the server's process and the driver finds out by itself; ``refuse`` lets the
    statement fail as one that took too long; ``unanswered`` is a commit that the server made and nobody hears of (any
    other statement is as good as never made then: ``kill``)."""

    at: int
    how: str


class Saboteur:
    """Counts the statements of everybody in this process, and strikes once when it is told to.

    ``commits`` are the numbers of those that were commits.
    """

    def __init__(self, control: asyncpg.Connection) -> None:
        self._control = control
        self._crash: Crash | None = None
        self.statements = 0

    def arm(self, crash: Crash | None) -> None:
        self._crash, self.statements, self.commits, self.struck = crash, 0, [], False

    @contextmanager
    def at_work(self):
        execute = asyncpg.Connection.execute

        async def watched(driver: Any, query: str, *args: object, **kwargs: object) -> str:
            if driver is self._control or not query.startswith(("begin", "commit")):
                return await execute(driver, query, *args, **kwargs)
            return await self._run(driver, lambda: execute(driver, query, *args, **kwargs), commit=query == "commit")

        with ExitStack() as patches:
            patches.enter_context(patch.object(asyncpg.Connection, "execute", watched))
            for name in ("execute", "fetch", "find"):
                patches.enter_context(patch.object(Transaction, name, self._watched(getattr(Transaction, name))))
            yield self

    def _watched(self, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def run(tx: Transaction, *args: object, **kwargs: object) -> Any:
            with translated():
                return await self._run(tx._driver, lambda: method(tx, *args, **kwargs))

        return run

    async def _run(self, driver: Any, statement: Callable[[], Awaitable[Any]], *, commit: bool = False) -> Any:
        self.statements += 1
        if commit:
            self.commits.append(self.statements)
        crash = self._crash
        if crash is None or self.struck or self.statements != crash.at:
            return await statement()
        self.struck = True
        if crash.how == "refuse":
            raise asyncpg.QueryCanceledError("canceling statement due to statement timeout")
        if crash.how == "unanswered" and commit:
            await statement()
            await self._kill(driver)
            while not driver.is_closed():
                await asyncio.sleep(0.001)
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
        await self._kill(driver)
        return await statement()

    async def _kill(self, driver: Any) -> None:
        pid = driver.get_server_pid()
        async with asyncio.timeout(20):
            while await self._control.fetchval(_TERMINATE, pid):
                await asyncio.sleep(0.001)
