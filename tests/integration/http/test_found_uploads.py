"""Uploads that a worker completes while their owner does."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from echo_core.adapters.postgres.units_of_work import PostgresWorkerUnitsOfWork
from echo_core.application.finding import UploadFinder
from echo_core.domain.ids import VideoId
from echo_core.domain.jobs import JobKind
from tests.fakes.api import FakeApi, begin, completion

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
