from __future__ import annotations

import asyncio
from dataclasses import replace
from uuid import UUID

import pytest

from echo_core.domain.jobs import JobKind
from echo_core.domain.uploads import UploadState
from echo_core.plugin_api import BeginUpload, InsufficientStorageError, UploadTicket
from tests.fakes.api import FILE, LIMITS, OTHER, FakeApi, bearer, begin, completion, uploaded

URL = "/api/v1/videos/signed-upload-url"
COMPLETE = "/api/v1/videos/upload-complete"


async def test_begin_answers_with_an_upload_target_and_a_video_that_awaits_its_bytes() -> None:
    api = FakeApi()
    async with api.client() as client:
        response = await client.post(
            URL, json={"filename": "Ferien/My film.MP4", "contentType": "video/mp4; codecs=x", "sizeBytes": 20}
        )
        details = await client.get(response.headers["location"])
    body = response.json()
    assert response.status_code == 201
    assert set(body) == {"videoId", "uploadUrl", "storagePath", "upload"}
    assert set(body["upload"]) == {"protocol", "method", "headers", "chunkSizeBytes", "expiresAt"}
    assert body["storagePath"] == f"videos/{body['videoId']}/source/my-film.mp4"
    assert UUID(body["videoId"]).version == 7
    assert details.json()["status"] == "awaiting_upload"
    assert details.json()["title"] == "My film"
    assert api.database.tables.uploads[UUID(body["videoId"])].content_type == "video/mp4"
    assert api.database.event_types() == []


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (None, ("google-resumable",)),
        ([], ("google-resumable",)),
        (["google-resumable", "tus", "signed-put", "x" * 64], ("google-resumable", "signed-put")),
        (["signed-put"] * 16, ("google-resumable", "signed-put")),
        (["of-a-newer-client"], ("google-resumable",)),
    ],
)
async def test_protocols_that_this_server_does_not_know_are_passed_over(
    monkeypatch: pytest.MonkeyPatch, said: list[str] | None, told: tuple[str, ...]
) -> None:
    api = FakeApi()
    asked: list[BeginUpload] = []
    begin_upload = api.storage.begin_upload

    async def noted(request: BeginUpload) -> UploadTicket:
        asked.append(request)
        return await begin_upload(request)

    monkeypatch.setattr(api.storage, "begin_upload", noted)
    async with api.client() as client:
        await begin(client, **({} if said is None else {"protocols": said}))
    assert [request.protocols for request in asked] == [told]


@pytest.mark.parametrize("said", ["signed-put", [1], [""], ["x" * 65], ["tus"] * 17, None])
async def test_protocols_are_a_few_short_names(said: object) -> None:
    async with FakeApi().client() as client:
        response = await client.post(
            URL, json={"filename": "a.mp4", "contentType": "video/mp4", "sizeBytes": 20, "protocols": said}
        )
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"].startswith("/protocols")


async def test_refused_field_uses_up_no_key() -> None:
    """What clients count on that send again without a field that an older server does not know."""
    body = {"filename": "a.mp4", "contentType": "video/mp4", "sizeBytes": 20}
    async with FakeApi().client() as client:
        headers = {"Idempotency-Key": "one"}
        refused = await client.post(URL, json={**body, "ofANewerClient": []}, headers=headers)
        accepted = await client.post(URL, json=body, headers=headers)
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/ofANewerClient")
    assert accepted.status_code == 201


async def test_complete_starts_one_job_with_its_events_and_doorbells_in_one_transaction() -> None:
    api = FakeApi()
    async with api.client() as client:
        video_id, job_id = await uploaded(api, client)
    job = api.job_of(video_id)
    assert job.id == job_id
    assert api.database.event_types() == ["video.created", "job.queued", "step.queued"]
    assert api.database.rings == [(job.steps[0].id, job.steps[0].resource)]
    upload = api.database.tables.uploads[video_id]
    assert upload.state is UploadState.COMPLETED
    assert upload.generation == api.storage.get(upload.storage_key).info.generation
    assert job.correlation_id


async def test_complete_tells_where_the_job_is_and_carries_the_request_id_into_it() -> None:
    api = FakeApi()
    async with api.client() as client:
        begun = await begin(client)
        api.store_upload(UUID(begun["videoId"]))
        response = await client.post(COMPLETE, json=completion(begun), headers={"X-Request-Id": "from-the-browser"})
        job = await client.get(response.headers["location"])
    assert response.json() == {"videoId": begun["videoId"], "jobId": job.json()["jobId"], "status": "processing"}
    assert api.job_of(UUID(begun["videoId"])).correlation_id == "from-the-browser"


async def test_twenty_completes_at_once_give_one_job_and_one_answer() -> None:
    api = FakeApi()
    async with api.client() as client:
        begun = await begin(client)
        api.store_upload(UUID(begun["videoId"]))
        answers = await asyncio.gather(*(client.post(COMPLETE, json=completion(begun)) for _ in range(20)))
    assert {a.status_code for a in answers} == {202}
    assert len({a.text for a in answers}) == 1
    assert len(api.database.tables.jobs) == 1
    assert api.database.event_types().count("job.queued") == 1


