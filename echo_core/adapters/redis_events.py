"""The event bus on one capped Redis stream. What is in it is a hint: the rows in the database are the truth."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from echo_core.application.ports import Progress
from echo_core.application.realtime import Discontinuity
from echo_core.domain.ids import JobId, UserId, VideoId
from echo_core.plugin_api.errors import UnavailableError
from echo_core.plugin_api.events import Event

log = structlog.get_logger("echo.realtime")

STREAM: Final = "echo:events"
MAX_ENTRIES: Final = 10_000
"""Kept in the stream, approximately: minutes of a busy instance, a few MiB."""
PUBLISH_TIMEOUT_S: Final = 1.0
REFUSE_FOR_S: Final = 1.0
"""After a failure nothing is tried for this long: a Redis that hangs must not delay every request by the timeout."""
PUBLISH_CONNECTIONS: Final = 4
BLOCK_S: Final = 2.0
"""How long one read waits; after a silent one the stream is looked at."""
BATCH: Final = 256
MAX_BACKOFF_S: Final = 2.0

_START: Final = b"0-0"
_FIELD: Final = b"m"


class _WireEvent(msgspec.Struct, tag_field="kind", tag="e", array_like=True, kw_only=True):
    sequence: int
    type: str
    owner_id: UUID
    video_id: UUID
    at: datetime
    job_id: UUID | None
    step: str | None
    state: str | None
    facts: dict[str, Any]


class _WireProgress(msgspec.Struct, tag_field="kind", tag="p", array_like=True, kw_only=True):
    owner_id: UUID
    video_id: UUID
    job_id: UUID
    step: str
    step_percent: float
    percent: float
    eta_s: float | None


_encoder = msgspec.msgpack.Encoder(uuid_format="bytes")
_decoder = msgspec.msgpack.Decoder(_WireEvent | _WireProgress)


class RedisEventBus:
    """Publishes, from any process. Fails fast: at most ``timeout_s``, and at once for a second after a failure."""

    def __init__(
        self, url: str, *, stream: str = STREAM, max_entries: int = MAX_ENTRIES, timeout_s: float = PUBLISH_TIMEOUT_S
    ) -> None:
        self._stream = stream
        self._max_entries = max_entries
        self._timeout_s = timeout_s
        self._refuse_until = 0.0
        self._redis = connect(url, timeout_s=timeout_s, max_connections=PUBLISH_CONNECTIONS)

    async def publish_events(self, events: Sequence[Event]) -> None:
        """Raises ``UnavailableError``."""
        await self._publish([_encode_event(event) for event in events])

    async def publish_progress(self, progress: Progress) -> None:
        """Raises ``UnavailableError``."""
        await self._publish([_encode_progress(progress)])

    async def aclose(self) -> None:
        """Close the connections."""
        await self._redis.aclose(close_connection_pool=True)

    async def _publish(self, payloads: Sequence[bytes]) -> None:
        if not payloads:
            return
        if time.monotonic() < self._refuse_until:
            raise UnavailableError("Redis did not answer a moment ago.")
        try:
            async with asyncio.timeout(self._timeout_s):
                pipeline = self._redis.pipeline(transaction=False)
                for payload in payloads:
                    pipeline.xadd(self._stream, {_FIELD: payload}, maxlen=self._max_entries, approximate=True)
                await pipeline.execute()
        except (RedisError, OSError, TimeoutError) as error:
            self._refuse_until = time.monotonic() + REFUSE_FOR_S
            raise UnavailableError("Redis does not answer.") from error


class RedisEventSource:
    """Reads everything that is published from the moment on at which it is opened, over one connection."""

    def __init__(self, url: str, *, stream: str = STREAM, block_s: float = BLOCK_S) -> None:
        self._url = url
        self._stream = stream
        self._block_s = block_s
        self._last_id = b""
        self._last_payload: bytes | None = None

    async def messages(self) -> AsyncGenerator[Event | Progress | Discontinuity, None]:
        """Yield for ever. Whatever happens to Redis, it reconnects; a ``Discontinuity`` stands wherever entries may
        have been lost: after every connection, and where the stream was emptied or trimmed past this reader."""
        failures = 0
        while True:
            redis = connect(self._url, timeout_s=self._block_s + PUBLISH_TIMEOUT_S, max_connections=1)
            try:
                await self._position(redis)
                yield Discontinuity()
                log.info("realtime.source_connected") if failures else None
                failures = 0
                async for message in self._read(redis):
                    yield message
            except (RedisError, OSError, TimeoutError) as error:
                failures += 1
                if failures == 1:
                    log.warning("realtime.source_lost", error=str(error))
                await asyncio.sleep(_backoff_s(failures))
            finally:
                await _close(redis)

    async def _read(self, redis: Redis) -> AsyncGenerator[Event | Progress | Discontinuity, None]:
        while True:
            reply = await redis.xread({self._stream: self._last_id}, count=BATCH, block=int(self._block_s * 1000))
            entries = reply[0][1] if reply else []
            for entry_id, fields in entries:
                self._last_id, self._last_payload = entry_id, fields.get(_FIELD, b"")
                message = _decode(fields.get(_FIELD, b""))
                if message is not None:
                    yield message
            if (not entries or len(entries) == BATCH) and await self._lost_entries(redis):
                yield Discontinuity()

    async def _position(self, redis: Redis) -> None:
        """Begin at the end of the stream; go on, after a lost connection, where the reader stood."""
        if self._last_id:
            await self._lost_entries(redis)
            return
        newest = await redis.xrevrange(self._stream, count=1)
        if newest:
            self._last_id, self._last_payload = newest[0][0], newest[0][1].get(_FIELD, b"")
        else:
            self._last_id = _START

    async def _lost_entries(self, redis: Redis) -> bool:
        """Whether the stream began anew (with smaller ids nothing would ever be read again) or was trimmed past us."""
        try:
            info = await redis.xinfo_stream(self._stream)
        except ResponseError:  # no such key
            lost = self._last_id != _START
            self._last_id = _START
            return lost
        newest = info["last-entry"]
        # Emptied and filled again within a millisecond, or after a clock step, it may hold our id for another entry.
        ours_is_another = bool(newest) and newest[0] == self._last_id and newest[1].get(_FIELD) != self._last_payload
        if ours_is_another or _parsed(info["last-generated-id"]) < _parsed(self._last_id):
            self._last_id = _START
            return True
        # After a silent read nothing newer is there; after a full one, older entries should be there still.
        first = info["first-entry"]
        return bool(first) and _parsed(first[0]) > _parsed(self._last_id)


def connect(url: str, *, timeout_s: float, max_connections: int) -> Redis:
    """A client that answers or fails within ``timeout_s`` and tries nothing twice."""
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=max_connections,
        timeout=timeout_s,
        socket_timeout=timeout_s,
        socket_connect_timeout=min(timeout_s, PUBLISH_TIMEOUT_S),
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )
    return Redis.from_pool(pool)


async def _close(redis: Redis) -> None:
    try:
        await redis.aclose()
    except (RedisError, OSError) as error:
        log.debug("realtime.source_close_failed", error=str(error))


def _backoff_s(failures: int) -> float:
    return random.uniform(0.5, 1.0) * min(MAX_BACKOFF_S, 0.05 * 2.0 ** min(failures, 10))  # noqa: S311 - jitter


def _parsed(entry_id: bytes | str) -> tuple[int, int]:
    text = entry_id.decode() if isinstance(entry_id, bytes) else entry_id
    milliseconds, _, number = text.partition("-")
    return int(milliseconds), int(number or 0)


def _encode_event(event: Event) -> bytes:
    return _encoder.encode(
        _WireEvent(
            sequence=event.sequence,
            type=event.type,
            owner_id=event.owner_id,
            video_id=event.video_id,
            at=event.at,
            job_id=event.job_id,
            step=event.step,
            state=event.state,
            facts=dict(event.facts),
        )
    )


def _encode_progress(progress: Progress) -> bytes:
    return _encoder.encode(
        _WireProgress(
            owner_id=progress.owner_id,
            video_id=progress.video_id,
            job_id=progress.job_id,
            step=progress.step,
            step_percent=progress.step_percent,
            percent=progress.percent,
            eta_s=progress.eta_s,
        )
    )


def _decode(payload: bytes) -> Event | Progress | None:
    """None for what this version does not understand: another one may be writing to the same stream."""
    try:
        wire = _decoder.decode(payload)
    except msgspec.MsgspecError as error:
        log.warning("realtime.entry_unreadable", error=str(error))
        return None
    if isinstance(wire, _WireEvent):
        return Event(
            sequence=wire.sequence,
            type=wire.type,
            owner_id=wire.owner_id,
            video_id=wire.video_id,
            at=wire.at,
            job_id=wire.job_id,
            step=wire.step,
            state=wire.state,
            facts=wire.facts,
        )
    return Progress(
        owner_id=UserId(wire.owner_id),
        video_id=VideoId(wire.video_id),
        job_id=JobId(wire.job_id),
        step=wire.step,
        step_percent=wire.step_percent,
        percent=wire.percent,
        eta_s=wire.eta_s,
    )
