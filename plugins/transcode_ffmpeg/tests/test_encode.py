"""What comes out of the ladder, for all kinds of sources (T3 to T7)."""

import asyncio
from array import array
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import pytest
from echo_transcode_ffmpeg import binaries, mp4
from echo_transcode_ffmpeg.config import FfmpegConfig
from echo_transcode_ffmpeg.encode import encode_ladder

from echo_core.plugin_api import EchoError, InvalidRequestError, LadderRequest, PlanLadder, Rendition, Rung
from echo_core.testing.transcoder_kit import children

from .conftest import MakeClip, Work

SYNC_S = 0.002  # a frame of sound is 21 ms; unnoticed below 45 (EBU R 37)
FLASH_S, BEEP_S = 2.0, 94 * 1024 / 48_000  # of the clip: the beep begins with a frame of sound


def firsts(rendition: Rendition) -> list[mp4.FirstSample]:
    track = mp4.read_track(rendition.path.read_bytes()[: rendition.init_length_bytes])
    return [mp4.first_sample(rendition.path, one.offset_bytes, track.timescale) for one in rendition.segments]


def durations(rendition: Rendition) -> list[float]:
    return [segment.duration_s for segment in rendition.segments]


async def test_ladder_of_an_ordinary_clip(work: Work, make_clip: MakeClip) -> None:
    result = await work.encode(make_clip("normal.mp4"))
    assert [(one.name, one.width, one.height) for one in result.renditions] == [
        ("90p", 160, 90),
        ("48p", 86, 48),
        ("audio", 0, 0),
    ]
    assert result.warnings == ()
    for one in result.renditions[:2]:
        assert durations(one) == pytest.approx([4, 1], abs=0.001)
        assert one.codecs.startswith("avc1.64")
    assert result.renditions[2].codecs == "mp4a.40.2"


async def test_every_segment_starts_with_a_keyframe_at_its_time(work: Work, make_clip: MakeClip) -> None:
    for one in (await work.encode(make_clip("ntsc.mp4"))).renditions[:2]:
        found = firsts(one)
        assert all(first.keyframe for first in found)
        assert [first.at_s for first in found] == pytest.approx([0, 4.004, 8.008], abs=0.001)


async def test_rungs_keep_to_a_source_of_broken_rate(work: Work, make_clip: MakeClip) -> None:
    packaged = await work.package(make_clip("ntsc.mp4"))
    result = await work.encode(make_clip("ntsc.mp4"), (48,), packaged.boundaries_s)
    assert [first.at_s for first in firsts(result.renditions[0])] == pytest.approx(packaged.boundaries_s, abs=0.001)


async def test_rungs_keep_to_a_source_that_starts_late(work: Work, make_clip: MakeClip) -> None:
    packaged = await work.package(make_clip("broadcast.ts"))
    result = await work.encode(make_clip("broadcast.ts"), (48,), packaged.boundaries_s)
    assert [first.at_s for first in firsts(result.renditions[0])] == pytest.approx(packaged.boundaries_s, abs=1 / 30)


def flash_at_s(picture: Rendition) -> float:
    """By counting frames: players place them by the times in the fragments, of which the first is 0."""
    assert firsts(picture)[0].at_s == pytest.approx(0, abs=0.001)
    with av.open(str(picture.path)) as container:
        bright = [bytes(frame.planes[0])[0] > 128 for frame in container.decode(video=0)]
    return bright.index(True) / picture.fps


def beep_at_s(sound: Rendition) -> float:
    assert firsts(sound)[0].at_s == pytest.approx(0, abs=0.001)
    samples = array("f")
    with av.open(str(sound.path)) as container:
        for frame in container.decode(audio=0):
            samples.frombytes(bytes(frame.planes[0])[: frame.samples * samples.itemsize])
    return next(at for at, sample in enumerate(samples) if abs(sample) > 0.05) / 48_000


async def test_picture_and_sound_are_in_step(work: Work, make_clip: MakeClip) -> None:
    path = make_clip("flash_beep.mp4")
    for result in (await work.package(path), await work.encode(path, (36,))):
        picture, sound = result.renditions
        assert flash_at_s(picture) == pytest.approx(FLASH_S, abs=0.001)
        assert beep_at_s(sound) == pytest.approx(BEEP_S, abs=SYNC_S)


async def test_odd_sizes_and_slow_rates(work: Work, make_clip: MakeClip) -> None:
    one = (await work.encode(make_clip("odd_slow.mkv"))).renditions[0]
    assert (one.width, one.height) == (160, 90)
    assert one.duration_s == pytest.approx(9, abs=0.6)


