"""Uploads that the storage has forgotten."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import httpx2
import pytest

from echo_core.domain.uploads import UploadState
from echo_core.plugin_api import BeginUpload, ResumeUpload, UnavailableError, UploadRef, UploadTicket
from tests.fakes.api import FILE, LIMITS, FakeApi, begin, completion
from tests.fakes.moving_storage import MovingStorage

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


def moving() -> FakeApi:
    api = FakeApi()
    api.storage = MovingStorage(clock=api.clock)
    return api


def live_uploads(api: FakeApi) -> list[str]:
    return [state for state, upload in api.storage.uploads.items() if not upload.done]


def subject_of(api: FakeApi, answer: httpx2.Response) -> str:
    return api.storage.grants[answer.json()["uploadUrl"].rpartition("token=")[2]].subject


async def test_storage_that_opens_another_upload_to_resume_has_one_that_is_live() -> None:
    api = moving()
    async with api.client() as client:
        begun = await begin(client)
        (first,) = api.storage.uploads.values()
        first.data += FILE[:7]
        for _ in range(3):
            answer = await resume(client, begun)
            assert answer.json()["offsetBytes"] == 7
            assert live_uploads(api) == [subject_of(api, answer)]
    assert api.database.tables.uploads[UUID(begun["videoId"])].backend_state == subject_of(api, answer)


async def test_resume_that_was_overtaken_goes_on_with_what_is_live(monkeypatch: pytest.MonkeyPatch) -> None:
    api = moving()
    resume_upload = api.storage.resume_upload
    async with api.client() as client:
        begun = await begin(client)

        async def overtaken(request: ResumeUpload) -> UploadTicket:
            monkeypatch.setattr(api.storage, "resume_upload", resume_upload)
            ticket = await resume_upload(request)
            assert (await resume(client, begun)).status_code == 200
            return ticket

        monkeypatch.setattr(api.storage, "resume_upload", overtaken)
        answer = await resume(client, begun)
    assert live_uploads(api) == [subject_of(api, answer)]
    assert api.database.tables.uploads[UUID(begun["videoId"])].backend_state == subject_of(api, answer)


async def test_resume_that_is_always_overtaken_gives_up_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    api = moving()
    resume_upload = api.storage.resume_upload
    async with api.client() as client:
        begun = await begin(client)
        video_id = UUID(begun["videoId"])

        async def overtaken(request: ResumeUpload) -> UploadTicket:
            theirs = await resume_upload(request)
            row = api.database.tables.uploads[video_id]
            await api.storage.abort_upload(UploadRef(key=request.key, state=row.backend_state))
            api.database.tables.uploads[video_id] = replace(row, backend_state=theirs.state)
            return await resume_upload(replace(request, state=theirs.state))

        monkeypatch.setattr(api.storage, "resume_upload", overtaken)
        answer = await resume(client, begun)
    assert (answer.status_code, answer.json()["code"]) == (503, "upload_contended")
    assert live_uploads(api) == [api.database.tables.uploads[video_id].backend_state]


@pytest.mark.parametrize("end", ["completed", "quarantined", "deleted"])
async def test_upload_that_ends_while_it_is_resumed_hands_out_nothing_live(
    monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    api = moving()
    resume_upload = api.storage.resume_upload
    async with api.client() as client:
        begun = await begin(client)
        video_id = UUID(begun["videoId"])

        async def ends(request: ResumeUpload) -> UploadTicket:
            ticket = await resume_upload(request)
            if end == "deleted":
                assert (await client.delete(f"/api/v1/videos/{video_id}")).status_code == 204
            else:
                api.storage.store(begun["storagePath"], FILE if end == "completed" else FILE[1:], "video/mp4")
                await client.post(COMPLETE, json=completion(begun))
            return ticket

        monkeypatch.setattr(api.storage, "resume_upload", ends)
        before = live_uploads(api)
        answer = await resume(client, begun)
    told = {
        "completed": (409, "upload_completed"),
        "quarantined": (409, "upload_size_mismatch"),
        "deleted": (404, "not_found"),
    }
    assert (answer.status_code, answer.json()["code"]) == told[end]
    assert live_uploads(api) == before  # of which the row tells, and with which it is purged


async def test_object_that_is_found_in_place_of_what_was_resumed_only_lacks_its_completion(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    api = moving()
    resume_upload = api.storage.resume_upload
    async with api.client() as client:
        begun = await begin(client)

        async def appears(request: ResumeUpload) -> UploadTicket:
            api.store_upload(UUID(begun["videoId"]))
            return await resume_upload(request)

        monkeypatch.setattr(api.storage, "resume_upload", appears)
        body = (await resume(client, begun)).json()
    assert (body["complete"], body["offsetBytes"], body["uploadUrl"]) == (True, len(FILE), None)


async def test_upload_that_cannot_be_aborted_keeps_nobody_from_going_on(monkeypatch: pytest.MonkeyPatch) -> None:
    api = moving()

    async def refuses(request: object) -> None:
        raise UnavailableError("The bucket does not answer.")

    async with api.client() as client:
        begun = await begin(client)
        monkeypatch.setattr(api.storage, "abort_upload", refuses)
        answer = await resume(client, begun)
    assert answer.status_code == 200
    assert api.database.tables.uploads[UUID(begun["videoId"])].backend_state == subject_of(api, answer)
