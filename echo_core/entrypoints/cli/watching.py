"""Following a job to its end: the WebSocket says when something changed, the job's own address says what.

Both are the public contract (``docs/realtime.md``, ``docs/http.md``). Events carry percent and remaining time and are
applied at once; whatever changes a state makes the job be read again, so that what is shown is never a guess. Without
a WebSocket the job is read every second instead.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import quote, urlsplit, urlunsplit

import msgspec
import websockets.asyncio.client as ws_client
import websockets.exceptions as ws_errors

from echo_core.entrypoints.cli.api import USER_AGENT, ApiClient
from echo_core.entrypoints.cli.backoff import Backoff
from echo_core.entrypoints.cli.contract import Job
from echo_core.entrypoints.cli.instance import is_loopback, subject_of

CLOSE_UNAUTHENTICATED = 4401
CLOSE_FORBIDDEN = 4403
MAX_MESSAGE_BYTES = 4 << 20
"""A snapshot of many unfinished jobs is the longest."""
CONNECT_TIMEOUT_S = 10.0
SILENCE_S = 90.0
"""Without even a heartbeat for so long, the connection is taken for dead."""


class WatchView(Protocol):
    """What a watched job shows."""

    def job(self, job: Job, *, live: bool) -> None:
        """The job as it is now; ``live``: told by the WebSocket, not asked for now and then."""

    def note(self, text: str) -> None:
        """Something worth a line."""


@dataclass(frozen=True, kw_only=True)
class WatchPace:
    """How often the job is read: as the only source, and beside a live WebSocket (for its place in the queue)."""

    polling_s: float = 1.0
    live_s: float = 5.0
    reconnect: Backoff = field(default_factory=lambda: Backoff(first_s=1.0, max_s=15.0))
    away: Backoff = field(default_factory=Backoff)
    """A server that restarts in the middle is waited for, as long as an upload waits for it."""


class Watcher:
    """Watches one job."""

    def __init__(self, api: ApiClient, job_id: str, view: WatchView, *, pace: WatchPace | None = None) -> None:
        self._api = api
        self._job_id = job_id
        self._view = view
        self._pace = pace or WatchPace()
        self._changed = asyncio.Event()
        self._live = False
        self._last_event_id: int | None = None
        self._job: Job | None = None

    async def run(self) -> Job:
        """Watch until the job has finished; that is what is returned. Raises ``CliError`` as any call does."""
        listening = asyncio.create_task(self._listen(), name="job events")
        try:
            while True:
                self._changed.clear()
                self._job = await self._api.call(Job, "GET", f"/videos/jobs/{self._job_id}", backoff=self._pace.away)
                self._view.job(self._job, live=self._live)
                if self._job.finished:
                    return self._job
                # Not wait_for: in Python 3.11 it can lose a cancellation that meets the end of what it waits for.
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._pace.live_s if self._live else self._pace.polling_s):
                        await self._changed.wait()
        finally:
            listening.cancel()
            with suppress(asyncio.CancelledError):
                await listening

    async def _listen(self) -> None:
        """Keep a WebSocket open as long as anybody listens; give up only where it can never work."""
        failures = 0
        while True:
            try:
                async with aclosing(self._frames()) as frames:
                    async for frame in frames:
                        failures = 0
                        self._take(frame)
                reason: str | None = "closed"
            except ws_errors.ConnectionClosed as error:
                reason = await self._after_close(error)
            except (OSError, TimeoutError, ws_errors.WebSocketException) as error:
                reason = str(error) or type(error).__name__
            was_live, self._live = self._live, False
            self._changed.set()
            if reason is None:
                self._view.note("Live updates are refused; asking every second instead.")
                return
            if was_live or failures == 0:
                self._view.note("Live updates are interrupted; asking every second meanwhile.")
            failures += 1
            await self._pace.reconnect.wait(failures)

    async def _after_close(self, error: ws_errors.ConnectionClosed) -> str | None:
        """Why it was closed; None when connecting again is pointless."""
        code = error.rcvd.code if error.rcvd is not None else 0
        if code == CLOSE_FORBIDDEN or (code == CLOSE_UNAUTHENTICATED and not await self._api.tokens.renew()):
            return None
        return f"closed with {code}"

    async def _frames(self) -> AsyncGenerator[Mapping[str, Any]]:
        token = await self._api.tokens.current()
        async with connect(self._api.url, subject_of(token)) as socket:
            hello: dict[str, Any] = {"type": "auth", "token": token}
            if self._last_event_id is not None:
                hello["lastEventId"] = self._last_event_id
            await socket.send(json.dumps(hello))
            while True:
                async with asyncio.timeout(SILENCE_S):
                    message = await socket.recv()
                try:
                    frame = json.loads(message)
                except ValueError:
                    continue
                if isinstance(frame, dict):
                    yield frame

    def _take(self, frame: Mapping[str, Any]) -> None:
        kind = frame.get("type")
        if isinstance(frame.get("id"), int):
            self._last_event_id = frame["id"]
        if kind == "ready":
            if not self._live:
                self._live = True
                self._changed.set()
        elif kind == "snapshot":
            self._changed.set()
        elif frame.get("jobId") == self._job_id:
            if kind == "job.progress":
                self._progressed(frame)
            else:
                self._changed.set()

    def _progressed(self, frame: Mapping[str, Any]) -> None:
        """Show progress without asking: it comes several times a second."""
        if self._job is None or self._job.finished:
            return
        steps = tuple(
            msgspec.structs.replace(step, state="running", percent=_number(frame.get("stepProgress"), step.percent))
            if step.name == frame.get("step") and step.state in {"queued", "running"}
            else step
            for step in self._job.steps
        )
        self._job = msgspec.structs.replace(
            self._job,
            percent=_number(frame.get("progress"), self._job.percent),
            eta_seconds=_number(frame.get("etaSeconds"), None),
            queue_position=None,
            steps=steps,
        )
        self._view.job(self._job, live=True)


def _number(value: object, otherwise: Any) -> Any:
    return float(value) if isinstance(value, int | float) else otherwise


def connect(url: str, user_id: str) -> ws_client.connect:
    """A connection to a user's job events; its first message has to be ``auth``. Raises ``OSError``,
    ``WebSocketException`` on entering."""
    parts = urlsplit(url)
    scheme = "wss" if parts.scheme == "https" else "ws"
    path = f"{parts.path.rstrip('/')}/ws/jobs/status/{quote(user_id, safe='')}"
    return ws_client.connect(
        urlunsplit((scheme, parts.netloc, path, "", "")),
        open_timeout=CONNECT_TIMEOUT_S,
        max_size=MAX_MESSAGE_BYTES,
        user_agent_header=USER_AGENT,
        proxy=None if is_loopback(parts.hostname or "") else True,
    )
