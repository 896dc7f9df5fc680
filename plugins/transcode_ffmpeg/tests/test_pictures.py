"""Posters, storyboards and sound for speech recognition."""

import dataclasses
import re
import wave
from array import array
from pathlib import Path

import av
import pytest
from echo_transcode_ffmpeg.config import FfmpegConfig
from echo_transcode_ffmpeg.pictures import default_interval
from echo_transcode_ffmpeg.posters import measured
from echo_transcode_ffmpeg.transcoder import FfmpegTranscoder
from hypothesis import given
from hypothesis import strategies as st

from echo_core.plugin_api import (
    ExtractAudioRequest,
    ExtractSubtitlesRequest,
    InspectRequest,
    InvalidRequestError,
    Picture,
    Poster,
    PosterRequest,
    PreviewRequest,
    StoryboardRequest,
)

from .conftest import MakeClip, Work


def size_of(picture: Picture) -> tuple[int, int]:
    with av.open(str(picture.path)) as container:
        stream = container.streams.video[0]
        return stream.codec_context.width, stream.codec_context.height


@pytest.mark.parametrize(
    ("clip", "count", "size"),
    [
        ("normal.mp4", 6, (120, 68)),
        ("rotated.mp4", 6, (90, 160)),
        ("hdr.mp4", 4, (120, 68)),
        ("one_frame.mp4", 1, (64, 64)),
        ("few_keyframes.mp4", 6, (64, 36)),
        ("sound.mp3", 1, (120, 68)),
        ("cover.mp3", 1, (120, 68)),
    ],
)
async def test_posters_have_the_displayed_shape(
    work: Work, make_clip: MakeClip, clip: str, count: int, size: tuple[int, int]
) -> None:
    posters = await posters_of(work, make_clip(clip), max_width=120)
    assert len(posters) == count
    for poster in posters:
        assert size_of(poster.picture) == (poster.picture.width, poster.picture.height) == size
    files = set(posters[0].picture.path.parent.iterdir())
    assert files == {poster.picture.path for poster in posters}, "nothing else is left"


async def posters_of(work: Work, path: Path, *, max_width: int = 1280) -> tuple[Poster, ...]:
    request = PosterRequest(path=path, media=await work.inspect(path), out_dir=work.out_dir(), max_width=max_width)
    return await work.transcoder.posters(request)


