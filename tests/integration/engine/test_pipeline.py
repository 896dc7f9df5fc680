"""The kernel's own steps over a fake transcoder: what is made, in which order, and what is skipped."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from echo_core.domain.jobs import Job, JobState, StepState
from echo_core.domain.videos import VideoStatus
from echo_core.plugin_api.transcoder import LadderRequest, LadderResult
from echo_core.testing.fake_transcoder import FakeMedia, FakeTranscoder, write_fake_media
from tests.integration.engine.conftest import DEADLINE_S, Farm

pytestmark = pytest.mark.integration


@dataclass
class StagedTranscoder(FakeTranscoder):
    """Remembers its ladders; the second one waits."""

    ladders: list[LadderRequest] = field(default_factory=list)
    second: asyncio.Event = field(default_factory=asyncio.Event)

    async def encode_ladder(self, request: LadderRequest) -> LadderResult:
        self.ladders.append(request)
        if len(self.ladders) == 2:
            await self.second.wait()
        return await super().encode_ladder(request)


def states(job: Job) -> dict[str, StepState]:
    return {s.name: s.state for s in job.steps}


def media(tmp_path: Path, **facts: object) -> Path:
    return write_fake_media(tmp_path / "source.mp4", FakeMedia(**facts), size_bytes=4096)  # type: ignore[arg-type]


async def test_lowest_rung_is_published_before_the_others_when_nothing_could_be_copied(
    farm: Farm, tmp_path: Path
) -> None:
    farm.transcoder = transcoder = StagedTranscoder()
    async with farm.worker():
        job = await farm.submit(media=media(tmp_path, playable=False))
        async with asyncio.timeout(DEADLINE_S):
            while len(transcoder.ladders) < 2:
                await asyncio.sleep(0.02)
        assert (await farm.video(job.video_id)).status is VideoStatus.PLAYABLE
        first, rest = transcoder.ladders
        assert [r.name for r in first.rungs] == ["360p"]
        assert (first.with_audio, rest.with_audio) == (True, False)
        transcoder.second.set()
        job = await farm.finished(job.id)
    assert job.state is JobState.SUCCEEDED
    assert states(job)["package"] is StepState.SKIPPED
    async with farm.units_of_work.for_worker() as uow:
        names = {a.name for a in await uow.artefacts.list_for_video(job.video_id) if a.kind == "rendition"}
    assert names == {"720p.mp4", "360p.mp4", "audio.mp4"}


async def test_rungs_of_a_copied_source_keep_to_its_boundaries(farm: Farm, tmp_path: Path) -> None:
    farm.transcoder = transcoder = StagedTranscoder()
    async with farm.worker():
        job = await farm.finished((await farm.submit(media=media(tmp_path))).id)
    assert job.state is JobState.SUCCEEDED
    (ladder,) = transcoder.ladders
    assert ladder.align_to_s
    assert not ladder.with_audio
    assert "720p" not in {r.name for r in ladder.rungs}, "the source is its own top rung"


async def test_sound_alone_is_playable_without_ladder_or_pictures(farm: Farm, tmp_path: Path) -> None:
    async with farm.worker():
        job = await farm.finished((await farm.submit(media=media(tmp_path, picture=False))).id)
    assert job.state is JobState.SUCCEEDED
    assert (await farm.video(job.video_id)).status is VideoStatus.READY
    assert {states(job)[name] for name in ("preview", "storyboard")} == {StepState.SKIPPED}
    async with farm.units_of_work.for_worker() as uow:
        assert await uow.artefacts.has_rendition(job.video_id)


async def test_silent_picture_has_no_sound_rendition(farm: Farm, tmp_path: Path) -> None:
    async with farm.worker():
        job = await farm.finished((await farm.submit(media=media(tmp_path, sound=False, playable=False))).id)
    assert job.state is JobState.SUCCEEDED
    async with farm.units_of_work.for_worker() as uow:
        assert "audio.mp4" not in {a.name for a in await uow.artefacts.list_for_video(job.video_id)}


async def test_source_that_was_replaced_is_refused(farm: Farm) -> None:
    job = await farm.submit()
    async with farm.units_of_work.for_worker() as uow:
        key = (await uow.uploads.get(job.video_id)).storage_key
    await farm.storage.delete(key)
    farm.storage.store(key, b"\0something else", "video/mp4")
    async with farm.worker():
        job = await farm.finished(job.id)
    assert job.first_error is not None
    assert job.first_error.code == "source_changed"
