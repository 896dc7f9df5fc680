"""The reconciler: finds what no doorbell told and what dead workers left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import structlog

from echo_core import __version__
from echo_core.application.ending import end_tasks
from echo_core.application.engine import Engine
from echo_core.application.finding import UploadFinder
from echo_core.application.job_changes import store_change
from echo_core.application.pipeline import Pipeline
from echo_core.application.ports import Doorbell, WorkerUnitsOfWork
from echo_core.application.videos import bury_video
from echo_core.domain.errors import IllegalChangeError, UnknownEntityError
from echo_core.domain.ids import StepId
from echo_core.domain.uploads import Upload
from echo_core.plugin_api.errors import EchoError, UnavailableError

log = structlog.get_logger("echo.reconciler")

BATCH = 100
"""Rows of one kind that one round looks at; the next round takes the rest."""
PRUNE_EVERY_S = 3600.0
UNPROVIDED_AFTER = timedelta(minutes=10)
"""A step fails when it has waited for so long and no worker that can run it checked in meanwhile: time enough for the
workers of a new version to start, or for the one with the plugin to come back."""
CHECK_IN_ROUNDS = 3
"""A worker that has not checked in for so many rounds is gone, and nobody counts on its slots."""
MIN_ROUND_S = 5.0
"""Rounds are counted as at least this long: a busy machine is late by more than a quick reconciler's pause."""

