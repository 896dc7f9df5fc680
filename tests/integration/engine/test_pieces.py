"""Long encodes in pieces: what is cut, what is joined, and what a lost worker costs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import pytest

from echo_core.application.playback import offered
from echo_core.domain.artefacts import PIECE_KIND, RENDITION_KIND, Artefact
from echo_core.domain.jobs import Job, JobState, StepState
from echo_core.plugin_api.steps import Resource
from echo_core.plugin_api.transcoder import LadderRequest, LadderResult, PlanLadder, Rung
from echo_core.testing.fake_transcoder import FakeMedia, FakeTranscoder, write_fake_media
from tests.integration.engine.conftest import DEADLINE_S, Farm

pytestmark = pytest.mark.integration

LONG_S = 602.0


@dataclass
class NotedTranscoder(FakeTranscoder):
    """Remembers its ladders; the piece that starts at ``stuck_at_s`` waits for ever, once."""

    ladders: list[LadderRequest] = field(default_factory=list)
    stuck_at_s: float = -1.0

    async def encode_ladder(self, request: LadderRequest) -> LadderResult:
        self.ladders.append(request)
        if request.start_s == self.stuck_at_s:
            self.stuck_at_s = -1.0
            await asyncio.Event().wait()
        return await super().encode_ladder(request)


class StillTranscoder(FakeTranscoder):
    """Of a picture that does not move: each of three rungs costs the same."""

    def plan_ladder(self, request: PlanLadder) -> tuple[Rung, ...]:
        return super().plan_ladder(replace(request, short_sides=(720, 540, 360)))


def states(job: Job) -> dict[str, StepState]:
    return {s.name: s.state for s in job.steps}


async def submit(farm: Farm, path: Path, *, slots: int, **facts: object) -> Job:
    """Once so many CPU slots are known of."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            async with farm.units_of_work.for_worker() as uow:
                if await uow.workers.count_slots(Resource.CPU) >= slots:
                    break
            await asyncio.sleep(0.02)
    media = FakeMedia(**{"duration_s": LONG_S, **facts})  # type: ignore[arg-type]
    return await farm.submit(media=write_fake_media(path / "source.mp4", media, size_bytes=4096))


async def artefacts(farm: Farm, job: Job) -> dict[tuple[str, str], Artefact]:
    async with farm.units_of_work.for_worker() as uow:
        found = await uow.artefacts.list_for_video(job.video_id, segments=True)
    return {(artefact.kind, artefact.name): artefact for artefact in found}


@pytest.mark.parametrize("playable", [True, False])
async def test_long_video_is_encoded_in_pieces_and_looks_as_if_it_was_not(
    farm: Farm, tmp_path: Path, playable: bool
) -> None:
    farm.transcoder = transcoder = NotedTranscoder()
    async with farm.worker("a", cpu=2), farm.worker("b"):
        job = await farm.finished((await submit(farm, tmp_path, slots=3, playable=playable)).id)
        assert job.state is JobState.SUCCEEDED
        found = await artefacts(farm, job)
        pieces = [request for request in transcoder.ladders if request.end_s is not None or request.start_s > 0]
        bounds = sorted((request.start_s, request.end_s or LONG_S) for request in pieces)
        assert len(bounds) == 6
        assert bounds[0][0] == 0.0
        assert bounds[-1][1] == LONG_S
        assert all(end == start for (_, end), (start, _) in pairwise(bounds))
        assert not any(request.with_audio for request in pieces)
        assert states(job)["ladder"] is StepState.SKIPPED
        names = {name for kind, name in found if kind == RENDITION_KIND}
        assert names == ({"source.mp4", "360p.mp4", "audio.mp4"} if playable else {"720p.mp4", "360p.mp4", "audio.mp4"})
        assert not [name for kind, name in found if kind == PIECE_KIND]
        joined = found[RENDITION_KIND, "360p.mp4" if playable else "720p.mp4"]
        assert joined.step == "join.000"
        data = farm.storage.objects[joined.storage_key].data
        assert len(data) == joined.size_bytes == joined.init_length_bytes + sum(s.length_bytes for s in joined.segments)
        end = joined.init_length_bytes
        for segment in joined.segments:
            assert segment.offset_bytes == end
            assert data[end + 4 : end + 8] == b"moof"
            end += segment.length_bytes
        assert sum(s.duration_s for s in joined.segments) == pytest.approx(LONG_S)
        async with asyncio.timeout(DEADLINE_S):
            while [key for key in farm.storage.objects if "/piece." in key]:
                await asyncio.sleep(0.02)


