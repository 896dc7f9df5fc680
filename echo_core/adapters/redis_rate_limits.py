"""Rate limits of all API processes, added up in Redis: one key for each bucket, gone when the bucket is full."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

from redis.exceptions import RedisError

from echo_core.adapters.redis_events import connect
from echo_core.application.rate_limiting import RatePolicy
from echo_core.plugin_api.errors import UnavailableError

PREFIX: Final = "echo:rate:"
TIMEOUT_S: Final = 1.0
"""Nobody waits for it; what takes longer comes too late to be of use."""
BATCH: Final = 500
"""Keys of one call: Redis serves nobody else meanwhile, about a millisecond."""

_ADD: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local full_in = {}
for i, key in ipairs(KEYS) do
    local full_at = tonumber(redis.call('GET', key) or '0')
    if full_at < now then full_at = now end
    full_at = full_at + tonumber(ARGV[i])
    redis.call('SET', key, string.format('%.0f', full_at), 'PX', math.ceil((full_at - now) / 1000))
    full_in[i] = full_at - now
end
return full_in
"""
"""Microseconds of Redis's own clock: those of the API's hosts need not agree."""


class RedisSharedCounts:
    """``SharedCounts``."""

    def __init__(self, url: str, *, prefix: str = PREFIX, timeout_s: float = TIMEOUT_S) -> None:
        self._prefix = prefix
        self._timeout_s = timeout_s
        self._redis = connect(url, timeout_s=timeout_s, max_connections=1)
        self._add = self._redis.register_script(_ADD)

    async def add(self, policy: RatePolicy, taken: Mapping[str, int]) -> Mapping[str, float]:
        """Raises ``UnavailableError``."""
        full_in_s: dict[str, float] = {}
        remaining = iter(taken.items())
        try:
            while batch := list(islice(remaining, BATCH)):
                keys = [f"{self._prefix}{policy.name}:{key}" for key, _ in batch]
                took_us: list[Any] = [math.ceil(count * policy.interval_s * 1e6) for _, count in batch]
                async with asyncio.timeout(self._timeout_s):
                    answer = await self._add(keys, took_us)
                full_in_s.update({key: us / 1e6 for (key, _), us in zip(batch, answer, strict=True)})
        except (RedisError, OSError, TimeoutError) as error:
            raise UnavailableError("Redis does not add up rate limits.") from error
        return full_in_s

    async def aclose(self) -> None:
        """Close the connection."""
        await self._redis.aclose(close_connection_pool=True)
