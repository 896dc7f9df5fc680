"""Runs that lose their lease, what they leave behind, and who claims next."""

from __future__ import annotations

import asyncio

import pytest

from echo_core.application import lease_watch
from echo_core.application.lease_watch import EngineTiming
from echo_core.domain.ids import VideoId
from echo_core.domain.jobs import JobState, StepState
from echo_core.domain.uploads import artefact_key, video_prefix
from echo_core.plugin_api.errors import RateLimitedError, UnavailableError
from echo_core.plugin_api.steps import ArtefactFile, Resource, RetryPolicy, StepContext, StepResult
from echo_core.plugin_api.storage import ListObjects
from tests.integration.engine.conftest import DEADLINE_S, Farm, TroubledUnitsOfWork, single

pytestmark = pytest.mark.integration


async def quick(context: StepContext) -> StepResult:
    return StepResult()


async def makes(context: StepContext) -> StepResult:
    path = context.scratch / "made.bin"
    path.write_text(f"attempt {context.attempt}")
    return StepResult(artefacts=[ArtefactFile(kind="poster", name="made.bin", path=path, content_type="image/jpeg")])


class Stopped:
    """A step's work that waits until it is stopped."""

    def __init__(self) -> None:
        self.heard = asyncio.Event()

    async def __call__(self, context: StepContext) -> StepResult:
        try:
            await asyncio.Event().wait()
        finally:
            self.heard.set()
        raise AssertionError("unreachable")

    async def wait(self) -> None:
        async with asyncio.timeout(DEADLINE_S):
            await self.heard.wait()


async def keys_of(farm: Farm, video_id: VideoId) -> list[str]:
    page = await farm.storage.list(ListObjects(prefix=f"{video_prefix(video_id)}work/"))
    return [stored.key for stored in page.objects]


async def test_run_whose_lease_is_gone_is_stopped(farm: Farm) -> None:
    work = Stopped()
    farm.use(single(work))
    async with farm.worker() as worker:
        job = await farm.submit()
        await farm.running(job.id)
        async with farm.units_of_work.for_worker() as uow:
            await uow.videos.remove(job.video_id)
        await work.wait()
    assert worker.counts.outcomes == [("work", "lost", "")]


async def test_run_stops_itself_when_the_database_is_away_for_a_whole_lease(farm: Farm) -> None:
    farm.units_of_work = troubled = TroubledUnitsOfWork(farm.units_of_work)
    is_away = True

    async def before() -> None:
        if is_away and started.is_set():
            raise UnavailableError("The database cannot be reached.")

    started, work = asyncio.Event(), Stopped()

    async def first_waits(context: StepContext) -> StepResult:
        started.set()
        return await work(context) if context.attempt == 1 else StepResult()

    troubled.before = before
    farm.use(single(first_waits))
    job = await farm.submit()
    async with farm.worker() as worker:
        await work.wait()
        is_away = False
        job = await farm.finished(job.id)
    assert (job.state, job.step_named("work").attempt) == (JobState.SUCCEEDED, 2)
    assert worker.counts.outcomes == [("work", "lost", ""), ("work", "succeeded", "")]


async def test_retry_replaces_artefacts_and_removes_what_earlier_runs_left(farm: Farm) -> None:
    farm.use(single(makes))
    async with farm.worker():
        job = await farm.finished((await farm.submit()).id)
        farm.storage.store(artefact_key(job.video_id, "work", 1, "of-a-killed-run.bin"), b"", "image/jpeg")
        async with farm.units_of_work.for_worker() as uow:
            now = await uow.jobs.now()
        await farm.change(job.id, lambda j: j.retried(now))
        await farm.finished(job.id)
    assert await keys_of(farm, job.video_id) == [artefact_key(job.video_id, "work", 2, "made.bin")]


async def test_worker_that_ends_a_step_claims_the_next(farm: Farm) -> None:
    farm.use(single(quick))
    jobs = [await farm.submit() for _ in range(3)]
    async with farm.worker(reconciles=False) as worker:
        assert await worker.engine.claim_next(Resource.CPU)
        for job in jobs:
            await farm.finished(job.id)


async def test_retry_waits_as_long_as_the_provider_asked(farm: Farm) -> None:
    async def limited(context: StepContext) -> StepResult:
        raise RateLimitedError("Too many requests.", retry_after_s=1800)

    farm.use(single(limited, retry=RetryPolicy(max_attempts=3, first_delay_s=0.01, max_delay_s=3600)))
    async with farm.worker():
        job = await farm.submit()
        job = await farm.until(job.id, lambda j: j.step_named("work").error is not None)
    step = job.step_named("work")
    assert step.state is StepState.QUEUED
    assert step.run_at is not None
    assert step.started_at is not None
    assert 1800 <= (step.run_at - step.started_at).total_seconds() < 1900


async def test_late_run_is_stopped_when_its_own_worker_takes_the_step_up_again(farm: Farm) -> None:
    work = Stopped()

    async def first_waits(context: StepContext) -> StepResult:
        return await work(context) if context.attempt == 1 else StepResult()

    farm.use(single(first_waits))
    job = await farm.submit()
    # It never looks at its leases: it learns from the claim alone.
    blind = EngineTiming(lease_s=2, heartbeat_s=3600, watch_s=3600, shutdown_grace_s=0.1)
    async with farm.worker(cpu=2, timing=blind):
        await farm.expire(await farm.running(job.id))
        await work.wait()
        assert (await farm.finished(job.id)).step_named("work").attempt == 2


async def test_run_that_loses_its_cancellation_is_stopped_again(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_watch, "INSIST_S", 0.2)
    lost: list[int] = []

    async def loses_the_first(context: StepContext) -> StepResult:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                lost.append(context.attempt)
                if len(lost) == 2:
                    raise

    farm.use(single(loses_the_first))
    async with farm.worker():
        job = await farm.submit()
        await farm.running(job.id)
        async with farm.units_of_work.for_worker() as uow:
            now = await uow.jobs.now()
        await farm.change(job.id, lambda j: j.cancel(now))
        assert (await farm.finished(job.id)).state is JobState.CANCELLED
    assert lost == [1, 1]
