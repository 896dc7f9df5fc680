"""The body of an upload request, from the socket to the disk in constant memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from enum import Enum
from typing import Any

from echo_storage_local.config import MIB
from echo_storage_local.holds import Hold
from echo_storage_local.threads import IoThreads
from echo_storage_local.uploads import OpenUpload

BATCH_BYTES = MIB
"""Bytes gathered for one trip to a thread: below it the trips cost more than the writing."""
_BATCH_PIECES = 512
"""Pieces of one ``pwritev``; the kernel takes at most IOV_MAX, 1024."""

Receive = Callable[[], Awaitable[Mapping[str, Any]]]


class Ending(Enum):
    """How a body ended."""

    WHOLE = "whole"
    DISCONNECTED = "disconnected"
    IDLE = "idle"
    SUPERSEDED = "superseded"
    TOO_LONG = "too long"


class BodyReceiver:
    """Appends one request's body to an upload.

    The first ``skip_bytes`` are stored already and are dropped; more than ``room_bytes`` after them is too long. While
    one batch is written in a thread the next is received. However it ends, what was received is written.
    """

    def __init__(self, upload: OpenUpload, threads: IoThreads, *, skip_bytes: int, room_bytes: int | None) -> None:
        self._upload = upload
        self._threads = threads
        self._skip_bytes = skip_bytes
        self._room_bytes = room_bytes
        self._pieces: list[bytes] = []
        self.gathered_bytes = 0
        self._writing: asyncio.Task[None] | None = None

    async def receive_all(self, receive: Receive, hold: Hold, idle_timeout_s: float) -> Ending:
        """Receive until the body ends. Raises what writing raises (the disk is full)."""
        try:
            try:
                async with asyncio.timeout(idle_timeout_s) as deadline:
                    hold.deadline = deadline
                    return await self._pump(receive, hold, deadline, idle_timeout_s)
            except TimeoutError:
                return Ending.SUPERSEDED if hold.superseded else Ending.IDLE
            finally:
                hold.deadline = None
        finally:
            await self._flush()
            await self._written()

    async def _pump(self, receive: Receive, hold: Hold, deadline: asyncio.Timeout, idle_timeout_s: float) -> Ending:
        now = asyncio.get_running_loop().time
        while True:
            message = await receive()
            if hold.superseded:
                return Ending.SUPERSEDED
            deadline.reschedule(now() + idle_timeout_s)
            if message["type"] == "http.disconnect":
                return Ending.DISCONNECTED
            body: bytes = message.get("body", b"")
            if body and not self._take(body):
                return Ending.TOO_LONG
            if self.gathered_bytes >= BATCH_BYTES or len(self._pieces) >= _BATCH_PIECES:
                await self._flush()
            if not message.get("more_body", False):
                return Ending.WHOLE

    def _take(self, body: bytes) -> bool:
        if self._skip_bytes:
            dropped = min(self._skip_bytes, len(body))
            self._skip_bytes -= dropped
            body = body[dropped:]
        if self._room_bytes is not None:
            if len(body) > self._room_bytes:
                return False
            self._room_bytes -= len(body)
        if body:
            self._pieces.append(body)
            self.gathered_bytes += len(body)
        return True

    async def _flush(self) -> None:
        await self._written()
        if self._pieces:
            pieces, self._pieces, self.gathered_bytes = self._pieces, [], 0
            self._writing = asyncio.create_task(self._threads.run(self._upload.write, pieces))

    async def _written(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            await writing
