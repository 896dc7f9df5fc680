"""Quotas over real PostgreSQL: what is decided at once for many requests."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from uuid import UUID

import pytest

from echo_core.adapters.postgres.units_of_work import PostgresWorkerUnitsOfWork
from echo_core.domain.ids import VideoId
from tests.fakes.api import FILE, OWNER, FakeApi, begin, completion

pytestmark = pytest.mark.integration

URL = "/api/v1/videos/signed-upload-url"
COMPLETE = "/api/v1/videos/upload-complete"


async def test_uploads_that_begin_at_once_reserve_no_more_than_the_quota(api: FakeApi) -> None:
    api.limits = replace(api.limits, quota_bytes=1000)
    body = {"filename": "a.mp4", "contentType": "video/mp4", "sizeBytes": 300}
    async with api.client() as client:
        answers = await asyncio.gather(*(client.post(URL, json=body) for _ in range(8)))
    assert sorted(a.status_code for a in answers) == [201] * 3 + [413] * 5


async def test_use_counts_sources_and_all_that_was_made_of_them(
    api: FakeApi, worker: PostgresWorkerUnitsOfWork
) -> None:
    async with api.client() as client:
        begun = await begin(client)
        video_id = VideoId(UUID(begun["videoId"]))
        async with worker.for_worker() as uow:
            upload = await uow.uploads.get(video_id)
        api.storage.store(upload.storage_key, FILE, upload.content_type)
        assert (await client.post(COMPLETE, json=completion(begun))).status_code == 202
        await begin(client, sizeBytes=300)
        await begin(client, sizeBytes=None)
    artefact = replace(await api.add_artefact(video_id, "rendition", "720p.mp4"), size_bytes=77)
    async with worker.for_worker() as uow:
        await uow.artefacts.put([artefact])
        use = await uow.uploads.use_of(OWNER.id, with_bytes=True)
        assert (use.unfinished, use.unfinished_bytes, use.source_bytes, use.derived_bytes) == (2, 300, len(FILE), 77)
        assert (await uow.uploads.use_of(OWNER.id, with_bytes=False)).unfinished == 2
