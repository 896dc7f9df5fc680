"""What is told after a commit, and to whom, when some of them fail."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from echo_core.application import commit_relay
from echo_core.application.commit_relay import CommitRelay, OpenedEventHandler
from echo_core.application.ports import Progress
from echo_core.domain.ids import StepId, new_step_id, new_video_id
from echo_core.plugin_api.errors import UnavailableError
from echo_core.plugin_api.events import Event, EventHandler
from echo_core.plugin_api.specs import EventHandlerSpec
from echo_core.plugin_api.steps import Resource


class Told:
    """A bus and a doorbell that keep what they were told, in order."""

    def __init__(self, *, silent: bool = False) -> None:
        self.told: list[object] = []
        self.silent = silent

    async def ring(self, rings: Sequence[tuple[StepId, Resource]]) -> None:
        self._tell("ring", *rings)

    async def publish_events(self, events: Sequence[Event]) -> None:
        self._tell(*(event.type for event in events))

    async def publish_progress(self, progress: Progress) -> None:
        raise AssertionError("a commit has no progress")

    def _tell(self, *told: object) -> None:
        if self.silent:
            raise UnavailableError("Redis does not answer.")
        self.told += told


class Handler:
    def __init__(self, error: Exception | None = None, *, hangs: bool = False) -> None:
        self.types: list[str] = []
        self.error = error
        self.hangs = hangs

    async def handle(self, event: Event) -> None:
        self.types.append(event.type)
        if self.hangs:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error


def event(event_type: str) -> Event:
    return Event(
        sequence=1,
        type=event_type,
        owner_id=new_video_id(),
        video_id=new_video_id(),
        at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def opened(handler: EventHandler, *types: str, timeout_s: float = 10.0) -> OpenedEventHandler:
    def unopened(context: object) -> object:
        raise AssertionError("it is open")

    spec = EventHandlerSpec(name="handler", open=unopened, types=types, timeout_s=timeout_s)  # type: ignore[arg-type]
    return OpenedEventHandler(plugin="test", spec=spec, handler=handler)


async def test_doorbell_is_rung_before_events_are_told() -> None:
    told, ring = Told(), (new_step_id(), Resource.CPU)
    relay = CommitRelay(bus=told, doorbell=told)
    async with relay.running():
        await relay([event("job.queued")], [ring])
        await relay([], [])
    assert told.told == ["ring", ring, "job.queued"]


async def test_silent_doorbell_keeps_no_event_from_being_told() -> None:
    bus, doorbell = Told(), Told(silent=True)
    relay = CommitRelay(bus=bus, doorbell=doorbell)
    async with relay.running():
        await relay([event("job.queued")], [(new_step_id(), Resource.CPU)])
    assert bus.told == ["job.queued"]


async def test_handlers_get_the_types_that_they_asked_for_even_without_redis() -> None:
    every, jobs, one = Handler(), Handler(), Handler()
    told = Told(silent=True)
    handlers = [opened(every), opened(jobs, "job."), opened(one, "video.deleted", "job.failed")]
    relay = CommitRelay(bus=told, doorbell=told, handlers=handlers)
    types = ["job.failed", "jobs", "video.deleted", "step.failed"]
    async with relay.running():
        await relay([event(name) for name in types], [])
    assert (every.types, jobs.types, one.types) == (types, ["job.failed"], ["job.failed", "video.deleted"])


async def test_handler_that_fails_or_hangs_keeps_no_other_from_hearing() -> None:
    told, last = Told(), Handler()
    handlers = [opened(Handler(ZeroDivisionError())), opened(Handler(hangs=True), timeout_s=0.01), opened(last)]
    relay = CommitRelay(bus=told, doorbell=told, handlers=handlers)
    with capture_logs():  # drawing a traceback may take longer than the relay waits
        async with relay.running():
            await relay([event("job.failed"), event("video.updated")], [])
    assert last.types == ["job.failed", "video.updated"]


async def test_leaving_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit_relay, "DRAIN_TIMEOUT_S", 0.01)
    told, hangs = Told(), Handler(hangs=True)
    relay = CommitRelay(bus=told, doorbell=told, handlers=[opened(hangs, timeout_s=3600)])
    async with asyncio.timeout(20), relay.running():
        await relay([event("job.failed")], [])
    assert hangs.types == ["job.failed"]


async def test_commits_beyond_what_can_wait_are_dropped_and_delay_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit_relay, "MAX_PENDING", 1)
    told = Told()
    relay = CommitRelay(bus=told, doorbell=told)
    await relay([event("job.queued")], [])
    await relay([event("job.running")], [])
    async with relay.running():
        pass
    assert told.told == ["job.queued"]


async def test_events_beyond_what_handlers_can_keep_up_with_are_dropped_and_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(commit_relay, "DRAIN_TIMEOUT_S", 0.05)
    told, hangs = Told(), Handler(hangs=True)
    relay = CommitRelay(bus=told, doorbell=told, handlers=[opened(hangs, timeout_s=3600)])
    monkeypatch.setattr(commit_relay, "MAX_PENDING", 3)
    with capture_logs() as logs:
        async with asyncio.timeout(20), relay.running():
            await relay([event(f"job.{number}") for number in range(5)], [])
    assert [line["dropped"] for line in logs if line["event"] == "event_handlers.overflow"] == [2]
    assert told.told == [f"job.{number}" for number in range(5)]
