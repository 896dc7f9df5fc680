"""Uploads that the storage has forgotten."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import httpx2
import pytest

from echo_core.domain.uploads import UploadState
from echo_core.plugin_api import BeginUpload, UnavailableError, UploadTicket
from tests.fakes.api import FILE, LIMITS, FakeApi, begin, completion

COMPLETE = "/api/v1/videos/upload-complete"


def resume(client: httpx2.AsyncClient, begun: dict[str, Any]) -> Any:
    return client.post(f"/api/v1/videos/{begun['videoId']}/upload/resume")


async def test_upload_that_the_storage_forgot_begins_again_for_the_same_video() -> None:
    api = FakeApi()
    async with api.client() as client:
        begun = await begin(client)
        api.storage.uploads.clear()
        api.clock.advance(60)
        response = await resume(client, begun)
        body = response.json()
        again = (await resume(client, begun)).json()
    ((state, upload),) = api.storage.uploads.items()
    row = api.database.tables.uploads[UUID(begun["videoId"])]
    assert response.status_code == 200
    assert (body["offsetBytes"], body["complete"]) == (0, False)
    assert body["uploadUrl"] not in (None, begun["uploadUrl"])
    assert body["storagePath"] == begun["storagePath"] == upload.key
    assert (upload.content_type, upload.size_bytes, upload.max_size_bytes) == (
        "video/mp4",
        len(FILE),
        LIMITS.max_upload_bytes,
    )
    assert row.backend_state == state
    assert again["offsetBytes"] == 0
    assert len(api.storage.uploads) == 1


async def test_upload_of_another_storage_than_is_configured_begins_again_here() -> None:
    api = FakeApi()
    async with api.client() as client:
        begun = await begin(client)
        video_id = UUID(begun["videoId"])
        row = api.database.tables.uploads[video_id]
        # The state of the other storage means something here by chance: it must not even be asked about.
        (upload,) = api.storage.uploads.values()
        upload.data += FILE[:7]
        api.database.tables.uploads[video_id] = replace(row, backend="other")
        told = (await client.post(COMPLETE, json=completion(begun))).json()
        body = (await resume(client, begun)).json()
    assert told["code"] == "upload_gone"
    assert (body["offsetBytes"], body["complete"]) == (0, False)
    assert api.database.tables.uploads[video_id].backend == "fake"
    assert api.database.tables.uploads[video_id].backend_state != row.backend_state


async def test_forgotten_upload_whose_object_is_there_only_lacks_its_completion() -> None:
    api = FakeApi()
    async with api.client() as client:
        begun = await begin(client)
        api.store_upload(UUID(begun["videoId"]))
        api.storage.uploads.clear()
        body = (await resume(client, begun)).json()
        completed = await client.post(COMPLETE, json=completion(begun))
    assert (body["complete"], body["offsetBytes"], body["uploadUrl"]) == (True, len(FILE), None)
    assert api.storage.uploads == {}
    assert completed.status_code == 202


async def test_object_that_appears_while_the_upload_begins_again_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    api = FakeApi()
    begin_upload = api.storage.begin_upload
    async with api.client() as client:
        begun = await begin(client)
        api.storage.uploads.clear()

        async def appears(request: BeginUpload) -> UploadTicket:
            api.store_upload(UUID(begun["videoId"]))
            return await begin_upload(request)

        monkeypatch.setattr(api.storage, "begin_upload", appears)
        body = (await resume(client, begun)).json()
    assert body["complete"] is True


async def test_of_two_that_begin_it_again_the_first_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    api = FakeApi()
    begin_upload = api.storage.begin_upload
    async with api.client() as client:
        begun = await begin(client)
        api.storage.uploads.clear()

        async def overtaken(request: BeginUpload) -> UploadTicket:
            monkeypatch.setattr(api.storage, "begin_upload", begin_upload)
            assert (await resume(client, begun)).status_code == 200
            (first,) = api.storage.uploads.values()
            first.data += FILE[:7]
            return await begin_upload(request)

        monkeypatch.setattr(api.storage, "begin_upload", overtaken)
        body = (await resume(client, begun)).json()
    assert body["offsetBytes"] == 7
    (state,) = api.storage.uploads
    assert api.database.tables.uploads[UUID(begun["videoId"])].backend_state == state


async def test_nothing_is_left_of_an_upload_that_is_deleted_while_it_begins_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    api = FakeApi()
    begin_upload = api.storage.begin_upload
    async with api.client() as client:
        begun = await begin(client)
        api.storage.uploads.clear()

        async def deleted(request: BeginUpload) -> UploadTicket:
            await client.delete(f"/api/v1/videos/{begun['videoId']}")
            return await begin_upload(request)

        monkeypatch.setattr(api.storage, "begin_upload", deleted)
        response = await resume(client, begun)
    assert response.status_code == 404
    assert api.storage.uploads == {}
    assert api.database.tables.uploads[UUID(begun["videoId"])].state is UploadState.EXPIRED


async def test_storage_that_is_away_is_no_storage_that_forgot(monkeypatch: pytest.MonkeyPatch) -> None:
    api = FakeApi()

    async def away(request: object) -> None:
        raise UnavailableError("The bucket does not answer.")

    async with api.client() as client:
        begun = await begin(client)
        monkeypatch.setattr(api.storage, "upload_offset", away)
        response = await resume(client, begun)
    assert response.status_code == 503
    assert len(api.storage.uploads) == 1


async def test_upload_of_unknown_size_that_begins_again_may_take_what_is_left_of_the_quota() -> None:
    api = FakeApi(limits=replace(LIMITS, quota_bytes=2000))
    async with api.client() as client:
        begun = await begin(client, sizeBytes=None)
        await begin(client, sizeBytes=500)
        api.storage.uploads.clear()
        await resume(client, begun)
    (upload,) = api.storage.uploads.values()
    assert upload.max_size_bytes == 1500
