"""After the commit: events to the bus and to plugins' handlers, rings to the doorbell.

Nothing here can fail or delay whoever committed. What is lost when the process dies or Redis is away is found again:
events by their numbers, steps by the reconciler.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from echo_core.application.ending import end_tasks
from echo_core.application.ports import Doorbell, EventBus
from echo_core.domain.ids import StepId
from echo_core.plugin_api.errors import UnavailableError
from echo_core.plugin_api.events import Event, EventHandler
from echo_core.plugin_api.specs import EventHandlerSpec
from echo_core.plugin_api.steps import Resource

log = structlog.get_logger("echo.relay")

MAX_PENDING = 10_000
"""Commits that wait to be told; beyond it they are dropped here and found by number or by the reconciler."""
DRAIN_TIMEOUT_S = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenedEventHandler:
    """A plugin's event handler, opened."""

    plugin: str
    spec: EventHandlerSpec
    handler: EventHandler

    def wants(self, event: Event) -> bool:
        """Whether the spec asks for events of this type."""
        types = self.spec.types
        return not types or any(event.type == t or (t.endswith(".") and event.type.startswith(t)) for t in types)


class CommitRelay:
    """Callable after every commit; use ``running`` around the life of the process."""

    def __init__(self, *, bus: EventBus, doorbell: Doorbell, handlers: Sequence[OpenedEventHandler] = ()) -> None:
        self._bus = bus
        self._doorbell = doorbell
        self._handlers = tuple(handlers)
        self._told: asyncio.Queue[tuple[Sequence[Event], Sequence[tuple[StepId, Resource]]]] = asyncio.Queue(
            MAX_PENDING
        )
        self._handled: asyncio.Queue[Event] = asyncio.Queue(MAX_PENDING)

    async def __call__(self, events: Sequence[Event], rings: Sequence[tuple[StepId, Resource]]) -> None:
        """Take note of what was committed; returns at once."""
        if events or rings:
            try:
                self._told.put_nowait((events, rings))
            except asyncio.QueueFull:
                log.warning("relay.overflow", events=len(events), rings=len(rings))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Relay while inside; on leaving, tell what is still waiting for at most ``DRAIN_TIMEOUT_S``."""
        async with asyncio.TaskGroup() as tasks:
            workers = [tasks.create_task(self._tell_all(), name="commit relay")]
            if self._handlers:
                workers.append(tasks.create_task(self._handle_all(), name="event handlers"))
            try:
                yield
            finally:
                try:
                    async with asyncio.timeout(DRAIN_TIMEOUT_S):
                        await self._told.join()
                        await self._handled.join()
                except TimeoutError:
                    log.warning("relay.cut_short", pending=self._told.qsize() + self._handled.qsize())
                await end_tasks(workers)

    async def _tell_all(self) -> None:
        while True:
            events, rings = await self._told.get()
            try:
                # The doorbell first: somebody may be waiting to start. One may fail without the other.
                if rings:
                    await self._tell(self._doorbell.ring(rings))
                if events:
                    await self._tell(self._bus.publish_events(events))
            finally:
                if self._handlers:
                    self._queue_for_handlers(events)
                self._told.task_done()

    def _queue_for_handlers(self, events: Sequence[Event]) -> None:
        room = max(0, MAX_PENDING - self._handled.qsize())
        for event in events[:room]:
            self._handled.put_nowait(event)
        if len(events) > room:
            log.warning("event_handlers.overflow", dropped=len(events) - room)

    async def _tell(self, telling: Awaitable[None]) -> None:
        try:
            await telling
        except UnavailableError as error:
            log.warning("relay.unheard", error=error.message)
        except Exception:
            log.exception("relay.failed")

    async def _handle_all(self) -> None:
        while True:
            event = await self._handled.get()
            try:
                for opened in self._handlers:
                    if opened.wants(event):
                        await self._handle(opened, event)
            finally:
                self._handled.task_done()

    async def _handle(self, opened: OpenedEventHandler, event: Event) -> None:
        try:
            async with asyncio.timeout(opened.spec.timeout_s):
                await opened.handler.handle(event)
        except Exception:
            log.exception("event_handler.failed", plugin=opened.plugin, handler=opened.spec.name, event_type=event.type)
