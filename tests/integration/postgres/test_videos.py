"""Videos and their lists."""

from __future__ import annotations

from dataclasses import replace

import pytest

from echo_core.application.ports import VideoQuery
from echo_core.domain.errors import UnknownEntityError
from echo_core.domain.videos import Chapter, VideoStatus, Visibility

pytestmark = pytest.mark.integration


async def test_a_video_comes_back_as_it_was_stored(api, alice, new_video):
    video = new_video(
        alice,
        description="Colony",
        tags=("sea", "lion"),
        language="en",
        visibility=Visibility.UNLISTED,
        chapters=(Chapter(start_s=0.0, title="Start"),),
        edited_fields=frozenset({"title"}),
        size_bytes=1 << 40,
        duration_s=12.5,
        width=1920,
        height=1080,
    )
    async with api.for_user(alice) as uow:
        await uow.videos.add(video)
    async with api.for_user(alice) as uow:
        assert await uow.videos.get(video.id) == video


async def test_save_stores_what_changed_on_the_databases_clock(api, alice, stored):
    video, _ = await stored(alice)
    async with api.for_user(alice) as uow:
        loaded = await uow.videos.get(video.id, for_update=True)
        await uow.videos.save(replace(loaded, title="Seals", version=2))
    async with api.for_user(alice) as uow:
        after = await uow.videos.get(video.id)
        now = await uow.jobs.now()
    assert (after.title, after.version, after.created_at) == ("Seals", 2, video.created_at)
    assert video.updated_at < after.updated_at <= now


async def test_a_foreign_video_is_unknown_for_reading_saving_and_removing(api, worker, alice, bob, stored):
    video, _ = await stored(alice)
    async with api.for_user(bob) as uow:
        with pytest.raises(UnknownEntityError):
            await uow.videos.get(video.id)
        with pytest.raises(UnknownEntityError):
            await uow.videos.save(video)
        await uow.videos.remove(video.id)
    async with worker.for_worker() as uow:
        assert await uow.videos.get(video.id) == video


async def test_a_tombstone_is_found_only_on_request_and_not_listed(api, alice, stored):
    video, _ = await stored(alice)
    async with api.for_user(alice) as uow:
        await uow.videos.save(replace(video, deleted_at=video.created_at))
        with pytest.raises(UnknownEntityError):
            await uow.videos.get(video.id)
        assert (await uow.videos.get(video.id, deleted=True)).deleted_at == video.created_at
    assert (await api.list_videos(alice, VideoQuery(limit=10))).videos == ()


async def test_remove_takes_everything_that_hangs_on_the_video(worker, alice, stored, new_artefact):
    video, job = await stored(alice)
    async with worker.for_worker() as uow:
        await uow.artefacts.put([new_artefact(video)])
        await uow.videos.remove(video.id)
        assert await uow.artefacts.list_for_video(video.id) == []
        with pytest.raises(UnknownEntityError):
            await uow.jobs.get(job.id)


async def test_pages_go_from_newest_to_oldest_and_end(api, alice, stored):
    ids = [(await stored(alice, job=False))[0].id for _ in range(5)]
    seen, before = [], None
    while True:
        page = await api.list_videos(alice, VideoQuery(limit=2, before=before))
        seen += [video.id for video in page.videos]
        if (before := page.next_before) is None:
            break
    assert seen == ids[::-1]


async def test_a_full_last_page_says_that_it_is_the_last(api, alice, stored):
    await stored(alice)
    assert (await api.list_videos(alice, VideoQuery(limit=1))).next_before is None


async def test_a_list_can_be_narrowed_by_status_and_text(api, alice, stored):
    ready, _ = await stored(alice, status=VideoStatus.READY, title="50% off_", filename="a.mp4")
    await stored(alice, status=VideoStatus.READY, title="500 offers", filename="b.mp4")
    await stored(alice, title="50% OFF_")

    async def found(**query: object) -> int:
        return len((await api.list_videos(alice, VideoQuery(limit=10, **query))).videos)

    assert await found(status=VideoStatus.READY) == 2
    assert await found(text="% off_") == 2
    assert await found(text="A.MP4") == 1
    assert await found(text="\\") == 0
    assert await found(text="\x00") == 0
    page = await api.list_videos(alice, VideoQuery(limit=10, status=VideoStatus.READY, text="50% off"))
    assert [video.id for video in page.videos] == [ready.id]


async def test_a_list_tells_poster_playable_and_percent(api, worker, alice, stored, new_artefact):
    video, job = await stored(alice, width=1920)
    bare, _ = await stored(alice, job=False)
    async with worker.for_worker() as uow:
        before, step_id = await uow.jobs.claim_candidate(job.steps[0].resource)
        now = await uow.jobs.now()
        running = before.claimed(step_id, worker="w", now=now, lease_s=15)
        done = running.succeeded(step_id, running.steps[0].lease_token, now=now, output={})
        await uow.jobs.save(before, done)
        await uow.artefacts.put(
            [new_artefact(video, kind="poster", name="poster"), new_artefact(video, facts={"type": "audio"})]
        )

    async def row():
        without, with_job = (await api.list_videos(alice, VideoQuery(limit=10))).videos
        assert (without.id, without.job_id, without.percent, without.has_poster) == (bare.id, None, None, False)
        return with_job

    first = await row()
    assert (first.has_poster, first.playable, first.job_id) == (True, False, job.id)
    assert first.percent == pytest.approx(3.2)  # 0.05 of 1.55
    async with worker.for_worker() as uow:
        await uow.artefacts.put([new_artefact(video, name="1080p")])
    assert (await row()).playable


async def test_text_that_postgresql_cannot_keep_is_stored_without_it(api, alice, stored):
    video, _ = await stored(alice, title="a\x00b\ud800", tags=("\x00",), chapters=(Chapter(start_s=1, title="\x00"),))
    async with api.for_user(alice) as uow:
        loaded = await uow.videos.get(video.id)
    assert (loaded.title, loaded.tags, loaded.chapters[0].title) == ("a\ufffdb?", ("\ufffd",), "\ufffd")
