"""What runs of a step leave in storage is removed, however the step ended."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from echo_core.application.ports import UnsweptStep
from echo_core.application.running import StepRun
from echo_core.application.sweeping import Sweeper
from echo_core.domain.jobs import Job, JobState, StepState
from echo_core.domain.uploads import artefact_key, step_prefix
from echo_core.plugin_api.errors import EchoError, InvalidRequestError, UnavailableError
from echo_core.plugin_api.steps import ArtefactFile, RetryPolicy, StepContext, StepResult
from echo_core.plugin_api.storage import ListObjects, ObjectPage
from tests.integration.engine.conftest import DEADLINE_S, Farm, single

pytestmark = pytest.mark.integration


def leave(farm: Farm, job: Job, token: int) -> str:
    """An object of a run that was killed before it could record it."""
    key = artefact_key(job.video_id, "work", token, "made.bin")
    farm.storage.store(key, b"left", "application/octet-stream")
    return key


async def left_of(farm: Farm, job: Job) -> list[str]:
    page = await farm.storage.list(ListObjects(prefix=step_prefix(job.video_id, "work")))
    return [found.key for found in page.objects]


async def until_clean(farm: Farm, job: Job) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while await left_of(farm, job):
            await asyncio.sleep(0.02)


async def for_ever(context: StepContext) -> StepResult:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


async def test_step_that_fails_for_good_leaves_nothing_of_earlier_runs(farm: Farm) -> None:
    started, may_fail = asyncio.Event(), asyncio.Event()

    async def fails(context: StepContext) -> StepResult:
        started.set()
        await may_fail.wait()
        raise InvalidRequestError("No.")

    farm.use(single(fails))
    async with farm.worker(reconciles=False) as worker:
        job = await farm.submit()
        await worker.engine.claim_all()
        await started.wait()
        leave(farm, job, 1)
        may_fail.set()
        assert (await farm.finished(job.id)).state is JobState.FAILED
        await until_clean(farm, job)


async def test_step_whose_last_worker_was_lost_leaves_nothing(farm: Farm) -> None:
    farm.use(single(for_ever, retry=RetryPolicy(max_attempts=1)))
    job = await farm.submit()
    async with farm.units_of_work.for_worker() as uow:
        before = await uow.jobs.get(job.id, for_update=True)
        (step,) = before.steps
        await uow.jobs.save(before, before.claimed(step.id, worker="dead", now=await uow.jobs.now(), lease_s=-1))
    leave(farm, job, 1)
    async with farm.worker():
        job = await farm.finished(job.id)
        assert (job.step_named("work").state, job.first_error and job.first_error.code) == (
            StepState.FAILED,
            "worker_lost",
        )
        await until_clean(farm, job)


async def test_worker_that_dies_before_it_removed_what_a_good_run_left_leaves_nothing(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step may store a file, fail to record it, and succeed without."""

    async def stores_too_much(context: StepContext) -> StepResult:
        assert isinstance(context, StepRun)
        path: Path = context.scratch / "made.bin"
        await asyncio.to_thread(path.write_bytes, b"left")
        await context.store([ArtefactFile(kind="made", name="made.bin", path=path, content_type="a/b")])
        return StepResult()

    async def dies(run: StepRun) -> None:
        return

    monkeypatch.setattr(StepRun, "close", dies)
    farm.use(single(stores_too_much))
    async with farm.worker():
        job = await farm.submit()
        assert (await farm.finished(job.id)).state is JobState.SUCCEEDED
        await until_clean(farm, job)


async def unswept_jobs(farm: Farm, count: int) -> set[object]:
    """Ended steps that nobody has swept; their ids."""
    farm.use(single(for_ever, retry=RetryPolicy(max_attempts=1)))
    found: set[object] = set()
    for _ in range(count):
        job = await farm.submit()
        async with farm.units_of_work.for_worker() as uow:
            before = await uow.jobs.get(job.id, for_update=True)
            now = await uow.jobs.now()
            claimed = before.claimed(before.steps[0].id, worker="dead", now=now, lease_s=-1)
            await uow.jobs.save(before, claimed.lease_expired(claimed.steps[0].id, now=now))
        found.add(job.steps[0].id)
    return found


