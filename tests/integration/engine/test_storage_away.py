"""A storage that is away: jobs wait, and go on by themselves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta

import pytest

from echo_core.application import settling
from echo_core.domain.jobs import Job, JobState, Step, StepState
from echo_core.plugin_api.errors import EchoError, InvalidRequestError, RateLimitedError, UnavailableError
from echo_core.plugin_api.steps import ArtefactFile, StepContext, StepResult
from echo_core.plugin_api.storage import ReadObject
from tests.integration.engine.conftest import Farm, single

pytestmark = pytest.mark.integration

WAITING = "waiting_for_storage"
AWAY = UnavailableError("The bucket does not answer.", code="bucket_away")


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "WAITING_MIN_DELAY_S", 0.01)
    monkeypatch.setattr(settling, "WAITING_MAX_DELAY_S", 0.01)


class Outage:
    """While ``error`` is set, the storage raises it whatever is asked of it."""

    def __init__(self, farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
        self.error: EchoError | None = AWAY
        for name in ("fetch_file", "put_file", "stat"):
            monkeypatch.setattr(farm.storage, name, self._guarded(getattr(farm.storage, name)))
        open_read = farm.storage.open_read

        async def guarded_read(request):
            async with aclosing(open_read(request)) as chunks:
                async for chunk in chunks:
                    if self.error is not None:
                        raise self.error
                    yield chunk

        monkeypatch.setattr(farm.storage, "open_read", guarded_read)

    def _guarded(self, call: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
        async def guarded(*args: object) -> object:
            if self.error is not None:
                raise self.error
            return await call(*args)

        return guarded


@pytest.fixture
def outage(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> Outage:
    return Outage(farm, monkeypatch)


async def fetches(context: StepContext) -> StepResult:
    await context.fetch_source()
    return StepResult()


def picture(context: StepContext) -> ArtefactFile:
    path = context.scratch / "picture"
    path.write_bytes(b"a picture")
    return ArtefactFile(kind="picture", name="picture", path=path, content_type="image/png")


async def returns_files(context: StepContext) -> StepResult:
    return StepResult(artefacts=[picture(context)])


async def publishes(context: StepContext) -> StepResult:
    await context.publish([picture(context)])
    return StepResult()


async def asks(context: StepContext) -> StepResult:
    await context.storage.stat(context.video.source_key)
    return StepResult()


async def reads(context: StepContext) -> StepResult:
    async for _ in context.storage.open_read(ReadObject(key=context.video.source_key)):
        pass
    return StepResult()


async def explains(context: StepContext) -> StepResult:
    try:
        return await asks(context)
    except UnavailableError as error:
        raise UnavailableError("The picture could not be looked up.", code="no_picture") from error


async def until_waited(farm: Farm, job: Job, times: int) -> Step:
    waited = await farm.until(
        job.id, lambda j: j.steps[0].lease_token >= times and j.steps[0].state is StepState.QUEUED
    )
    return waited.steps[0]


@pytest.mark.matrix(25)
@pytest.mark.parametrize("work", [fetches, returns_files, publishes, asks, reads, explains])
async def test_step_waits_as_long_as_the_storage_is_away_and_goes_on_by_itself(
    farm: Farm, outage: Outage, work: Callable[[StepContext], Awaitable[StepResult]]
) -> None:
    farm.use(single(work))
    job = await farm.submit()
    async with farm.worker() as worker:
        step = await until_waited(farm, job, 6)
        assert (step.attempt, step.error.code if step.error else "") == (0, WAITING)
        assert step.error is not None
        assert "The bucket does not answer." in step.error.message
        outage.error = None
        job = await farm.finished(job.id)
    assert (job.state, job.steps[0].attempt, job.steps[0].error) == (JobState.SUCCEEDED, 1, None)
    assert job.steps[0].waiting_since is None
    assert {outcome[1] for outcome in worker.counts.outcomes} == {"waiting", "succeeded"}
    assert ("work", "waiting", WAITING) in worker.counts.outcomes


async def test_storage_that_wants_to_be_left_alone_is_waited_for(farm: Farm, outage: Outage) -> None:
    outage.error = RateLimitedError("Too many requests.", retry_after_s=0.01)
    farm.use(single(asks))
    job = await farm.submit()
    async with farm.worker():
        step = await until_waited(farm, job, 5)
        outage.error = None
        job = await farm.finished(job.id)
    assert (step.attempt, job.state) == (0, JobState.SUCCEEDED)


async def refused(context: StepContext) -> StepResult:
    raise UnavailableError("The vendor does not answer.", code="vendor_away")


async def caught(context: StepContext) -> StepResult:
    try:
        await asks(context)
    except UnavailableError:
        return await refused(context)
    return StepResult()


async def test_object_that_is_damaged_is_not_waited_for(farm: Farm, outage: Outage) -> None:
    outage.error = UnavailableError("The object is shorter than it should be.", code="object_damaged")
    farm.use(single(reads))
    job = await farm.submit()
    async with farm.worker():
        job = await farm.finished(job.id)
    assert (job.state, job.steps[0].attempt) == (JobState.FAILED, 3)


@pytest.mark.parametrize("work", [refused, caught])
async def test_trouble_that_is_not_the_storages_uses_up_attempts(
    farm: Farm, outage: Outage, work: Callable[[StepContext], Awaitable[StepResult]]
) -> None:
    farm.use(single(work))
    job = await farm.submit()
    async with farm.worker():
        job = await farm.finished(job.id)
    assert (job.state, job.steps[0].attempt) == (JobState.FAILED, 3)
    assert job.steps[0].error is not None
    assert job.steps[0].error.code == "vendor_away"


async def gives_up(context: StepContext) -> StepResult:
    try:
        return await asks(context)
    except UnavailableError as error:
        raise InvalidRequestError("This makes no sense any more.", code="too_late") from error


async def test_what_a_step_calls_final_is_not_waited_for(farm: Farm, outage: Outage) -> None:
    farm.use(single(gives_up))
    job = await farm.submit()
    async with farm.worker():
        job = await farm.finished(job.id)
    assert (job.state, job.steps[0].attempt) == (JobState.FAILED, 1)


@pytest.mark.matrix(25)
async def test_after_a_day_the_job_fails_with_what_the_storage_says(farm: Farm, outage: Outage) -> None:
    farm.use(single(asks))
    job = await farm.submit()
    async with farm.worker() as worker:
        await until_waited(farm, job, 2)
        worker.stop.set()
    await farm.change(job.id, lambda job: waiting_for(job, timedelta(hours=25)))
    async with farm.worker("second"):
        job = await farm.finished(job.id)
        assert (job.state, job.steps[0].attempt) == (JobState.FAILED, 3)
        assert job.first_error is not None
        assert job.first_error.code == "bucket_away"
        # Trying again waits anew.
        job = await farm.change(job.id, lambda job: job.retried(job.created_at))
        assert (await until_waited(farm, job, job.steps[0].lease_token + 4)).attempt == 0


def waiting_for(job: Job, duration: timedelta) -> Job:
    step = job.steps[0]
    assert step.waiting_since is not None
    return replace(job, steps=(replace(step, waiting_since=step.waiting_since - duration),))


async def test_job_that_waits_can_be_cancelled(farm: Farm, outage: Outage) -> None:
    farm.use(single(asks))
    job = await farm.submit()
    async with farm.worker():
        await until_waited(farm, job, 2)
        await farm.change(job.id, lambda job: job.cancel(job.created_at))
        job = await farm.finished(job.id)
    assert job.state is JobState.CANCELLED
