"""Posters, storyboards and sound for speech recognition."""

import wave

import av
import pytest
from echo_transcode_ffmpeg.pictures import default_interval
from hypothesis import given
from hypothesis import strategies as st

from echo_core.plugin_api import (
    ExtractAudioRequest,
    InvalidRequestError,
    Picture,
    PosterRequest,
    StoryboardRequest,
)

from .conftest import MakeClip, Work


def size_of(picture: Picture) -> tuple[int, int]:
    with av.open(str(picture.path)) as container:
        stream = container.streams.video[0]
        return stream.codec_context.width, stream.codec_context.height


@pytest.mark.parametrize(
    ("clip", "at_s", "size"),
    [
        ("normal.mp4", None, (120, 68)),
        ("normal.mp4", 2.0, (120, 68)),
        ("normal.mp4", 99.0, (120, 68)),
        ("rotated.mp4", None, (90, 160)),
        ("hdr.mp4", None, (120, 68)),
        ("one_frame.mp4", None, (64, 64)),
    ],
)
async def test_posters_have_the_displayed_shape(
    work: Work, make_clip: MakeClip, clip: str, at_s: float | None, size: tuple[int, int]
) -> None:
    path = make_clip(clip)
    request = PosterRequest(path=path, media=await work.inspect(path), out_dir=work.out_dir(), at_s=at_s, max_width=120)
    poster = await work.transcoder.poster(request)
    assert size_of(poster) == (poster.width, poster.height) == size


async def test_sound_alone_has_no_poster(work: Work, make_clip: MakeClip) -> None:
    path = make_clip("cover.mp3")
    request = PosterRequest(path=path, media=await work.inspect(path), out_dir=work.out_dir())
    with pytest.raises(InvalidRequestError) as caught:
        await work.transcoder.poster(request)
    assert caught.value.code == "media_no_video"


@pytest.mark.parametrize("clip", ["normal.mp4", "few_keyframes.mp4", "one_frame.mp4", "rotated.mp4", "hdr.mp4"])
async def test_sheets_are_as_large_as_their_tiles_say(work: Work, make_clip: MakeClip, clip: str) -> None:
    path = make_clip(clip)
    media = await work.inspect(path)
    request = StoryboardRequest(
        path=path, media=media, out_dir=work.out_dir(), interval_s=2, tile_width=40, columns=2, rows=2
    )
    board = await work.transcoder.storyboard(request)
    assert board.tiles[-1].end_s == media.duration_s
    assert {tile.sheet for tile in board.tiles} == set(range(len(board.sheets)))
    for sheet in board.sheets:
        assert size_of(sheet) == (sheet.width, sheet.height)


@given(st.floats(0.01, 48 * 3600))
def test_storyboards_have_a_bounded_number_of_tiles(duration_s: float) -> None:
    assert default_interval(duration_s) >= 1
    assert duration_s / default_interval(duration_s) <= 501


async def test_speech_is_sixteen_thousand_mono_samples_a_second(work: Work, make_clip: MakeClip) -> None:
    path = make_clip("surround.mkv")
    request = ExtractAudioRequest(path=path, media=await work.inspect(path), out_dir=work.out_dir())
    sound = await work.transcoder.extract_audio(request)
    with wave.open(str(sound.path)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
        assert file.getnframes() / 16_000 == pytest.approx(sound.duration_s, abs=0.01)


async def test_late_sound_keeps_its_time_for_speech(work: Work, make_clip: MakeClip) -> None:
    path = make_clip("late_sound.mp4")
    request = ExtractAudioRequest(path=path, media=await work.inspect(path), out_dir=work.out_dir())
    assert (await work.transcoder.extract_audio(request)).duration_s == pytest.approx(6.5, abs=0.1)
