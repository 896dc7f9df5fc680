"""How a worker process hears that it shall end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from echo_core.adapters.postgres.schema import SchemaError
from echo_core.adapters.settings import Settings
from echo_core.bootstrap import WorkerProcess
from echo_core.entrypoints import worker as entrypoint
from echo_core.plugin_api.errors import UnavailableError


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


class Engine:
    stopped = False

    async def run(self, *, ready: asyncio.Event, stop: asyncio.Event) -> None:
        ready.set()
        await stop.wait()
        self.stopped = True


class Idle:
    async def run(self) -> None:
        await asyncio.Event().wait()


async def test_worker_whose_schema_is_taken_away_stops_as_if_told_to_and_says_why() -> None:
    answers: Iterator[Exception | None] = iter([None, UnavailableError("away"), ZeroDivisionError(), SchemaError("no")])

    async def check_schema() -> None:
        if (answer := next(answers)) is not None:
            raise answer

    engine = Engine()
    process = WorkerProcess(
        name="w",
        slots={},
        engine=engine,  # type: ignore[arg-type]
        reconciler=Idle(),  # type: ignore[arg-type]
        listeners={},
        check_schema=check_schema,
        check_every_s=0,
    )
    with pytest.raises(SchemaError):
        async with asyncio.timeout(20):
            await process.run(asyncio.Event())
    assert engine.stopped
    assert next(answers, None) is None
