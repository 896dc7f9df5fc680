"""What inspect finds in all kinds of files, and what it refuses (T2)."""

from collections.abc import Callable
from pathlib import Path

import pytest

from echo_core.plugin_api import InspectRequest, InvalidRequestError

from .conftest import MakeClip, Work


async def refusal(work: Work, path: Path, **limits: float) -> str:
    with pytest.raises(InvalidRequestError) as caught:
        await work.transcoder.inspect(InspectRequest(path=path, **limits))
    assert caught.value.message.endswith(".")
    assert caught.value.remedy
    assert str(path.parent) not in caught.value.message + "".join(caught.value.log_tail)
    return caught.value.code


async def test_reads_an_ordinary_clip(work: Work, make_clip: MakeClip) -> None:
    media = await work.inspect(make_clip("normal.mp4"))
    assert media.video is not None
    assert (media.video.codec, media.video.profile, media.video.width, media.video.height) == ("h264", "Main", 160, 90)
    assert media.video.fps == 30
    assert not media.video.variable_fps
    assert [(sound.codec, sound.profile, sound.channels) for sound in media.audio] == [("aac", "LC", 2)]
    assert media.duration_s == pytest.approx(5, abs=0.05)


async def test_swaps_sides_of_rotated_pictures(work: Work, make_clip: MakeClip) -> None:
    video = (await work.inspect(make_clip("rotated.mp4"))).video
    assert video is not None
    assert (video.width, video.height, video.rotation_deg) == (90, 160, 90)
    assert not video.mirrored


async def test_sees_mirror_images(work: Work, make_clip: MakeClip) -> None:
    video = (await work.inspect(make_clip("upside_down.mp4"))).video
    assert video is not None
    assert (video.rotation_deg % 180, video.mirrored) == (0, True)


async def test_applies_the_shape_of_pixels(work: Work, make_clip: MakeClip) -> None:
    video = (await work.inspect(make_clip("wide_pixels.mp4"))).video
    assert video is not None
    assert (video.width, video.height) == (213, 90)


async def test_sees_uneven_frames_interlacing_and_hdr(work: Work, make_clip: MakeClip) -> None:
    uneven = (await work.inspect(make_clip("uneven.mp4"))).video
    interlaced = (await work.inspect(make_clip("interlaced.mp4"))).video
    hdr = (await work.inspect(make_clip("hdr.mp4"))).video
    assert uneven is not None
    assert uneven.variable_fps
    assert interlaced is not None
    assert interlaced.interlaced
    assert hdr is not None
    assert hdr.transfer == "smpte2084"


async def test_cover_art_is_not_a_picture(work: Work, make_clip: MakeClip) -> None:
    media = await work.inspect(make_clip("cover.mp3"))
    assert media.video is None
    assert media.audio


async def test_measures_recordings_that_do_not_say_how_long_they_are(work: Work, make_clip: MakeClip) -> None:
    assert (await work.inspect(make_clip("browser.webm"))).duration_s == pytest.approx(5, abs=0.1)


async def test_refuses_an_mp4_without_its_index_as_cut_off(
    work: Work, make_clip: MakeClip, alone: Callable[[Path], Path]
) -> None:
    path = alone(make_clip("normal.mp4"))
    path.write_bytes(path.read_bytes()[:20_000])
    assert await refusal(work, path) == "media_truncated"


@pytest.mark.parametrize(
    ("clip", "limits", "code"),
    [
        ("normal.mp4", {"max_duration_s": 2}, "media_too_long"),
        ("normal.mp4", {"max_pixels": 1000}, "media_too_large"),
        ("many_streams.mkv", {}, "media_too_many_streams"),
        ("subtitles.mkv", {}, "media_no_streams"),
        ("rare_codec.mkv", {}, "media_codec_unsupported"),
    ],
)
async def test_refuses_beyond_its_limits(
    work: Work, make_clip: MakeClip, clip: str, limits: dict[str, float], code: str
) -> None:
    assert await refusal(work, make_clip(clip), **limits) == code


@pytest.mark.parametrize(
    "script",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{name}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile {name}\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
        '<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    ],
    ids=["hls", "ffconcat", "sdp", "svg"],
)
@pytest.mark.parametrize("suffix", [".mp4", ".m3u8", ".txt"])
async def test_follows_no_script(
    work: Work, make_clip: MakeClip, alone: Callable[[Path], Path], script: str, suffix: str
) -> None:
    neighbour = alone(make_clip("broadcast.ts"))
    path = neighbour.with_name(f"film{suffix}")
    path.write_text(script.format(name=neighbour.name))
    assert await refusal(work, path) == "media_unreadable"


async def test_names_that_look_like_options_or_addresses_are_only_names(
    work: Work, make_clip: MakeClip, tmp_path: Path
) -> None:
    for name in ("-i", "http:x", "a b'%d\n.mp4"):
        path = tmp_path / name
        path.write_bytes(make_clip("normal.mp4").read_bytes())
        assert (await work.inspect(path)).video


async def test_relative_paths_are_refused(work: Work) -> None:
    with pytest.raises(ValueError, match="absolute"):
        await work.inspect(Path("film.mp4"))
