from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from echo_core.domain.jobs import JobKind, JobState
from tests.fakes.api import LIMITS, OTHER, OWNER, FakeApi, bearer, begin, uploaded

LISTS = pytest.mark.parametrize("url", ["/api/v1/videos", "/api/v1/users/me/videos"])


@LISTS
async def test_lists_are_newest_first_paged_gapless_and_only_the_callers(url: str) -> None:
    api = FakeApi()
    async with api.client() as client:
        ids = [(await begin(client))["videoId"] for _ in range(5)]
        await client.post(
            "/api/v1/videos/signed-upload-url",
            json={"filename": "b.mp4", "contentType": "video/mp4"},
            headers=bearer(OTHER),
        )
        seen: list[str] = []
        cursor = ""
        for _ in range(3):
            page = (await client.get(url, params={"limit": 2, "cursor": cursor})).json()
            seen += [item["videoId"] for item in page["items"]]
            cursor = page["nextCursor"]
    assert seen == ids[::-1]
    assert cursor is None


async def test_a_list_item_is_what_a_grid_shows() -> None:
    api = FakeApi()
    async with api.client() as client:
        video_id, job_id = await uploaded(api, client)
        await api.add_rendition(video_id)
        await api.add_artefact(video_id, "poster", "poster.jpg", content_type="image/jpeg")
        (item,) = (await client.get("/api/v1/videos")).json()["items"]
        again = (await client.get("/api/v1/videos")).json()["items"][0]
    assert item["jobId"] == str(job_id)
    assert item["playable"] is True
    assert item["posterUrl"].startswith(f"http://echo.test/api/v1/stream/video/{video_id}/poster.jpg?token=")
    assert again["posterUrl"] == item["posterUrl"]
    assert api.tokens.minted == 1


async def test_lists_filter_by_status_and_text_and_take_empty_parameters_as_absent() -> None:
    api = FakeApi()
    async with api.client() as client:
        await begin(client, filename="Sea.mp4")
        await uploaded(api, client)
        waiting = (await client.get("/api/v1/videos?status=awaiting_upload&q=&cursor=")).json()
        found = (await client.get("/api/v1/videos?q=FILM")).json()
    assert [i["title"] for i in waiting["items"]] == ["Sea"]
    assert [i["title"] for i in found["items"]] == ["My film"]


@pytest.mark.parametrize(
    ("query", "pointers"),
    [
        ("limit=0", ["limit"]),
        ("limit=101", ["limit"]),
        ("limit=x&status=nope", ["limit", "status"]),
        ("limit=1&limit=2", ["limit"]),
        ("page=2", ["page"]),
        ("q=a%00b", ["q"]),
    ],
)
async def test_lists_refuse_what_they_do_not_understand(query: str, pointers: list[str]) -> None:
    async with FakeApi().client() as client:
        response = await client.get(f"/api/v1/videos?{query}")
    assert response.status_code == 422
    assert [e["pointer"] for e in response.json()["errors"]] == pointers


@pytest.mark.parametrize("cursor", ["x", "AAAA", "!!!!", "A" * 22 + "=", "AZjzwnsefDqdUh8OakuMIR", "é", "A" * 199])
async def test_a_made_up_cursor_is_400(cursor: str) -> None:
    async with FakeApi().client() as client:
        response = await client.get("/api/v1/videos", params={"cursor": cursor})
    assert (response.status_code, response.json()["code"]) == (400, "invalid_cursor")


async def test_details_tell_job_media_and_addresses_of_what_there_is() -> None:
    api = FakeApi()
    async with api.client() as client:
        video_id, job_id = await uploaded(api, client)
        before = (await client.get(f"/api/v1/videos/{video_id}/details")).json()
        job = api.job_of(video_id)
        inspect = job.steps[0]
        running = job.claimed(inspect.id, worker="w", now=api.clock.now(), lease_s=15)
        media = {
            "container": "mp4",
            "duration_s": 8.0,
            "size_bytes": 20,
            "bitrate_bps": None,
            "video": {"codec": "h264", "width": 1280, "height": 720, "fps": 30.0, "transfer": "smpte2084"},
            "audio": [{"codec": "aac", "channels": 2, "sample_rate_hz": 48000}],
        }
        api.change_job(running.succeeded(inspect.id, 1, now=api.clock.now(), output=media))
        await api.add_rendition(video_id)
        await api.add_artefact(video_id, "poster", "poster.jpg")
        await api.add_artefact(video_id, "storyboard", "storyboard.vtt")
        after = (await client.get(f"/api/v1/videos/{video_id}/details")).json()
    assert (before["playable"], before["playbackUrl"], before["posterUrl"], before["media"]) == (
        False,
        None,
        None,
        None,
    )
    assert before["sourceUrl"].startswith(f"http://echo.test/api/v1/stream/video/{video_id}?token=")
    assert before["job"]["jobId"] == str(job_id)
    assert after["playable"] is True
    assert "/master.m3u8?token=" in after["playbackUrl"]
    assert "/storyboard.vtt?token=" in after["storyboardUrl"]
    assert after["media"]["video"]["hdr"] is True
    assert [r["name"] for r in after["renditions"]] == ["720p"]
    assert [s["state"] for s in after["job"]["steps"]] == ["succeeded", "queued", "queued"]


