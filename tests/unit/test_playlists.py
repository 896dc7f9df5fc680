from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise

import m3u8
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from echo_core.domain.playlists import (
    AudioTrack,
    CaptionTrack,
    VideoVariant,
    captions_playlist,
    in_playing_order,
    master_playlist,
    media_playlist,
    storyboard_vtt,
    with_sheet_uris,
)
from echo_core.plugin_api.transcoder import Segment, StoryboardTile

bitrates = st.integers(0, 200_000_000)
uris = st.from_regex(r"renditions/[A-Za-z0-9._-]{1,20}\.m3u8(\?token=[A-Za-z0-9._~%-]{1,40})?", fullmatch=True)
codecs = st.sampled_from(["avc1.640028", "avc1.42c01e", "hvc1.1.6.L93.B0", "av01.0.08M.08", "mp4a.40.2", "opus", ""])

variants = st.builds(
    VideoVariant,
    uri=uris,
    codecs=codecs,
    peak_bitrate_bps=bitrates,
    average_bitrate_bps=bitrates,
    width=st.integers(0, 8192),
    height=st.integers(0, 8192),
    fps=st.floats(0, 240, allow_nan=False),
)
tracks = st.builds(
    AudioTrack,
    uri=uris,
    codecs=codecs,
    peak_bitrate_bps=bitrates,
    average_bitrate_bps=bitrates,
    channels=st.integers(0, 16),
    language=st.sampled_from(["", "en", "pt-BR"]),
    title=st.sampled_from(["", "English", 'Director\'s "cut"\n', " "]),
)
captions = st.builds(
    CaptionTrack,
    uri=uris,
    language=st.sampled_from(["", "en", "pt-BR"]),
    title=st.sampled_from(["", "English", "English (2)"]),
    forced=st.booleans(),
)
ladders = st.lists(variants, min_size=1, max_size=8, unique_by=lambda v: v.uri)


def attributes(line: str) -> dict[str, str]:
    """The attribute list of a tag; fails on what RFC 8216, section 4.2, does not allow."""
    rest = line.partition(":")[2]
    pattern = r'([A-Z0-9-]+)=("[^"\r\n]*"|[^",\s]+)(?:,|$)'
    found = re.findall(pattern, rest)
    assert "".join(f"{name}={value}," for name, value in found) == rest + ","
    assert len({name for name, _ in found}) == len(found)
    return {name: value.strip('"') for name, value in found}


@given(ladders, st.lists(tracks, max_size=3), st.lists(captions, max_size=3))
def test_a_master_playlist_lists_every_variant_with_the_peak_of_picture_and_sound(
    ladder: list[VideoVariant], audio: list[AudioTrack], texts: list[CaptionTrack]
) -> None:
    text = master_playlist(ladder, audio, texts)
    lines = text.splitlines()
    assert lines[:3] == ["#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-INDEPENDENT-SEGMENTS"]
    streams = [(attributes(tag), uri) for tag, uri in pairwise(lines) if "STREAM-INF" in tag]
    assert sorted(uri for _, uri in streams) == sorted(v.uri for v in ladder)
    for found, uri in streams:
        variant = next(v for v in ladder if v.uri == uri)
        peak = variant.peak_bitrate_bps + max((sound.peak_bitrate_bps for sound in audio), default=0)
        assert int(found["BANDWIDTH"]) == max(1, peak)
        assert int(found.get("AVERAGE-BANDWIDTH", 0)) <= int(found["BANDWIDTH"])
        assert ("RESOLUTION" in found) == bool(variant.width and variant.height)
        assert found.get("AUDIO") == ("audio" if audio else None)
        assert found.get("SUBTITLES") == ("captions" if texts else None)
        named = [c for c in (variant.codecs, *(sound.codecs for sound in audio)) if c]
        assert set(found.get("CODECS", "").split(",")) - {""} == set(named)
    media = [attributes(line) for line in lines if line.startswith("#EXT-X-MEDIA:")]
    assert [m["TYPE"] for m in media] == ["AUDIO"] * len(audio) + ["SUBTITLES"] * len(texts)
    for group in ("audio", "captions"):
        names = [m["NAME"] for m in media if m["GROUP-ID"] == group]
        assert len(set(names)) == len(names)
        assert all(names)
    assert [m["DEFAULT"] for m in media] == (["YES"] + ["NO"] * (len(media) - 1) if audio else ["NO"] * len(media))
    assert len(m3u8.loads(text).playlists) == len(ladder)


@given(ladders)
def test_the_leading_variant_starts_fast_and_the_others_rise(ladder: list[VideoVariant]) -> None:
    first, *others = in_playing_order(ladder)
    assert [v.peak_bitrate_bps for v in others] == sorted(v.peak_bitrate_bps for v in others)
    known = [v for v in ladder if v.codecs.startswith("avc1")] or ladder
    assert first in known
    sides = [min(v.width, v.height) for v in known]
    if min(sides) <= 480:
        assert min(first.width, first.height) == max(side for side in sides if side <= 480)
    else:
        assert first.peak_bitrate_bps == min(v.peak_bitrate_bps for v in known)


