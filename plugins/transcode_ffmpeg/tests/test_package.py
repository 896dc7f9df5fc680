"""The gates before a copy is published (T9)."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from echo_transcode_ffmpeg import mp4
from echo_transcode_ffmpeg.config import FfmpegConfig
from echo_transcode_ffmpeg.package import obstacle

from echo_core.plugin_api import MediaInfo, VideoStream

from .conftest import MakeClip, Work

GOOD = VideoStream(
    codec="h264",
    width=1920,
    height=1080,
    fps=30,
    profile="High",
    level=41,
    pixel_format="yuv420p",
    bitrate_bps=8_000_000,
)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, ""),
        ({"codec": "hevc"}, "not H.264"),
        ({"profile": "High 10"}, "profile"),
        ({"level": 52}, "level"),
        ({"pixel_format": "yuv422p"}, "pixel format"),
        ({"rotation_deg": 90}, "rotated"),
        ({"mirrored": True}, "mirrored"),
        ({"sample_aspect_ratio": 1.33}, "square"),
        ({"interlaced": True}, "interlaced"),
        ({"variable_fps": True}, "uneven"),
        ({"fps": 120.0}, "frames per second"),
        ({"bitrate_bps": 20_000_000}, "bitrate"),
    ],
)
def test_pictures_that_players_cannot_show_are_not_copied(change: dict[str, object], reason: str) -> None:
    media = MediaInfo(container="mp4", duration_s=9, size_bytes=9, video=replace(GOOD, **change))  # type: ignore[arg-type]
    found = obstacle(media, FfmpegConfig())
    assert reason in found
    assert bool(found) == bool(reason)


async def test_copies_picture_and_sound(work: Work, make_clip: MakeClip) -> None:
    result = await work.package(make_clip("normal.mp4"))
    source, audio = result.renditions
    assert (source.codecs, source.width, source.height, source.fps) == ("avc1.4D400B", 160, 90, 30)
    assert (audio.codecs, audio.channels, audio.copied) == ("mp4a.40.2", 2, True)
    assert result.boundaries_s == pytest.approx([0, 4], abs=0.01)


async def test_broadcast_streams_are_copied(work: Work, make_clip: MakeClip) -> None:
    result = await work.package(make_clip("broadcast.ts"))
    assert [one.copied for one in result.renditions] == [True, True]


@pytest.mark.parametrize("clip", ["late_sound.mp4", "surround.mkv", "sound.mp3"])
async def test_sound_that_players_cannot_play_is_encoded(work: Work, make_clip: MakeClip, clip: str) -> None:
    result = await work.package(make_clip(clip))
    audio = result.renditions[-1]
    assert (audio.kind, audio.copied, audio.codecs) == ("audio", False, "mp4a.40.2")
    assert audio.channels <= 2


async def test_late_sound_is_padded_to_start_with_the_picture(work: Work, make_clip: MakeClip) -> None:
    path = make_clip("late_sound.mp4")
    audio = (await work.package(path)).renditions[-1]
    track = mp4.read_track(audio.path.read_bytes()[: audio.init_length_bytes])
    assert mp4.first_sample(audio.path, audio.segments[0].offset_bytes, track.timescale).at_s == 0
    assert audio.duration_s == pytest.approx(6.5, abs=0.1)


@pytest.mark.parametrize(
    ("clip", "reason"),
    [("edit_list.mp4", "starts at"), ("few_keyframes.mp4", "keyframes"), ("uneven.mp4", "uneven")],
)
async def test_copies_that_would_not_play_are_withheld(work: Work, make_clip: MakeClip, clip: str, reason: str) -> None:
    result = await work.package(make_clip(clip))
    assert result.renditions == ()
    assert reason in result.reason


async def test_damaged_files_are_not_copied(work: Work, make_clip: MakeClip, alone: Callable[[Path], Path]) -> None:
    path = alone(make_clip("faststart.mp4"))
    path.write_bytes(path.read_bytes()[:60_000])
    result = await work.package(path)
    assert result.renditions == ()
    assert "damaged" in result.reason


async def test_nothing_is_left_of_a_withheld_copy(work: Work, make_clip: MakeClip, tmp_path: Path) -> None:
    await work.package(make_clip("edit_list.mp4"))
    assert list((tmp_path / "call1").iterdir()) == []
