"""Tasks end even when a driver loses the first cancellation."""

from __future__ import annotations

import asyncio

import pytest

from echo_core.application import ending
from echo_core.application.ending import end_tasks


@pytest.fixture(autouse=True)
def insists_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "INSIST_S", 0.01)


async def loses_cancellations(number: int) -> None:
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if number == 0:
                raise
            number -= 1


async def test_task_that_loses_its_first_cancellations_is_ended() -> None:
    tasks = [asyncio.create_task(loses_cancellations(number)) for number in (0, 1, 3)]
    await asyncio.sleep(0)
    await end_tasks(tasks)
    assert all(task.cancelled() for task in tasks)


async def test_task_that_fails_while_it_is_ended_keeps_its_error() -> None:
    async def fails() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("while ending")

    task = asyncio.create_task(fails())
    await asyncio.sleep(0)
    await end_tasks([task])
    assert isinstance(task.exception(), ValueError)


async def test_no_task_takes_no_time() -> None:
    await end_tasks([])
