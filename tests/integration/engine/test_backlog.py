"""Queues that are long, old, and full of bad videos."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from echo_core.domain.jobs import JobState
from echo_core.plugin_api.errors import InvalidRequestError
from echo_core.plugin_api.steps import StepContext, StepResult
from tests.integration.engine.conftest import Farm, single

pytestmark = pytest.mark.integration


@pytest.mark.complaint(3)
async def test_a_backlog_of_days_is_worked_off_without_a_doorbell(farm: Farm) -> None:
    """Nothing about a waiting step expires, and no ring has to have survived."""

    async def done(context: StepContext) -> StepResult:
        return StepResult(output={})

    farm.use(single(done))
    jobs = [await farm.submit() for _ in range(5)]
    for job in jobs:
        async with farm.units_of_work.for_worker() as uow:
            before = await uow.jobs.get(job.id, for_update=True)
            days_ago = await uow.jobs.now() - timedelta(days=3)
            await uow.jobs.save(before, replace(before, steps=(replace(before.steps[0], run_at=days_ago),)))
    async with farm.worker():
        for job in jobs:
            assert (await farm.finished(job.id)).state is JobState.SUCCEEDED


@pytest.mark.complaint(21)
async def test_bad_videos_do_not_keep_the_good_ones_waiting(farm: Farm) -> None:
    bad = set()

    async def refuses_some(context: StepContext) -> StepResult:
        if context.video.id in bad:
            raise InvalidRequestError("The file cannot be read.", code="media_unreadable")
        return StepResult(output={})

    spec, handler = single(refuses_some)
    farm.use((spec, handler))
    jobs = [await farm.submit() for _ in range(6)]
    bad |= {job.video_id for job in jobs[::2]}
    async with farm.worker():
        ended = [await farm.finished(job.id) for job in jobs]
    assert [job.state for job in ended] == [JobState.FAILED, JobState.SUCCEEDED] * 3
    assert {job.steps[0].error.code for job in ended[::2] if job.steps[0].error} == {"media_unreadable"}
    assert handler.runs == [1] * 6