@pytest.mark.parametrize("duration_s", [LONG_S, 60.0])
async def test_rungs_that_cost_no_less_than_the_one_above_are_not_kept(
    farm: Farm, tmp_path: Path, duration_s: float
) -> None:
    farm.transcoder = StillTranscoder(still=True)
    facts = {"playable": False, "width": 2560, "height": 1440, "duration_s": duration_s}
    async with farm.worker("a", cpu=2):
        job = await farm.finished((await submit(farm, tmp_path, slots=2, **facts)).id)
        assert job.state is JobState.SUCCEEDED
        found = await artefacts(farm, job)
    made = next(s for s in job.steps if s.name == ("ladder" if duration_s < LONG_S else "join.000"))
    # The highest, and the lowest, which was on show before.
    assert {name for kind, name in found if kind == RENDITION_KIND} == {"720p.mp4", "360p.mp4", "audio.mp4"}
    assert made.output is not None
    assert "540p" not in made.output["renditions"]  # type: ignore[operator]


async def test_a_copy_that_is_damaged_is_replaced_by_what_was_patched_up(farm: Farm, tmp_path: Path) -> None:
    """The ladder finds what a copy cannot: a player would stop there."""
    async with farm.worker("a", cpu=1):
        job = await farm.finished((await submit(farm, tmp_path, slots=1, duration_s=20.0, damaged=True)).id)
        assert job.state is JobState.SUCCEEDED
        found = await artefacts(farm, job)
    pictures = [a for (kind, _), a in found.items() if kind == RENDITION_KIND and a.facts["type"] == "video"]
    assert {a.name for a in pictures} == {"source.mp4", "720p.mp4", "360p.mp4"}
    assert {a.name for a in offered(pictures)} == {"720p.mp4", "360p.mp4"}


async def test_something_to_watch_comes_before_the_pieces(farm: Farm, tmp_path: Path) -> None:
    farm.transcoder = transcoder = NotedTranscoder()
    async with farm.worker("a"), farm.worker("b", cpu=1):
        job = await farm.finished((await submit(farm, tmp_path, slots=2, playable=False)).id)
    started = {s.name: s.started_at for s in job.steps if s.spec in {"whole", "piece"}}
    assert min(started, key=lambda name: started[name]) == "whole.000"  # type: ignore[arg-type,return-value]
    (first,) = [request for request in transcoder.ladders if request.with_audio]
    assert [rung.name for rung in first.rungs] == ["360p"]


async def test_a_piece_that_is_lost_is_made_again_alone(farm: Farm, tmp_path: Path) -> None:
    farm.transcoder = transcoder = NotedTranscoder(stuck_at_s=100.0)
    async with farm.worker("a", cpu=3):
        job = await submit(farm, tmp_path, slots=3)
        await farm.until(
            job.id, lambda j: sum(s.spec == "piece" and s.state is StepState.SUCCEEDED for s in j.steps) == 5
        )
        (stuck,) = [s for s in (await farm.job(job.id)).steps if s.spec == "piece" and s.state is StepState.RUNNING]
        await farm.lose(job.id, stuck.name)
        job = await farm.finished(job.id)
    assert job.state is JobState.SUCCEEDED
    assert {s.name: s.attempt for s in job.steps if s.spec == "piece" and s.attempt > 1} == {stuck.name: 2}
    starts = [request.start_s for request in transcoder.ladders]
    assert len(starts) == len(set(starts)) + 1


@pytest.mark.parametrize(("facts", "slots"), [({"duration_s": 100.0}, 2), ({}, 1), ({"picture": False}, 2)])
async def test_what_is_short_or_has_no_picture_is_not_cut(
    farm: Farm, tmp_path: Path, facts: dict[str, object], slots: int
) -> None:
    async with farm.worker("a", cpu=slots):
        job = await farm.finished((await submit(farm, tmp_path, slots=slots, **facts)).id)
    assert job.state is JobState.SUCCEEDED
    assert states(job)["split"] is StepState.SKIPPED
    assert not [s for s in job.steps if s.spec in {"piece", "whole", "join"}]


async def test_a_retry_after_success_makes_the_pieces_that_it_needs_again(farm: Farm, tmp_path: Path) -> None:
    async with farm.worker("a", cpu=2):
        job = await farm.finished((await submit(farm, tmp_path, slots=2)).id)
        for step in (None, "join.000", "piece.001", "split"):
            async with farm.units_of_work.for_worker() as uow:
                now = await uow.jobs.now()
            await farm.change(job.id, lambda j, now=now, step=step: j.retried(now, step_name=step))  # type: ignore[misc]
            job = await farm.finished(job.id)
            assert job.state is JobState.SUCCEEDED, job.first_error
            names = {name for kind, name in await artefacts(farm, job) if kind == RENDITION_KIND}
            assert names == {"source.mp4", "360p.mp4", "audio.mp4"}
