"""The rate factor suits what a video shows."""

from dataclasses import replace
from pathlib import Path

import pytest
from echo_transcode_ffmpeg.config import FfmpegConfig
from echo_transcode_ffmpeg.encoders import rate_factor
from echo_transcode_ffmpeg.transcoder import FfmpegTranscoder
from echo_transcode_ffmpeg.tune import COARSER, EASY, FINER, HARD, shift
from hypothesis import given
from hypothesis import strategies as st

from echo_core.plugin_api import InspectRequest, PlanLadder, Rung, TuneRequest

from .conftest import MakeClip


async def tuned(path: Path, out_dir: Path, *, per_title_from_s: float = 0.0) -> tuple[Rung, ...]:
    transcoder = FfmpegTranscoder(FfmpegConfig(per_title_from_s=per_title_from_s))
    media = await transcoder.inspect(InspectRequest(path=path))
    rungs = transcoder.plan_ladder(PlanLadder(media=media, short_sides=(90, 48)))
    found = await transcoder.tune_ladder(TuneRequest(path=path, media=media, out_dir=out_dir, rungs=rungs))
    assert tuple(replace(rung, crf=None) for rung in found) == rungs
    assert not any(out_dir.iterdir())  # noqa: ASYNC240 - a test
    return found


@pytest.mark.parametrize(("clip", "crf"), [("slide.mp4", 23 + FINER), ("noise.mp4", 23 + COARSER)])
async def test_what_is_easy_gets_more_and_what_is_hard_less(
    make_clip: MakeClip, tmp_path: Path, clip: str, crf: float
) -> None:
    rungs = await tuned(make_clip(clip), tmp_path)
    assert {rung.crf for rung in rungs} == {crf}


@pytest.mark.parametrize(("clip", "from_s"), [("slide.mp4", 9.0), ("one_frame.mp4", 0.0), ("sound.mp3", 0.0)])
async def test_short_videos_and_sound_are_left_as_they_are(
    make_clip: MakeClip, tmp_path: Path, clip: str, from_s: float
) -> None:
    assert {rung.crf for rung in await tuned(make_clip(clip), tmp_path, per_title_from_s=from_s)} <= {None}


@given(st.floats(0, 100), st.floats(0, 100))
def test_heavier_videos_never_get_a_finer_factor(one: float, other: float) -> None:
    light, heavy = sorted((shift(one), shift(other))) if one <= other else sorted((shift(other), shift(one)))
    assert FINER <= light <= heavy <= COARSER
    assert shift(min(one, other)) <= shift(max(one, other))
    assert shift((EASY + HARD) / 2) == 0


def test_other_encoders_follow_in_their_own_measure() -> None:
    config = FfmpegConfig(crf=25)
    rung = Rung(name="x", width=2, height=2, fps=1, max_bitrate_bps=1)
    factors = {codec: rate_factor(config, replace(rung, codec=codec)) for codec in ("h264", "hevc", "av1")}
    assert factors == {"h264": 25, "hevc": 27, "av1": 39}
    assert rate_factor(config, replace(rung, codec="av1", crf=20)) == 29
