"""What the reconciler and the purge do about things that cannot be done."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from echo_core.application import reconciling
from echo_core.application.job_changes import store_change
from echo_core.application.lease_watch import EngineTiming
from echo_core.application.ports import UnitOfWork
from echo_core.application.videos import bury_video
from echo_core.domain.ids import VideoId
from echo_core.domain.jobs import Job, JobKind, JobState, StepState
from echo_core.domain.uploads import video_prefix
from echo_core.plugin_api.errors import AuthError
from echo_core.plugin_api.steps import Resource, RetryPolicy, StepContext, StepResult
from echo_core.plugin_api.storage import ListObjects, ObjectPage
from tests.integration.engine.conftest import DEADLINE_S, Farm, TroubledUnitsOfWork, single

pytestmark = pytest.mark.integration

SILENT = EngineTiming(lease_s=2, heartbeat_s=3600, watch_s=3600, shutdown_grace_s=0.1)
"""Never renews and never looks, as a stopped process would not."""


async def for_ever(context: StepContext) -> StepResult:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


async def gone(farm: Farm, video_id: VideoId) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while await farm.exists(video_id):
            await asyncio.sleep(0.02)


async def test_upload_that_nobody_completed_disappears(farm: Farm) -> None:
    upload = await farm.begin(expires_in=timedelta(0))
    async with farm.worker():
        await gone(farm, upload.video_id)


async def test_deleted_video_whose_purge_is_stuck_does_not_keep_other_uploads(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    deleted = await farm.begin(expires_in=timedelta(0))
    other = await farm.begin(expires_in=timedelta(0))
    async with farm.units_of_work.for_worker() as uow:
        await bury_video(uow, farm.pipeline, deleted.video_id)
    list_objects = farm.storage.list

    async def refuses_one(request: ListObjects) -> ObjectPage:
        if request.prefix == video_prefix(deleted.video_id):
            raise AuthError("The storage does not let us in.")
        return await list_objects(request)

    monkeypatch.setattr(farm.storage, "list", refuses_one)
    async with farm.worker():
        await gone(farm, other.video_id)
    assert await farm.exists(deleted.video_id)


async def test_upload_that_cannot_be_expired_does_not_keep_others(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    poison = await farm.begin(expires_in=timedelta(0))
    other = await farm.begin(expires_in=timedelta(0))

    async def poisoned(uow: UnitOfWork, pipeline: object, video_id: VideoId) -> None:
        if video_id == poison.video_id:
            raise ZeroDivisionError
        await bury_video(uow, farm.pipeline, video_id)

    monkeypatch.setattr(reconciling, "bury_video", poisoned)
    async with farm.worker():
        await gone(farm, other.video_id)


async def test_upload_that_is_resumed_at_the_last_moment_is_kept(farm: Farm) -> None:
    upload, other = await farm.begin(expires_in=timedelta(0)), await farm.begin(expires_in=timedelta(0))
    units_of_work = farm.units_of_work
    farm.units_of_work = troubled = TroubledUnitsOfWork(units_of_work)

    async def resumed(called: frozenset[str]) -> None:
        if "uploads.list_expired" in called:
            async with units_of_work.for_worker() as uow:
                later = (await uow.jobs.now()) + timedelta(days=1)
                await uow.uploads.save(replace(upload, expires_at=later))

    troubled.after_commit = resumed
    async with farm.worker():
        await gone(farm, other.video_id)
    assert (await farm.video(upload.video_id)).deleted_at is None


async def test_purge_that_the_storage_refused_is_tried_again(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = await farm.begin(expires_in=timedelta(0))
    list_objects = farm.storage.list
    refusals = iter([AuthError("The storage does not let us in."), ZeroDivisionError("a defect of the plugin")])

    async def refuses_twice(request: ListObjects) -> ObjectPage:
        if (refusal := next(refusals, None)) is not None:
            raise refusal
        return await list_objects(request)

    monkeypatch.setattr(farm.storage, "list", refuses_twice)
    async with farm.worker():
        await gone(farm, upload.video_id)


async def test_storage_that_hangs_keeps_neither_lost_leases_nor_other_chores(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    hung = asyncio.Event()

    async def hangs(left: object) -> None:
        hung.set()
        await asyncio.Event().wait()

    async def fails(context: StepContext) -> StepResult:
        raise AuthError("No.")

    farm.use(single(for_ever, name="work"))
    lost = await farm.submit()
    async with farm.worker("stopped", timing=SILENT, reconciles=False) as stopped:
        await stopped.engine.claim_next(Resource.CPU)
        step = await farm.running(lost.id)
        farm.use(single(fails, name="fails"))
        ended = await farm.submit()
        monkeypatch.setattr(reconciling, "CHORE_LIMIT_S", 3600.0)
        async with farm.worker("second") as second:
            monkeypatch.setattr(second.engine.sweeper, "sweep", hangs)
            await farm.finished(ended.id)
            async with asyncio.timeout(DEADLINE_S):
                await hung.wait()
            await farm.expire(step)
            await farm.until(lost.id, lambda j: j.step_named("work").attempt == 2)
        # A chore that hangs is cut short, and the next one has its turn.
        upload = await farm.begin(expires_in=timedelta(0))
        async with farm.units_of_work.for_worker() as uow:
            before = await uow.jobs.get(ended.id)
        assert before.steps[0].swept_token == 0
        hung.clear()
        monkeypatch.setattr(reconciling, "CHORE_LIMIT_S", 0.2)
        monkeypatch.setattr(reconciling, "SWEEP_AGAIN", timedelta(0))
        async with farm.worker("third") as third:
            monkeypatch.setattr(third.engine.sweeper, "sweep", hangs)
            await gone(farm, upload.video_id)
            assert hung.is_set()


@pytest.mark.matrix(21)
async def test_both_steps_of_a_job_whose_worker_died_are_taken_back(farm: Farm) -> None:
    farm.use(
        single(for_ever, name="one", produces=("one",)),
        single(for_ever, name="two", produces=("two",), resource=Resource.LIGHT),
    )
    job = await farm.submit()
    async with farm.worker("stopped", timing=SILENT, reconciles=False) as stopped:
        for name, resource in (("one", Resource.CPU), ("two", Resource.LIGHT)):
            await stopped.engine.claim_next(resource)
            await farm.expire(await farm.running(job.id, name))
        async with farm.worker("second"):
            await farm.until(job.id, lambda j: all(s.state is StepState.RUNNING and s.attempt == 2 for s in j.steps))


async def test_step_that_cannot_be_taken_back_does_not_keep_others(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    farm.use(single(for_ever, retry=RetryPolicy(max_attempts=2)))
    poison, other = await farm.submit(), await farm.submit()

    async def poisoned(uow: UnitOfWork, before: Job | None, after: Job) -> Job:
        if after.id == poison.id:
            raise ZeroDivisionError
        return await store_change(uow, before, after)

    monkeypatch.setattr(reconciling, "store_change", poisoned)
    async with farm.worker("stopped", cpu=2, timing=SILENT, reconciles=False) as stopped:
        for job in (poison, other):
            await stopped.engine.claim_next(Resource.CPU)
            await farm.expire(await farm.running(job.id))
        async with farm.worker("second"):
            await farm.until(other.id, lambda j: j.step_named("work").attempt == 2)


async def test_purge_removes_nothing_while_a_step_is_being_stopped(farm: Farm) -> None:
    may_end = asyncio.Event()

    async def ends_slowly(context: StepContext) -> StepResult:
        try:
            return await for_ever(context)
        finally:
            await may_end.wait()

    farm.use(single(ends_slowly))
    async with farm.worker():
        job = await farm.submit()
        await farm.running(job.id)
        async with farm.units_of_work.for_worker() as uow:
            await bury_video(uow, farm.pipeline, job.video_id)
            purge = await uow.jobs.find_for_video(job.video_id, JobKind.PURGE)
        assert purge is not None
        try:
            purge = await farm.until(purge.id, lambda j: j.step_named("purge").error is not None)
            assert (await farm.storage.list(ListObjects(prefix=video_prefix(job.video_id)))).objects
        finally:
            may_end.set()
        await gone(farm, job.video_id)
    assert not (await farm.storage.list(ListObjects(prefix=video_prefix(job.video_id)))).objects


@pytest.mark.matrix(21)
async def test_reconcilers_at_the_same_moment_ring_once_and_take_back_once(farm: Farm) -> None:
    """A step whose lease ran out costs one attempt, however many look for it."""
    first_run_lost = asyncio.Event()

    async def works(context: StepContext) -> StepResult:
        if context.attempt == 1:
            first_run_lost.set()
            await asyncio.Event().wait()
        return StepResult()

    farm.use(single(works))
    job = await farm.submit()
    async with farm.worker("a", reconciles=False) as worker:
        await worker.engine.claim_all()
        await first_run_lost.wait()
        async with farm.units_of_work.for_worker() as one, farm.units_of_work.for_worker() as other:
            assert [await one.jobs.try_lock_reconciler(), await other.jobs.try_lock_reconciler()] == [True, False]
        await farm.expire((await farm.job(job.id)).step_named("work"))
        async with farm.worker("b"), farm.worker("c"):
            job = await farm.finished(job.id)
    assert (job.state, job.step_named("work").attempt) == (JobState.SUCCEEDED, 2)
