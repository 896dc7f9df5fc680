"""The real worker, with places in it where a test can make it die and a storage that a test can spoil.

    python -m tests.faults.worker

Started in place of ``echoctl worker``. What is to go wrong stands in files of the directory ``FAULTS_CONTROL``:

``crash*``   ``<step>:<point>`` (``*`` is any step); the process kills itself with -9 there, once.
``storage``  ``<mode>:<calls>``; so many calls of the storage fail (``error``), take two seconds (``slow``), or store
             half of the file before they fail (``half``).

Each is taken by one worker only, by removing or rewriting the file.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from dataclasses import replace
from typing import Any

from echo_storage_local.backend import LocalStorage

from echo_core.application.engine import Engine
from echo_core.application.running import StepRun
from echo_core.application.settling import Settler
from echo_core.bootstrap import load_settings
from echo_core.entrypoints.worker import work
from echo_core.plugin_api.errors import UnavailableError
from tests.faults.places import CONTROL, after, before, crash_at, tell_tasks_on_signal

SLOW_S = 2.0


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
    """The worker."""
    tell_tasks_on_signal()
    await work(load_settings())


if __name__ == "__main__":
    install()
    asyncio.run(main())
