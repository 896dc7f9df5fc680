"""A database of events, a bus and sockets in memory, for tests of the realtime hub."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from echo_core.application.ports import Progress
from echo_core.application.realtime import Discontinuity, RealtimeHub
from echo_core.application.services import Limits
from echo_core.domain.ids import JobId, StepId, UserId, VideoId, new_job_id, new_video_id
from echo_core.domain.jobs import Job
from echo_core.domain.progress import Place
from echo_core.domain.users import User
from echo_core.plugin_api.errors import AuthError, UnavailableError
from echo_core.plugin_api.events import Event

START = datetime(2026, 1, 1, tzinfo=UTC)
LIMITS = Limits(
    public_url="http://echo.test",
    max_upload_bytes=1,
    upload_expires_in_s=1,
    url_expires_in_s=1,
    max_body_bytes=1,
    ws_poll_s=3600.0,
)


@dataclass
class ManualClock:
    moment: datetime = START

    def now(self) -> datetime:
        return self.moment

    def advance(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)

    def monotonic(self) -> float:
        return (self.moment - START).total_seconds()


@dataclass
class EventDatabase:
    """Every owner's events; as ``UserUnitsOfWork``, reads run ``before_read`` first and can be made to fail."""

    events: dict[UUID, list[Event]] = field(default_factory=lambda: defaultdict(list))
    jobs: list[Job] = field(default_factory=list)
    failing: bool = False
    before_read: Callable[[], Awaitable[None]] | None = None
    reads: int = 0
    head_queries: list[Sequence[UserId]] = field(default_factory=list)

    def commit(self, owner: User, event_type: str = "job.running", **changes: Any) -> Event:
        rows = self.events[owner.id]
        event = Event(
            sequence=rows[-1].sequence + 1 if rows else 1,
            type=event_type,
            owner_id=owner.id,
            video_id=changes.pop("video_id", VIDEO),
            job_id=changes.pop("job_id", JOB),
            at=START,
            state=event_type.rpartition(".")[2],
            **changes,
        )
        rows.append(event)
        return event

    def commit_many(self, owner: User, count: int) -> list[Event]:
        return [self.commit(owner) for _ in range(count)]

    async def read(self) -> None:
        self.reads += 1
        if self.before_read is not None:
            await self.before_read()
        if self.failing:
            raise UnavailableError("The database is down.")

    @asynccontextmanager
    async def for_user(self, user: User) -> AsyncIterator[Any]:
        yield _UnitOfWork(self, user)

    async def event_heads(self, owner_ids: Sequence[UserId]) -> Mapping[UserId, int]:
        self.head_queries.append(owner_ids)
        await self.read()
        return {o: self.events[o][-1].sequence for o in owner_ids if self.events.get(o)}

    async def queue_statistics(self) -> Sequence[Any]:
        return []


VIDEO: VideoId = new_video_id()
JOB: JobId = new_job_id()


class _UnitOfWork:
    def __init__(self, database: EventDatabase, user: User) -> None:
        self.events = _Events(database, user)
        self.jobs = _Jobs(database, user)


@dataclass
class _Events:
    database: EventDatabase
    user: User

    async def list_after(self, owner_id: UserId, sequence: int, limit: int) -> Sequence[Event]:
        await self.database.read()
        rows = self.database.events[owner_id] if owner_id == self.user.id else []
        return [e for e in rows if e.sequence > sequence][:limit]

    async def bounds(self, owner_id: UserId) -> tuple[int, int]:
        await self.database.read()
        rows = self.database.events[owner_id] if owner_id == self.user.id else []
        return (rows[0].sequence, rows[-1].sequence) if rows else (1, 0)


@dataclass
class _Jobs:
    database: EventDatabase
    user: User

    async def list_unfinished(self, limit: int) -> Sequence[Job]:
        await self.database.read()
        return [j for j in self.database.jobs if j.owner_id == self.user.id and not j.state.finished][:limit]

    async def outlook(self, job_ids: Sequence[JobId]) -> Mapping[StepId, Place]:
        return {}