def test_a_full_ladder_leads_with_its_middle_rung() -> None:
    sizes = [(1920, 1080), (1280, 720), (854, 480), (640, 360), (426, 240)]
    ladder = [
        VideoVariant(
            uri=f"{h}p.m3u8",
            codecs="avc1.640028",
            peak_bitrate_bps=h * 4000,
            average_bitrate_bps=h * 3000,
            width=w,
            height=h,
            fps=30,
        )
        for w, h in sizes
    ]
    assert [v.height for v in in_playing_order(ladder)] == [480, 240, 360, 720, 1080]
    modern = [replace(v, codecs="av01.0.04M.08", peak_bitrate_bps=v.peak_bitrate_bps // 2) for v in ladder]
    first = in_playing_order([*modern, *ladder])[0]
    assert (first.height, first.codecs) == (480, "avc1.640028"), "one that every player knows"


@given(tracks)
def test_sound_alone_is_a_variant_of_its_own(audio: AudioTrack) -> None:
    parsed = m3u8.loads(master_playlist([], [audio]))
    assert [p.uri for p in parsed.playlists] == [audio.uri]
    assert parsed.media == []
    assert parsed.playlists[0].stream_info.resolution is None


def test_nothing_to_play_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one"):
        master_playlist([], [])
    with pytest.raises(ValueError, match="at least one"):
        media_playlist("x", 1, [])


@st.composite
def renditions(draw: st.DrawFn) -> tuple[int, list[Segment]]:
    init = draw(st.integers(1, 5000))
    offset = init
    segments = []
    for duration_s, length in draw(
        st.lists(st.tuples(st.floats(0.001, 60), st.integers(1, 1 << 24)), min_size=1, max_size=50)
    ):
        segments.append(Segment(duration_s=duration_s, offset_bytes=offset, length_bytes=length))
        offset += length
    return init, segments


@given(renditions())
@example((1, [Segment(duration_s=2.4999999, offset_bytes=1, length_bytes=1)]))
def test_a_media_playlist_gives_back_its_segments(rendition: tuple[int, list[Segment]]) -> None:
    init, segments = rendition
    uri = "https://storage.test/videos/a.mp4?signature=a%2Bb&expires=1"
    text = media_playlist(uri, init, segments)
    parsed = m3u8.loads(text)
    assert parsed.is_endlist
    assert parsed.is_independent_segments
    assert parsed.playlist_type == "vod"
    assert int(parsed.version) == 7
    assert (parsed.segment_map[0].uri, parsed.segment_map[0].byterange) == (uri, f"{init}@0")
    assert [s.byterange for s in parsed.segments] == [f"{s.length_bytes}@{s.offset_bytes}" for s in segments]
    assert {s.uri for s in parsed.segments} == {uri}
    assert all(abs(a.duration - b.duration_s) < 1e-5 for a, b in zip(parsed.segments, segments, strict=True))
    # RFC 8216, section 4.3.3.1
    assert all(int(s.duration + 0.5) <= parsed.target_duration for s in parsed.segments)
    assert text.endswith("#EXT-X-ENDLIST\n")


@pytest.mark.parametrize("uri", ["", 'a"b', "a\nb", "a\rb"])
def test_an_address_that_would_break_out_of_the_playlist_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="playlist value"):
        media_playlist(uri, 1, [Segment(duration_s=1, offset_bytes=1, length_bytes=1)])


def test_the_storyboard_index_says_which_picture_belongs_where() -> None:
    tiles = [
        StoryboardTile(start_s=0, end_s=2.5, sheet=0, x=0, y=0, width=160, height=90),
        StoryboardTile(start_s=2.5, end_s=3661.25, sheet=1, x=160, y=90, width=160, height=90),
    ]
    text = storyboard_vtt(tiles, ["sheet-000.jpg", "sheet-001.jpg"])
    assert text == (
        "WEBVTT\n\n"
        "00:00:00.000 --> 00:00:02.500\nsheet-000.jpg#xywh=0,0,160,90\n\n"
        "00:00:02.500 --> 01:01:01.250\nsheet-001.jpg#xywh=160,90,160,90\n"
    )
    with_uris = with_sheet_uris(text, lambda sheet: f"storyboard/{sheet}?token=t")
    assert "storyboard/sheet-001.jpg?token=t#xywh=160,90,160,90" in with_uris
    assert with_uris.count("?token=t") == 2


@given(st.floats(0, 360_000, allow_nan=False))
def test_cue_times_are_well_formed(start_s: float) -> None:
    tile = StoryboardTile(start_s=start_s, end_s=start_s + 1, sheet=0, x=0, y=0, width=2, height=2)
    line = storyboard_vtt([tile], ["s.jpg"]).splitlines()[2]
    assert re.fullmatch(r"\d{2,}:[0-5]\d:[0-5]\d\.\d{3} --> \d{2,}:[0-5]\d:[0-5]\d\.\d{3}", line)


def test_captions_are_one_segment_as_long_as_the_video() -> None:
    parsed = m3u8.loads(captions_playlist("https://storage.test/embedded-1.vtt?x=1", 83.4))
    assert parsed.is_endlist
    (segment,) = parsed.segments
    assert (segment.uri, segment.duration) == ("https://storage.test/embedded-1.vtt?x=1", 83.4)
    assert parsed.target_duration == 83
