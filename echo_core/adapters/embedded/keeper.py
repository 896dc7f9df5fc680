"""Keeping one child alive: started again whenever it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from echo_core.adapters.embedded.child import Child, describe_exit
from echo_core.adapters.embedded.errors import EmbeddedError
from echo_core.adapters.embedded.services import Server

FIRST_DELAY_S = 0.25
LONGEST_DELAY_S = 30.0
STEADY_S = 60.0  # who lived this long starts with a clean record


class Keeper:
    """Keeps the child of one server running. ``started`` is told of each new child, ``say`` of each end and restart."""

    def __init__(
        self, server: Server, child: Child, *, started: Callable[[Child], None], say: Callable[[str], None]
    ) -> None:
        self._server = server
        self._child = child
        self._started = started
        self._say = say
        self._task: asyncio.Task[None] | None = None

    def begin(self, group: asyncio.TaskGroup) -> None:
        """Watch the child from now on."""
        self._task = group.create_task(self._keep(), name=f"keeper of {self._server.name}")

    async def stop(self, grace_s: float, hurry: asyncio.Event) -> None:
        """Stop the child, and nobody starts it again."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        await self._child.stop(grace_s, hurry)

    async def _keep(self) -> None:
        restarts = failures = 0
        while True:
            began = time.monotonic()
            end = describe_exit(await self._child.wait())
            await self._child.kill()  # what it may have left of its process group
            if time.monotonic() - began > STEADY_S:
                failures = 0
            running = False
            while not running:
                delay_s = min(FIRST_DELAY_S * 2**failures, LONGEST_DELAY_S)
                failures, restarts = min(failures + 1, 16), restarts + 1
                self._say(f"{self._server.name} ended ({end}): restart {restarts} in {delay_s:g} s")
                await asyncio.sleep(delay_s)
                try:
                    self._child = await self._server.start()
                    running = True
                except EmbeddedError as error:
                    end = f"{error.message.splitlines()[0]} … {error.message.splitlines()[-1]} {error.remedy}"
                except OSError as error:
                    end = str(error)
            self._started(self._child)
            self._say(f"{self._server.name} runs again (process {self._child.pid})")