@pytest.mark.parametrize(("clip", "channels"), [("surround.mkv", 2), ("sound.mp3", 1)])
async def test_sound_is_mixed_down_to_at_most_two_channels(
    work: Work, make_clip: MakeClip, clip: str, channels: int
) -> None:
    audio = (await work.encode(make_clip(clip))).renditions[-1]
    assert (audio.kind, audio.channels) == ("audio", channels)
    media = await work.inspect(audio.path)
    assert media.audio[0].channels == channels


async def test_rotation_and_shape_of_pixels_are_baked_in(work: Work, make_clip: MakeClip) -> None:
    for clip, size in (("rotated.mp4", (90, 160)), ("wide_pixels.mp4", (212, 90))):
        one = (await work.encode(make_clip(clip), (90,))).renditions[0]
        video = (await work.inspect(one.path)).video
        assert video is not None
        assert (video.width, video.height, video.rotation_deg, video.sample_aspect_ratio) == (*size, 0, 1.0)


async def test_uneven_fast_and_interlaced_pictures_come_out_steady(work: Work, make_clip: MakeClip) -> None:
    for clip, fps in (("uneven.mp4", 24), ("fast.mp4", 60), ("interlaced.mp4", 30)):
        one = (await work.encode(make_clip(clip), (48,))).renditions[0]
        video = (await work.inspect(one.path)).video
        assert video is not None
        assert (one.fps, video.fps, video.variable_fps, video.interlaced) == (fps, fps, False, False)


async def test_hdr_is_brought_to_an_ordinary_screen(work: Work, make_clip: MakeClip) -> None:
    result = await work.encode(make_clip("hdr.mp4"), (90,))
    video = (await work.inspect(result.renditions[0].path)).video
    assert video is not None
    assert (video.transfer, video.pixel_format) == ("bt709", "yuv420p")
    assert result.warnings == ()


async def test_hdr_without_the_filters_comes_with_a_warning(work: Work, make_clip: MakeClip) -> None:
    config = FfmpegConfig(preset="ultrafast")
    tools = replace(await binaries.find_tools(config), filters=frozenset())
    path = make_clip("hdr.mp4")
    media = await work.inspect(path)
    rungs = work.transcoder.plan_ladder(PlanLadder(media=media, short_sides=(36,)))
    request = LadderRequest(path=path, media=media, out_dir=work.out_dir(), rungs=rungs)
    assert "HDR" in (await encode_ladder(tools, config, request)).warnings[0]


async def test_one_frame_is_enough(work: Work, make_clip: MakeClip) -> None:
    assert (await work.encode(make_clip("one_frame.mp4"), (48,))).renditions[0].segments


async def test_damaged_files_play_as_far_as_they_go_with_a_warning(
    work: Work, make_clip: MakeClip, alone: Callable[[Path], Path]
) -> None:
    path = alone(make_clip("faststart.mp4"))
    path.write_bytes(path.read_bytes()[:60_000])
    result = await work.encode(path, (48,))
    assert "damaged" in result.warnings[0]
    assert result.renditions[0].duration_s < 3


async def test_files_that_cannot_be_decoded_at_all_are_refused(
    work: Work, make_clip: MakeClip, alone: Callable[[Path], Path]
) -> None:
    path = alone(make_clip("no_sound.mp4"))
    media = await work.inspect(path)
    path.write_bytes(b"no media any more")
    rungs = work.transcoder.plan_ladder(PlanLadder(media=media, short_sides=(48,)))
    with pytest.raises(InvalidRequestError) as caught:
        await work.transcoder.encode_ladder(LadderRequest(path=path, media=media, out_dir=work.out_dir(), rungs=rungs))
    assert caught.value.code == "media_undecodable"
    assert caught.value.log_tail
    assert str(path) not in "".join(caught.value.log_tail)


async def test_options_that_ffmpeg_refuses_become_an_error_with_its_last_line(work: Work, make_clip: MakeClip) -> None:
    path = make_clip("no_sound.mp4")
    media = await work.inspect(path)
    rung = Rung(name="bad", width=33, height=33, fps=30, max_bitrate_bps=1000)
    with pytest.raises(EchoError) as caught:
        await work.transcoder.encode_ladder(
            LadderRequest(path=path, media=media, out_dir=work.out_dir(), rungs=(rung,))
        )
    assert caught.value.code == "transcode_failed"
    assert caught.value.log_tail


async def test_cancelling_in_the_middle_ends_ffmpeg(work: Work, make_clip: MakeClip) -> None:
    path = make_clip("few_keyframes.mp4")
    media = await work.inspect(path)
    started = asyncio.Event()
    rung = Rung(name="large", width=1920, height=1080, fps=60, max_bitrate_bps=6_000_000)
    request = LadderRequest(
        path=path, media=media, out_dir=work.out_dir(), rungs=(rung,), on_progress=lambda fraction: started.set()
    )
    before = children()
    task = asyncio.create_task(work.transcoder.encode_ladder(request))
    await started.wait()
    assert children() > before
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert children() <= before
