"""What only real rows, locks and row level security can show."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import asyncpg
import httpx2
import pytest

from echo_core.application import idempotency
from echo_core.application.job_changes import store_change
from echo_core.domain.jobs import JobKind
from tests.fakes.api import FILE, OTHER, FakeApi, bearer, begin, completion

pytestmark = pytest.mark.integration

COMPLETE = "/api/v1/videos/upload-complete"


def store_bytes(api: FakeApi, begun: dict[str, Any]) -> None:
    api.storage.store(begun["storagePath"], FILE, "video/mp4")


async def uploaded(api: FakeApi, client: httpx2.AsyncClient, **changes: Any) -> dict[str, Any]:
    begun = await begin(client, **changes)
    store_bytes(api, begun)
    response = await client.post(COMPLETE, json=completion(begun))
    assert response.status_code == 202, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def test_the_whole_way_from_a_file_to_its_end(api, client, worker, announced) -> None:
    video = await uploaded(api, client)
    details = await client.get(f"/api/v1/videos/{video['videoId']}/details")
    assert details.json()["status"] == "processing"
    assert details.json()["job"]["queuePosition"] == 0
    assert announced.types == ["video.created", "job.queued", "step.queued"]

    async with worker.for_worker() as uow:
        job = await uow.jobs.get(UUID(video["jobId"]), for_update=True)
        now = await uow.jobs.now()
        claimed = job.claimed(job.steps[0].id, worker="w", now=now, lease_s=15)
        await store_change(uow, job, claimed)
    async with worker.for_worker() as uow:
        before = await uow.jobs.get(claimed.id, for_update=True)
        after = before.succeeded(before.steps[0].id, 1, now=await uow.jobs.now(), output={"x": 1})
        await store_change(uow, before, after)
    assert announced.types[3:] == ["job.running", "step.running", "step.succeeded", "step.queued", "step.queued"]
    job_now = (await client.get(f"/api/v1/videos/jobs/{video['jobId']}")).json()
    assert [step["state"] for step in job_now["steps"]] == ["succeeded", "queued", "queued"]

    put = await client.put(
        f"/api/v1/videos/{video['videoId']}/metadata",
        json={"title": "Sea", "tags": ["a"], "chapters": [{"startSeconds": 0, "title": "One"}]},
        headers={"If-Match": details.headers["etag"]},
    )
    assert (put.status_code, put.json()["editedFields"]) == (200, ["chapters", "tags", "title"])
    assert (await client.delete(f"/api/v1/videos/{video['videoId']}")).status_code == 204
    assert (await client.get(f"/api/v1/videos/{video['videoId']}/details")).status_code == 404
    assert announced.types[-1] == "video.deleted"
    async with worker.for_worker() as uow:
        assert (await uow.jobs.find_for_video(UUID(video["videoId"]), JobKind.PURGE)) is not None
    assert [event.sequence for event in announced.events] == list(range(1, len(announced.events) + 1))


async def test_twenty_completes_at_once_give_one_job(api, client, announced) -> None:
    begun = await begin(client)
    store_bytes(api, begun)
    answers = await asyncio.gather(*(client.post(COMPLETE, json=completion(begun)) for _ in range(20)))
    assert {a.status_code for a in answers} == {202}, [a.text for a in answers if a.status_code != 202]
    assert len({a.text for a in answers}) == 1
    assert announced.types == ["video.created", "job.queued", "step.queued"]
    assert len(announced.rings) == 1


async def test_completes_and_deletes_at_once_never_leave_a_job_on_a_deleted_video(api, client, worker) -> None:
    for _ in range(8):
        begun = await begin(client)
        store_bytes(api, begun)
        url = f"/api/v1/videos/{begun['videoId']}"
        completed, deleted, again = await asyncio.gather(
            client.post(COMPLETE, json=completion(begun)), client.delete(url), client.delete(url)
        )
        assert completed.status_code in {202, 404}
        assert sorted((deleted.status_code, again.status_code)) == [204, 404]
        async with worker.for_worker() as uow:
            job = await uow.jobs.find_for_video(UUID(begun["videoId"]), JobKind.PROCESS)
            purge = await uow.jobs.find_for_video(UUID(begun["videoId"]), JobKind.PURGE)
        assert purge is not None
        assert job is None or job.state.finished


async def patient(client, url: str, body: dict[str, Any]) -> httpx2.Response:
    """Post under one key, again as long as the first such request is at work."""
    async with asyncio.timeout(30):
        while True:
            response = await client.post(url, json=body, headers={"Idempotency-Key": "one"})
            if response.status_code != 409:
                return response
            assert response.json()["code"] == "idempotency_in_progress"
            assert response.headers["retry-after"] == "1"


async def test_twenty_begins_under_one_key_make_one_video_and_are_answered_alike(api, client, database) -> None:
    body = {"filename": "a.mp4", "contentType": "video/mp4"}
    answers = await asyncio.gather(*(patient(client, "/api/v1/videos/signed-upload-url", body) for _ in range(20)))
    assert {a.status_code for a in answers} == {201}
    assert len({(a.content, a.headers["location"], a.headers["content-type"]) for a in answers}) == 1
    assert sum("idempotency-replayed" not in a.headers for a in answers) == 1
    assert await count(database, "echo.videos") == 1
    assert await count(database, "echo.idempotency_keys") == 1


async def test_a_key_is_held_for_as_long_as_its_request_runs(
    api, client, database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long that is: a minute without an answer alone does not make it a dead one's."""
    at_work, go_on = asyncio.Event(), asyncio.Event()
    begin_upload = api.storage.begin_upload

    async def slow(request: object) -> object:
        at_work.set()
        await go_on.wait()
        return await begin_upload(request)

    async def ask() -> httpx2.Response:
        body = {"filename": "a.mp4", "contentType": "video/mp4"}
        return await client.post("/api/v1/videos/signed-upload-url", json=body, headers={"Idempotency-Key": "one"})

    monkeypatch.setattr(api.storage, "begin_upload", slow)
    monkeypatch.setattr(idempotency, "RENEW_EVERY_S", 0.01)
    first = asyncio.create_task(ask())
    try:
        await at_work.wait()
        connection = await asyncpg.connect(database.owner_url)
        try:
            await connection.execute("update echo.idempotency_keys set created_at = created_at - interval '2 minutes'")
            renewed = "select bool_and(created_at > clock_timestamp() - interval '1 minute') from echo.idempotency_keys"
            async with asyncio.timeout(20):
                while not await connection.fetchval(renewed):
                    await asyncio.sleep(0.01)
        finally:
            await connection.close()
        second = await ask()
    finally:
        go_on.set()
        answer = await first
    assert (second.status_code, second.json()["code"]) == (409, "idempotency_in_progress")
    assert answer.status_code == 201
    assert (await ask()).content == answer.content


