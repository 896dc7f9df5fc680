"""Buckets, and several processes that share them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_core.application import rate_limiting
from echo_core.application.rate_limiting import Buckets, RateLimiter, RatePolicy
from echo_core.plugin_api.errors import UnavailableError

POLICY = RatePolicy(name="user", quota=60, setting="http.test", window_s=60)


class Time:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Counts:
    """What Redis does, in memory; ``time`` is its clock."""

    def __init__(self, time: Time) -> None:
        self.time = time
        self.full_at_s: dict[tuple[str, str], float] = {}
        self.away = False
        self.calls = 0

    async def add(self, policy: RatePolicy, taken: Mapping[str, int]) -> Mapping[str, float]:
        self.calls += 1
        if self.away:
            raise UnavailableError("away")
        answer = {}
        for key, count in taken.items():
            full_at_s = max(self.full_at_s.get((policy.name, key), 0.0), self.time()) + count * policy.interval_s
            self.full_at_s[policy.name, key] = full_at_s
            answer[key] = full_at_s - self.time()
        return answer


def taken(buckets: Buckets, tries: int, key: str = "a") -> int:
    return sum(buckets.take(key).admitted for _ in range(tries))


def test_a_quota_may_be_used_at_once_and_comes_back_evenly() -> None:
    time = Time()
    buckets = Buckets(POLICY, now_s=time)
    assert taken(buckets, 100) == 60
    time.now_s += 10
    assert taken(buckets, 100) == 10
    time.now_s += 1000
    assert taken(buckets, 100) == 60


def test_a_verdict_tells_what_is_left_and_how_long_to_wait() -> None:
    time = Time()
    buckets = Buckets(POLICY, now_s=time)
    first = buckets.take("a")
    assert (first.remaining, first.wait_s) == (59, 1)
    taken(buckets, 58)
    last, refused = buckets.take("a"), buckets.take("a")
    assert (last.admitted, last.remaining, last.wait_s) == (True, 0, 60)
    assert (refused.admitted, refused.remaining, refused.wait_s) == (False, 0, 1)
    time.now_s += refused.wait_s
    assert buckets.take("a").admitted


def test_keys_have_buckets_of_their_own() -> None:
    buckets = Buckets(POLICY, now_s=Time())
    assert (taken(buckets, 100, "a"), taken(buckets, 100, "b")) == (60, 60)


def test_memory_is_bounded_however_many_addresses_there_are() -> None:
    time = Time()
    buckets = Buckets(POLICY, now_s=time, max_keys=100)
    for number in range(1000):
        assert buckets.take(str(number)).admitted
    assert len(buckets) == 100
    buckets.learn({f"elsewhere {n}": 30.0 for n in range(1000)})
    assert len(buckets) == 100
    time.now_s += 100
    buckets.forget_full()
    assert len(buckets) == 0


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 40)), max_size=50), st.integers(1, 50), st.integers(1, 60))
def test_nobody_gets_more_than_a_quota_and_what_came_back(
    steps: list[tuple[float, int]], quota: int, window_s: int
) -> None:
    policy = RatePolicy(name="x", quota=quota, setting="x", window_s=window_s)
    time = Time()
    buckets = Buckets(policy, now_s=time)
    begun_s, admitted = time.now_s, 0
    for pause_s, tries in steps:
        time.now_s += pause_s
        admitted += taken(buckets, tries)
        came_back = (time.now_s - begun_s) / policy.interval_s
        assert admitted <= math.ceil(quota + came_back + 0.01)
        verdict = buckets.take("b")
        assert 0 <= verdict.remaining < quota


def processes(count: int, time: Time) -> tuple[Counts, list[RateLimiter], list[Buckets]]:
    counts = Counts(time)
    limiters = [RateLimiter(counts, users=POLICY, now_s=time) for _ in range(count)]
    return counts, limiters, [limiter.users for limiter in limiters if limiter.users is not None]


async def test_processes_share_one_quota_after_an_exchange() -> None:
    time = Time()
    _, limiters, (one, two) = processes(2, time)
    assert taken(one, 40) == 40
    await limiters[0].exchange()
    assert two.take("a").admitted  # it has not heard yet
    await limiters[1].exchange()
    assert taken(two, 100) == 19


@pytest.mark.parametrize("count", [2, 5])
async def test_overshoot_is_a_quota_for_each_other_process_at_most_and_is_paid_back(count: int) -> None:
    time = Time()
    _, limiters, buckets = processes(count, time)
    assert sum(taken(one, 1000) for one in buckets) == count * POLICY.quota
    for limiter in limiters:
        await limiter.exchange()
    # In all that time no more than what a single process would have let in beside that burst: an hour at the rate.
    admitted = 0
    for _ in range(3600):
        time.now_s += 1
        admitted += sum(taken(one, 5) for one in buckets)
        for limiter in limiters:
            await limiter.exchange()
    assert admitted <= 3600 + count
    assert admitted >= 3600 - count * POLICY.quota


async def test_without_redis_each_process_counts_alone_and_nothing_is_told_late() -> None:
    time = Time()
    counts, limiters, (one, two) = processes(2, time)
    counts.away = True
    assert (taken(one, 100), taken(two, 100)) == (60, 60)
    assert not await limiters[0].exchange()
    assert taken(one, 100) == 0
    counts.away = False
    time.now_s += 120
    assert await limiters[0].exchange()
    assert counts.full_at_s == {}
    assert taken(one, 100) == 60


async def test_an_emptied_redis_gives_no_quota_twice() -> None:
    time = Time()
    counts, limiters, (one, _) = processes(2, time)
    assert taken(one, 59) == 59
    await limiters[0].exchange()
    counts.full_at_s.clear()
    assert taken(one, 100) == 1
    await limiters[0].exchange()
    assert taken(one, 100) == 0


async def test_counts_are_exchanged_in_the_background_and_only_when_there_are_any() -> None:
    counts = Counts(Time())
    exchanged = asyncio.Event()
    add = counts.add

    async def watched(policy: RatePolicy, taken: Mapping[str, int]) -> Mapping[str, float]:
        exchanged.set()
        return await add(policy, taken)

    counts.add = watched  # type: ignore[method-assign]
    limiter = RateLimiter(counts, users=POLICY, failures=POLICY, exchange_s=0)
    assert limiter.users is not None
    running = asyncio.create_task(limiter.run())
    for _ in range(20):
        await asyncio.sleep(0)
    assert counts.calls == 0
    for number in (1, 2):
        exchanged.clear()
        limiter.users.take("a")
        async with asyncio.timeout(10):
            await exchanged.wait()
        assert counts.calls == number
    running.cancel()


async def test_exchanges_go_on_whatever_one_of_them_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limiting, "REST_S", 0)
    counts = Counts(Time())
    add = counts.add
    exchanged = asyncio.Event()
    failures = [ValueError("not what a server would say")]

    async def troubled(policy: RatePolicy, taken: Mapping[str, int]) -> Mapping[str, float]:
        exchanged.set()
        if failures:
            raise failures.pop()
        return await add(policy, taken)

    counts.add = troubled  # type: ignore[method-assign]
    limiter = RateLimiter(counts, users=POLICY, exchange_s=0)
    assert limiter.users is not None
    running = asyncio.create_task(limiter.run())
    for _ in range(2):
        exchanged.clear()
        limiter.users.take("a")
        async with asyncio.timeout(10):
            await exchanged.wait()
    running.cancel()
    assert counts.calls == 1
