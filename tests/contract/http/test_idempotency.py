from __future__ import annotations

import asyncio

import pytest

from tests.fakes.api import OTHER, FakeApi, bearer, begin, completion, uploaded

URL = "/api/v1/videos/signed-upload-url"
BODY = {"filename": "a.mp4", "contentType": "video/mp4", "sizeBytes": 5}
KEY = {"Idempotency-Key": "0198f3c2-7b1e-7c3a-9d52-1f0e6a4b8c21"}


async def test_the_same_request_is_done_once_and_answered_alike() -> None:
    api = FakeApi()
    async with api.client() as client:
        first = await client.post(URL, json=BODY, headers=KEY)
        second = await client.post(URL, json=BODY, headers=KEY)
    assert (first.status_code, second.status_code) == (201, 201)
    assert second.content == first.content
    assert second.headers["location"] == first.headers["location"]
    assert second.headers["content-type"] == first.headers["content-type"]
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert second.headers["x-request-id"] != first.headers["x-request-id"]
    assert len(api.database.tables.videos) == 1


async def test_another_request_under_the_same_key_is_refused() -> None:
    api = FakeApi()
    async with api.client() as client:
        await client.post(URL, json=BODY, headers=KEY)
        body = await client.post(URL, json=BODY | {"sizeBytes": 6}, headers=KEY)
        begun = await begin(client)
        path = await client.post(f"/api/v1/videos/{begun['videoId']}/upload/resume", headers=KEY)
    for response in (body, path):
        assert (response.status_code, response.json()["code"]) == (422, "idempotency_key_reused")


async def test_keys_belong_to_their_user() -> None:
    api = FakeApi()
    async with api.client() as client:
        mine = await client.post(URL, json=BODY, headers=KEY)
        theirs = await client.post(URL, json=BODY, headers=KEY | bearer(OTHER))
    assert mine.json()["videoId"] != theirs.json()["videoId"]


async def test_while_the_first_is_at_work_the_second_waits_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    api = FakeApi()
    at_work, go_on = asyncio.Event(), asyncio.Event()
    begin_upload = api.storage.begin_upload

    async def slow(request: object) -> object:
        at_work.set()
        await go_on.wait()
        return await begin_upload(request)  # type: ignore[arg-type]

    monkeypatch.setattr(api.storage, "begin_upload", slow)
    async with api.client() as client:
        first = asyncio.create_task(client.post(URL, json=BODY, headers=KEY))
        await at_work.wait()
        second = await client.post(URL, json=BODY, headers=KEY)
        go_on.set()
        third_status = (await first).status_code
    assert (second.status_code, second.json()["code"]) == (409, "idempotency_in_progress")
    assert second.headers["retry-after"] == "1"
    assert third_status == 201


@pytest.mark.parametrize("error", [RuntimeError("bug"), asyncio.CancelledError()])
async def test_a_request_that_failed_may_be_sent_again(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    api = FakeApi()

    async def broken(request: object) -> object:
        raise error

    async with api.client() as client:
        with monkeypatch.context() as patch:
            patch.setattr(api.storage, "begin_upload", broken)
            try:
                failed = await client.post(URL, json=BODY, headers=KEY)
                assert failed.status_code == 500
            except asyncio.CancelledError:
                assert isinstance(error, asyncio.CancelledError)
        again = await client.post(URL, json=BODY, headers=KEY)
    assert again.status_code == 201


async def test_a_refused_request_may_be_corrected_under_its_key() -> None:
    api = FakeApi()
    async with api.client() as client:
        begun = await begin(client)
        early = await client.post("/api/v1/videos/upload-complete", json=completion(begun), headers=KEY)
        (upload,) = api.database.tables.uploads.values()
        api.storage.store(upload.storage_key, b"the bytes of a video", "video/mp4")
        late = await client.post("/api/v1/videos/upload-complete", json=completion(begun), headers=KEY)
    assert (early.status_code, late.status_code) == (409, 202)


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", "é"])
async def test_a_key_is_printable_and_bounded(key: str) -> None:
    async with FakeApi().client() as client:
        response = await client.post(URL, json=BODY, headers={"Idempotency-Key": key.encode("latin-1")})
    assert (response.status_code, response.json()["code"]) == (400, "invalid_idempotency_key")


@pytest.mark.parametrize("action", ["cancel", "retry"])
async def test_every_post_honours_keys(action: str) -> None:
    api = FakeApi()
    async with api.client() as client:
        _, job_id = await uploaded(api, client)
        if action == "retry":
            await client.post(f"/api/v1/videos/jobs/{job_id}/cancel")
        first = await client.post(f"/api/v1/videos/jobs/{job_id}/{action}", headers=KEY)
        again = await client.post(f"/api/v1/videos/jobs/{job_id}/{action}", headers=KEY)
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.headers["idempotency-replayed"] == "true"


async def test_an_unauthenticated_request_reserves_nothing() -> None:
    api = FakeApi()
    async with api.client(user=None) as client:
        assert (await client.post(URL, json=BODY, headers=KEY)).status_code == 401
    assert api.database.tables.keys == {}
