"""Pieces of an encode, joined: no picture more or less than in one go, no seam in time, one initialisation."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from itertools import pairwise
from pathlib import Path

import imageio_ffmpeg
import pytest
from echo_transcode_ffmpeg import mp4
from echo_transcode_ffmpeg.transcoder import FfmpegTranscoder

from echo_core.plugin_api import LadderRequest, LadderResult, PlanLadder, Rendition

pytestmark = pytest.mark.integration

SIDES = (90, 48)


async def encoded(work, path: Path, **part):
    return (await encode(work, path, **part)).renditions


async def encode(work, path: Path, *, start_s: float = 0.0, end_s: float | None = None, align_to_s=()) -> LadderResult:
    media = await work.inspect(path)
    rungs = work.transcoder.plan_ladder(PlanLadder(media=media, short_sides=SIDES))
    request = LadderRequest(
        path=path,
        media=media,
        out_dir=work.out_dir(),
        rungs=rungs,
        start_s=start_s,
        end_s=end_s,
        with_audio=False,
        segment_s=2.0,
        align_to_s=align_to_s,
    )
    return await work.transcoder.encode_ladder(request)


def joined(parts: list[Rendition], path: Path) -> Path:
    """As the kernel joins them."""
    inits = {part.path.read_bytes()[: part.init_length_bytes] for part in parts}
    assert len(inits) == 1
    path.write_bytes(inits.pop() + b"".join(p.path.read_bytes()[p.init_length_bytes :] for p in parts))
    return path


def frame_times(path: Path) -> list[float]:
    """Presentation times of all packets, as ffprobe reads them."""
    ffprobe = shutil.which("ffprobe")
    assert ffprobe is not None
    command = [ffprobe, "-v", "error", "-select_streams", "v", "-show_entries", "packet=pts_time", "-of", "json", path]
    packets = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["packets"]
    return sorted(float(packet["pts_time"]) for packet in packets)


def likeness(one: Path, other: Path) -> float:
    """The structural similarity of the worst frame, 0 to 1 (ffmpeg's ssim)."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "info", "-i", one, "-i", other]
    command += ["-lavfi", "[0:v][1:v]ssim=stats_file=-", "-f", "null", "-"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return min(float(line.split("All:")[1].split()[0]) for line in done.stdout.splitlines() if "All:" in line)


def fragment_numbers(data: bytes) -> list[int]:
    """The numbers of all fragments (mfhd), in order."""
    found, at = [], 0
    while at < len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        if name == b"moof":
            header = mp4._child(data[at + 8 : at + size], "mfhd")
            found.append(struct.unpack_from(">I", header, 4)[0])
        at += size
    return found


CASES = [
    ("normal.mp4", (2.0, 4.0)),
    ("ntsc.mp4", (2.002, 6.006)),
    ("off_the_grid.mkv", (2.002, 4.004, 6.006)),
    ("browser.webm", (4.0,)),
    ("interlaced.mp4", (2.0,)),
]


@pytest.mark.parametrize(("clip", "cuts_s"), CASES, ids=[case[0] for case in CASES])
async def test_pieces_have_the_pictures_of_the_whole_at_their_times(
    make_clip, work, tmp_path: Path, clip: str, cuts_s: tuple[float, ...]
) -> None:
    path = make_clip(clip)
    whole = await encoded(work, path)
    bounds = [(0.0, cuts_s[0]), *pairwise(cuts_s), (cuts_s[-1], None)]
    pieces = [await encoded(work, path, start_s=start_s, end_s=end_s) for start_s, end_s in bounds]
    for number, one in enumerate(whole):
        parts = [piece[number] for piece in pieces]
        together = joined(parts, tmp_path / f"{one.name}-joined.mp4")
        assert frame_times(together) == pytest.approx(frame_times(one.path), abs=0.0005)
        assert likeness(together, one.path) > 0.9
        assert fragment_numbers(together.read_bytes()) == list(range(1, len(one.segments) + 1))
        durations = [segment.duration_s for part in parts for segment in part.segments]
        assert durations == pytest.approx([segment.duration_s for segment in one.segments], abs=0.001)


@pytest.mark.parametrize("clip", ["normal.mp4", "off_the_grid.mkv"])
async def test_pieces_keep_to_the_boundaries_of_a_copied_source(make_clip, work, tmp_path: Path, clip: str) -> None:
    path = make_clip(clip)
    packaged = await work.package(path)
    boundaries_s = packaged.boundaries_s
    assert len(boundaries_s) >= 2
    cut_s = boundaries_s[1]
    whole = await encoded(work, path, align_to_s=boundaries_s)
    first = await encoded(work, path, end_s=cut_s, align_to_s=boundaries_s)
    second = await encoded(work, path, start_s=cut_s, align_to_s=boundaries_s)
    for one, *parts in zip(whole, first, second, strict=True):
        together = joined(parts, tmp_path / f"{one.name}-joined.mp4")
        assert frame_times(together) == pytest.approx(frame_times(one.path), abs=0.0005)
        assert likeness(together, one.path) > 0.9
        assert fragment_numbers(together.read_bytes()) == list(range(1, len(boundaries_s) + 1))


async def test_a_piece_without_anything_to_decode_has_no_renditions_and_says_so(make_clip, work) -> None:
    path = make_clip("cut_off.mkv")
    result = await encode(work, path, start_s=8.0)
    assert result.renditions == ()
    assert result.warnings == ("Only the first 0:08 of 0:09 could be read: the file is damaged or cut off.",)


@pytest.mark.parametrize(
    ("clip", "can"),
    [
        ("normal.mp4", True),
        ("browser.webm", True),
        ("broadcast.ts", False),
        ("uneven.mp4", False),
        ("sound.m4a", False),
    ],
)
async def test_only_what_has_an_index_and_steady_pictures_is_cut(make_clip, work, clip: str, can: bool) -> None:
    assert work.transcoder.can_cut(await work.inspect(make_clip(clip))) is can


async def test_progress_of_a_piece_is_of_the_piece(make_clip, transcoder: FfmpegTranscoder, work) -> None:
    path = make_clip("ntsc.mp4")
    media = await work.inspect(path)
    rungs = transcoder.plan_ladder(PlanLadder(media=media, short_sides=SIDES))
    told: list[float] = []
    await transcoder.encode_ladder(
        LadderRequest(
            path=path,
            media=media,
            out_dir=work.out_dir(),
            rungs=rungs,
            start_s=6.006,
            with_audio=False,
            segment_s=2.0,
            on_progress=told.append,
        )
    )
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert all(0 <= fraction <= 1 for fraction in told)
