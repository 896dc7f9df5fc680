"""Rate limits of several processes over a real Valkey that is stalled, killed and emptied."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from echo_core.adapters.redis_rate_limits import PREFIX, RedisSharedCounts
from echo_core.application.rate_limiting import RateLimiter, RatePolicy
from tests.integration.realtime.conftest import Valkey

pytestmark = pytest.mark.integration

POLICY = RatePolicy(name="user", quota=600, setting="http.test")
TIMEOUT_S = 0.3


@pytest.fixture
async def limiters(valkey: Valkey) -> AsyncIterator[list[RateLimiter]]:
    """Three processes."""
    async with AsyncExitStack() as stack:
        made = []
        for _ in range(3):
            counts = RedisSharedCounts(valkey.url, timeout_s=TIMEOUT_S)
            stack.push_async_callback(counts.aclose)
            made.append(RateLimiter(counts, users=POLICY, failures=POLICY))
        yield made


def taken(limiter: RateLimiter, tries: int, key: str = "a") -> int:
    assert limiter.users is not None
    return sum(limiter.users.take(key).admitted for _ in range(tries))


async def test_three_processes_share_one_quota(limiters: list[RateLimiter], valkey: Valkey) -> None:
    one, two, three = limiters
    begun_s = time.monotonic()
    assert taken(one, 400) == 400
    assert await one.exchange()
    assert taken(two, 1) == 1
    assert await two.exchange()
    left = taken(two, 600)
    assert await two.exchange()
    assert taken(three, 1) == 1
    assert await three.exchange()
    more = taken(three, 600)
    came_back = (time.monotonic() - begun_s) * POLICY.quota / POLICY.window_s
    assert 199 <= left <= 199 + came_back + 1
    assert left + more <= 199 + came_back + 2
    assert taken(three, 1, "somebody else") == 1


async def test_shared_counts_are_by_policy_and_go_by_themselves(limiters: list[RateLimiter], valkey: Valkey) -> None:
    one = limiters[0]
    taken(one, 300)
    assert one.failures is not None
    for number in range(1200):  # more than one call takes
        one.failures.take(f"192.0.2.{number}")
    assert await one.exchange()
    assert await valkey.run("DBSIZE") == 1 + 1200
    lives_ms = await valkey.run("PTTL", f"{PREFIX}user:a")
    assert 0 < lives_ms <= 30_000
    assert 0 < await valkey.run("PTTL", f"{PREFIX}user:a") <= POLICY.window_s * 1000
    # One of 600 a minute comes back within a tenth of a second: the key of who asked once is soon gone.
    async with asyncio.timeout(10):
        while await valkey.run("DBSIZE") != 1:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("fault", ["killed", "stalled"])
async def test_without_redis_nobody_waits_and_each_process_counts_alone(
    limiters: list[RateLimiter], valkey: Valkey, fault: str
) -> None:
    one, two, _ = limiters
    running = asyncio.create_task(one.run())
    process = valkey._process
    assert process is not None
    if fault == "killed":
        valkey.kill()
    else:
        os.kill(process.pid, signal.SIGSTOP)
    try:
        slowest_s = 0.0
        admitted = 0
        end_s = time.monotonic() + 1.5  # several exchanges fail meanwhile
        while time.monotonic() < end_s:
            begun_s = time.process_time()
            admitted += taken(one, 10)
            slowest_s = max(slowest_s, time.process_time() - begun_s)
            await asyncio.sleep(0.01)
        assert 600 <= admitted <= 600 + 10 * 3
        assert slowest_s < 0.1
        assert not running.done()
        assert taken(two, 1000) == 600
        assert not await two.exchange()
    finally:
        running.cancel()
        if fault == "stalled":
            os.kill(process.pid, signal.SIGCONT)


async def test_an_emptied_redis_gives_no_quota_twice(limiters: list[RateLimiter], valkey: Valkey) -> None:
    one = limiters[0]
    taken(one, 600)
    assert await one.exchange()
    await valkey.empty()
    assert taken(one, 600) <= 10
    assert await one.exchange()
    assert taken(one, 600) <= 10