async def test_details_of_a_foreign_inspect_step_do_without_media() -> None:
    api = FakeApi()
    async with api.client() as client:
        video_id, _ = await uploaded(api, client)
        job = api.job_of(video_id)
        running = job.claimed(job.steps[0].id, worker="w", now=api.clock.now(), lease_s=15)
        api.change_job(running.succeeded(job.steps[0].id, 1, now=api.clock.now(), output={"else": 1}))
        details = (await client.get(f"/api/v1/videos/{video_id}/details")).json()
    assert details["media"] is None


async def test_metadata_changes_only_what_is_said_and_marks_it_as_edited() -> None:
    api = FakeApi()
    async with api.client() as client:
        video_id, _ = await uploaded(api, client)
        url = f"/api/v1/videos/{video_id}/metadata"
        response = await client.put(
            url,
            json={
                "title": "  By the sea ",
                "tags": ["Sea", "sea", "Film"],
                "description": "",
                "visibility": "unlisted",
                "language": "pt-BR",
                "chapters": [{"startSeconds": 0, "title": "One"}, {"startSeconds": 2.5, "title": "Two"}],
            },
        )
        details = await client.get(f"/api/v1/videos/{video_id}/details")
    body = response.json()
    assert body["title"] == "By the sea"
    assert body["tags"] == ["Sea", "Film"]
    # The description was empty before: saying so again is no edit.
    assert body["editedFields"] == ["chapters", "language", "tags", "title", "visibility"]
    assert response.headers["etag"] == details.headers["etag"] == '"2"'
    assert body["chapters"] == [{"startSeconds": 0.0, "title": "One"}, {"startSeconds": 2.5, "title": "Two"}]
    assert api.database.event_types()[-1] == "video.updated"


async def test_an_empty_title_is_refused_in_plain_words() -> None:
    api = FakeApi()
    async with api.client() as client:
        video_id, _ = await uploaded(api, client)
        response = await client.put(f"/api/v1/videos/{video_id}/metadata", json={"title": "  "})
    assert response.status_code == 422
    assert response.json()["errors"] == [{"pointer": "/title", "message": "This must not be empty."}]


async def test_saying_what_is_there_already_changes_nothing() -> None:
    api = FakeApi()
    async with api.client() as client:
        video_id, _ = await uploaded(api, client)
        events = len(api.database.tables.events)
        response = await client.put(f"/api/v1/videos/{video_id}/metadata", json={"title": "My film"})
    assert response.headers["etag"] == '"1"'
    assert response.json()["editedFields"] == []
    assert len(api.database.tables.events) == events


@pytest.mark.parametrize(
    ("if_match", "status"),
    [
        (None, 200),
        ("*", 200),
        (" * ", 200),
        ('"1"', 200),
        ('"7", "1"', 200),
        (', "1" ,', 200),
        ('"a,b","1"', 200),
        ('"2"', 412),
        ('W/"1"', 412),
        ('"theirs"', 412),
        ('""', 412),
        ('"' + "9" * 5000 + '"', 412),
        ("1", 400),
        ("x", 400),
        ("", 400),
        ('"1', 400),
        ('*, "1"', 400),
        ('w/"1"', 400),
    ],
)
async def test_if_match_guards_a_change(if_match: str | None, status: int) -> None:
    api = FakeApi()
    async with api.client() as client:
        video_id, _ = await uploaded(api, client)
        headers = {"If-Match": if_match} if if_match is not None else {}
        response = await client.put(f"/api/v1/videos/{video_id}/metadata", json={"title": "New"}, headers=headers)
    assert response.status_code == status
    if status == 400:
        assert response.json()["code"] == "invalid_if_match"
    if status == 412:
        assert response.json()["code"] == "version_mismatch"
        assert response.headers["etag"] == '"1"'


async def test_several_if_match_fields_are_one_list() -> None:
    api = FakeApi()
    async with api.client() as client:
        video_id, _ = await uploaded(api, client)
        fields = [("If-Match", '"7"'), ("If-Match", '"1"')]
        response = await client.put(f"/api/v1/videos/{video_id}/metadata", json={"title": "New"}, headers=fields)
    assert response.status_code == 200


