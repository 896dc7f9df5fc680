"""From the playlist that ffmpeg writes beside a rendition to the rendition's segments, measured and verified."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from echo_core.plugin_api import AudioStream, InsufficientStorageError, ProviderError, Rendition, Segment
from echo_transcode_ffmpeg import mp4

_MAP = re.compile(r'^#EXT-X-MAP:.*BYTERANGE="(\d+)@0"')
_DURATION = re.compile(r"^#EXTINF:([0-9.]+)")
_RANGE = re.compile(r"^#EXT-X-BYTERANGE:(\d+)@(\d+)")

FULL_BELOW_BYTES = 1 << 20
"""A disk with less left counts as full: what is written goes through buffers of this order."""


class BrokenOutputError(ProviderError):
    """ffmpeg said that all is well, but what it wrote is not a rendition (T5)."""

    default_code = "transcode_output_invalid"
    default_remedy = "Try again; if it happens again, export the file again as MP4 and upload that."


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A rendition, and the presentation time in seconds at which each of its segments starts."""

    rendition: Rendition
    starts_s: tuple[float, ...]


def parse(text: str) -> tuple[int, tuple[Segment, ...]]:
    """Length of the initialisation and the segments of a byte-range playlist (RFC 8216bis, 4.4.4)."""
    init_length, duration_s = 0, 0.0
    segments: list[Segment] = []
    for line in text.splitlines():
        if found := _MAP.match(line):
            init_length = int(found[1])
        elif found := _DURATION.match(line):
            duration_s = float(found[1])
        elif found := _RANGE.match(line):
            segments.append(
                Segment(duration_s=duration_s, offset_bytes=int(found[2]), length_bytes=int(found[1])),
            )
    return init_length, tuple(segments)


def has_segments(out_dir: Path, name: str) -> bool:
    """Whether anything but an initialisation was written of this rendition."""
    try:
        _, segments = parse((out_dir / f"{name}.m3u8").read_text(encoding="utf-8"))
    except OSError:
        return False
    return any(segment.length_bytes for segment in segments)


def measure(
    out_dir: Path,
    name: str,
    kind: Literal["video", "audio"],
    *,
    width: int = 0,
    height: int = 0,
    fps: float = 0.0,
    sound: AudioStream | None = None,
    copied: bool = False,
) -> Measured:
    """Turn ``<name>.m3u8`` and ``<name>.mp4`` into a rendition, and remove the playlist.

    Raises ``BrokenOutputError`` when the file is not what T5 promises, ``InsufficientStorageError`` when that is
    because the disk is full.
    """
    playlist, path = out_dir / f"{name}.m3u8", out_dir / f"{name}.mp4"
    try:
        init_length, segments = parse(playlist.read_text(encoding="utf-8"))
        _check_tiling(path, init_length, segments)
        with path.open("rb") as file:
            track = mp4.read_track(file.read(init_length))
        firsts = [mp4.first_sample(path, segment.offset_bytes, track.timescale) for segment in segments]
    except (OSError, ValueError, IndexError) as error:
        if _ran_out_of_room(playlist):
            raise InsufficientStorageError("The disk became full while encoding.") from error
        raise BrokenOutputError(f"ffmpeg did not write a complete rendition {name}.") from error
    if kind == "video" and not all(first.keyframe for first in firsts):
        raise BrokenOutputError(f"Not every segment of {name} starts with a keyframe.")
    playlist.unlink()
    peak, average = bitrates(segments)
    rendition = Rendition(
        name=name,
        kind=kind,
        path=path,
        codecs=track.codecs,
        duration_s=sum(segment.duration_s for segment in segments),
        init_length_bytes=init_length,
        segments=segments,
        peak_bitrate_bps=peak,
        average_bitrate_bps=average,
        width=width,
        height=height,
        fps=fps,
        channels=track.channels if kind == "audio" else 0,
        language=sound.language if sound is not None else "",
        title=sound.title if sound is not None else "",
        copied=copied,
    )
    return Measured(rendition=rendition, starts_s=tuple(first.at_s for first in firsts))


def _ran_out_of_room(playlist: Path) -> bool:
    """The HLS muxer says nothing of a full disk and exits with 0 (seen with 5.1): what it leaves is an empty playlist,
    or a rendition without its end."""
    if playlist.exists() and playlist.stat().st_size == 0:
        return True
    facts = os.statvfs(playlist.parent)
    return facts.f_bavail * facts.f_frsize < FULL_BELOW_BYTES


def bitrates(segments: tuple[Segment, ...]) -> tuple[int, int]:
    """Peak and average in bits per second.

    The peak looks at segments at least half as long as the longest: the bitrate of a last scrap of a few frames says
    nothing about what a player must fetch (RFC 8216bis, 4.4.6.2, BANDWIDTH).
    """
    longest = max(segment.duration_s for segment in segments)
    total_s = sum(segment.duration_s for segment in segments)
    if longest <= 0 or total_s <= 0:
        raise BrokenOutputError("ffmpeg wrote a rendition that lasts no time.")
    peak = max(s.length_bytes * 8 / s.duration_s for s in segments if s.duration_s >= longest / 2)
    average = sum(s.length_bytes for s in segments) * 8 / total_s
    return max(round(peak), round(average)), round(average)


def _check_tiling(path: Path, init_length: int, segments: tuple[Segment, ...]) -> None:
    if init_length <= 0 or not segments:
        raise ValueError("no segments")
    end = init_length
    for segment in segments:
        if segment.offset_bytes != end or segment.length_bytes <= 0:
            raise ValueError("gap or overlap")
        end += segment.length_bytes
    if end != path.stat().st_size:
        raise ValueError("bytes outside of the segments")