async def test_workers_that_sweep_at_the_same_moment_share_the_steps(farm: Farm) -> None:
    ids = await unswept_jobs(farm, 4)
    again = timedelta(hours=1)
    async with asyncio.timeout(DEADLINE_S), farm.units_of_work.for_worker() as one:
        first = await one.jobs.claim_unswept(again, 2)
        async with farm.units_of_work.for_worker() as other:
            second = await other.jobs.claim_unswept(again, 10)
    assert (len(first), len(second)) == (2, 2)
    assert {left.step_id for left in (*first, *second)} == ids
    async with farm.units_of_work.for_worker() as uow:
        assert await uow.jobs.claim_unswept(again, 10) == []


async def test_step_that_cannot_be_swept_goes_behind_those_that_nobody_tried(farm: Farm) -> None:
    await unswept_jobs(farm, 3)
    seen = []
    for _ in range(4):
        async with farm.units_of_work.for_worker() as uow:
            seen += [left.step_id for left in await uow.jobs.claim_unswept(timedelta(0), 1)]
    assert len(set(seen[:3])) == 3
    assert seen[3] == seen[0]


async def test_sweep_leaves_the_objects_of_a_newer_run_and_those_that_have_rows(farm: Farm) -> None:
    farm.use(single(for_ever))
    job = await farm.submit()
    old, newer = leave(farm, job, 1), leave(farm, job, 2)
    source = await farm.storage.list(ListObjects(prefix=f"videos/{job.video_id}/source"))
    left = UnsweptStep(step_id=job.steps[0].id, video_id=job.video_id, name="work", lease_token=1)
    await Sweeper(units_of_work=farm.units_of_work, storage=farm.storage).sweep(left)
    assert await left_of(farm, job) == [newer]
    assert old != newer
    assert await farm.storage.list(ListObjects(prefix=f"videos/{job.video_id}/source")) == source
    assert (await farm.job(job.id)).steps[0].swept_token == 1


@pytest.mark.parametrize("error", [InvalidRequestError("No."), UnavailableError("Away.")])
async def test_what_could_not_be_removed_is_not_taken_for_swept(
    farm: Farm, error: EchoError, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(key: str) -> None:
        raise error

    farm.use(single(for_ever))
    job = await farm.submit()
    key = leave(farm, job, 1)
    left = UnsweptStep(step_id=job.steps[0].id, video_id=job.video_id, name="work", lease_token=1)
    sweeper = Sweeper(units_of_work=farm.units_of_work, storage=farm.storage)
    with monkeypatch.context() as patched:
        patched.setattr(farm.storage, "delete", refuse)
        with suppress(UnavailableError):
            await sweeper.sweep(left)
    assert (await farm.job(job.id)).steps[0].swept_token == 0
    assert await left_of(farm, job) == [key]
    await sweeper.sweep(left)
    assert await left_of(farm, job) == []


@pytest.mark.parametrize("trouble", [UnavailableError("Away."), OSError("Broken.")])
async def test_step_ends_as_it_did_although_storage_cannot_be_swept(
    farm: Farm, trouble: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(request: ListObjects) -> ObjectPage:
        raise trouble

    async def fails(context: StepContext) -> StepResult:
        raise InvalidRequestError("No.")

    farm.use(single(fails))
    with monkeypatch.context() as patched:
        patched.setattr(farm.storage, "list", refuse)
        async with farm.worker(reconciles=False) as worker:
            job = await farm.submit()
            leave(farm, job, 1)
            await worker.engine.claim_all()
            assert (await farm.finished(job.id)).state is JobState.FAILED
        assert ("work", "failed", InvalidRequestError.default_code) in worker.counts.outcomes
    async with farm.worker():
        await until_clean(farm, job)
