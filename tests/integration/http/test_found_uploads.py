"""Uploads that a worker completes while their owner does."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from echo_core.adapters.postgres.engine import open_engine
from echo_core.adapters.postgres.units_of_work import PostgresUserUnitsOfWork, PostgresWorkerUnitsOfWork
from echo_core.application.finding import UploadFinder
from echo_core.application.upload_hints import UploadHintTaker
from echo_core.domain.ids import VideoId
from echo_core.domain.jobs import JobKind
from echo_core.domain.uploads import UploadState
from echo_core.plugin_api.errors import UnavailableError
from tests.fakes.api import SEAL, FakeApi, begin, completion

pytestmark = pytest.mark.integration

COMPLETE = "/api/v1/videos/upload-complete"


@pytest.mark.parametrize("attempt", range(5))
async def test_owner_and_worker_that_complete_at_once_start_one_job(
    api: FakeApi, worker: PostgresWorkerUnitsOfWork, announced: Any, monkeypatch: pytest.MonkeyPatch, attempt: int
) -> None:
    owners = 3
    finder = UploadFinder(services=api.services, units_of_work=worker)
    stat, together = api.storage.stat, asyncio.Barrier(owners + 1)

    async def at_once(key: str) -> Any:
        stored = await stat(key)
        await together.wait()
        return stored

    async with api.client() as client:
        begun = await begin(client)
        video_id = VideoId(UUID(begun["videoId"]))
        async with worker.for_worker() as uow:
            upload = await uow.uploads.get(video_id)
            # The API's clock stands still, the database's does not.
            due = "update echo.uploads set check_at = now(), expires_at = now() + interval '1 day' where video_id = :id"
            await uow.uploads._tx.execute(sa.text(due), {"id": video_id})
        api.storage.store(upload.storage_key, b"the bytes of a video", "video/mp4")
        monkeypatch.setattr(api.storage, "stat", at_once)
        *answers, _ = await asyncio.gather(
            *(client.post(COMPLETE, json=completion(begun)) for _ in range(owners)), finder.look()
        )
    async with worker.for_worker() as uow:
        job = await uow.jobs.find_for_video(video_id, JobKind.PROCESS)
    assert job is not None
    assert {(a.status_code, a.json()["jobId"]) for a in answers} == {(202, str(job.id))}
    assert announced.types.count("job.queued") == 1


async def test_hint_makes_a_worker_look_at_once_and_at_nothing_else(
    api: FakeApi, worker: PostgresWorkerUnitsOfWork
) -> None:
    async with api.client() as client:
        hinted, other, quarantined = [await begin(client) for _ in range(3)]
    video_ids = [VideoId(UUID(begun["videoId"])) for begun in (hinted, other, quarantined)]
    async with worker.for_worker() as uow:
        await uow.uploads._tx.execute(sa.text("update echo.uploads set expires_at = now() + interval '1 day'"))
        upload = await uow.uploads.get(video_ids[2])
        await uow.uploads.save(replace(upload, state=UploadState.QUARANTINED))
        before = {video_id: await uow.uploads.get(video_id) for video_id in video_ids}
        assert await uow.uploads.claim_due("fake", for_s=60) is None
    hints = UploadHintTaker(api.units_of_work)
    await hints.object_stored(f"{other['storagePath']}4")  # another key of that video
    await hints.object_stored(quarantined["storagePath"])
    async with worker.for_worker() as uow:
        assert await uow.uploads.claim_due("fake", for_s=60) is None
    await hints.object_stored(hinted["storagePath"])
    await hints.object_stored(hinted["storagePath"])
    async with worker.for_worker() as uow:
        assert {video_id: await uow.uploads.get(video_id) for video_id in video_ids} == before
        assert await uow.uploads.claim_due("fake", for_s=60) == before[video_ids[0]]
        assert await uow.uploads.claim_due("fake", for_s=60) is None


async def test_hint_while_the_database_is_away_says_so(database: Any) -> None:
    gone = database.api_url.rpartition("/")[0] + "/there_is_no_such_database"
    async with open_engine(gone, pool_size=1) as engine:
        hints = UploadHintTaker(PostgresUserUnitsOfWork(engine, nobody, SEAL))
        with pytest.raises(UnavailableError):
            await hints.object_stored("videos/01900000-0000-7000-8000-000000000001/source/a.mp4")


async def nobody(*_: object) -> None:
    """Nothing to tell."""
