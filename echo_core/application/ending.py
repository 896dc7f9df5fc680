"""Ending tasks for certain."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

INSIST_S = 1.0
"""A task that has not ended so long after it was cancelled is cancelled again."""


async def end_tasks(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they have ended; what they raise stays with them.

    Once is not enough: ``asyncio.wait_for`` of Python 3.11, which the drivers of PostgreSQL and Redis call, loses a
    cancellation that arrives together with its result (python/cpython#86296), and its task would go on for ever.
    """
    waiting = {task for task in tasks if not task.done()}
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=INSIST_S)
