"""Quarantined uploads in a real PostgreSQL."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from echo_core.adapters.postgres.units_of_work import PostgresWorkerUnitsOfWork
from echo_core.domain.ids import VideoId
from echo_core.domain.jobs import JobKind
from echo_core.domain.uploads import UploadState
from tests.fakes.api import FILE, OWNER, FakeApi, begin, completion

pytestmark = pytest.mark.integration

COMPLETE = "/api/v1/videos/upload-complete"


async def quarantined(api: FakeApi) -> VideoId:
    async with api.client() as client:
        begun = await begin(client, sizeBytes=len(FILE) + 1)
        api.storage.store(begun["storagePath"], FILE, "video/mp4")
        answers = await asyncio.gather(*(client.post(COMPLETE, json=completion(begun)) for _ in range(5)))
    assert {(a.status_code, a.json()["code"]) for a in answers} == {(409, "upload_size_mismatch")}
    return VideoId(UUID(begun["videoId"]))


async def test_quarantine_is_kept_and_no_job_starts(api: FakeApi, worker: PostgresWorkerUnitsOfWork) -> None:
    video_id = await quarantined(api)
    async with worker.for_worker() as uow:
        upload = await uow.uploads.get(video_id)
        job = await uow.jobs.find_for_video(video_id, JobKind.PROCESS)
        inventory = await uow.inventory.find(video_id)
    info = api.storage.get(upload.storage_key).info
    assert upload.state is UploadState.QUARANTINED
    assert (upload.backend, upload.generation, upload.checksum) == ("fake", info.generation, info.checksum)
    assert job is None
    assert inventory is not None
    assert inventory.running, "an audit would remove the object that the upload stands for"


async def test_quarantined_upload_counts_and_expires_like_an_unfinished_one(
    api: FakeApi, worker: PostgresWorkerUnitsOfWork
) -> None:
    video_id = await quarantined(api)
    async with worker.for_worker() as uow:
        use = await uow.uploads.use_of(OWNER.id, with_bytes=True)
        assert (use.unfinished, use.unfinished_bytes, use.source_bytes) == (1, len(FILE), 0)
        assert (await uow.uploads.use_of(OWNER.id, with_bytes=False)).unfinished == 1
        upload = await uow.uploads.get(video_id, for_update=True)
        now = await uow.jobs.now()
        await uow.uploads.save(replace(upload, expires_at=now + timedelta(hours=1)))
        assert await uow.uploads.list_expired(10) == []
        expired = replace(upload, expires_at=now - timedelta(seconds=1))
        await uow.uploads.save(expired)
        assert await uow.uploads.list_expired(10) == [expired]
