"""Storage and database compared, and brought together again."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from echo_core.adapters.clock import SystemClock
from echo_core.application.storage_audit import Disagreement, Finding, StorageAudit, StorageAuditor
from echo_core.application.videos import bury_video
from echo_core.domain.ids import new_video_id
from echo_core.domain.jobs import Job, JobState
from echo_core.domain.uploads import UploadState, artefact_key
from echo_core.plugin_api.steps import StepContext, StepResult
from echo_core.plugin_api.storage import ListObjects
from tests.integration.engine.conftest import Farm, single

pytestmark = pytest.mark.integration


async def audit(farm: Farm, *, fix: bool = False, older_than: timedelta = timedelta(days=-1)) -> StorageAudit:
    told: list[Finding] = []
    auditor = StorageAuditor(
        units_of_work=farm.units_of_work,
        storage=farm.storage,
        storage_name=farm.storage_name,
        fix=fix,
        older_than=older_than,
        found=told.append,
    )
    result = await auditor.run()
    assert told == result.findings
    return result


async def processed(farm: Farm, videos: int = 1) -> list[Job]:
    jobs = [await farm.submit() for _ in range(videos)]
    async with farm.worker():
        return [await farm.finished(job.id) for job in jobs]


async def keys(farm: Farm, job: Job) -> list[str]:
    page = await farm.storage.list(ListObjects(prefix=f"videos/{job.video_id}/"))
    return [stored.key for stored in page.objects]


async def poster_of(farm: Farm, job: Job) -> str:
    return next(key for key in await keys(farm, job) if "/poster/" in key)


async def test_what_was_processed_agrees(farm: Farm) -> None:
    await processed(farm, videos=2)
    result = await audit(farm)
    assert (result.videos, result.findings) == (2, [])
    assert result.objects > 4


@pytest.mark.complaint(12)
async def test_objects_that_no_row_names_are_found_and_with_fix_deleted(farm: Farm) -> None:
    (job,) = await processed(farm)
    leaked = [
        artefact_key(job.video_id, "ladder", 99, "leak.mp4"),
        artefact_key(new_video_id(), "poster", 1, "of-a-purged-video.jpg"),
    ]
    for key in leaked:
        farm.storage.store(key, b"leak", "video/mp4")
    farm.storage.store("videos/not-an-id/of-somebody-else", b"x", "video/mp4")
    found = await audit(farm)
    assert [(f.kind, f.key, f.mended) for f in found.findings] == [(Disagreement.ORPHAN, key, "") for key in leaked]
    assert (found.unmended, found.foreign) == (2, 1)
    mended = await audit(farm, fix=True)
    assert (len(mended.findings), mended.unmended) == (2, 0)
    after = await audit(farm)
    assert (after.findings, after.foreign) == ([], 1)
    assert (await farm.finished(job.id)).state is JobState.SUCCEEDED


async def test_young_objects_are_left_alone(farm: Farm) -> None:
    (job,) = await processed(farm)
    farm.storage.clock = SystemClock()
    farm.storage.store(artefact_key(job.video_id, "ladder", 99, "young.mp4"), b"young", "video/mp4")
    result = await audit(farm, fix=True, older_than=timedelta(hours=24))
    assert (result.findings, result.young) == ([], 1)


async def test_what_a_running_step_has_stored_is_left_alone(farm: Farm) -> None:
    """Its row comes with the end of the step."""
    stored, go_on = asyncio.Event(), asyncio.Event()

    async def stores_first(context: StepContext) -> StepResult:
        farm.storage.store(artefact_key(job.video_id, "work", 1, "soon.mp4"), b"soon", "video/mp4")
        stored.set()
        await go_on.wait()
        return StepResult(output={})

    farm.use(single(stores_first))
    job = await farm.submit()
    async with farm.worker():
        await stored.wait()
        result = await audit(farm, fix=True)
        go_on.set()
        await farm.finished(job.id)
    assert (result.findings, result.young) == ([], 1)


async def test_an_upload_whose_bytes_are_there_and_that_nobody_completed_yet_is_left_alone(farm: Farm) -> None:
    (job,) = await processed(farm)
    async with farm.units_of_work.for_worker() as uow:
        upload = await uow.uploads.get(job.video_id, for_update=True)
        await uow.uploads.save(replace(upload, state=UploadState.OPEN))
    result = await audit(farm, fix=True)
    assert (result.findings, result.young) == ([], 1)
    assert upload.storage_key in await keys(farm, job)


@pytest.mark.complaint(6)
@pytest.mark.complaint(12)
async def test_an_artefact_whose_object_is_gone_is_made_anew(farm: Farm) -> None:
    first, job, last = await processed(farm, videos=3)
    lost = await poster_of(farm, job)
    await farm.storage.delete(lost)
    found = await audit(farm)
    assert [(f.kind, f.key, f.mended) for f in found.findings] == [(Disagreement.MISSING, lost, "")]
    assert "poster" in found.findings[0].remedy
    mended = await audit(farm, fix=True)
    assert mended.unmended == 0
    async with farm.worker():
        assert (await farm.finished(job.id)).state is JobState.SUCCEEDED
    assert (await audit(farm)).findings == []
    assert await poster_of(farm, job) != lost
    for other in (first, last):
        assert {s.attempt for s in (await farm.job(other.id)).steps if s.name == "poster"} == {1}


async def test_a_damaged_object_is_replaced(farm: Farm) -> None:
    (job,) = await processed(farm)
    damaged = await poster_of(farm, job)
    await farm.storage.delete(damaged)
    farm.storage.store(damaged, b"half", "image/jpeg")
    mended = await audit(farm, fix=True)
    assert [(f.kind, f.key) for f in mended.findings] == [(Disagreement.DAMAGED, damaged)]
    assert mended.unmended == 0
    async with farm.worker():
        await farm.finished(job.id)
    assert (await audit(farm)).findings == []
    assert damaged not in await keys(farm, job)


async def test_a_lost_source_is_told_and_nothing_is_thrown_away(farm: Farm) -> None:
    (job,) = await processed(farm)
    source = next(key for key in await keys(farm, job) if "/source/" in key)
    poster = await poster_of(farm, job)
    await farm.storage.delete(source)
    await farm.storage.delete(poster)
    rest = await keys(farm, job)
    result = await audit(farm, fix=True)
    assert {f.key: f.mended for f in result.findings} == {source: "", poster: ""}
    assert all("source" in f.remedy.lower() for f in result.findings)
    assert await keys(farm, job) == rest
    assert (await farm.job(job.id)).state is JobState.SUCCEEDED


async def test_deleted_videos_are_left_to_their_purge(farm: Farm) -> None:
    (job,) = await processed(farm)
    await farm.storage.delete(await poster_of(farm, job))
    async with farm.units_of_work.for_worker() as uow:
        await bury_video(uow, farm.pipeline, job.video_id)
    assert (await audit(farm, fix=True)).findings == []


async def test_an_object_of_the_same_size_and_other_bytes_is_damaged(farm: Farm) -> None:
    (job,) = await processed(farm)
    key = await poster_of(farm, job)
    size_bytes = farm.storage.objects[key].info.size_bytes
    await farm.storage.delete(key)
    farm.storage.store(key, b"?" * size_bytes, "image/jpeg")
    found = await audit(farm)
    assert [(f.kind, f.key, f.mended) for f in found.findings] == [(Disagreement.DAMAGED, key, "")]
    assert (await audit(farm, fix=True)).unmended == 0
    async with farm.worker():
        await farm.finished(job.id)
    assert (await audit(farm)).findings == []


async def written_anew(farm: Farm, key: str) -> str:
    """Restore an object from a backup: the same bytes, and another generation. Returns that."""
    before = farm.storage.objects[key]
    await farm.storage.delete(key)
    farm.storage.store(key, before.data, before.info.content_type)
    generation = farm.storage.objects[key].info.generation
    assert generation != before.info.generation
    return generation


@pytest.mark.matrix(26)
async def test_what_was_restored_is_accepted(farm: Farm) -> None:
    (job,) = await processed(farm)
    async with farm.units_of_work.for_worker() as uow:
        source = (await uow.uploads.get(job.video_id)).storage_key
    keys = [source, await poster_of(farm, job)]
    generations = [await written_anew(farm, key) for key in keys]
    found = await audit(farm)
    assert {(f.kind, f.key, f.mended) for f in found.findings} == {(Disagreement.REPLACED, key, "") for key in keys}
    assert all("--fix" in f.remedy for f in found.findings)
    assert (await audit(farm, fix=True)).unmended == 0
    assert (await audit(farm)).findings == []
    async with farm.units_of_work.for_worker() as uow:
        assert (await uow.uploads.get(job.video_id)).generation == generations[0]
        made = {a.storage_key: a.generation for a in await uow.artefacts.list_for_video(job.video_id)}
    assert made[keys[1]] == generations[1]


async def test_restored_object_whose_checksum_nobody_can_compare_is_not_accepted(farm: Farm) -> None:
    (job,) = await processed(farm)
    key = await poster_of(farm, job)
    await written_anew(farm, key)
    async with farm.units_of_work.for_worker() as uow:
        made = await uow.artefacts.list_for_video(job.video_id, segments=True)
        await uow.artefacts.put([replace(a, checksum="md5:00000000") for a in made if a.storage_key == key])
    found = await audit(farm, fix=True)
    assert [(f.kind, f.mended) for f in found.findings] == [(Disagreement.REPLACED, "")]


async def test_checksums_of_another_algorithm_are_not_compared(farm: Farm) -> None:
    (job,) = await processed(farm)
    async with farm.units_of_work.for_worker() as uow:
        made = await uow.artefacts.list_for_video(job.video_id, segments=True)
        await uow.artefacts.put([replace(artefact, checksum="md5:00000000") for artefact in made])
    assert (await audit(farm)).findings == []
