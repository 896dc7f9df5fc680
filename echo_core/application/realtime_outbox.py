"""What waits to be sent on one connection, bounded; and sending without a task while the socket takes everything."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias
from uuid import UUID

from echo_core.application.realtime_frames import Frame

Send: TypeAlias = Callable[[str], Coroutine[Any, Any, None]]
ProgressKey: TypeAlias = tuple[UUID, str]


class Spawn(Protocol):
    """Starts a task that somebody else looks after."""

    def __call__(self, work: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> asyncio.Task[None]:
        """Run ``work(*args)``, which is not even called if the task is cancelled before it begins."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OutboxLimits:
    """How much may wait for one slow client, the frame that is being written not counted."""

    max_messages: int
    max_bytes: int = 1 << 20


class Outbox:
    """The way out of one connection.

    A send is stepped once in the caller: a writable socket takes it there and then, without a task or a queue. One that
    would block goes on in a task of its own, and whatever comes after waits behind it. So a client that does not read
    costs nobody else anything. Frames are whole or not sent; states keep their order; progress goes last.
    """

    __slots__ = ("_bytes", "_limits", "_progress", "_send", "_spawn", "_states", "_writer", "closed", "frames")

    def __init__(self, send: Send, spawn: Spawn, limits: OutboxLimits) -> None:
        self._send = send
        self._spawn = spawn
        self._limits = limits
        self._states: deque[Frame] | None = None
        self._progress: dict[ProgressKey, Frame] | None = None
        self._bytes = 0
        self._writer: asyncio.Task[None] | None = None
        self.closed = False
        self.frames = 0
        """How many were put in so far: an idle connection is one whose count stands still."""

    def put_state(self, frame: Frame, job_id: UUID | None = None) -> bool:
        """Send, or queue. Progress of the same job that still waits is dropped: this is newer. False: no room."""
        if self.closed:
            return True
        self.frames += 1
        if self._writer is None:
            self._write(frame)
            return True
        if job_id is not None and self._progress:
            for key in [key for key in self._progress if key[0] == job_id]:
                self._bytes -= self._progress.pop(key).size_bytes
        if not self._has_room_for(frame) and self._progress:
            self._bytes -= sum(dropped.size_bytes for dropped in self._progress.values())
            self._progress.clear()
        if not self._has_room_for(frame):
            return False
        if self._states is None:
            self._states = deque()
        self._states.append(frame)
        self._bytes += frame.size_bytes
        return True

    def put_progress(self, frame: Frame, key: ProgressKey) -> None:
        """Send, replace what waits for the same job and step, queue, or drop."""
        if self.closed:
            return
        self.frames += 1
        if self._writer is None:
            self._write(frame)
            return
        if self._progress is None:
            self._progress = {}
        if (older := self._progress.pop(key, None)) is not None:
            self._bytes -= older.size_bytes
        if self._has_room_for(frame):
            self._progress[key] = frame
            self._bytes += frame.size_bytes

    async def drained(self) -> None:
        """Wait until nothing waits."""
        while (writer := self._writer) is not None:
            await asyncio.wait({writer})

    def close(self) -> None:
        """Drop everything that waits and take nothing any more."""
        self.closed = True
        if self._writer is not None:
            self._writer.cancel()
            self._writer = None
        self._clear()

    def _has_room_for(self, frame: Frame) -> bool:
        waiting = len(self._states or ()) + len(self._progress or ())
        return waiting < self._limits.max_messages and self._bytes + frame.size_bytes <= self._limits.max_bytes

    def _write(self, frame: Frame) -> None:
        coroutine = self._send(frame.text)
        try:
            waits_for = coroutine.send(None)
        except StopIteration:
            return
        except Exception:
            # Each server raises something else when the peer is gone. Its endpoint learns of it by itself, and
            # whatever it is, the other connections of the same sweep must not notice.
            self.close()
            return
        self._writer = self._spawn(self._drain, _Resumed(coroutine, waits_for))

    async def _drain(self, begun: _Resumed) -> None:
        try:
            await begun
            while (frame := self._next()) is not None:
                await self._send(frame.text)
        except Exception:  # as in _write
            self.closed = True
            self._clear()
        finally:
            self._writer = None

    def _next(self) -> Frame | None:
        frame: Frame | None = None
        if self._states:
            frame = self._states.popleft()
        elif self._progress:
            frame = self._progress.pop(next(iter(self._progress)))
        if frame is not None:
            self._bytes -= frame.size_bytes
        return frame

    def _clear(self) -> None:
        self._states = None
        self._progress = None
        self._bytes = 0


class _Resumed:
    """The rest of a coroutine that was stepped once by hand; awaited, it goes on inside the task that awaits it."""

    __slots__ = ("_coroutine", "_waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, None], waits_for: Any) -> None:
        self._coroutine = coroutine
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, None]:
        waits_for = self._waits_for
        while True:
            interrupted: BaseException | None = None
            value = None
            try:
                value = yield waits_for
            except BaseException as error:
                interrupted = error
            try:
                send, throw = self._coroutine.send, self._coroutine.throw
                waits_for = send(value) if interrupted is None else throw(interrupted)
            except StopIteration:
                return