@dataclass
class QueueSource:
    """A bus on which the test puts messages itself."""

    queue: asyncio.Queue[Event | Progress | Discontinuity] = field(default_factory=asyncio.Queue)

    async def messages(self) -> AsyncGenerator[Event | Progress | Discontinuity, None]:
        while True:
            yield await self.queue.get()


class RecordingSink:
    """A socket that keeps what it was given. While it is stalled, a write waits."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.closed: tuple[int, str] | None = None
        self.abandoned = False
        self.gone = False
        self._writable = asyncio.Event()
        self._writable.set()

    def stall(self) -> None:
        self._writable.clear()

    def resume(self) -> None:
        self._writable.set()

    async def send(self, text: str) -> None:
        await self._writable.wait()
        if self.gone:
            raise ConnectionResetError
        self.texts.append(text)

    async def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)

    def abandon(self) -> None:
        self.abandoned = True

    @property
    def frames(self) -> list[dict[str, Any]]:
        return [json.loads(text) for text in self.texts]

    @property
    def ids(self) -> list[int]:
        """Numbers of the state changes, in order of arrival."""
        return [f["id"] for f in self.frames if "id" in f and f["type"] != "snapshot"]

    def of_type(self, frame_type: str) -> list[dict[str, Any]]:
        return [f for f in self.frames if f["type"] == frame_type]


@dataclass
class MemoryTickets:
    """Tickets that expire by the given clock."""

    clock: ManualClock
    kept: dict[str, tuple[datetime, User]] = field(default_factory=dict)

    async def put(self, key: str, user: User, *, expires_in_s: int) -> None:
        self.kept[key] = (self.clock.now() + timedelta(seconds=expires_in_s), user)

    async def take(self, key: str) -> User | None:
        expires_at, user = self.kept.pop(key, (START, None))
        return user if expires_at > self.clock.now() else None


@dataclass
class TableTokens:
    """Tokens that stand for users because a table says so."""

    users: dict[str, User] = field(default_factory=dict)

    async def verify(self, token: str) -> User:
        if token not in self.users:
            raise AuthError("The token is not valid.", code="token_invalid")
        return self.users[token]

    def mint_playback(self, owner_id: UUID, video_id: UUID) -> str:
        raise NotImplementedError

    def verify_playback(self, token: str, video_id: UUID) -> UserId:
        raise NotImplementedError


def user(number: int = 1, *, expires_at_s: float = 0.0) -> User:
    return User(id=UserId(UUID(int=number)), email=f"{number}@echo.test", expires_at_s=expires_at_s)


def progress(owner: User, percent: float, *, job_id: JobId = JOB, step: str = "ladder") -> Progress:
    return Progress(
        owner_id=owner.id,
        video_id=VIDEO,
        job_id=job_id,
        step=step,
        step_percent=percent,
        percent=percent,
        eta_s=10.0,
    )


def limits(**changes: Any) -> Limits:
    return replace(LIMITS, **changes)


@asynccontextmanager
async def running_hub(
    database: EventDatabase, *, clock: ManualClock | None = None, source: Any = None, **changes: Any
) -> AsyncIterator[RealtimeHub]:
    """A hub that runs for the length of the block. Nothing happens by the wall clock."""
    clock = clock or ManualClock()
    hub = RealtimeHub(
        units_of_work=database,  # type: ignore[arg-type]  # only what the hub reads is there
        source=source or QueueSource(),
        limits=limits(**changes),
        clock=clock,
        monotonic=clock.monotonic,
    )
    task = asyncio.create_task(hub.run())
    await settle()
    try:
        yield hub
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def settle(turns: int = 60) -> None:
    """Let everything run that does not wait for time."""
    for _ in range(turns):
        await asyncio.sleep(0)
