"""What became of steps, counted by all workers in one Redis hash, so that any API process can tell it.

An emptied Redis starts the counters anew, which is what a Prometheus counter may do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import cast

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from echo_core.application.step_metrics import StepCount, parse_step_counts
from echo_core.plugin_api.errors import UnavailableError
from echo_core.plugin_api.steps import Resource

log = structlog.get_logger("echo.metrics")

KEY = "echo:step-metrics"
TIMEOUT_S = 2.0


class RedisStepMetrics:
    """Adds to the hash and reads it; its fields are described in ``application/step_metrics.py``."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def step_ended(self, *, step: str, resource: Resource, outcome: str, code: str, seconds: float) -> None:
        """Count one run. Never raises: a count is not worth a step."""
        labels = f"{step}|{resource}|{outcome}|{code}"
        try:
            async with asyncio.timeout(TIMEOUT_S), self._redis.pipeline(transaction=False) as pipe:
                pipe.hincrby(KEY, f"count|{labels}", 1)
                pipe.hincrbyfloat(KEY, f"seconds|{labels}", round(seconds, 6))
                await pipe.execute()
        except (RedisError, OSError, TimeoutError) as error:
            log.debug("metrics.lost", error=type(error).__name__)

    async def read(self) -> Sequence[StepCount]:
        """Raises ``UnavailableError``."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                # redis-py types its asyncio commands as if they might also be synchronous.
                fields = await cast("Awaitable[dict[bytes, bytes]]", self._redis.hgetall(KEY))
        except (RedisError, OSError, TimeoutError) as error:
            raise UnavailableError("Redis did not tell the counters of steps.") from error
        return parse_step_counts({name.decode(): value.decode() for name, value in fields.items()})
