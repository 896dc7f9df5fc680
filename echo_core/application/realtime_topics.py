"""One owner's live connections, and the order in which they hear of things."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from echo_core.application.ports import Progress
from echo_core.application.realtime_outbox import Outbox
from echo_core.domain.ids import JobId, UserId
from echo_core.domain.users import User
from echo_core.plugin_api.events import Event

PROGRESS_INTERVAL_S: Final = 0.25
"""Between two progress messages of one job: four a second (design, section 7)."""
MAX_PENDING: Final = 1000
"""Events of one owner held while those before them are fetched; further ones are fetched too."""
MAX_ENDED: Final = 512
"""Ended steps and jobs remembered for one owner, to drop progress that comes after the end."""

_JOB_ENDS: Final = frozenset({"job.succeeded", "job.failed", "job.cancelled"})
_STEP_ENDS: Final = frozenset({"step.succeeded", "step.failed", "step.skipped", "step.cancelled"})


class Sink(Protocol):
    """The socket of one connection."""

    def send(self, text: str) -> Coroutine[Any, Any, None]:
        """Write one text message. Suspends only while the socket takes no more; raises when the peer is gone."""

    async def close(self, code: int, reason: str) -> None:
        """Send a close frame."""

    def abandon(self) -> None:
        """End the endpoint that listens to this socket, soon. Not to be called twice or after its end with effect."""


class Connection:
    """One authenticated socket. ``sent`` is the number of the last state change that was put on its way."""

    __slots__ = ("beat", "closing", "expires_at_s", "live", "outbox", "sent", "sink", "starting", "topic", "warned")

    def __init__(self, topic: Topic, sink: Sink, outbox: Outbox, expires_at_s: float) -> None:
        self.topic = topic
        self.sink = sink
        self.outbox = outbox
        self.expires_at_s = expires_at_s
        self.sent = -1
        self.live = False
        """Whether the topic delivers to it; until then it reads from the database on its own."""
        self.closing = False
        self.warned = False
        self.beat = 0
        self.starting: asyncio.Task[None] | None = None


@dataclass(slots=True)
class JobProgress:
    """Progress of one job on its way to the sockets. ``waiting`` holds the newest of each step, longest waiting first:
    steps that run side by side take turns."""

    sent_at: float
    percent: float = 0.0
    eta_s: float | None = None
    waiting: dict[str, Progress] = field(default_factory=dict)


class Topic:
    """The connections of one owner in this process.

    ``last`` is the number up to which state changes were handed out (None: not known yet). It only moves by one, so
    that a live connection hears each number once and in order. A connection goes live in the very moment when it has
    itself read as far as ``last``: there is no seam to lose anything at.
    """

    __slots__ = (
        "_ended",
        "connections",
        "fetching",
        "head",
        "last",
        "lock",
        "owner_id",
        "pending",
        "progress",
        "user",
    )

    def __init__(self, user: User) -> None:
        self.owner_id: UserId = user.id
        self.user = user
        self.connections: dict[Connection, None] = {}
        self.last: int | None = None
        self.head = 0
        """The greatest number that is known to exist."""
        self.pending: dict[int, Event] = {}
        self.lock = asyncio.Lock()
        self.fetching = False
        self.progress: dict[JobId, JobProgress] = {}
        self._ended: dict[tuple[JobId, str | None], None] = {}

    @property
    def behind(self) -> bool:
        """Whether something is known to exist that was not handed out."""
        return self.last is not None and self.head > self.last

    def live_connections(self) -> Iterator[Connection]:
        """Those that the topic delivers to."""
        return (connection for connection in self.connections if connection.live)

    def hold(self, event: Event) -> None:
        """Keep an event until its turn comes."""
        self.head = max(self.head, event.sequence)
        if len(self.pending) < MAX_PENDING:
            self.pending[event.sequence] = event

    def take_next(self) -> Event | None:
        """The held event whose turn it is."""
        return None if self.last is None else self.pending.pop(self.last + 1, None)

    def begin_at(self, last: int) -> None:
        """Everything up to ``last`` is history from now on."""
        self.last = last
        self.head = max(last, *self.pending) if self.pending else last
        self.pending = {sequence: event for sequence, event in self.pending.items() if sequence > last}

    def note_state(self, event: Event) -> None:
        """Drop progress that the event has overtaken, and remember what has ended."""
        if event.job_id is None:
            return
        job_id = JobId(event.job_id)
        if event.type in _JOB_ENDS:
            self.progress.pop(job_id, None)
            self._remember_end((job_id, None))
        elif event.type in _STEP_ENDS:
            if (waiting := self.progress.get(job_id)) is not None:
                waiting.waiting.pop(event.step or "", None)
            self._remember_end((job_id, event.step))
        elif event.step is None:
            self._ended.pop((job_id, None), None)
        else:
            self._ended.pop((job_id, event.step), None)

    def add_progress(self, progress: Progress, now: float) -> bool:
        """Take progress in. False: its step or job has ended, or nobody is live."""
        if (progress.job_id, None) in self._ended or (progress.job_id, progress.step) in self._ended:
            return False
        if not any(True for _ in self.live_connections()):
            return False
        entry = self.progress.get(progress.job_id)
        if entry is None:
            entry = self.progress[progress.job_id] = JobProgress(sent_at=now - PROGRESS_INTERVAL_S)
        entry.percent, entry.eta_s = progress.percent, progress.eta_s
        entry.waiting[progress.step] = progress
        return True

    def take_due_progress(self, now: float) -> Iterator[tuple[JobProgress, Progress]]:
        """One report of each job whose time has come; jobs that were silent for a minute are forgotten."""
        for job_id, entry in list(self.progress.items()):
            if now - entry.sent_at < PROGRESS_INTERVAL_S:
                continue
            if entry.waiting:
                entry.sent_at = now
                yield entry, entry.waiting.pop(next(iter(entry.waiting)))
            elif now - entry.sent_at > 60.0:
                del self.progress[job_id]

    @property
    def has_waiting_progress(self) -> bool:
        """Whether any report waits for its time."""
        return any(entry.waiting for entry in self.progress.values())

    def _remember_end(self, key: tuple[JobId, str | None]) -> None:
        self._ended.pop(key, None)
        self._ended[key] = None
        while len(self._ended) > MAX_ENDED:
            del self._ended[next(iter(self._ended))]
