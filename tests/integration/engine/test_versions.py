"""Workers of several versions, and with different plugins, on one database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from echo_core.domain.jobs import JobState, StepState
from echo_core.plugin_api.steps import StepContext, StepResult
from tests.integration.engine.conftest import Farm, single

NOW = datetime(2026, 1, 1, tzinfo=UTC)
pytestmark = pytest.mark.integration


async def done(context: StepContext) -> StepResult:
    return StepResult(output={})


@pytest.mark.matrix(23)
async def test_a_step_is_left_to_a_worker_that_can_run_it(farm: Farm) -> None:
    """Row 23 of the fault matrix: an old worker meets a step that a newer version, or a plugin elsewhere, brought."""
    newer, handler = single(done, name="newer")
    farm.use((newer, handler))
    known = farm.handlers
    farm.handlers = {name: h for name, h in known.items() if name != "newer"}
    job = await farm.submit()
    async with farm.worker("old") as old:
        assert not await old.engine.claim_next(newer.resource)
        assert (await farm.job(job.id)).step_named("newer").state is StepState.QUEUED
        farm.handlers = known
        async with farm.worker("new"):
            finished = await farm.finished(job.id)
    assert finished.state is JobState.SUCCEEDED
    assert finished.step_named("newer").worker == "new"
    assert handler.runs == [1]


async def test_unknown_steps_at_the_head_of_the_queue_keep_nothing_behind_them(farm: Farm) -> None:
    farm.use(single(done, name="unknown"))
    for _number in range(20):  # more than a claim looks at for each owner
        await farm.submit()
    farm.handlers = {name: h for name, h in farm.handlers.items() if name != "unknown"}
    farm.use(single(done, name="known"))
    job = await farm.submit()
    async with farm.worker():
        assert (await farm.finished(job.id)).state is JobState.SUCCEEDED


@pytest.mark.matrix(23)
@pytest.mark.complaint(1)
async def test_a_step_that_no_worker_can_run_fails_and_says_what_is_missing(farm: Farm) -> None:
    spec, handler = single(done, name="orphan")
    farm.use((spec, handler))
    known = farm.handlers
    farm.handlers = {name: h for name, h in known.items() if name != "orphan"}
    job = await farm.submit()
    async with farm.worker(unprovided_after=timedelta(seconds=0.3)):
        failed = await farm.finished(job.id)
    error = failed.step_named("orphan").error
    assert failed.state is JobState.FAILED
    assert error is not None
    assert error.code == "step_unknown"
    assert "orphan" in error.message
    assert "plugin" in error.remedy
    assert handler.runs == []
    farm.handlers = known
    await farm.change(job.id, lambda stopped: stopped.retried(NOW))
    async with farm.worker():
        assert (await farm.finished(job.id)).state is JobState.SUCCEEDED


async def test_a_step_waits_as_long_as_some_worker_elsewhere_can_run_it(farm: Farm) -> None:
    """However long the queue of that worker is."""
    spec, handler = single(done, name="special")
    farm.use((spec, handler))
    known = farm.handlers
    farm.handlers = {name: h for name, h in known.items() if name != "special"}
    job = await farm.submit()
    async with farm.units_of_work.for_worker() as uow:
        before = await uow.jobs.get(job.id, for_update=True)
        long_ago = await uow.jobs.now() - timedelta(hours=1)
        await uow.jobs.save(before, replace(before, steps=(replace(before.steps[0], run_at=long_ago),)))
    async with farm.units_of_work.for_worker() as uow:
        assert await uow.workers.list_unprovided(timedelta(minutes=10), 10) == [job.steps[0].id]
        await uow.workers.check_in("elsewhere", steps=["special"], slots={}, version="9", lives_s=60)
        assert await uow.workers.list_unprovided(timedelta(minutes=10), 10) == []
