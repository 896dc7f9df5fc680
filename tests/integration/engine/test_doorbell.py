"""Rings over a real Valkey."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from echo_core.adapters.arq_queue import QUEUE_PREFIX, ArqDoorbell, ArqListener, open_arq
from echo_core.application.ending import end_tasks
from echo_core.domain.ids import new_step_id
from echo_core.plugin_api.errors import UnavailableError
from echo_core.plugin_api.steps import Resource
from tests.integration.realtime.conftest import Valkey, valkey  # noqa: F401 - a fixture

pytestmark = pytest.mark.integration

DEADLINE_S = 20
QUEUE = f"{QUEUE_PREFIX}{Resource.CPU}"


class Claims:
    """Counts rings that were answered with a claim."""

    def __init__(self, *, free: int = 1) -> None:
        self.free = free
        self.count = 0
        self.claimed = asyncio.Event()

    async def claim(self) -> bool:
        self.count += 1
        self.claimed.set()
        return True


@asynccontextmanager
async def listening(url: str, claims: Claims) -> AsyncIterator[ArqListener]:
    redis = open_arq(url)
    listener = ArqListener(
        redis,
        Resource.CPU,
        slots=1,
        free_slots=lambda: claims.free,
        claim=claims.claim,
        poll_delay_s=0.02,
    )
    task = asyncio.create_task(listener.run())
    try:
        yield listener
    finally:
        await end_tasks([task])
        await redis.aclose()


@asynccontextmanager
async def doorbell(url: str) -> AsyncIterator[ArqDoorbell]:
    redis = open_arq(url)
    try:
        yield ArqDoorbell(redis)
    finally:
        await redis.aclose()


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not reached():
            await asyncio.sleep(0.01)


async def test_every_ring_is_answered_with_a_claim_and_forgotten(valkey: Valkey) -> None:  # noqa: F811
    claims = Claims()
    step_id = new_step_id()
    async with listening(valkey.url, claims), doorbell(valkey.url) as bell:
        await bell.ring([(step_id, Resource.CPU)])
        await bell.ring([(step_id, Resource.CPU), (step_id, Resource.LIGHT)])
        await until(lambda: claims.count == 2)
        async with asyncio.timeout(DEADLINE_S):
            while await valkey.run("ZCARD", QUEUE):
                await asyncio.sleep(0.01)
    assert await valkey.run("ZCARD", f"{QUEUE_PREFIX}{Resource.LIGHT}") == 1


async def test_worker_without_a_free_slot_leaves_rings_to_others(valkey: Valkey) -> None:  # noqa: F811
    busy, free = Claims(free=0), Claims()
    async with listening(valkey.url, busy), doorbell(valkey.url) as bell:
        await bell.ring([(new_step_id(), Resource.CPU)])
        async with listening(valkey.url, free):
            await until(lambda: free.count == 1)
    assert busy.count == 0


async def test_slot_that_becomes_free_is_listened_for(valkey: Valkey) -> None:  # noqa: F811
    claims = Claims(free=0)
    async with listening(valkey.url, claims) as listener, doorbell(valkey.url) as bell:
        await bell.ring([(new_step_id(), Resource.CPU)])
        claims.free = 1
        listener.slots_changed(1)
        await until(lambda: claims.count == 1)


async def test_listener_survives_a_redis_that_dies_and_comes_back_empty(valkey: Valkey) -> None:  # noqa: F811
    claims = Claims()
    async with listening(valkey.url, claims), doorbell(valkey.url) as bell:
        await bell.ring([(new_step_id(), Resource.CPU)])
        await until(lambda: claims.count == 1)
        valkey.kill()
        with pytest.raises(UnavailableError):
            await bell.ring([(new_step_id(), Resource.CPU)])
        await valkey.start()
        await bell.ring([(new_step_id(), Resource.CPU)])
        await until(lambda: claims.count == 2)


async def test_rings_that_nobody_answered_do_not_pile_up(valkey: Valkey) -> None:  # noqa: F811
    hour_ago_ms = int((time.time() - 3600) * 1000)
    for number in range(50):
        await valkey.run("ZADD", QUEUE, hour_ago_ms + number, f"old-{number}")
    async with doorbell(valkey.url) as bell:
        await bell.ring([(new_step_id(), Resource.CPU)])
    assert await valkey.run("ZCARD", QUEUE) == 1
