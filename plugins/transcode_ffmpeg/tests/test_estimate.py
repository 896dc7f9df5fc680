"""What a call is said to take, and what ffmpeg then takes."""

import asyncio
import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from echo_transcode_ffmpeg.binaries import find_tools
from echo_transcode_ffmpeg.config import FfmpegConfig
from echo_transcode_ffmpeg.encode import encoder_threads, ladder_argv
from echo_transcode_ffmpeg.transcoder import FfmpegTranscoder

from echo_core.plugin_api import EstimateRequest, LadderRequest, MediaInfo, PlanLadder, VideoStream

MIB = 1 << 20
SHORT_SIDES = (720, 480, 360)


def media(width: int, height: int, **video: object) -> MediaInfo:
    stream = VideoStream(codec="h264", width=width, height=height, fps=30.0, **video)  # type: ignore[arg-type]
    return MediaInfo(container="mp4", duration_s=60.0, size_bytes=10 * MIB, video=stream)


def ladder_memory(config: FfmpegConfig, found: MediaInfo) -> int:
    transcoder = FfmpegTranscoder(config)
    rungs = transcoder.plan_ladder(PlanLadder(media=found, short_sides=SHORT_SIDES))
    return transcoder.estimate(EstimateRequest(work="encode_ladder", media=found, rungs=rungs)).memory_bytes


def test_estimated_memory_is_what_an_encode_takes(tmp_path: Path) -> None:
    config = FfmpegConfig(preset="veryfast", threads=2, nice=0)
    transcoder = FfmpegTranscoder(config)
    source = tmp_path / "source.mp4"
    make = "-f lavfi -i testsrc2=size=1280x720:rate=30:duration=3 -c:v mpeg4 -q:v 5"
    subprocess.run(["ffmpeg", "-v", "error", "-nostdin", *make.split(), source], check=True)
    found = media(1280, 720)
    rungs = transcoder.plan_ladder(PlanLadder(media=found, short_sides=SHORT_SIDES))
    request = LadderRequest(path=source, media=found, out_dir=tmp_path, rungs=rungs, with_audio=False)
    tools = asyncio.run(find_tools(config))
    argv = [*ladder_argv(tools, config, request), "-benchmark", "-v", "info"]

    def run() -> int:
        # By way of a shell that forks: a process's maxrss begins with what its parent had, and tests can have much.
        shell = ["sh", "-c", '"$@"; exit $?', "sh", *argv, "-y"]
        done = subprocess.run(shell, cwd=tmp_path, capture_output=True, text=True, check=True)
        told = re.search(r"maxrss=(\d+)", done.stderr)
        assert told is not None, done.stderr[-500:]
        return int(told[1]) * 1024

    estimated = ladder_memory(config, found)
    # How many frames wait between decoder and encoders is up to the scheduler: twice as many on a busy machine.
    taken = min(run() for _ in range(3))
    assert taken / 2 <= estimated <= 2 * taken, f"{taken / MIB:.0f} MiB taken, {estimated / MIB:.0f} MiB estimated"


def test_encoders_have_threads_where_the_system_does_not_tell_which_processors_are_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert encoder_threads(FfmpegConfig(threads=0)) == 3


def test_estimate_grows_with_picture_threads_and_depth_and_ends_at_the_limit() -> None:
    small = ladder_memory(FfmpegConfig(threads=1), media(640, 360))
    large = ladder_memory(FfmpegConfig(threads=1), media(1280, 720))
    threaded = ladder_memory(FfmpegConfig(threads=8), media(1280, 720))
    hdr = ladder_memory(FfmpegConfig(threads=8), media(1280, 720, pixel_format="yuv420p10le", transfer="smpte2084"))
    assert small < large < threaded < hdr
    limited = FfmpegConfig(threads=64, memory_limit_bytes=1 << 30)
    assert ladder_memory(limited, media(7680, 4320)) <= 1 << 30


def test_what_lasts_takes_more_for_each_output() -> None:
    def package(hours: float) -> int:
        found = replace(media(1280, 720), duration_s=3600 * hours)
        return FfmpegTranscoder(FfmpegConfig()).estimate(EstimateRequest(work="package", media=found)).memory_bytes

    def ladder(hours: float) -> int:
        return ladder_memory(FfmpegConfig(threads=1), replace(media(1280, 720), duration_s=3600 * hours))

    hour = package(2) - package(1)
    assert 17 * MIB < hour < 30 * MIB  # measured with a copy of two hours of film
    assert ladder(2) - ladder(1) == 2 * hour  # three rungs and the input, after one output and the input
    assert package(100) <= FfmpegConfig().memory_limit_bytes


def test_estimated_disk_is_the_sum_of_the_ceilings() -> None:
    found = media(1280, 720)
    transcoder = FfmpegTranscoder(FfmpegConfig())
    rungs = transcoder.plan_ladder(PlanLadder(media=found, short_sides=SHORT_SIDES))
    needs = transcoder.estimate(EstimateRequest(work="encode_ladder", media=found, rungs=rungs))
    assert needs.scratch_bytes == 60 * sum(rung.max_bitrate_bps for rung in rungs) // 8
    assert transcoder.estimate(EstimateRequest(work="package", media=found)).scratch_bytes == found.size_bytes
