"""The job engine of one worker process: it claims steps, runs them, and has their outcomes recorded.

PostgreSQL is the only truth. A doorbell only says that something may be ready; when it stays silent, the reconciler
finds the step within seconds. What keeps two workers apart is the lease (claimed, renewed and judged on the database's
clock) and its token, which every write carries.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import structlog

from echo_core.application.admission import ASK_AGAIN_S, Admission, Prospect, Shortage, defer, run_directory
from echo_core.application.ending import end_tasks
from echo_core.application.job_changes import store_change
from echo_core.application.lease_watch import EngineTiming, LeaseWatch, Running, StopReason
from echo_core.application.pipeline import NO_PIPELINE, Pipeline
from echo_core.application.ports import Claim, EventBus, UnitOfWork, WorkerUnitsOfWork
from echo_core.application.running import SCRATCH_RESERVE_BYTES, StepRun
from echo_core.application.settling import (
    Cancelled,
    Failed,
    Lost,
    Outcome,
    Released,
    Settler,
    StepMetrics,
    StepTimeoutError,
    Succeeded,
    Waiting,
    bounded,
    failure,
    waiting,
)
from echo_core.application.sweeping import Sweeper
from echo_core.domain.errors import LeaseLostError, UnknownEntityError
from echo_core.domain.ids import StepId
from echo_core.domain.jobs import Job, Step
from echo_core.plugin_api.errors import EchoError, UnavailableError
from echo_core.plugin_api.steps import Resource, StepHandler
from echo_core.plugin_api.storage import StorageBackend
from echo_core.plugin_api.transcoder import Transcoder

log = structlog.get_logger("echo.engine")

CLAIM_TRIES = 20
CLAIM_RETRY_S = 0.01
"""A ready step may be locked for a moment by a sibling's commit; then it is asked for again."""

_STOPPED: Mapping[StopReason, Outcome] = {
    StopReason.CANCEL: Cancelled(),
    StopReason.LEASE_LOST: Lost(),
    StopReason.SHUTDOWN: Released(),
}


