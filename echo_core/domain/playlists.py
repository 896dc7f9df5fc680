"""HLS playlists (RFC 8216) and the WebVTT index of a storyboard, as text."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from echo_core.plugin_api.transcoder import Segment, StoryboardTile

HLS_VERSION = 7
"""The lowest that allows EXT-X-MAP without I-frames-only and fragmented MP4 (RFC 8216, section 7)."""
LEADING_SHORT_SIDE = 480
"""A player begins with the first variant listed: the best one that is no taller than this starts fast everywhere."""

Track = TypeVar("Track", "AudioTrack", "CaptionTrack")
_CUE_SHEET = re.compile(r"^(?P<sheet>[A-Za-z0-9._-]+)#xywh=", re.MULTILINE)


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoVariant:
    """A picture rendition as a master playlist lists it; ``uri`` is that of its media playlist."""

    uri: str
    codecs: str
    peak_bitrate_bps: int
    average_bitrate_bps: int
    width: int
    height: int
    fps: float


@dataclass(frozen=True, kw_only=True, slots=True)
class AudioTrack:
    """A sound that all picture renditions share; ``language`` is a BCP 47 tag or empty, ``title`` for people."""

    uri: str
    codecs: str
    peak_bitrate_bps: int
    average_bitrate_bps: int
    channels: int = 2
    language: str = ""
    title: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionTrack:
    """Text over the picture; ``uri`` is that of its media playlist. ``forced``: shown even to who wants no captions."""

    uri: str
    language: str = ""
    title: str = ""
    forced: bool = False


def master_playlist(
    variants: Sequence[VideoVariant], audio: Sequence[AudioTrack], captions: Sequence[CaptionTrack] = ()
) -> str:
    """A master playlist, the first sound being the one to start with; without pictures it plays that alone.

    BANDWIDTH includes the sound (RFC 8216, section 4.3.4.2: the peak of any playable combination). Raises
    ``ValueError`` if there is nothing to play or a value does not fit into a playlist.
    """
    lines = ["#EXTM3U", f"#EXT-X-VERSION:{HLS_VERSION}", "#EXT-X-INDEPENDENT-SEGMENTS"]
    if not variants:
        if not audio:
            raise ValueError("a master playlist needs at least one rendition")
        return _text([*lines, *_stream(audio[0].uri, _attributes(audio[0]))])
    # Section 4.3.4.1.1: names are unique within a group.
    for name, sound in _named(audio, "Sound" if len(audio) > 1 else "Original"):
        lines.append(_media(name, sound, default=sound is audio[0]))
    for name, caption in _named(captions, "Captions"):
        lines.append(_captions(name, caption))
    for variant in in_playing_order(variants):
        lines.extend(_stream(variant.uri, _variant_attributes(variant, audio, captions)))
    return _text(lines)


def captions_playlist(uri: str, duration_s: float) -> str:
    """The playlist of a WebVTT file at ``uri`` for the whole of a video."""
    return _text(
        [
            "#EXTM3U",
            f"#EXT-X-VERSION:{HLS_VERSION}",
            f"#EXT-X-TARGETDURATION:{max(1, int(duration_s + 0.5))}",
            "#EXT-X-MEDIA-SEQUENCE:0",
            "#EXT-X-PLAYLIST-TYPE:VOD",
            f"#EXTINF:{duration_s:.6f},",
            _quotable(uri),
            "#EXT-X-ENDLIST",
        ]
    )


def in_playing_order(variants: Sequence[VideoVariant]) -> list[VideoVariant]:
    """The variant to begin with, then the others by rising bandwidth. It is one that every player can decode."""
    rising = sorted(variants, key=lambda v: (v.peak_bitrate_bps, v.height, v.uri))
    everywhere = [v for v in rising if v.codecs.startswith("avc1")] or rising
    modest = [v for v in everywhere if min(v.width, v.height) <= LEADING_SHORT_SIDE]
    first = max(modest, key=lambda v: (min(v.width, v.height), v.peak_bitrate_bps)) if modest else everywhere[0]
    return [first, *(v for v in rising if v is not first)]


def media_playlist(uri: str, init_length_bytes: int, segments: Sequence[Segment]) -> str:
    """The playlist of one rendition: a finished one, byte ranges of a single fragmented MP4 at ``uri``.

    Raises ``ValueError`` if there are no segments or the address does not fit into a playlist.
    """
    if not segments:
        raise ValueError("a media playlist needs at least one segment")
    # Section 4.3.3.1: no EXTINF, as written below and rounded to the nearest integer, may exceed the target.
    target_s = max(1, max(int(round(segment.duration_s, 6) + 0.5) for segment in segments))
    lines = [
        "#EXTM3U",
        f"#EXT-X-VERSION:{HLS_VERSION}",
        f"#EXT-X-TARGETDURATION:{target_s}",
        "#EXT-X-MEDIA-SEQUENCE:0",
        "#EXT-X-PLAYLIST-TYPE:VOD",
        "#EXT-X-INDEPENDENT-SEGMENTS",
        f'#EXT-X-MAP:URI="{_quotable(uri)}",BYTERANGE="{init_length_bytes}@0"',
    ]
    for segment in segments:
        lines.append(f"#EXTINF:{segment.duration_s:.6f},")
        lines.append(f"#EXT-X-BYTERANGE:{segment.length_bytes}@{segment.offset_bytes}")
        lines.append(uri)
    return _text([*lines, "#EXT-X-ENDLIST"])


def storyboard_vtt(tiles: Sequence[StoryboardTile], sheets: Sequence[str]) -> str:
    """The WebVTT index of a storyboard: each cue is ``<sheet name>#xywh=x,y,w,h`` (Media Fragments URI 1.0)."""
    cues = [
        f"{_timestamp(tile.start_s)} --> {_timestamp(tile.end_s)}\n"
        f"{sheets[tile.sheet]}#xywh={tile.x},{tile.y},{tile.width},{tile.height}\n"
        for tile in tiles
    ]
    return "\n".join(["WEBVTT\n", *cues])