async def test_no_provider_is_called_inside_a_unit_of_work(monkeypatch: pytest.MonkeyPatch) -> None:
    api = FakeApi()
    stat = api.storage.stat

    async def guarded(key: str) -> object:
        assert api.database.open_units == 0
        return await stat(key)

    monkeypatch.setattr(api.storage, "stat", guarded)
    async with api.client() as client:
        await uploaded(api, client)


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"storagePath": "videos/01900000-0000-7000-8000-000000000001/source/x.mp4"}, 422, "storage_path_mismatch"),
        ({"sizeBytes": len(FILE) + 1}, 422, "size_mismatch"),
        ({"contentType": "video/webm"}, 422, "content_type_mismatch"),
        ({"contentType": "text/html"}, 422, "unsupported_content_type"),
        ({"originalFilename": "///"}, 422, "invalid_filename"),
        ({"videoId": "01900000-0000-7000-8000-000000000001"}, 404, "not_found"),
    ],
)
async def test_complete_rejects_what_does_not_fit_the_upload(
    changes: dict[str, object], status: int, code: str
) -> None:
    api = FakeApi()
    async with api.client() as client:
        begun = await begin(client)
        api.store_upload(UUID(begun["videoId"]))
        response = await client.post(COMPLETE, json=completion(begun, **changes))
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert api.database.tables.jobs == {}


async def test_complete_rejects_the_storage_path_of_another_of_ones_videos() -> None:
    api = FakeApi()
    async with api.client() as client:
        first, second = await begin(client), await begin(client)
        api.store_upload(UUID(first["videoId"]))
        response = await client.post(COMPLETE, json=completion(second, storagePath=first["storagePath"]))
    assert (response.status_code, response.json()["code"]) == (422, "storage_path_mismatch")


async def test_complete_of_an_upload_that_the_storage_dropped_says_to_resume() -> None:
    api = FakeApi()
    async with api.client() as client:
        begun = await begin(client)
        api.storage.uploads.clear()
        response = await client.post(COMPLETE, json=completion(begun))
    assert (response.status_code, response.json()["code"]) == (409, "upload_gone")
    assert "Resume" in response.json()["remedy"]


async def test_complete_before_the_bytes_tells_the_durable_offset() -> None:
    api = FakeApi()
    async with api.client() as client:
        begun = await begin(client)
        (upload,) = api.storage.uploads.values()
        upload.data += FILE[:7]
        response = await client.post(COMPLETE, json=completion(begun))
    assert response.status_code == 409
    assert response.json()["code"] == "upload_incomplete"
    assert response.json()["offsetBytes"] == 7


async def test_complete_after_the_expiry_is_refused() -> None:
    api = FakeApi()
    async with api.client() as client:
        begun = await begin(client)
        api.store_upload(UUID(begun["videoId"]))
        api.clock.advance(LIMITS.upload_expires_in_s + 1)
        response = await client.post(COMPLETE, json=completion(begun))
    assert (response.status_code, response.json()["code"]) == (409, "upload_expired")


async def test_a_video_deleted_while_its_upload_completes_gets_no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    api = FakeApi()
    stat = api.storage.stat
    async with api.client() as client:
        begun = await begin(client)
        api.store_upload(UUID(begun["videoId"]))

        async def delete_meanwhile(key: str) -> object:
            await client.delete(f"/api/v1/videos/{begun['videoId']}")
            return await stat(key)

        monkeypatch.setattr(api.storage, "stat", delete_meanwhile)
        response = await client.post(COMPLETE, json=completion(begun))
    assert response.status_code == 404
    assert [job.kind for job in api.database.tables.jobs.values()] == [JobKind.PURGE]


@pytest.mark.complaint(8)
async def test_an_announced_file_over_the_limit_is_refused_by_naming_it() -> None:
    api = FakeApi()
    async with api.client() as client:
        response = await client.post(
            URL, json={"filename": "a.mp4", "contentType": "video/mp4", "sizeBytes": LIMITS.max_upload_bytes + 1}
        )
    assert (response.status_code, response.json()["code"]) == (413, "upload_too_large")
    assert "upload.max_size_bytes" in response.json()["detail"]
    assert str(LIMITS.max_upload_bytes) in response.json()["detail"]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"filename": "../.."}, "invalid_filename"),
        ({"contentType": "image/png"}, "unsupported_content_type"),
        ({"contentType": "mp4"}, "invalid_content_type"),
        ({"sizeBytes": 0}, "empty_file"),
        ({"filename": "a\0.mp4"}, "validation_failed"),
        ({"ownerId": "x"}, "validation_failed"),
    ],
)
async def test_begin_rejects_what_is_no_video(changes: dict[str, object], code: str) -> None:
    api = FakeApi()
    async with api.client() as client:
        body = {"filename": "a.mp4", "contentType": "video/mp4", "sizeBytes": 5} | changes
        response = await client.post(URL, json=body)
    assert (response.status_code, response.json()["code"]) == (422, code)
    assert api.database.tables.videos == {}