class Engine:
    """See the module. ``handlers`` are found by the name of a step's spec, ``slots`` by resource class; ``pipeline``
    knows the steps that others may add."""

    def __init__(
        self,
        *,
        units_of_work: WorkerUnitsOfWork,
        storage: StorageBackend,
        storage_name: str,
        transcoder: Transcoder,
        handlers: Mapping[str, StepHandler],
        slots: Mapping[Resource, int],
        scratch: Path,
        worker: str,
        bus: EventBus,
        metrics: StepMetrics,
        timing: EngineTiming | None = None,
        admission: Admission | None = None,
        scratch_reserve_bytes: int = SCRATCH_RESERVE_BYTES,
        pipeline: Pipeline = NO_PIPELINE,
    ) -> None:
        self._units_of_work = units_of_work
        self._storage = storage
        self._storage_name = storage_name
        self._transcoder = transcoder
        self._handlers = handlers
        self._slots = dict(slots)
        self._used = dict.fromkeys(Resource, 0)
        self._scratch = scratch
        self.worker = worker
        self.step_names: Sequence[str] = tuple(sorted(handlers))
        """What this worker claims. A step that it cannot run is left to one that can: while an instance is upgraded, or
        where a plugin is installed on some machines only."""
        self._timing = timing or EngineTiming()
        self._admission = admission
        self._scratch_reserve_bytes = scratch_reserve_bytes
        self._metrics = metrics
        self._waking: set[Resource] = set()
        self.sweeper = Sweeper(units_of_work=units_of_work, storage=storage)
        self._settler = Settler(
            units_of_work=units_of_work, storage=storage, metrics=metrics, sweeper=self.sweeper, pipeline=pipeline
        )
        self._running: dict[StepId, Running] = {}
        self._watch = LeaseWatch(self._running, units_of_work=units_of_work, bus=bus, timing=self._timing)
        self._tasks: asyncio.TaskGroup | None = None
        self._stopping = False
        self._idle = asyncio.Event()
        self._idle.set()
        self.on_slots_changed: Callable[[Resource, int], None] = lambda resource, free: None
        """Called with the number of free slots of a class whenever it changes."""

    # --- life --------------------------------------------------------------------------------------------------

    async def run(self, *, ready: asyncio.Event, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set; then let running steps end for the grace period, release the rest, return."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            watches = [
                tasks.create_task(self._watch.keep_leases(), name="keep leases"),
                tasks.create_task(self._watch.tell_progress(), name="tell progress"),
            ]
            ready.set()
            await stop.wait()
            await self._drain()
            await end_tasks(watches)

    async def _drain(self) -> None:
        self._stopping = True
        for resource in Resource:
            self.on_slots_changed(resource, 0)
        if await self._idle_within(self._timing.shutdown_grace_s):
            return
        for running in list(self._running.values()):
            running.stop(StopReason.SHUTDOWN)
        if await self._idle_within(self._timing.lease_s):
            return
        # Nothing could be recorded for a whole lease. It has run out, and whoever takes the steps needs nothing of us.
        for running in list(self._running.values()):
            log.warning("step.abandoned", step=running.step.name, job_id=str(running.claim.job.id))
            running.abandon()

    async def _idle_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    @property
    def slots(self) -> Mapping[Resource, int]:
        """How many steps of each class may run at once."""
        return self._slots

    def free_slots(self, resource: Resource) -> int:
        """How many more steps of this class may be claimed now."""
        return 0 if self._stopping else max(0, self._slots.get(resource, 0) - self._used[resource])

    # --- claiming ----------------------------------------------------------------------------------------------

    async def claim_next(self, resource: Resource) -> bool:
        """Claim and start the next ready step of this class; False if there is none or no slot is free."""
        if self._tasks is None or self.free_slots(resource) <= 0:
            return False
        self._occupy(resource, +1)
        # A task of its own: whoever asks may be cancelled (arq's tasks are when Redis blinks), and a claim that the
        # database has must be run or given back.
        return await asyncio.shield(
            self._tasks.create_task(self._claim_and_start(self._tasks, resource), name=f"claim {resource}")
        )

    async def _claim_and_start(self, tasks: asyncio.TaskGroup, resource: Resource) -> bool:
        running: Running | None = None
        try:
            claimed_at = time.monotonic()
            claimed = await self._claim(resource)
            if claimed is not None:
                claim, shortage = claimed
                step = claim.job.step(claim.step_id)
                running = Running(
                    claim=claim, step=step, claimed_at=claimed_at, renewed_at=claimed_at, shortage=shortage
                )
                if (late := self._running.get(step.id)) is not None:
                    late.stop(StopReason.LEASE_LOST)  # it lost its lease, was taken back, and has not ended yet
                self._running[step.id] = running
                self._watch.saw(claim.job)
                if self._stopping:
                    running.stop(StopReason.SHUTDOWN)
                tasks.create_task(self._run(running), name=f"step {step.name} {step.id}")
        except UnavailableError as error:
            log.warning("step.claim_failed", resource=resource, error=error.message)
        except Exception:
            log.exception("step.claim_failed", resource=resource)
        finally:
            if running is None:
                self._occupy(resource, -1)
        return running is not None

    async def claim_all(self) -> None:
        """Fill every free slot with what is ready: at start, and as often as the reconciler runs."""
        for resource in Resource:
            while await self.claim_next(resource):
                continue

    async def _claim(self, resource: Resource) -> tuple[Claim, Shortage | None] | None:
        """The next step that may start. One that need not wait for room is claimed with its shortage: to fail by it."""
        for _ in range(CLAIM_TRIES):
            asked: Step | None = None
            try:
                async with self._units_of_work.for_worker() as uow:
                    candidate = await uow.jobs.claim_candidate(resource, self.step_names)
                    if candidate is not None:
                        asked = candidate[0].step(candidate[1])
                        claimed = await self._claim_or_defer(uow, candidate[0], asked)
                    elif not await uow.jobs.has_ready(resource, self.step_names):
                        return None
            except BaseException:
                if asked is not None:
                    await self._release(asked, asked.lease_token + 1)
                raise
            if asked is None:
                await asyncio.sleep(CLAIM_RETRY_S * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret
            elif isinstance(claimed, Shortage):
                self._wake_later(resource)
                await self._metrics.step_ended(
                    step=asked.spec, resource=resource, outcome="waiting", code=claimed.waiting.code, seconds=0.0
                )
            else:
                return claimed
        return None

    async def _claim_or_defer(self, uow: UnitOfWork, job: Job, step: Step) -> tuple[Claim, Shortage | None] | Shortage:
        shortage = await self._admission.ask(uow, job, step) if self._admission is not None else None
        if shortage is not None and shortage.prospect is Prospect.WAIT:
            await defer(uow, job, step, shortage)
            return shortage
        now = await uow.jobs.now()
        claimed = job.claimed(step.id, worker=self.worker, now=now, lease_s=self._timing.lease_s)
        claimed = await store_change(uow, job, claimed)
        return Claim(job=claimed, step_id=step.id, lease_token=claimed.step(step.id).lease_token), shortage

    async def _release(self, step: Step, lease_token: int) -> None:
        try:
            if self._admission is not None:
                await self._admission.release(step, lease_token)
        except Exception:
            # A disk that fails here must cost neither the slot nor the worker.
            log.exception("step.release_failed", step=step.name)

    def _occupy(self, resource: Resource, change: int) -> None:
        self._used[resource] += change
        if any(self._used.values()):
            self._idle.clear()
        else:
            self._idle.set()
        self.on_slots_changed(resource, self.free_slots(resource))

    # --- running -----------------------------------------------------------------------------------------------

    async def _run(self, running: Running) -> None:
        step, job = running.step, running.claim.job
        with structlog.contextvars.bound_contextvars(
            correlation_id=job.correlation_id, job_id=str(job.id), video_id=str(job.video_id), step=step.name
        ):
            log.info("step.started", attempt=step.attempt)
            try:
                await self._attempt(running)
            except Exception:
                # Nothing in here may end the worker: the lease runs out and the step is taken back.
                log.exception("step.settle_failed")
            finally:
                if self._running.get(step.id) is running:
                    del self._running[step.id]
                await self._release(step, running.claim.lease_token)
                self._occupy(step.resource, -1)
        await self.claim_next(step.resource)

    async def _attempt(self, running: Running) -> None:
        run: StepRun | None = None
        try:
            try:
                running.begin()
                run = await self._open_run(running)
                outcome: Outcome = await self._work(running, run)
            except asyncio.CancelledError:
                if running.stop_reason is None or not running.is_stopped_only_here():
                    raise
                # Our own doing, not the event loop's: the task goes on, to record how the run ended.
                outcome = _STOPPED[running.stop_reason]
            except UnknownEntityError:
                log.info("step.gone")
                return
            except LeaseLostError:
                outcome = Lost()
            except Exception as error:
                outcome = _outcome_of(running, run, error)
            finally:
                running.settling = True
            await self._settle(running, outcome, run)
        finally:
            if run is not None:
                await run.close()

    async def _settle(self, running: Running, outcome: Outcome, run: StepRun | None) -> None:
        seconds = time.monotonic() - running.claimed_at
        job = await self._settler.settle(running.claim, outcome, run, seconds=seconds)
        if job is not None:
            self._watch.saw(job)
        if isinstance(outcome, Failed | Waiting) and outcome.retry_in_s is not None:
            # No doorbell rings for a later moment, and the reconciler comes by only every few seconds.
            asyncio.get_running_loop().call_later(outcome.retry_in_s, self._wake, running.step.resource)

    def _wake_later(self, resource: Resource) -> None:
        """Ask again for steps that wait for room: one timer, however many wait."""
        if resource not in self._waking:
            self._waking.add(resource)
            asyncio.get_running_loop().call_later(ASK_AGAIN_S * 1.2, self._wake_waiting, resource)

    def _wake_waiting(self, resource: Resource) -> None:
        self._waking.discard(resource)
        self._wake(resource)

    def _wake(self, resource: Resource) -> None:
        if self._tasks is not None and not self._stopping:
            self._tasks.create_task(self.claim_next(resource), name=f"retry {resource}")

    async def _open_run(self, running: Running) -> StepRun:
        claim = running.claim
        async with self._units_of_work.for_worker() as uow:
            video = await uow.videos.get(claim.job.video_id, deleted=True)
            upload = await uow.uploads.get(claim.job.video_id)
        step = running.step
        running.step = replace(step, timeout_s=step.timeout_s + step.timeout_per_media_s * (video.duration_s or 0.0))

        def progressed(fraction: float) -> None:
            running.progress = max(running.progress, fraction)

        return StepRun(
            claim=claim,
            video=video,
            upload=upload,
            storage=self._storage,
            storage_name=self._storage_name,
            transcoder=self._transcoder,
            units_of_work=self._units_of_work,
            scratch=self._scratch / run_directory(step, claim.lease_token),
            on_progress=progressed,
            scratch_reserve_bytes=self._scratch_reserve_bytes,
        )

    async def _work(self, running: Running, run: StepRun) -> Succeeded:
        step = running.step
        if running.shortage is not None:
            raise running.shortage.error
        await run.open_scratch()
        handler = self._handlers[step.spec]
        limit = asyncio.timeout(step.timeout_s)
        try:
            async with limit:
                result = bounded(await handler.run(run))
                return Succeeded(result, await run.store(result.artefacts))
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise StepTimeoutError(f"The step took longer than its limit of {step.timeout_s:.0f} seconds.") from error


def _outcome_of(running: Running, run: StepRun | None, error: Exception) -> Outcome:
    if running.stop_reason is None:
        # What a step calls final stays so, whatever it was raised from.
        may_pass = isinstance(error, EchoError) and error.retryable
        if run is not None and may_pass and (away := run.storage_was_away(error)) is not None:
            return waiting(running.step, error, away)
        return failure(running.step, error)
    # Tools that are killed report an error: it says nothing about the step.
    log.info("step.stopped", reason=running.stop_reason.value, error=str(error) or type(error).__name__)
    return _STOPPED[running.stop_reason]