def with_sheet_uris(vtt: str, uri_of: Callable[[str], str]) -> str:
    """The index with ``uri_of(sheet name)`` in place of each sheet's bare name."""
    return _CUE_SHEET.sub(lambda match: f"{uri_of(match['sheet'])}#xywh=", vtt)


def _variant_attributes(
    variant: VideoVariant, audio: Sequence[AudioTrack], captions: Sequence[CaptionTrack]
) -> list[str]:
    attributes = _attributes(variant, audio)
    if variant.width and variant.height:
        attributes.append(f"RESOLUTION={variant.width}x{variant.height}")
    if variant.fps:
        attributes.append(f"FRAME-RATE={variant.fps:.3f}")
    if audio:
        attributes.append('AUDIO="audio"')
    if captions:
        attributes.append('SUBTITLES="captions"')
    return attributes


def _attributes(main: VideoVariant | AudioTrack, audio: Sequence[AudioTrack] = ()) -> list[str]:
    peak = max(1, main.peak_bitrate_bps + max((sound.peak_bitrate_bps for sound in audio), default=0))
    average = main.average_bitrate_bps + max((sound.average_bitrate_bps for sound in audio), default=0)
    attributes = [f"BANDWIDTH={peak}"]
    if average > 0:
        # A measured mean above the measured peak would be a contradiction that players distrust.
        attributes.append(f"AVERAGE-BANDWIDTH={min(average, peak)}")
    codecs = ",".join(dict.fromkeys(part.codecs for part in (main, *audio) if part.codecs))
    if codecs:
        attributes.append(f'CODECS="{_quotable(codecs)}"')
    return attributes


def _named(tracks: Sequence[Track], what: str) -> list[tuple[str, Track]]:
    """Each with a name that no other has: its title, and a number where that is missing or used already."""
    named: dict[str, Track] = {}
    for number, track in enumerate(tracks, 1):
        title = "".join(" " if c in UNQUOTABLE else c for c in track.title).strip()
        name = title or (what if len(tracks) == 1 else f"{what} {number}")
        named[name if name not in named else f"{name} ({number})"] = track
    return list(named.items())


def _media(name: str, audio: AudioTrack, *, default: bool) -> str:
    language = f'LANGUAGE="{_quotable(audio.language)}",' if audio.language else ""
    channels = f'CHANNELS="{audio.channels}",' if audio.channels else ""
    return (
        f'#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="audio",NAME="{name}",DEFAULT={_yes(default)},AUTOSELECT=YES,'
        f'{language}{channels}URI="{_quotable(audio.uri)}"'
    )


def _captions(name: str, caption: CaptionTrack) -> str:
    language = f'LANGUAGE="{_quotable(caption.language)}",' if caption.language else ""
    return (
        f'#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID="captions",NAME="{name}",DEFAULT=NO,AUTOSELECT=YES,'
        f'FORCED={_yes(caption.forced)},{language}URI="{_quotable(caption.uri)}"'
    )


def _yes(value: bool) -> str:
    return "YES" if value else "NO"


def _stream(uri: str, attributes: Sequence[str]) -> list[str]:
    return [f"#EXT-X-STREAM-INF:{','.join(attributes)}", _quotable(uri)]


UNQUOTABLE = '"\r\n'


def _quotable(text: str) -> str:
    """The text, if it may stand in a quoted string (section 4.2); addresses come from storage plugins."""
    if not text or any(c in UNQUOTABLE for c in text):
        raise ValueError("a playlist value is empty or contains quotes or line breaks")
    return text


def _timestamp(seconds: float) -> str:
    milliseconds = max(0, round(seconds * 1000))
    minutes, ms = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{ms // 1000:02d}.{ms % 1000:03d}"


def _text(lines: Sequence[str]) -> str:
    return "\n".join(lines) + "\n"
