"""Keeping the leases of running steps, and learning what others want of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

import structlog

from echo_core.application.admission import Shortage
from echo_core.application.ports import Claim, EventBus, LeaseRef, Progress, WorkerUnitsOfWork
from echo_core.domain.errors import UnknownEntityError
from echo_core.domain.ids import JobId, StepId
from echo_core.domain.jobs import Job, Step
from echo_core.domain.progress import Place, job_eta_s, job_percent, with_live_progress
from echo_core.plugin_api.errors import EchoError, UnavailableError

log = structlog.get_logger("echo.engine")

INSIST_S = 10.0
"""A run that goes on so long after it was stopped is stopped again: a cancellation can get lost (``end_tasks``), but
tools that end, and their files, need a while."""
PROGRESS_INTERVAL_S = 0.25
"""Four progress messages a second and job, at most (design, section 7)."""


class StopReason(Enum):
    """Why a running step is being ended from outside."""

    CANCEL = "cancel"
    LEASE_LOST = "lease_lost"
    SHUTDOWN = "shutdown"


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineTiming:
    """Seconds. A lease survives ``lease_s / heartbeat_s - 1`` missed heartbeats."""

    lease_s: float = 15.0
    heartbeat_s: float = 5.0
    watch_s: float = 0.5
    shutdown_grace_s: float = 10.0


@dataclass(slots=True)
class Running:
    """A step that runs in this process. Monotonic times are ``time.monotonic``."""

    claim: Claim
    step: Step
    claimed_at: float
    renewed_at: float
    """When the lease was last known to be ours: the moment before it was asked for."""
    task: asyncio.Task[None] | None = None
    progress: float = 0.0
    published: float = 0.0
    settling: bool = False
    """The work is done and its outcome is being recorded: no cancel can reach it any more."""
    stop_reason: StopReason | None = None
    stopped_at: float = 0.0
    cancellations: int = 0
    """How often its task was cancelled from here."""
    shortage: Shortage | None = None
    """It could not be let in: it fails by this at once."""

    def begin(self) -> None:
        """Called by the task that runs the step. Raises ``CancelledError`` if it was stopped before it began."""
        self.task = asyncio.current_task()
        if self.stop_reason is not None:
            raise asyncio.CancelledError

    def stop(self, reason: StopReason) -> None:
        """End the run. The first reason stands."""
        if self.stop_reason is None and not self.settling:
            self.stop_reason = reason
            self._cancel()

    def insist(self) -> None:
        """Stop once more what was stopped and goes on."""
        overdue = time.monotonic() - self.stopped_at > INSIST_S
        if self.stop_reason is not None and not self.settling and overdue:
            self._cancel()

    def _cancel(self) -> None:
        self.stopped_at = time.monotonic()
        if self.task is not None:
            self.cancellations += 1
            self.task.cancel()

    def is_stopped_only_here(self) -> bool:
        """Whether nobody else cancelled the task either; it is then no longer cancelled."""
        remaining = [self.task.uncancel() for _ in range(self.cancellations)] if self.task is not None else []
        return not remaining or remaining[-1] == 0

    def abandon(self) -> None:
        """End the run wherever it is, even while its outcome is being recorded."""
        if self.task is not None:
            self.task.cancel()

    def database_now(self) -> datetime:
        """The database's clock, carried on from the claim by our own."""
        started_at = self.step.started_at or self.claim.job.created_at
        return started_at + timedelta(seconds=time.monotonic() - self.claimed_at)


class LeaseWatch:
    """Renews every ``heartbeat_s``; looks for cancels and lost leases every ``watch_s``; tells progress."""

    def __init__(
        self,
        running: Mapping[StepId, Running],
        *,
        units_of_work: WorkerUnitsOfWork,
        bus: EventBus,
        timing: EngineTiming,
    ) -> None:
        self._running = running
        self._units_of_work = units_of_work
        self._bus = bus
        self._timing = timing
        self._jobs: dict[JobId, Job] = {}
        self._places: Mapping[StepId, Place] = {}
        self._looked_at = 0.0

    def saw(self, job: Job) -> None:
        """This is how a job stands after a change of ours: progress is told by it."""
        self._jobs[job.id] = job

    async def keep_leases(self) -> None:
        """Run for ever. A database that is away is no error here, until it is away for a whole lease."""
        last_beat = time.monotonic()
        while True:
            await asyncio.sleep(self._timing.watch_s)
            if not self._running:
                self._jobs.clear()
                continue
            begun_at = time.monotonic()
            extend = begun_at - last_beat >= self._timing.heartbeat_s
            try:
                async with asyncio.timeout(self._timing.heartbeat_s):
                    await self._beat(extend=extend)
                    if extend:
                        last_beat = begun_at
                        await self._look_at_jobs()
            except (EchoError, TimeoutError) as error:
                log.warning("lease.renew_failed", error=str(error) or type(error).__name__)
            except Exception:
                log.exception("lease.renew_failed")
            for running in list(self._running.values()):
                if time.monotonic() - running.renewed_at > self._timing.lease_s:
                    running.stop(StopReason.LEASE_LOST)
                running.insist()

    async def _beat(self, *, extend: bool) -> None:
        watched = list(self._running.values())
        asked_at = time.monotonic()
        leases = [LeaseRef(step_id=r.step.id, lease_token=r.claim.lease_token, progress=r.progress) for r in watched]
        async with self._units_of_work.for_worker() as uow:
            beats = {b.step_id: b for b in await uow.jobs.renew(leases, lease_s=self._timing.lease_s, extend=extend)}
        for running in watched:
            beat = beats.get(running.step.id)
            if beat is None or not beat.owned:
                running.stop(StopReason.LEASE_LOST)
            elif beat.cancel_requested:
                running.stop(StopReason.CANCEL)
            elif extend:
                running.renewed_at = asked_at

    async def _look_at_jobs(self) -> None:
        """Learn what other workers did to the jobs whose progress is told from here."""
        jobs: dict[JobId, Job] = {}
        async with self._units_of_work.for_worker() as uow:
            for job_id in {r.claim.job.id for r in self._running.values()}:
                with suppress(UnknownEntityError):  # purged; its run here is about to end
                    jobs[job_id] = await uow.jobs.get(job_id)
            self._places = await uow.jobs.outlook(list(jobs))
        self._jobs, self._looked_at = jobs, time.monotonic()

    async def tell_progress(self) -> None:
        """Run for ever: the newest progress of each running step, when it changed."""
        while True:
            await asyncio.sleep(PROGRESS_INTERVAL_S)
            for running in list(self._running.values()):
                if running.progress > running.published:
                    running.published = running.progress
                    try:
                        await self._bus.publish_progress(self._progress_of(running))
                    except UnavailableError:
                        break  # a courtesy; states are replayed from the database

    def _progress_of(self, running: Running) -> Progress:
        known = self._jobs.get(running.claim.job.id, running.claim.job)
        live = {r.step.id: r.progress for r in self._running.values() if r.claim.job.id == known.id}
        job = with_live_progress(known, live)
        age_s = time.monotonic() - self._looked_at
        places = {s.id: self._places[s.id].after(age_s) for s in job.steps if s.id in self._places}
        return Progress(
            owner_id=job.owner_id,
            video_id=job.video_id,
            job_id=job.id,
            step=running.step.name,
            step_percent=round(100 * running.progress, 1),
            percent=job_percent(job),
            eta_s=job_eta_s(job, running.database_now(), places),
        )