@pytest.mark.complaint(13)
async def test_a_full_storage_is_507_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    api = FakeApi()

    async def full(request: object) -> UploadTicket:
        raise InsufficientStorageError("The disk is full.")

    monkeypatch.setattr(api.storage, "begin_upload", full)
    async with api.client() as client:
        response = await client.post(URL, json={"filename": "a.mp4", "contentType": "video/mp4"})
    assert response.status_code == 507
    assert response.json()["remedy"]


async def test_an_upload_that_cannot_be_recorded_is_aborted() -> None:
    api = FakeApi()
    api.database.down = True
    async with api.client() as client:
        response = await client.post(URL, json={"filename": "a.mp4", "contentType": "video/mp4"})
    assert (response.status_code, response.json()["code"]) == (503, "database_unavailable")
    assert response.headers["retry-after"]
    assert api.storage.uploads == {}


async def test_resume_gives_a_fresh_url_and_the_durable_offset() -> None:
    api = FakeApi()
    async with api.client() as client:
        begun = await begin(client)
        (upload,) = api.storage.uploads.values()
        upload.data += FILE[:7]
        api.clock.advance(60)
        response = await client.post(f"/api/v1/videos/{begun['videoId']}/upload/resume")
    body = response.json()
    assert response.status_code == 200
    assert (body["offsetBytes"], body["complete"]) == (7, False)
    assert body["uploadUrl"] != begun["uploadUrl"]
    assert body["upload"]["expiresAt"] > begun["upload"]["expiresAt"]


async def test_resume_of_a_stored_file_says_that_only_completing_is_left() -> None:
    api = FakeApi()
    async with api.client() as client:
        begun = await begin(client)
        (upload,) = api.storage.uploads.values()
        upload.data += FILE
        upload.done = True
        body = (await client.post(f"/api/v1/videos/{begun['videoId']}/upload/resume")).json()
    assert (body["complete"], body["offsetBytes"], body["uploadUrl"]) == (True, len(FILE), None)


async def test_resume_refuses_what_is_over() -> None:
    api = FakeApi()
    async with api.client() as client:
        video_id, _ = await uploaded(api, client)
        done = await client.post(f"/api/v1/videos/{video_id}/upload/resume")
        begun = await begin(client)
        api.clock.advance(LIMITS.upload_expires_in_s + 1)
        late = await client.post(f"/api/v1/videos/{begun['videoId']}/upload/resume")
    assert [r.json()["code"] for r in (done, late)] == ["upload_completed", "upload_expired"]


async def test_somebody_elses_upload_is_not_there() -> None:
    api = FakeApi()
    async with api.client() as client:
        begun = await begin(client)
        api.store_upload(UUID(begun["videoId"]))
        other = bearer(OTHER)
        resumed = await client.post(f"/api/v1/videos/{begun['videoId']}/upload/resume", headers=other)
        completed = await client.post(COMPLETE, json=completion(begun), headers=other)
    assert {resumed.status_code, completed.status_code} == {404}


async def test_quota_counts_every_byte_and_is_reserved_when_an_upload_begins() -> None:
    api = FakeApi(limits=replace(LIMITS, quota_bytes=2000))
    async with api.client() as client:
        video_id, _ = await uploaded(api, client)
        await api.add_artefact(video_id, "rendition", "720p.mp4", size_bytes=1100)
        await begin(client, sizeBytes=800)
        refused = await client.post(URL, json={"filename": "b.mp4", "contentType": "video/mp4", "sizeBytes": 100})
        others = await client.post(
            URL, json={"filename": "b.mp4", "contentType": "video/mp4", "sizeBytes": 100}, headers=bearer(OTHER)
        )
    assert refused.status_code == 413
    problem = refused.json()
    assert problem["code"] == "quota_exceeded"
    for number in ("2000", str(len(FILE)), "1100", "800", "100", "upload.quota_bytes"):
        assert number in problem["detail"]
    assert problem["remedy"]
    assert others.status_code == 201


async def test_upload_of_unknown_size_may_take_what_is_left_of_the_quota_and_no_more() -> None:
    api = FakeApi(limits=replace(LIMITS, quota_bytes=2000))
    async with api.client() as client:
        begun = await begin(client, sizeBytes=None)
        await begin(client, sizeBytes=1990)
        api.store_upload(UUID(begun["videoId"]))
        response = await client.post(COMPLETE, json=completion(begun))
    assert response.status_code == 413
    assert response.json()["code"] == "quota_exceeded"


async def test_unfinished_uploads_of_a_user_are_bounded() -> None:
    api = FakeApi(limits=replace(LIMITS, max_unfinished_uploads=2))
    body = {"filename": "a.mp4", "contentType": "video/mp4"}
    async with api.client() as client:
        first = await begin(client)
        await begin(client)
        refused = await client.post(URL, json=body)
        api.store_upload(UUID(first["videoId"]))
        await client.post(COMPLETE, json=completion(first))
        again = await client.post(URL, json=body)
    assert refused.status_code == 409
    assert refused.json()["code"] == "too_many_unfinished_uploads"
    assert "upload.max_unfinished" in refused.json()["detail"]
    assert again.status_code == 201
    assert len([u for u in api.database.tables.uploads.values() if u.state is UploadState.OPEN]) == 2
