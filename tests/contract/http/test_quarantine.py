"""Stored objects that are not what was announced."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import google_crc32c
import httpx2
import pytest

from echo_core.domain.uploads import UploadState
from tests.fakes.api import FILE, FakeApi, begin, completion, uploaded

COMPLETE = "/api/v1/videos/upload-complete"
CHECKSUM = f"crc32c:{google_crc32c.value(FILE):08x}"
OTHER_CHECKSUM = "crc32c:00000001"
MISMATCHES = [
    ("upload_size_mismatch", {"sizeBytes": 5}, {}, "video/mp4"),
    ("upload_content_type_mismatch", {}, {}, "text/html; charset=utf-8"),
    ("upload_checksum_mismatch", {}, {"checksum": OTHER_CHECKSUM}, "video/mp4"),
]


async def stored(
    api: FakeApi, client: httpx2.AsyncClient, announced: dict[str, Any], content_type: str
) -> dict[str, Any]:
    begun = await begin(client, **announced)
    api.storage.store(begun["storagePath"], FILE, content_type)
    return begun


@pytest.mark.parametrize(("code", "announced", "said", "content_type"), MISMATCHES)
async def test_object_that_is_not_what_was_announced_is_quarantined_for_good(
    code: str, announced: dict[str, Any], said: dict[str, Any], content_type: str
) -> None:
    api = FakeApi()
    async with api.client() as client:
        begun = await stored(api, client, announced, content_type)
        first = await client.post(COMPLETE, json=completion(begun, **said))
        again = await client.post(COMPLETE, json=completion(begun))
        resumed = await client.post(f"/api/v1/videos/{begun['videoId']}/upload/resume")
        source = await client.get(f"/api/v1/stream/video/{begun['videoId']}")
        details = (await client.get(f"/api/v1/videos/{begun['videoId']}/details")).json()
    upload = api.database.tables.uploads[UUID(begun["videoId"])]
    info = api.storage.get(upload.storage_key).info
    assert upload.state is UploadState.QUARANTINED
    assert (upload.generation, upload.checksum, upload.size_bytes) == (info.generation, info.checksum, len(FILE))
    assert {a.status_code for a in (first, again, resumed)} == {409}
    assert {a.json()["code"] for a in (first, again, resumed)} == {code}
    assert first.json()["detail"] == again.json()["detail"] == resumed.json()["detail"]
    assert "upload the file again" in first.json()["remedy"]
    assert source.status_code == 409
    assert details["status"] == "awaiting_upload"
    told = details["uploadProblem"]
    assert (told["code"], told["message"]) == (code, first.json()["detail"])
    assert api.database.tables.jobs == {}


async def test_what_fits_the_announcement_is_processed_with_its_checksum() -> None:
    api = FakeApi()
    async with api.client() as client:
        begun = await stored(api, client, {}, "Video/MP4; codecs=avc1")
        response = await client.post(COMPLETE, json=completion(begun, checksum=CHECKSUM))
    assert response.status_code == 202


async def test_checksum_by_another_algorithm_tells_nothing() -> None:
    api = FakeApi()
    async with api.client() as client:
        begun = await stored(api, client, {}, "video/mp4")
        response = await client.post(COMPLETE, json=completion(begun, checksum="sha256:" + "00" * 32))
    assert response.status_code == 202


async def test_what_is_only_said_wrongly_is_no_reason_for_a_quarantine() -> None:
    api = FakeApi()
    async with api.client() as client:
        begun = await stored(api, client, {}, "video/mp4")
        wrong = await client.post(COMPLETE, json=completion(begun, sizeBytes=len(FILE) + 1, checksum=OTHER_CHECKSUM))
        malformed = await client.post(COMPLETE, json=completion(begun, checksum="crc32c"))
        right = await client.post(COMPLETE, json=completion(begun))
    assert (wrong.status_code, wrong.json()["code"]) == (422, "size_mismatch")
    assert (malformed.status_code, malformed.json()["code"]) == (422, "validation_failed")
    assert right.status_code == 202


async def test_another_checksum_after_the_job_has_started_is_said_and_ends_nothing() -> None:
    api = FakeApi()
    async with api.client() as client:
        video_id, job_id = await uploaded(api, client)
        begun = {"videoId": str(video_id), "storagePath": api.database.tables.uploads[video_id].storage_key}
        other = await client.post(COMPLETE, json=completion(begun, checksum=OTHER_CHECKSUM))
        same = await client.post(COMPLETE, json=completion(begun, checksum=CHECKSUM))
    assert (other.status_code, other.json()["code"]) == (409, "upload_checksum_mismatch")
    assert same.json()["jobId"] == str(job_id)


async def test_quarantined_upload_can_be_deleted() -> None:
    api = FakeApi()
    async with api.client() as client:
        begun = await stored(api, client, {"sizeBytes": 5}, "video/mp4")
        await client.post(COMPLETE, json=completion(begun))
        deleted = await client.delete(f"/api/v1/videos/{begun['videoId']}")
    assert deleted.status_code == 204
    assert api.database.tables.uploads[UUID(begun["videoId"])].state is UploadState.EXPIRED