async def test_twenty_completes_under_one_key_start_one_job_and_are_answered_alike(api, client, database) -> None:
    begun = await begin(client)
    store_bytes(api, begun)
    answers = await asyncio.gather(*(patient(client, COMPLETE, completion(begun)) for _ in range(20)))
    assert {a.status_code for a in answers} == {202}
    assert len({(a.content, a.headers["location"]) for a in answers}) == 1
    assert await count(database, "echo.jobs") == 1


async def count(database, table: str) -> int:
    connection = await asyncpg.connect(database.owner_url)
    try:
        return int(await connection.fetchval(f"select count(*) from {table}"))  # noqa: S608 - a name of ours
    finally:
        await connection.close()


async def test_what_is_somebody_elses_is_not_there(api, client) -> None:
    video = await uploaded(api, client)
    other = bearer(OTHER)
    base, job = f"/api/v1/videos/{video['videoId']}", f"/api/v1/videos/jobs/{video['jobId']}"
    stream = f"/api/v1/stream/video/{video['videoId']}"
    token = {"token": f"play:{OTHER.id}:{video['videoId']}"}
    answers = [
        await client.get(f"{base}/details", headers=other),
        await client.put(f"{base}/metadata", json={"title": "mine"}, headers=other),
        await client.delete(base, headers=other),
        await client.post(f"{base}/upload/resume", headers=other),
        await client.get(job, headers=other),
        await client.post(f"{job}/cancel", headers=other),
        await client.post(f"{job}/retry", headers=other),
        await client.get(stream, params=token),
        await client.get(f"{stream}/master.m3u8", params=token),
        await client.get(f"{stream}/poster.jpg", params=token),
    ]
    assert [a.status_code for a in answers] == [404] * len(answers)
    assert (await client.get("/api/v1/videos", headers=other)).json()["items"] == []


