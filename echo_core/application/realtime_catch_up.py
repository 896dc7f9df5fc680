"""Reading from the database what a connection or a topic has missed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

from echo_core.application.ports import UserUnitsOfWork
from echo_core.application.realtime_frames import event_frame, snapshot_frame
from echo_core.application.realtime_topics import Connection, Topic
from echo_core.domain.ids import StepId, UserId
from echo_core.domain.jobs import Job
from echo_core.domain.progress import Place
from echo_core.plugin_api.context import Clock
from echo_core.plugin_api.events import Event

MAX_REPLAY: Final = 1000
"""Missed events that are replayed; a client that missed more gets a snapshot, which is less to read."""
MAX_SNAPSHOT_JOBS: Final = 50
"""Unfinished jobs in a snapshot."""
SNAPSHOT_TRIES: Final = 3
"""Readings until no event falls between jobs and number. After that one may be told twice, never missed."""
MAX_READS: Final = 4
"""Concurrent reads: a restart brings everybody back at once, and requests need connections to the database too."""
READ_TIMEOUT_S: Final = 15.0
DRAIN_TIMEOUT_S: Final = 30.0
"""How long a client may take to read one page of what it missed."""
HEADS_CHUNK: Final = 5000
"""Owners in one query for newest numbers."""


class SlowClientError(Exception):
    """The client does not read what it asked for."""


class CatchUp:
    """Brings connections to the present. ``page_size`` events are read and sent at a time."""

    def __init__(self, units_of_work: UserUnitsOfWork, clock: Clock, *, page_size: int) -> None:
        self._units_of_work = units_of_work
        self._clock = clock
        self._page_size = page_size
        self._reads = asyncio.Semaphore(MAX_READS)

    async def heads(self, owner_ids: Sequence[UserId]) -> Mapping[UserId, int]:
        """The newest numbers; an owner without events is missing."""
        heads: dict[UserId, int] = {}
        for start in range(0, len(owner_ids), HEADS_CHUNK):
            async with self._reading():
                heads.update(await self._units_of_work.event_heads(owner_ids[start : start + HEADS_CHUNK]))
        return heads

    async def read_after(self, topic: Topic, sequence: int) -> Sequence[Event]:
        """The next page of an owner's events."""
        async with self._reading(), self._units_of_work.for_user(topic.user) as uow:
            return await uow.events.list_after(topic.owner_id, sequence, self._page_size)

    async def bring_up(self, connection: Connection, last_event_id: int | None, reason: str) -> None:
        """Send what was missed since ``last_event_id``, or a snapshot with that reason, and make the connection live.

        The topic must have begun. Raises ``SlowClientError``.
        """
        topic = connection.topic
        if last_event_id is None:
            await self._send_snapshot(connection, reason)
        elif await self._is_held(topic, last_event_id):
            connection.sent = last_event_id
        else:
            await self._send_snapshot(connection, "gap")
        # No await may stand between the last comparison and going live.
        while not connection.closing and connection.sent < (topic.last or 0):
            page = await self.read_after(topic, connection.sent)
            if page and page[0].sequence == connection.sent + 1:
                await self._send_page(connection, page)
                continue
            await self._send_snapshot(connection, "gap")
            if not page:
                break  # numbers went back; the next poll sees that too and starts everybody over
        connection.live = not connection.closing

    async def _is_held(self, topic: Topic, last_event_id: int) -> bool:
        async with self._reading(), self._units_of_work.for_user(topic.user) as uow:
            oldest, head = await uow.events.bounds(topic.owner_id)
        return oldest - 1 <= last_event_id <= head and head - last_event_id <= MAX_REPLAY

    async def _send_page(self, connection: Connection, page: Sequence[Event]) -> None:
        await self._drain(connection)
        for event in page:
            if event.sequence != connection.sent + 1:
                return
            if not connection.outbox.put_state(event_frame(event), event.job_id):
                raise SlowClientError
            connection.sent = event.sequence

    async def _send_snapshot(self, connection: Connection, reason: str) -> None:
        await self._drain(connection)
        head, jobs, places = await self._read_unfinished(connection.topic)
        frame = snapshot_frame(
            jobs[:MAX_SNAPSHOT_JOBS],
            places,
            head=head,
            reason=reason,
            more=len(jobs) > MAX_SNAPSHOT_JOBS,
            at=self._clock.now(),
        )
        if not connection.outbox.put_state(frame):
            raise SlowClientError
        connection.sent = head

    async def _read_unfinished(self, topic: Topic) -> tuple[int, Sequence[Job], Mapping[StepId, Place]]:
        """The number of an event, the unfinished jobs as they stood after it, and their places in the queue."""
        async with self._reading(), self._units_of_work.for_user(topic.user) as uow:
            _, head = await uow.events.bounds(topic.owner_id)
            for _ in range(SNAPSHOT_TRIES):
                before = head
                jobs = await uow.jobs.list_unfinished(MAX_SNAPSHOT_JOBS + 1)
                _, head = await uow.events.bounds(topic.owner_id)
                if head == before:
                    break
            return before, jobs, await uow.jobs.outlook([job.id for job in jobs[:MAX_SNAPSHOT_JOBS]])

    async def _drain(self, connection: Connection) -> None:
        try:
            async with asyncio.timeout(DRAIN_TIMEOUT_S):
                await connection.outbox.drained()
        except TimeoutError:
            raise SlowClientError from None

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[None]:
        async with self._reads, asyncio.timeout(READ_TIMEOUT_S):
            yield
