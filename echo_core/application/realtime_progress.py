"""Progress on its way to the sockets: at most four reports a second for each job, the newest of each step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from echo_core.application.ports import Progress
from echo_core.application.realtime_frames import progress_frame
from echo_core.application.realtime_topics import Topic
from echo_core.plugin_api.context import Clock

FLUSH_S: Final = 0.05
"""How often waiting reports are looked at, while there are any."""


class ProgressPacer:
    """Sends a report at once if its job's last is long enough ago, else later, in its newest version."""

    def __init__(self, clock: Clock, monotonic: Callable[[], float]) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._waiting: dict[Topic, None] = {}
        self._waits = asyncio.Event()

    def take(self, progress: Progress, topic: Topic | None) -> None:
        """Take in a report about one of the topic's jobs."""
        now = self._monotonic()
        if topic is not None and topic.add_progress(progress, now):
            self._send_due(topic, now)
            if topic.has_waiting_progress:
                self._waiting[topic] = None
                self._waits.set()

    def flush(self) -> None:
        """Send the reports whose time has come."""
        now = self._monotonic()
        for topic in list(self._waiting):
            self._send_due(topic, now)
            if not topic.has_waiting_progress:
                del self._waiting[topic]
        if not self._waiting:
            self._waits.clear()

    async def run(self) -> None:
        """Flush for ever; idle while nothing waits."""
        while True:
            await self._waits.wait()
            await asyncio.sleep(FLUSH_S)
            self.flush()

    def _send_due(self, topic: Topic, now: float) -> None:
        for entry, progress in topic.take_due_progress(now):
            frame = progress_frame(progress, percent=entry.percent, eta_s=entry.eta_s, at=self._clock.now())
            for connection in topic.live_connections():
                connection.outbox.put_progress(frame, (progress.job_id, progress.step))
