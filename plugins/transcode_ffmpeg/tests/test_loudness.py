"""Loudness to EBU R 128, measured by another ffmpeg."""

import re
import subprocess
from pathlib import Path

import imageio_ffmpeg
import pytest
from echo_transcode_ffmpeg.config import FfmpegConfig
from echo_transcode_ffmpeg.loudness import gain
from echo_transcode_ffmpeg.transcoder import FfmpegTranscoder

from .conftest import MakeClip, Work

WANTED_LUFS = -16.0


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return Work(FfmpegTranscoder(FfmpegConfig(preset="ultrafast", loudness_lufs=WANTED_LUFS)), tmp_path)


def measured(path: Path) -> tuple[float, float]:
    """Loudness and true peak."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostats", "-i", path, "-af", "ebur128=peak=true", "-f", "null", "-"]
    summary = subprocess.run(command, capture_output=True, text=True, check=True).stderr.rpartition("Summary:")[2]
    loudness, peak = re.search(r"I:\s+(\S+) LUFS", summary), re.search(r"Peak:\s+(\S+) dBFS", summary)
    assert loudness
    assert peak
    return float(loudness[1]), float(peak[1])


@pytest.mark.parametrize("packaged", [True, False])
@pytest.mark.parametrize("clip", ["quiet.mp4", "loud.mp4", "quiet_surround.mkv", "two_levels.mkv"])
async def test_sounds_are_brought_to_the_loudness_that_is_wanted(
    work: Work, make_clip: MakeClip, clip: str, *, packaged: bool
) -> None:
    path = make_clip(clip)
    result = await work.package(path) if packaged else await work.encode(path, (48,))
    sounds = [one for one in result.renditions if one.kind == "audio"]
    assert len(sounds) == (2 if clip == "two_levels.mkv" else 1)
    for sound in sounds:
        loudness, _ = measured(sound.path)
        assert loudness == pytest.approx(WANTED_LUFS, abs=0.7)
        assert not sound.copied


async def test_peaks_stand_in_the_way_of_more(work: Work, make_clip: MakeClip) -> None:
    before, _ = measured(make_clip("drum.mp4"))
    result = await work.encode(make_clip("drum.mp4"), (48,))
    loudness, peak = measured(result.renditions[-1].path)
    assert before + 1 < loudness < WANTED_LUFS - 3
    assert peak == pytest.approx(-1, abs=1)


async def test_silence_and_what_is_right_already_stay_as_they_are(work: Work, make_clip: MakeClip) -> None:
    for clip in ("silent.mp4", "right.mp4"):
        result = await work.package(make_clip(clip))
        assert [one.copied for one in result.renditions] == [True, True]


async def test_nothing_is_changed_unless_it_is_wanted(make_clip: MakeClip, tmp_path: Path) -> None:
    work = Work(FfmpegTranscoder(FfmpegConfig()), tmp_path)
    assert (await work.package(make_clip("quiet.mp4"))).renditions[-1].copied


def test_gain_is_what_is_missing_or_what_peaks_allow() -> None:
    assert gain(-16, -30.0, -20.0) == 14
    assert gain(-16, -30.0, -5.0) == 4
    assert gain(-23, -10.0, 0.5) == -13
    assert gain(-16, -70.0, -70.0) == 0
