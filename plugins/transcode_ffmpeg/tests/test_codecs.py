"""HEVC and AV1 beside H.264: planned when wanted, in step with everything else, and declared as what they are."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import av
import pytest
from echo_transcode_ffmpeg import binaries, mp4
from echo_transcode_ffmpeg.config import FfmpegConfig
from echo_transcode_ffmpeg.plan import plan_ladder
from echo_transcode_ffmpeg.transcoder import FfmpegTranscoder
from pydantic import ValidationError

from echo_core.plugin_api import Codec, LadderRequest, MediaInfo, PlanLadder, Rung, UnavailableError, VideoStream

from .conftest import MakeClip, Work

BUNDLED = FfmpegConfig(preset="superfast", ffmpeg=binaries._bundled(), codecs=("h264", "hevc", "av1"))
"""The ffmpeg on PATH may be too old to put keyframes of AV1 where they are wanted."""
RUNGS = tuple(
    Rung(name=f"90p-{codec}", width=160, height=90, fps=30, max_bitrate_bps=400_000, codec=codec)
    for codec in ("hevc", "av1", "h264")
)


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return Work(FfmpegTranscoder(BUNDLED), tmp_path)


def source(width: int, height: int) -> MediaInfo:
    video = VideoStream(codec="h264", width=width, height=height, fps=30)
    return MediaInfo(container="mp4", duration_s=60, size_bytes=1, video=video)


def test_other_codecs_come_beside_the_large_rungs_and_the_last_is_h264() -> None:
    rungs = plan_ladder(PlanLadder(media=source(1920, 1080), packaged=True), ("h264", "av1"))
    assert [rung.name for rung in rungs] == ["1080p-av1", "720p-av1", "480p-av1", "720p", "480p", "360p", "240p"]
    assert {rung.name for rung in rungs if rung.codec == "av1"} == {"1080p-av1", "720p-av1", "480p-av1"}
    costs = {rung.name: rung.max_bitrate_bps for rung in rungs}
    assert costs["720p-av1"] < costs["720p"]


@pytest.mark.parametrize("codecs", [(), ("av1",), ("h264", "vp8")])
def test_h264_cannot_be_left_out_and_others_are_unknown(codecs: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError):
        FfmpegConfig(codecs=codecs)  # type: ignore[arg-type]


@pytest.mark.parametrize("start_s", [0.0, 4.0])
async def test_segments_of_all_codecs_begin_together(work: Work, make_clip: MakeClip, start_s: float) -> None:
    path = make_clip("ntsc.mp4")
    rungs = tuple(replace(rung, fps=30000 / 1001) for rung in RUNGS)
    boundaries = (0.0, 1.5015, 4.004, 8.008)
    request = LadderRequest(
        path=path, media=await work.inspect(path), out_dir=work.out_dir(), rungs=rungs, align_to_s=boundaries,
        start_s=boundaries[2] if start_s else 0.0, with_audio=False,
    )  # fmt: skip
    result = await work.transcoder.encode_ladder(request)
    assert result.warnings == ()
    assert [one.codecs[:5] for one in result.renditions] == ["hvc1.", "av01.", "avc1."]
    for one in result.renditions:
        track = mp4.read_track(one.path.read_bytes()[: one.init_length_bytes])
        found = [mp4.first_sample(one.path, segment.offset_bytes, track.timescale) for segment in one.segments]
        assert all(first.keyframe for first in found)
        wanted = [at for at in boundaries if at >= request.start_s]
        assert [first.at_s for first in found] == pytest.approx(wanted, abs=0.001)


@pytest.mark.parametrize("codec", ["hevc", "av1"])
async def test_parts_fit_together_and_play(work: Work, make_clip: MakeClip, tmp_path: Path, codec: Codec) -> None:
    """T11, and that what is declared is what a decoder finds."""
    path = make_clip("ntsc.mp4")
    media = await work.inspect(path)
    rung = replace(next(rung for rung in RUNGS if rung.codec == codec), fps=30000 / 1001)
    cuts = (0.0, 4.004, media.duration_s)
    joined, init, last = b"", b"", None
    for start_s, end_s in pairwise(cuts):
        request = LadderRequest(
            path=path, media=media, out_dir=work.out_dir(), rungs=(rung,), with_audio=False,
            align_to_s=(0.0, 4.004, 8.008), start_s=start_s, end_s=None if end_s == cuts[-1] else end_s,
        )  # fmt: skip
        (last,) = (await work.transcoder.encode_ladder(request)).renditions
        data = last.path.read_bytes()
        assert init in (b"", data[: last.init_length_bytes])
        init = data[: last.init_length_bytes]
        joined += data[last.init_length_bytes :]
    whole = tmp_path / "whole.mp4"
    whole.write_bytes(init + joined)
    with av.open(str(whole)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name in {"hevc", "av1", "libdav1d"}
        level = stream.codec_context.codec_tag
        times = [frame.time for frame in container.decode(stream)]
    assert level == {"hevc": "hvc1", "av1": "av01"}[codec]
    assert len(times) == round(media.duration_s * 30000 / 1001)
    assert all(after - before == pytest.approx(1001 / 30000, abs=0.001) for before, after in pairwise(times))


async def test_an_ffmpeg_that_puts_keyframes_elsewhere_is_refused(tmp_path: Path) -> None:
    """As that of Debian 12 does with AV1: its rungs could not be switched to."""
    listing = "echo ' V..... libx264 x'; echo ' A..... aac x'; echo ' V..... libsvtav1 x'"
    mine = tmp_path / "mine"
    mine.write_text(
        f"#!/bin/sh\ncase $1 in -version) echo 'ffmpeg version 7.1';; -nostdin) echo moof;; *) {listing};; esac\n"
    )
    mine.chmod(0o755)
    with pytest.raises(UnavailableError, match="keyframes") as caught:
        await binaries.find_tools(FfmpegConfig(ffmpeg=mine, codecs=("h264", "av1")))
    assert "plugins.transcode_ffmpeg.codecs" in caught.value.remedy
