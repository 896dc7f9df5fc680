"""arq as the doorbell: it spreads the news of ready steps over workers, and carries nothing but their ids.

What arq forgets, repeats or delays does not matter (ADR 0001): PostgreSQL decides who runs what. So a ring has a fresh
arq id each time (a dead worker's in-progress key cannot mute it), is answered within milliseconds (a claim, not the
step's work), keeps no result, and is JSON (arq's default, pickle, would let whoever writes to Redis run code here).
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from typing import Any
from uuid import uuid4

import structlog
from arq import ArqRedis, Retry, Worker, func
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

from echo_core.application.ending import end_tasks
from echo_core.domain.ids import StepId
from echo_core.plugin_api.errors import UnavailableError
from echo_core.plugin_api.steps import Resource

log = structlog.get_logger("echo.doorbell")

RING = "ring"
RING_EXPIRES_S = 60
"""An unanswered ring is forgotten after this; the reconciler rings again before."""
RING_TIMEOUT_S = 30
"""arq's timeout for answering a ring: a claim takes milliseconds. Plus 10 s it bounds how long a dead worker's
half-answered ring stays in the queue."""
RING_TRIES = 1000
BUSY_DELAY_S = 0.1
SOCKET_TIMEOUT_S = 5.0
RESTART_DELAY_S = 0.5
QUEUE_PREFIX = "echo:ring:"


def _serialize(job: dict[str, Any]) -> bytes:
    return json.dumps(job, default=str).encode()


def open_arq(url: str) -> ArqRedis:
    """A connection pool that arq can use. Close it with ``aclose``."""
    pool = ConnectionPool.from_url(
        url, socket_timeout=SOCKET_TIMEOUT_S, socket_connect_timeout=SOCKET_TIMEOUT_S, health_check_interval=30
    )
    redis = ArqRedis(pool_or_conn=pool, job_serializer=_serialize, job_deserializer=json.loads)
    redis.auto_close_connection_pool = True  # off for a pool that is handed in, which then nobody would close
    return redis


class ArqDoorbell:
    """Rings."""

    def __init__(self, redis: ArqRedis) -> None:
        self._redis = redis

    async def ring(self, rings: Sequence[tuple[StepId, Resource]]) -> None:
        """Raises ``UnavailableError`` when Redis does not take it."""
        try:
            async with asyncio.timeout(SOCKET_TIMEOUT_S):
                await self._forget_old_rings({resource for _, resource in rings})
                for step_id, resource in rings:
                    await self._redis.enqueue_job(
                        RING,
                        str(step_id),
                        _job_id=f"{step_id}:{uuid4().hex}",
                        _queue_name=f"{QUEUE_PREFIX}{resource}",
                        _expires=RING_EXPIRES_S,
                    )
        except (RedisError, OSError, TimeoutError) as error:
            raise UnavailableError(f"Redis did not take a ring: {type(error).__name__}.") from error

    async def _forget_old_rings(self, resources: Set[Resource]) -> None:
        """arq lets a ring expire but leaves its id in the queue: while every slot is taken these would pile up, and
        afterwards be worked through, one by one, before any new ring is heard."""
        oldest_ms = (time.time() - RING_EXPIRES_S) * 1000
        for resource in resources:
            await self._redis.zremrangebyscore(f"{QUEUE_PREFIX}{resource}", "-inf", oldest_ms)


class ArqListener:
    """Answers the rings of one resource class with claims, as long as slots are free.

    arq's own worker loop ends when Redis blinks; here it is started again, and the steps that run are not its tasks.
    """

    def __init__(
        self,
        redis: ArqRedis,
        resource: Resource,
        *,
        slots: int,
        free_slots: Callable[[], int],
        claim: Callable[[], Awaitable[bool]],
        poll_delay_s: float,
    ) -> None:
        self._redis = redis
        self._resource = resource
        self._slots = slots
        self._free_slots = free_slots
        self._claim = claim
        self._poll_delay_s = poll_delay_s
        self._worker: Worker | None = None

    def slots_changed(self, free: int) -> None:
        """Leave rings to other workers while this one has no free slot."""
        if self._worker is not None:
            self._worker.allow_pick_jobs = free > 0

    async def run(self) -> None:
        """Listen for ever."""
        while True:
            self._worker = self._new_worker()
            self.slots_changed(self._free_slots())
            try:
                await self._worker.async_run()
            except (RedisError, OSError) as error:
                log.warning("doorbell.lost", resource=self._resource, error=str(error) or type(error).__name__)
            except Exception:
                log.exception("doorbell.lost", resource=self._resource)
            finally:
                await _end(self._worker)
            await asyncio.sleep(RESTART_DELAY_S)

    async def _answer(self, ctx: Mapping[str, object], step_id: str) -> None:
        """The id is only for the log: whichever step is next in fairness is claimed."""
        if self._free_slots() <= 0:
            raise Retry(defer=BUSY_DELAY_S)
        await self._claim()

    def _new_worker(self) -> Worker:
        return Worker(
            functions=[func(self._answer, name=RING)],
            redis_pool=self._redis,
            queue_name=f"{QUEUE_PREFIX}{self._resource}",
            handle_signals=False,
            max_jobs=max(1, self._slots),
            job_timeout=RING_TIMEOUT_S,
            keep_result=0,
            max_tries=RING_TRIES,
            poll_delay=self._poll_delay_s,
            job_serializer=_serialize,
            job_deserializer=json.loads,
            log_results=False,
        )


async def _end(worker: Worker) -> None:
    """End the tasks of an arq worker without closing the shared pool."""
    tasks = [*worker.tasks.values()]
    if worker.main_task is not None:
        tasks.append(worker.main_task)
    await end_tasks(tasks)
    await asyncio.gather(*tasks, return_exceptions=True)  # looked at, so that nobody warns of what they raised


# arq tells of every ring at level INFO; its warnings stay.
logging.getLogger("arq").setLevel(logging.WARNING)
