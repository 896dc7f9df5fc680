"""The real worker, with places in it where a test can make it die and a storage that a test can spoil.

    python -m tests.faults.worker

Started in place of ``echoctl worker``. What is to go wrong stands in files of the directory ``FAULTS_CONTROL``:

``crash``    ``<step>:<point>`` (``*`` is any step); the process kills itself with -9 there, once.
``storage``  ``<mode>:<calls>``; so many calls of the storage fail (``error``), take two seconds (``slow``), or store
             half of the file before they fail (``half``).

Each is taken by one worker only, by removing or rewriting the file.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from echo_storage_local.backend import LocalStorage

from echo_core.application.engine import Engine
from echo_core.application.running import StepRun
from echo_core.application.settling import Settler
from echo_core.bootstrap import load_settings
from echo_core.entrypoints.worker import work
from echo_core.plugin_api.errors import UnavailableError

CONTROL = Path(os.environ.get("FAULTS_CONTROL", os.devnull))
POINTS = ("claimed", "inside", "after-effect", "after-put", "recorded")
"""Before the step's work, in its midst, between its work and its files, between its files and its row, after it."""
MIDST_S = 0.15
SLOW_S = 2.0


def crash_at(step: str, point: str) -> None:
    """Die here if that is what the control file wants."""
    wanted = CONTROL / "crash"
    try:
        name, _, where = wanted.read_text().strip().partition(":")
        if name not in {"*", step} or where != point:
            return
        wanted.unlink()  # whoever removes it is the one that dies
    except FileNotFoundError:
        return
    if point == "inside":
        threading.Timer(MIDST_S * random.uniform(0.2, 2), os.kill, (os.getpid(), signal.SIGKILL)).start()  # noqa: S311
    else:
        os.kill(os.getpid(), signal.SIGKILL)


def spoil_now() -> str:
    """How the next call of the storage shall go wrong; empty: not at all."""
    wanted = CONTROL / "storage"
    try:
        mode, _, calls = wanted.read_text().strip().partition(":")
        if int(calls) <= 1:
            wanted.unlink()
        else:
            wanted.write_text(f"{mode}:{int(calls) - 1}")
    except (FileNotFoundError, ValueError):
        return ""
    return mode


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


def install() -> None:
    """Put all the places in."""

    async def claimed(_engine: Engine, running: Any, _run: StepRun) -> None:
        crash_at(running.step.name, "claimed")
        crash_at(running.step.name, "inside")

    async def worked(run: StepRun, *_: Any) -> None:
        crash_at(run.step.name, "after-effect")

    async def stored(_settler: Settler, claim: Any, *_: Any, **__: Any) -> None:
        crash_at(claim.job.step(claim.step_id).name, "after-put")

    async def recorded(_settler: Settler, claim: Any, *_: Any) -> None:
        crash_at(claim.job.step(claim.step_id).name, "recorded")

    before(Engine, "_work", claimed)
    before(StepRun, "store", worked)
    before(Settler, "settle", stored)
    after(Settler, "_record", recorded)

    async def spoil(storage: LocalStorage, request: Any) -> None:
        mode = spoil_now()
        if mode == "slow":
            await asyncio.sleep(SLOW_S)
        elif mode == "half" and hasattr(request, "content_type"):
            half = request.path.with_name(f"{request.path.name}.half")
            shutil.copyfile(request.path, half)
            os.truncate(half, half.stat().st_size // 2)
            await put(storage, replace(request, path=half))
            raise UnavailableError("The storage broke off in the middle.", code="storage_unavailable")
        elif mode:
            raise UnavailableError("The storage answers 503.", code="storage_unavailable")

    put = LocalStorage.put_file
    before(LocalStorage, "put_file", spoil)
    before(LocalStorage, "fetch_file", spoil)


async def main() -> None:
    """The worker; on SIGUSR1 it tells what every task of it waits for."""

    def tell() -> None:
        for task in asyncio.all_tasks():
            task.print_stack()

    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, tell)
    await work(load_settings())


if __name__ == "__main__":
    install()
    asyncio.run(main())
