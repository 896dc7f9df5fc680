"""Objects that another storage had kept before: what is read of them, and whether they still are the same."""

from __future__ import annotations

from dataclasses import replace

import pytest

from echo_core.domain.artefacts import POSTER_KIND
from echo_core.domain.jobs import Job, JobState
from echo_core.plugin_api.steps import StepContext, StepResult
from echo_core.plugin_api.storage import ReadObject
from echo_core.testing.fake_storage import FakeStorage
from tests.integration.engine.conftest import Farm, single

pytestmark = pytest.mark.integration


def move(farm: Farm) -> None:
    """The same objects in another storage, which has generations of its own."""
    before, farm.storage, farm.storage_name = farm.storage, FakeStorage(clock=farm.storage.clock), "another"
    for key, stored in before.objects.items():
        farm.storage.store(key, stored.data, stored.info.content_type)


async def processed(farm: Farm, job: Job) -> Job:
    async with farm.worker():
        return await farm.finished(job.id)


async def test_a_source_that_was_copied_is_processed_like_one_that_was_uploaded(farm: Farm) -> None:
    job = await farm.submit()
    move(farm)
    assert (await processed(farm, job)).state is JobState.SUCCEEDED
    async with farm.units_of_work.for_worker() as uow:
        made = await uow.artefacts.list_for_video(job.video_id)
        upload = await uow.uploads.get(job.video_id)
    assert {artefact.backend for artefact in made} == {"another"}
    assert upload.backend == "fake"


async def test_a_copied_source_of_other_bytes_is_refused_though_no_generation_tells(farm: Farm) -> None:
    job = await farm.submit()
    async with farm.units_of_work.for_worker() as uow:
        key = (await uow.uploads.get(job.video_id)).storage_key
    data = farm.storage.objects[key].data
    move(farm)
    await farm.storage.delete(key)
    farm.storage.store(key, data[:-1] + bytes([data[-1] ^ 1]), "video/mp4")
    failed = await processed(farm, job)
    assert failed.state is JobState.FAILED
    assert failed.step_named("verify").error is not None
    assert failed.step_named("verify").error.code == "source_changed"  # type: ignore[union-attr]


async def test_a_replaced_source_of_this_storage_is_refused_as_ever(farm: Farm) -> None:
    job = await farm.submit()
    async with farm.units_of_work.for_worker() as uow:
        upload = await uow.uploads.get(job.video_id, for_update=True)
        await uow.uploads.save(replace(upload, generation="another"))
    assert (await processed(farm, job)).state is JobState.FAILED


async def test_steps_read_artefacts_of_another_storage_without_a_pin(farm: Farm) -> None:
    read: list[bytes] = []
    pins: list[str] = []

    async def reads(context: StepContext) -> StepResult:
        for poster in await context.stored(POSTER_KIND):
            pins.append(poster.generation)
            request = ReadObject(key=poster.key, generation=poster.generation or None)
            read.extend([chunk async for chunk in context.storage.open_read(request)])
        return StepResult(output={})

    job = await processed(farm, await farm.submit())
    async with farm.units_of_work.for_worker() as uow:
        posters = [a for a in await uow.artefacts.list_for_video(job.video_id) if a.kind == POSTER_KIND]
    farm.use(single(reads))
    other = await farm.submit()
    assert posters
    move(farm)
    # The step of another video would not see them: they are given to its own.
    async with farm.units_of_work.for_worker() as uow:
        await uow.artefacts.remove(job.video_id, [a.storage_key for a in posters])
        await uow.artefacts.put([replace(a, video_id=other.video_id, name=f"moved-{a.name}") for a in posters])
    assert (await processed(farm, other)).state is JobState.SUCCEEDED
    assert len(read) == len(posters)
    assert set(pins) == {""}
