"""The reconciler: finds what no doorbell told and what dead workers left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import structlog

from echo_core.application.engine import Engine
from echo_core.application.job_changes import store_change
from echo_core.application.pipeline import Pipeline
from echo_core.application.ports import Doorbell, WorkerUnitsOfWork
from echo_core.application.videos import bury_video
from echo_core.domain.ids import StepId
from echo_core.domain.uploads import UploadState
from echo_core.plugin_api.errors import EchoError, UnavailableError
from echo_core.plugin_api.steps import Resource

log = structlog.get_logger("echo.reconciler")

BATCH = 100
"""Rows of one kind that one round looks at; the next round takes the rest."""
TAKE_BACK_DELAY_S = 1.0
"""Wait before a step whose worker died is run again: long enough for a poison file not to spin."""
PRUNE_EVERY_S = 3600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ReconcilerTiming:
    """Seconds."""

    every_s: float = 5.0
    ring_again_s: float = 30.0
    event_retention: timedelta = timedelta(days=30)


class Reconciler:
    """One in every worker; a transaction-scoped advisory lock lets one at a time do the shared part."""

    def __init__(
        self,
        *,
        engine: Engine,
        units_of_work: WorkerUnitsOfWork,
        doorbell: Doorbell,
        pipeline: Pipeline,
        timing: ReconcilerTiming,
    ) -> None:
        self._engine = engine
        self._units_of_work = units_of_work
        self._doorbell = doorbell
        self._pipeline = pipeline
        self._timing = timing
        self._prune_in_s = 0.0

    async def run(self) -> None:
        """Run for ever; an absent database or Redis is logged and tried again at the next round."""
        while True:
            try:
                await self.round()
                await self._engine.claim_all()
            except EchoError as error:
                log.warning("reconciler.round_failed", error=error.message)
            except Exception:
                log.exception("reconciler.round_failed")
            await asyncio.sleep(self._timing.every_s)

    async def round(self) -> None:
        """One round: expired leases, unrung steps, expired uploads, and once an hour old events."""
        rings: Sequence[tuple[StepId, Resource]] = ()
        async with self._units_of_work.for_worker() as uow:
            if not await uow.jobs.try_lock_reconciler():
                return
            rings = await uow.jobs.list_unrung(timedelta(seconds=self._timing.ring_again_s), BATCH)
        await self._take_back()
        await self._expire_uploads()
        await self._prune()
        if rings:
            try:
                await self._doorbell.ring(rings)
            except UnavailableError as error:
                log.warning("doorbell.silent", error=error.message)

    async def _take_back(self) -> None:
        async with self._units_of_work.for_worker() as uow:
            for job, step_id in await uow.jobs.list_expired(BATCH):
                now = await uow.jobs.now()
                # Two steps of one job may have expired together: the second sees what the first changed.
                job = await uow.jobs.get(job.id, for_update=True)
                log.warning("lease.expired", job_id=str(job.id), step=job.step(step_id).name)
                await store_change(uow, job, job.lease_expired(step_id, now=now, retry_in_s=TAKE_BACK_DELAY_S))

    async def _expire_uploads(self) -> None:
        async with self._units_of_work.for_worker() as uow:
            expired = await uow.uploads.list_expired(BATCH)
        for upload in expired:
            async with self._units_of_work.for_worker() as uow:
                current = await uow.uploads.get(upload.video_id, for_update=True)
                if current.state is UploadState.OPEN and current.expires_at == upload.expires_at:
                    log.info("upload.expired", video_id=str(upload.video_id))
                    await uow.uploads.save(replace(current, state=UploadState.EXPIRED))
                    await bury_video(uow, self._pipeline, upload.video_id)

    async def _prune(self) -> None:
        self._prune_in_s -= self._timing.every_s
        if self._prune_in_s <= 0:
            self._prune_in_s = PRUNE_EVERY_S
            async with self._units_of_work.for_worker() as uow:
                await uow.events.prune(self._timing.event_retention)