async def test_lists_page_without_gaps_and_search_takes_text_as_it_is(api, client) -> None:
    ids = [(await begin(client, filename=f"film {n}.mp4"))["videoId"] for n in range(7)]
    await begin(client, filename="100% sure.mp4")
    seen: list[str] = []
    cursor = None
    while True:
        params = {"limit": 3, "q": "film"} | ({"cursor": cursor} if cursor else {})
        page = (await client.get("/api/v1/videos", params=params)).json()
        seen += [item["videoId"] for item in page["items"]]
        cursor = page["nextCursor"]
        if cursor is None:
            break
    assert seen == ids[::-1]
    for text, found in (("100%", 1), ("%", 1), ("_", 0), ("\\", 0), ("nothing", 0)):
        assert len((await client.get("/api/v1/videos", params={"q": text})).json()["items"]) == found, text


@pytest.mark.parametrize(
    "text", ["😀 Ünïcödé", "'; drop table echo.videos; --", "\u05e9\u05dc\u05d5\u05dd, \u200fEcho"]
)
async def test_any_text_comes_back_as_it_was(api, client, text: str) -> None:
    begun = await begin(client)
    url = f"/api/v1/videos/{begun['videoId']}"
    put = await client.put(f"{url}/metadata", json={"title": text, "description": text, "tags": [text]})
    details = (await client.get(f"{url}/details")).json()
    assert put.status_code == 200
    assert (details["title"], details["description"], details["tags"]) == (text, text, [text])


async def test_of_ten_changes_to_one_version_one_wins(api, client) -> None:
    begun = await begin(client)
    url = f"/api/v1/videos/{begun['videoId']}/metadata"
    answers = await asyncio.gather(
        *(client.put(url, json={"title": f"T{n}"}, headers={"If-Match": '"1"'}) for n in range(10))
    )
    assert sorted(a.status_code for a in answers) == [200] + [412] * 9


async def test_cancel_and_retry_at_once_keep_job_and_video_in_step(api, client) -> None:
    video = await uploaded(api, client)
    job = f"/api/v1/videos/jobs/{video['jobId']}"
    answers = await asyncio.gather(*(client.post(f"{job}/{a}") for a in ("cancel", "retry") * 5))
    assert {a.status_code for a in answers} <= {202, 409}
    state = (await client.get(job)).json()["state"]
    status = (await client.get(f"/api/v1/videos/{video['videoId']}/details")).json()["status"]
    assert {"cancelled": "cancelled", "queued": "processing"}[state] == status


async def test_metrics_count_the_queue(api, client) -> None:
    await uploaded(api, client)
    text = (await client.get("/metrics")).text
    assert 'echo_queue_depth{resource="light"} 1.0' in text


async def test_a_database_that_goes_away_is_503_and_back_again_after(api, client, postgres, database) -> None:
    assert (await client.get("/api/v1/videos")).status_code == 200
    postgres.run(f"alter database {database.name} with allow_connections false")
    postgres.run(f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{database.name}'")  # noqa: S608
    away = await client.get("/api/v1/videos")
    assert (away.status_code, away.json()["code"]) == (503, "database_unavailable")
    assert away.headers["retry-after"] == "5"
    postgres.run(f"alter database {database.name} with allow_connections true")
    assert (await client.get("/api/v1/videos")).status_code == 200
