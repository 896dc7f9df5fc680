"""How a worker process hears that it shall end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from echo_core.adapters.settings import Settings
from echo_core.entrypoints import worker as entrypoint


class Worker:
    name = "w"
    slots: Mapping[Any, int] = {}

    def __init__(self, *, drains: bool) -> None:
        self.drains = drains
        self.running, self.stopping, self.closed = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        self.running.set()
        await stop.wait()
        self.stopping.set()
        if not self.drains:
            await asyncio.Event().wait()


async def start(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> asyncio.Task[None]:
    @asynccontextmanager
    async def open_worker(settings: Settings) -> AsyncIterator[Worker]:
        try:
            yield worker
        finally:
            worker.closed.set()

    monkeypatch.setattr(entrypoint, "configure_process", lambda settings, process: None)
    monkeypatch.setattr(entrypoint, "open_worker", open_worker)
    working = asyncio.create_task(entrypoint.work(Settings()))
    await worker.running.wait()
    return working


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_first_signal_lets_the_worker_end_by_itself(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(drains=True)
    working = await start(worker, monkeypatch)
    os.kill(os.getpid(), number)
    await working
    assert worker.closed.is_set()


async def test_second_signal_hurries(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(drains=False)
    working = await start(worker, monkeypatch)
    os.kill(os.getpid(), signal.SIGTERM)
    await worker.stopping.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(20):
        await working
    assert worker.closed.is_set()


async def test_cancel_from_outside_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(drains=True)
    working = await start(worker, monkeypatch)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert worker.closed.is_set()
