"""Places in a real process where a test can make it die. What is wanted stands in files of ``FAULTS_CONTROL``."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

CONTROL = Path(os.environ.get("FAULTS_CONTROL", os.devnull))
POINTS = ("claimed", "inside", "after-effect", "after-put", "recorded")
"""Before the step's work, in its midst, between its work and its files, between its files and its row, after it."""
INSIDE = "inside"
MIDST_S = 0.15


def crash_at(name: str, point: str) -> None:
    """Die here if a file ``crash*`` says ``<name>:<point>``, where ``*`` is any name. Each file kills one process."""
    for wanted in CONTROL.glob("crash*"):
        try:
            who, _, where = wanted.read_text().strip().partition(":")
            if who not in {"*", name} or where != point:
                continue
            wanted.unlink()  # whoever removes it is the one that dies
        except FileNotFoundError:
            continue
        if point == INSIDE:
            delay_s = MIDST_S * random.uniform(0.2, 2)  # noqa: S311
            threading.Timer(delay_s, os.kill, (os.getpid(), signal.SIGKILL)).start()
        else:
            os.kill(os.getpid(), signal.SIGKILL)


def before(owner: type, name: str, hook: Callable[..., Awaitable[None]]) -> None:
    """Await ``hook`` with the same arguments before each call."""
    original: Callable[..., Awaitable[Any]] = getattr(owner, name)

    async def call(*args: Any, **kwargs: Any) -> Any:
        await hook(*args, **kwargs)
        return await original(*args, **kwargs)

    setattr(owner, name, call)


def after(owner: type, name: str, hook: Callable[..., Awaitable[None]]) -> None:
    """Await ``hook`` with the same arguments after each call."""
    original: Callable[..., Awaitable[Any]] = getattr(owner, name)

    async def call(*args: Any, **kwargs: Any) -> Any:
        result = await original(*args, **kwargs)
        await hook(*args, **kwargs)
        return result

    setattr(owner, name, call)


def tell_tasks_on_signal() -> None:
    """On SIGUSR1, print what every task of this process waits for."""

    def tell() -> None:
        for task in asyncio.all_tasks():
            task.print_stack()

    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, tell)
