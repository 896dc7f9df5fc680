"""The tab was closed in the middle of an upload."""

from __future__ import annotations

from uuid import UUID

import pytest

from tests.fakes.api import FakeApi, begin, completion

VIDEOS = "/api/v1/videos"


@pytest.mark.complaint(9)
async def test_what_was_typed_and_sent_before_the_tab_was_closed_is_there_again() -> None:
    api = FakeApi()
    typed = {"title": "Our holidays", "description": "Two weeks by the sea", "tags": ["sea"]}
    async with api.client() as tab:
        begun = await begin(tab)
        video_id = begun["videoId"]
        assert (await tab.put(f"{VIDEOS}/{video_id}/metadata", json=typed)).status_code == 200
    async with api.client() as another_day:
        (unfinished,) = (await another_day.get(f"{VIDEOS}?status=awaiting_upload")).json()["items"]
        assert (unfinished["videoId"], unfinished["title"]) == (video_id, "Our holidays")
        resumed = (await another_day.post(f"{VIDEOS}/{video_id}/upload/resume")).json()
        assert resumed["uploadUrl"]
        assert resumed["offsetBytes"] == 0
        api.store_upload(UUID(video_id))
        completed = await another_day.post(f"{VIDEOS}/upload-complete", json=completion(begun))
        assert completed.status_code == 202, completed.text
        details = (await another_day.get(f"{VIDEOS}/{video_id}/details")).json()
        assert {name: details[name] for name in typed} == typed
        assert (await another_day.get(f"{VIDEOS}?status=awaiting_upload")).json()["items"] == []