async def test_of_two_changes_to_one_version_one_wins() -> None:
    api = FakeApi()
    async with api.client() as client:
        video_id, _ = await uploaded(api, client)
        url = f"/api/v1/videos/{video_id}/metadata"
        answers = await asyncio.gather(
            *(client.put(url, json={"title": t}, headers={"If-Match": '"1"'}) for t in ("A", "B"))
        )
    assert sorted(a.status_code for a in answers) == [200, 412]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"title": " "}, "/title"),
        ({"title": "x" * 201}, "/title"),
        ({"visibility": "secret"}, "/visibility"),
        ({"language": "not a language"}, "/language"),
        ({"language": "en\n"}, "/language"),
        ({"tags": ["ok", ""]}, "/tags/1"),
        ({"tags": "sea"}, "/tags"),
        ({"chapters": [{"startSeconds": -1, "title": "x"}]}, "/chapters/0/startSeconds"),
        ({"chapters": [{"startSeconds": 0, "title": "x", "end": 3}]}, "/chapters/0/end"),
        ({"status": "ready"}, "/status"),
        ({"version": 9}, "/version"),
    ],
)
async def test_metadata_refuses_what_it_cannot_keep(body: dict[str, Any], pointer: str) -> None:
    api = FakeApi()
    async with api.client() as client:
        video_id, _ = await uploaded(api, client)
        response = await client.put(f"/api/v1/videos/{video_id}/metadata", json=body)
    assert response.status_code == 422
    assert [e["pointer"] for e in response.json()["errors"]] == [pointer]


@pytest.mark.parametrize("starts", [[0, 0], [3, 1], [0, 8], [0, 9.5]])
async def test_chapters_rise_and_start_before_the_end(starts: list[float]) -> None:
    api = FakeApi()
    async with api.client() as client:
        video_id, _ = await uploaded(api, client)
        api.database.tables.videos[video_id] = replace(api.database.tables.videos[video_id], duration_s=8.0)
        chapters = [{"startSeconds": s, "title": "x"} for s in starts]
        response = await client.put(f"/api/v1/videos/{video_id}/metadata", json={"chapters": chapters})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_chapters")


async def test_delete_takes_the_video_away_cancels_its_job_and_starts_the_purge() -> None:
    api = FakeApi()
    async with api.client() as client:
        video_id, job_id = await uploaded(api, client)
        api.database.rings.clear()
        gone = await client.delete(f"/api/v1/videos/{video_id}")
        again = await client.delete(f"/api/v1/videos/{video_id}")
        details = await client.get(f"/api/v1/videos/{video_id}/details")
        job = await client.get(f"/api/v1/videos/jobs/{job_id}")
        items = (await client.get("/api/v1/videos")).json()["items"]
    assert (gone.status_code, gone.content) == (204, b"")
    assert {again.status_code, details.status_code, job.status_code} == {404}
    assert items == []
    purge = next(j for j in api.database.tables.jobs.values() if j.kind is JobKind.PURGE)
    assert api.database.tables.jobs[job_id].state is JobState.CANCELLED
    assert api.database.rings == [(purge.steps[0].id, purge.steps[0].resource)]
    assert api.database.event_types()[-3:] == ["step.cancelled", "job.cancelled", "video.deleted"][-3:]


async def test_delete_of_an_unfinished_upload_purges_it() -> None:
    api = FakeApi()
    async with api.client() as client:
        begun = await begin(client)
        assert (await client.delete(f"/api/v1/videos/{begun['videoId']}")).status_code == 204
    assert [j.kind for j in api.database.tables.jobs.values()] == [JobKind.PURGE]
    assert api.database.tables.videos[UUID(begun["videoId"])].deleted_at is not None
    assert api.database.event_types() == ["video.deleted"]


async def test_delete_of_what_is_not_there_speaks_of_a_video() -> None:
    async with FakeApi().client() as client:
        answer = await client.delete("/api/v1/videos/01900000-0000-7000-8000-000000000001")
    assert (answer.status_code, answer.json()["detail"]) == (404, "There is no such video.")


async def test_the_purge_job_is_nobodys_business() -> None:
    api = FakeApi()
    async with api.client() as client:
        begun = await begin(client)
        await client.delete(f"/api/v1/videos/{begun['videoId']}")
        (purge,) = api.database.tables.jobs
        answers = [
            await client.get(f"/api/v1/videos/jobs/{purge}"),
            await client.post(f"/api/v1/videos/jobs/{purge}/cancel"),
            await client.post(f"/api/v1/videos/jobs/{purge}/retry"),
        ]
    assert {a.status_code for a in answers} == {404}


async def test_owner_is_taken_from_the_token_alone() -> None:
    api = FakeApi()
    async with api.client() as client:
        begun = await begin(client)
    assert api.database.tables.videos[UUID(begun["videoId"])].owner_id == OWNER.id
    assert LIMITS.public_url == "http://echo.test"