PART_LIMIT_S = 10.0
"""For one of the parts that others wait for: a lost lease, a free slot."""
CHORE_LIMIT_S = 60.0
"""For one of the parts that may take their time; what is left is for the next round."""
SWEEP_BATCH = 10
"""Few, so that several workers share what there is."""
SWEEP_AGAIN = timedelta(seconds=2 * CHORE_LIMIT_S)
"""Whoever took a step on has swept it by then, or has failed, or is dead."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class ReconcilerTiming:
    """Seconds."""

    every_s: float = 5.0
    ring_again_s: float = 30.0
    event_retention: timedelta = timedelta(days=30)
    unprovided_after: timedelta = UNPROVIDED_AFTER


class Reconciler:
    """One in every worker. What two of them find at the same moment, the rows' locks let one of them change."""

    def __init__(
        self,
        *,
        engine: Engine,
        units_of_work: WorkerUnitsOfWork,
        doorbell: Doorbell,
        pipeline: Pipeline,
        timing: ReconcilerTiming,
        upload_finder: UploadFinder | None = None,
        sweep_scratch: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._engine = engine
        self._units_of_work = units_of_work
        self._doorbell = doorbell
        self._pipeline = pipeline
        self._timing = timing
        self._upload_finder = upload_finder
        self._sweep_scratch_of_others = sweep_scratch
        self._prune_in_s = 0.0
        self._unprovided_in_s = timing.unprovided_after.total_seconds() / 10

    async def run(self) -> None:
        """Run for ever; what fails or takes too long is logged, keeps nothing else from being done, and is tried again
        next round. What deals with storage, or has much to do, takes its rounds apart: nobody waits for it."""
        urgent = (self._check_in, self._take_back, self._engine.claim_all, self._ring_again)
        chores = (
            self._find_uploads,
            self._sweep,
            self._sweep_scratch,
            self._expire_uploads,
            self._end_unprovided,
            self._prune,
        )
        async with asyncio.TaskGroup() as tasks:
            apart = tasks.create_task(self._rounds(chores, CHORE_LIMIT_S), name="reconciler's chores")
            try:
                await self._rounds(urgent, PART_LIMIT_S)
            finally:
                await end_tasks([apart])

    async def _rounds(self, parts: Sequence[Callable[[], Awaitable[None]]], limit_s: float) -> None:
        while True:
            for part in parts:
                name = getattr(part, "__name__", repr(part))
                limit = asyncio.timeout(limit_s)
                try:
                    async with limit:
                        await part()
                except EchoError as error:
                    log.warning("reconciler.part_failed", part=name, error=error.message)
                except Exception:
                    if limit.expired():
                        log.warning("reconciler.part_cut_short", part=name, limit_s=limit_s)
                    else:
                        log.exception("reconciler.part_failed", part=name)
            await asyncio.sleep(self._timing.every_s)

    async def _check_in(self) -> None:
        engine = self._engine
        lives_s = CHECK_IN_ROUNDS * max(self._timing.every_s, MIN_ROUND_S)
        async with self._units_of_work.for_worker() as uow:
            await uow.workers.check_in(
                engine.worker, steps=engine.step_names, slots=engine.slots, version=__version__, lives_s=lives_s
            )

    async def _end_unprovided(self) -> None:
        self._unprovided_in_s -= self._timing.every_s
        if self._unprovided_in_s > 0:
            return
        self._unprovided_in_s = self._timing.unprovided_after.total_seconds() / 10
        async with self._units_of_work.for_worker() as uow:
            if not await uow.jobs.try_lock_reconciler():
                return
            steps = await uow.workers.list_unprovided(self._timing.unprovided_after, BATCH)
        await _each(self._end_unprovided_step, steps)

    async def _end_unprovided_step(self, step_id: StepId) -> None:
        async with self._units_of_work.for_worker() as uow:
            job = await uow.jobs.get_of_step(step_id, for_update=True)
            changed = job.unprovided(step_id, now=await uow.jobs.now())
            log.warning("step.unprovided", job_id=str(job.id), step=job.step(step_id).name)
            await store_change(uow, job, changed)

    async def _take_back(self) -> None:
        async with self._units_of_work.for_worker() as uow:
            expired = [step_id for _, step_id in await uow.jobs.list_expired(BATCH)]
        await _each(self._take_back_step, expired)

    async def _take_back_step(self, step_id: StepId) -> None:
        # One transaction for each: with two jobs in one, a video would be locked after an event counter.
        async with self._units_of_work.for_worker() as uow:
            job = await uow.jobs.get_of_step(step_id, for_update=True)
            changed = job.lease_expired(step_id, now=await uow.jobs.now())
            log.warning("lease.expired", job_id=str(job.id), step=job.step(step_id).name)
            await store_change(uow, job, changed)

    async def _sweep(self) -> None:
        while True:
            async with self._units_of_work.for_worker() as uow:
                left = await uow.jobs.claim_unswept(SWEEP_AGAIN, SWEEP_BATCH)
            if not left:
                return
            await _each(self._engine.sweeper.sweep, left)

    async def _sweep_scratch(self) -> None:
        """What a killed worker of this machine left on the disk may be what the next step has no room for."""
        if self._sweep_scratch_of_others is not None:
            await self._sweep_scratch_of_others()

    async def _ring_again(self) -> None:
        async with self._units_of_work.for_worker() as uow:
            if not await uow.jobs.try_lock_reconciler():
                return
            rings = await uow.jobs.list_unrung(timedelta(seconds=self._timing.ring_again_s), BATCH)
        if rings:
            await self._doorbell.ring(rings)

    async def _find_uploads(self) -> None:
        if self._upload_finder is not None:
            await self._upload_finder.look()

    async def _expire_uploads(self) -> None:
        async with self._units_of_work.for_worker() as uow:
            expired = await uow.uploads.list_expired(BATCH)
        await _each(self._expire_upload, expired)

    async def _expire_upload(self, expired: Upload) -> None:
        upload = await self._upload_finder.last_look(expired) if self._upload_finder is not None else expired
        if upload is None:
            return
        async with self._units_of_work.for_worker() as uow:
            current = await uow.uploads.get(upload.video_id, for_update=True)
            if current.unfinished and current.expires_at == upload.expires_at:
                log.info("upload.expired", video_id=str(upload.video_id))
                await bury_video(uow, self._pipeline, upload.video_id)

    async def _prune(self) -> None:
        self._prune_in_s -= self._timing.every_s
        if self._prune_in_s <= 0:
            async with self._units_of_work.for_worker() as uow:
                pruned = await uow.events.prune(self._timing.event_retention)
            # A batch has a bound: there may be more.
            self._prune_in_s = 0.0 if pruned else PRUNE_EVERY_S


async def _each(change: Callable[[T], Awaitable[None]], found: Sequence[T]) -> None:
    """Change what was found, one by one. Raises ``UnavailableError``: the rest would fare no better."""
    for one in found:
        try:
            await change(one)
        except (IllegalChangeError, UnknownEntityError):
            continue  # somebody else was faster
        except UnavailableError:
            raise
        except Exception:
            log.exception("reconciler.change_failed", change=change.__name__)