def mean_rgb(picture: Picture) -> tuple[float, ...]:
    """Of the middle half."""
    with av.open(str(picture.path)) as container:
        frame = next(container.decode(video=0)).reformat(format="rgb24")
    data, line = bytes(frame.planes[0]), frame.planes[0].line_size
    rows = range(frame.height // 4, frame.height * 3 // 4)
    columns = range(frame.width // 4, frame.width * 3 // 4)
    values = [data[y * line + 3 * x : y * line + 3 * x + 3] for y in rows for x in columns]
    return tuple(sum(value[c] for value in values) / len(values) for c in range(3))


async def test_neither_black_nor_a_fade_becomes_the_poster(work: Work, make_clip: MakeClip) -> None:
    """Eight seconds of black, a fade, then pictures, then a blank one."""
    posters = await posters_of(work, make_clip("black_then_pictures.mp4"))
    best = max(posters, key=lambda poster: poster.score)
    assert 9.5 <= best.at_s <= 14.5
    assert sum(mean_rgb(best.picture)) > 100
    assert all(poster.score < best.score / 2 for poster in posters if poster.at_s < 7 or poster.at_s > 15)


async def test_a_sharp_picture_beats_a_blurred_one(work: Work, make_clip: MakeClip) -> None:
    posters = await posters_of(work, make_clip("half_blurred.mp4"))
    assert max(posters, key=lambda poster: poster.score).at_s >= 3


async def test_the_cover_is_the_poster_of_a_song(work: Work, make_clip: MakeClip) -> None:
    (cover,) = await posters_of(work, make_clip("cover.mp3"))
    (wave,) = await posters_of(work, make_clip("sound.mp3"))
    red, green, blue = mean_rgb(cover.picture)
    assert (red < 40, green < 40, blue > 200) == (True, True, True)
    assert mean_rgb(wave.picture) != pytest.approx((0, 0, 0), abs=1), "the sound can be seen"


def test_what_is_black_white_or_blank_counts_for_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(b"x")
    for grey in (bytes([10] * 576), bytes([250] * 576), bytes([120] * 576)):
        assert measured(path, 0.0, grey).visible == 0
    checked = bytes([60, 200] * 288)
    assert measured(path, 0.0, checked).visible == 1


@pytest.mark.parametrize("clip", ["normal.mp4", "black_then_pictures.mp4", "one_frame.mp4", "hdr.mp4"])
async def test_previews_move_and_are_small(work: Work, make_clip: MakeClip, clip: str) -> None:
    path = make_clip(clip)
    media = await work.inspect(path)
    preview = await work.transcoder.preview(
        PreviewRequest(path=path, media=media, out_dir=work.out_dir(), max_width=100, duration_s=3)
    )
    data = preview.path.read_bytes()
    assert (data[:4], data[8:12]) == (b"RIFF", b"WEBP")
    frames = data.count(b"ANMF")
    assert frames <= 26
    if media.duration_s > 3:
        assert frames >= 8
    assert preview.width <= 100


async def test_subtitles_become_webvtt_with_their_languages(work: Work, make_clip: MakeClip) -> None:
    path = make_clip("two_languages.mkv")
    media = await work.inspect(path)
    assert [(s.language, s.title, s.forced) for s in media.subtitles] == [("de", "Deutsch", False), ("", "Signs", True)]
    made = await work.transcoder.extract_subtitles(
        ExtractSubtitlesRequest(path=path, media=media, out_dir=work.out_dir())
    )
    assert [one.stream for one in made] == list(media.subtitles)
    for one in made:
        text = one.path.read_text()
        assert text.startswith("WEBVTT")
        # Behind the first samples of the encoder of the sound, as the picture is too.
        assert re.search(r"00:00\.0\d\d --> 00:01\.0\d\d\nhello", text)


async def test_every_sound_becomes_a_rendition_in_its_language(work: Work, make_clip: MakeClip) -> None:
    path = make_clip("two_languages.mkv")
    for result in (await work.package(path), await work.encode(path)):
        sounds = [one for one in result.renditions if one.kind == "audio"]
        assert [(one.name, one.language, one.title) for one in sounds] == [
            ("audio", "fr", "Français"),
            ("audio-2", "en", "Commentary"),
        ]


async def test_sound_alone_gets_a_picture_of_itself(work: Work, make_clip: MakeClip) -> None:
    result = await work.encode(make_clip("sound.mp3"), short_sides=(90, 48))
    picture, sound = result.renditions
    assert (picture.kind, picture.width, picture.height) == ("video", 160, 90)
    assert sound.kind == "audio"
    assert picture.duration_s == pytest.approx(sound.duration_s, abs=0.25)


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


def loudest_s(path: Path) -> float:
    """When the loudest moment of a WAV is, in seconds."""
    with wave.open(str(path)) as file:
        samples = array("h", file.readframes(file.getnframes()))
    return max(range(len(samples)), key=lambda n: abs(samples[n])) / 16_000


async def test_a_cut_of_the_sound_begins_where_it_was_asked_to(work: Work, make_clip: MakeClip) -> None:
    path = make_clip("flash_beep.mp4")
    media = await work.inspect(path)
    whole = ExtractAudioRequest(path=path, media=media, out_dir=work.out_dir())
    beep_s = loudest_s((await work.transcoder.extract_audio(whole)).path)
    start_s = 1.5
    cut = await work.transcoder.extract_audio(dataclasses.replace(whole, start_s=start_s, end_s=2.5))
    assert cut.duration_s == pytest.approx(1.0, abs=0.001)
    assert 1.95 <= beep_s <= 2.25
    assert loudest_s(cut.path) == pytest.approx(beep_s - start_s, abs=0.2)


async def test_a_cut_before_late_sound_is_silence_of_its_length(work: Work, make_clip: MakeClip) -> None:
    path = make_clip("late_sound.mp4")
    request = ExtractAudioRequest(
        path=path, media=await work.inspect(path), out_dir=work.out_dir(), start_s=0.2, end_s=1.2
    )
    sound = await work.transcoder.extract_audio(request)
    assert sound.duration_s == pytest.approx(1.0, abs=0.001)
    with wave.open(str(sound.path)) as file:
        assert max(map(abs, array("h", file.readframes(file.getnframes())))) < 10


async def test_sound_is_a_tenth_as_large_as_opus_and_says_so_where_it_cannot(work: Work, make_clip: MakeClip) -> None:
    path = make_clip("flash_beep.mp4")
    request = ExtractAudioRequest(path=path, media=await work.inspect(path), out_dir=work.out_dir(), codec="opus")
    sound = await work.transcoder.extract_audio(request)
    assert (sound.content_type, sound.path.read_bytes()[:4]) == ("audio/ogg", b"OggS")
    with pytest.raises(InvalidRequestError) as refused:
        await work.transcoder.extract_audio(dataclasses.replace(request, start_s=1e6))
    assert refused.value.code == "media_no_such_part"


async def test_preview_keeps_to_the_smallest_limit_of_memory(make_clip: MakeClip, tmp_path: Path) -> None:
    """Four decoders at once reserve much address space, which other work does not."""
    transcoder = FfmpegTranscoder(FfmpegConfig(memory_limit_bytes=1 << 30))
    path = make_clip("large.mp4")
    media = await transcoder.inspect(InspectRequest(path=path))
    picture = await transcoder.preview(PreviewRequest(path=path, media=media, out_dir=tmp_path))
    assert picture.path.stat().st_size > 0
