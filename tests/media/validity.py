"""What a player is given, read by others than who made it: the playlists by m3u8, the bytes by ffprobe and, for times
and keyframes, by the boxes themselves (ISO/IEC 14496-12). Imports nothing of Echo."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import m3u8

from tests.e2e.api import NO_TLS

ALIGNED_S = 0.02
"""How far apart the boundaries of two rungs may be."""
RATE_TOLERANCE = 0.01
NON_SYNC = 0x10000


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One frame: decode and presentation time, duration in seconds, and whether it can be decoded alone."""

    dts_s: float
    pts_s: float
    duration_s: float
    keyframe: bool


@dataclass(kw_only=True)
class Stream:
    """One rendition as a player gets it. ``bounds``: byte ranges of segments; ``extinf_s``: what is said of them."""

    uri: str
    init: bytes
    data: bytes
    bounds: list[tuple[int, int]]
    extinf_s: list[float]
    target_s: float
    file: Path
    declared: dict[str, Any] = field(default_factory=dict)
    samples: list[list[Sample]] = field(default_factory=list)

    @property
    def first_s(self) -> float:
        """When it is first seen or heard."""
        return min(sample.pts_s for sample in self.samples[0])

    @property
    def end_s(self) -> float:
        """When it ends."""
        return max(sample.pts_s + sample.duration_s for sample in self.samples[-1])

    @property
    def starts_s(self) -> list[float]:
        """When each segment begins to be seen."""
        return [min(sample.pts_s for sample in segment) for segment in self.samples]

    @property
    def peak_bps(self) -> float:
        """Of the segments that are at least half as long as the longest."""
        longest = max(self.extinf_s)
        pairs = zip(self.bounds, self.extinf_s, strict=True)
        return max((end - start) * 8 / s for (start, end), s in pairs if s >= longest / 2)

    @property
    def average_bps(self) -> float:
        """Over all segments."""
        return sum(end - start for start, end in self.bounds) * 8 / sum(self.extinf_s)


@dataclass(frozen=True, kw_only=True)
class Presentation:
    """All that a master playlist offers: pictures from the smallest to the largest, and sounds."""

    videos: Sequence[Stream]
    audios: Sequence[Stream]
    captions: Sequence[Captions] = ()


@dataclass(frozen=True)
class Captions:
    """A caption track and its WebVTT."""

    language: str
    name: str
    text: str


def load(url: str, directory: Path) -> Presentation:
    """Fetch everything that a player could. Raises ``AssertionError`` for what no player should be given."""
    with httpx2.Client(timeout=30, follow_redirects=True, verify=NO_TLS) as http:
        master = m3u8.loads(_text(http, url), uri=url)
        assert master.is_variant
        assert master.is_independent_segments
        videos, audios = [], []
        for playlist in master.playlists:
            info = playlist.stream_info
            stream = _stream(http, playlist.absolute_uri, directory / f"s{len(videos) + len(audios)}.mp4")
            assert info.bandwidth, "BANDWIDTH is required"
            assert info.codecs, "CODECS should be there"
            stream.declared = {
                "bandwidth": info.bandwidth,
                "average": info.average_bandwidth,
                "codecs": info.codecs.split(","),
                "resolution": info.resolution,
                "fps": info.frame_rate,
            }
            (videos if info.resolution else audios).append(stream)
        for media in master.media:
            if media.type == "AUDIO" and media.uri:
                audios.append(_stream(http, media.absolute_uri, directory / f"a{len(audios)}.mp4"))
                audios[-1].declared = {"language": media.language, "name": media.name, "default": media.default}
        captions = [_captions(http, media) for media in master.media if media.type == "SUBTITLES"]
        videos.sort(key=lambda stream: stream.declared["resolution"])
        return Presentation(videos=videos, audios=audios, captions=captions)


def check(
    presentation: Presentation, *, damaged: bool = False, max_skew_s: float = 0.1, starts_apart_s: float = 0.005
) -> None:
    """Everything that holds for every presentation; a damaged source may have holes."""
    for stream in (*presentation.videos, *presentation.audios):
        _check_bytes(stream)
        _check_times(stream, damaged=damaged)
    for stream in presentation.videos:
        _check_picture(stream, presentation.audios)
        assert all(segment[0].keyframe for segment in stream.samples), "every segment begins with a keyframe"
    if presentation.videos:
        first = presentation.videos[0]
        for other in presentation.videos[1:]:
            assert len(other.bounds) == len(first.bounds), "rungs have the same segments"
            apart = [abs(a - b) for a, b in zip(first.starts_s, other.starts_s, strict=True)]
            assert max(apart) <= ALIGNED_S, f"rungs are {max(apart):.3f} s apart"
    for sound in presentation.audios if not damaged else ():
        for picture in presentation.videos:
            assert abs(sound.first_s - picture.first_s) <= starts_apart_s, (
                f"{sound.first_s:.4f} and {picture.first_s:.4f}"
            )
            skew_s = abs(sound.end_s - picture.end_s)
            assert skew_s <= max_skew_s, f"sound and picture end {skew_s:.3f} s apart"


def pixels(stream: Stream, at_s: float) -> tuple[int, int, bytes]:
    """Width, height and the RGB of the frame on show at a time."""
    width, height = (int(value) for value in stream.declared["resolution"])
    command = [_program("ffmpeg"), "-nostdin", "-v", "error", "-ss", f"{at_s:.3f}", "-i", stream.file]
    command += ["-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    data = subprocess.run(command, check=True, capture_output=True, timeout=60).stdout
    assert len(data) == width * height * 3, "the frame has the size that was declared"
    return width, height, data


def picture(path: Path) -> tuple[int, int, bytes]:
    """Width, height and the RGB of an image file."""
    probed = _probe(path)
    command = [_program("ffmpeg"), "-nostdin", "-v", "error", "-i", path]
    command += ["-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    data = subprocess.run(command, check=True, capture_output=True, timeout=60).stdout
    return probed["width"], probed["height"], data


def pitch_hz(stream: Stream) -> float:
    """Of a pure tone, from how often it crosses zero."""
    command = [_program("ffmpeg"), "-nostdin", "-v", "error", "-i", stream.file]
    command += ["-ac", "1", "-ar", "16000", "-f", "s16le", "-"]
    data = subprocess.run(command, check=True, capture_output=True, timeout=60).stdout
    samples = memoryview(data).cast("h")[4000:20000]
    return sum(a < 0 <= b for a, b in pairwise(samples)) * 16000 / len(samples)


def loudness_db(stream: Stream) -> float:
    """The mean volume in dB below full scale."""
    command = [
        _program("ffmpeg"),
        "-nostdin",
        "-hide_banner",
        "-i",
        stream.file,
        "-af",
        "volumedetect",
        "-f",
        "null",
        "-",
    ]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stderr
    return float(said.split("mean_volume:")[1].split()[0])


# --- inside -----------------------------------------------------------------------------------------------------------


def _text(http: httpx2.Client, url: str) -> str:
    answer = http.get(url)
    assert answer.status_code == 200, f"{url}: {answer.status_code}"
    assert answer.headers["content-type"].split(";")[0] == "application/vnd.apple.mpegurl"
    return answer.text


def _captions(http: httpx2.Client, media: m3u8.Media) -> Captions:
    playlist = m3u8.loads(_text(http, media.absolute_uri), uri=media.absolute_uri)
    assert playlist.is_endlist
    (segment,) = playlist.segments
    answer = http.get(segment.absolute_uri)
    assert answer.status_code == 200
    assert answer.text.startswith("WEBVTT")
    return Captions(language=media.language, name=media.name, text=answer.text)


def _stream(http: httpx2.Client, url: str, file: Path) -> Stream:
    playlist = m3u8.loads(_text(http, url), uri=url)
    assert playlist.is_endlist
    assert playlist.playlist_type == "vod"
    assert playlist.segments
    uris = {segment.absolute_uri for segment in playlist.segments}
    (init_section,) = playlist.segment_map
    assert uris == {init_section.absolute_uri}, "one file holds all of a rendition"
    answer = http.get(uris.pop())
    assert answer.status_code == 200
    file.write_bytes(answer.content)
    length, start = (int(number) for number in init_section.byterange.split("@"))
    assert start == 0
    bounds = []
    for segment in playlist.segments:
        count, at = (int(number) for number in segment.byterange.split("@"))
        bounds.append((at, at + count))
    stream = Stream(
        uri=url,
        init=answer.content[:length],
        data=answer.content,
        bounds=bounds,
        extinf_s=[segment.duration for segment in playlist.segments],
        target_s=playlist.target_duration,
        file=file,
    )
    timescale, defaults = _timing(stream.init)
    stream.samples = [list(_samples(stream.data[start:end], timescale, defaults)) for start, end in bounds]
    return stream


def _check_bytes(stream: Stream) -> None:
    at = len(stream.init)
    for start, end in stream.bounds:
        assert start == at, "segments tile the file"
        assert end > start
        at = end
    assert at == len(stream.data), "nothing lies behind the last segment"
    assert stream.target_s >= max(int(s + 0.5) for s in stream.extinf_s), "no segment is longer than the target"
    assert max(stream.extinf_s) <= 11, "segments are short enough to switch"


def _check_times(stream: Stream, *, damaged: bool) -> None:
    frame_s = max(sample.duration_s for segment in stream.samples for sample in segment)
    assert stream.samples[0][0].dts_s >= -frame_s * 4, "times do not wrap"
    assert stream.first_s >= -0.001
    for (earlier, later), said_s in zip(pairwise(stream.samples), stream.extinf_s, strict=False):
        lasts_s = later[0].dts_s - earlier[0].dts_s
        assert abs(lasts_s - said_s) <= frame_s + 0.002, f"EXTINF says {said_s}, the bytes {lasts_s}"
    decode = [(sample.dts_s, sample.duration_s) for segment in stream.samples for sample in segment]
    for (dts_s, lasts_s), (next_s, _) in pairwise(decode):
        assert next_s > dts_s or (next_s == dts_s and lasts_s == 0), "decode times rise"
        if not damaged:
            assert abs(next_s - dts_s - lasts_s) < 0.002 or next_s - dts_s <= 2.5 * frame_s, "no gap in time"


def _check_picture(stream: Stream, sounds: Sequence[Stream]) -> None:
    probed = _probe(stream.file)
    declared = stream.declared
    assert (probed["width"], probed["height"]) == tuple(declared["resolution"])
    assert probed["width"] % 2 == probed["height"] % 2 == 0
    assert probed.get("sample_aspect_ratio", "1:1") in {"1:1", "0:1"}
    assert probed["pix_fmt"] in {"yuv420p", "yuvj420p"}
    numerator, denominator = (int(part) for part in probed["r_frame_rate"].split("/"))
    if len([s for segment in stream.samples for s in segment]) > 3:
        assert abs(declared["fps"] - numerator / denominator) <= RATE_TOLERANCE * declared["fps"] + 0.001
    sound_peak = max((sound.peak_bps for sound in sounds), default=0.0)
    sound_average = max((sound.average_bps for sound in sounds), default=0.0)
    assert declared["bandwidth"] >= (stream.peak_bps + sound_peak) * 0.999, "BANDWIDTH is a ceiling"
    assert declared["bandwidth"] <= (stream.peak_bps + sound_peak) * 1.1 + 1000
    assert abs(declared["average"] - stream.average_bps - sound_average) <= declared["average"] * 0.1 + 1000
    profile = {"Constrained Baseline": "42", "Baseline": "42", "Main": "4D", "High": "64"}[probed["profile"]]
    (codec,) = [codec for codec in declared["codecs"] if codec.startswith("avc1.")]
    assert codec[5:7].upper() == profile
    assert int(codec[9:11], 16) == probed["level"]
    if sounds:
        assert [c for c in declared["codecs"] if c.startswith("mp4a.40.")], "the sound's codec is declared too"


def _probe(file: Path) -> dict[str, Any]:
    command = [_program("ffprobe"), "-v", "error", "-show_streams", "-of", "json", file]
    (stream,) = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)["streams"]
    return dict(stream)


def _program(name: str) -> str:
    found = shutil.which(name)
    assert found is not None, f"{name} is not installed"
    return found


def _boxes(data: bytes) -> Iterator[tuple[str, bytes]]:
    at = 0
    while at < len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        assert 8 <= size <= len(data) - at, "boxes tile the bytes"
        yield name.decode("latin-1"), data[at + 8 : at + size]
        at += size


def _find(data: bytes, *path: str) -> bytes:
    for name in path:
        data = next(body for found, body in _boxes(data) if found == name)
    return data


def _u32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big")


def _timing(init: bytes) -> tuple[int, tuple[int, int]]:
    """Ticks per second, and the default duration and flags of a sample (trex)."""
    header = _find(init, "moov", "trak", "mdia", "mdhd")
    trex = _find(init, "moov", "mvex", "trex")
    return _u32(header, 20 if header[0] else 12), (_u32(trex, 12), _u32(trex, 20))


def _samples(segment: bytes, timescale: int, defaults: tuple[int, int]) -> Iterator[Sample]:
    for name, moof in _boxes(segment):
        if name != "moof":
            continue
        traf = _find(moof, "traf")
        header = _find(traf, "tfhd")
        flags, at = _u32(header, 0) & 0xFFFFFF, 8
        duration, sample_flags = defaults
        for bit, size in ((0x1, 8), (0x2, 4), (0x8, 4), (0x10, 4), (0x20, 4)):
            if flags & bit:
                if bit == 0x8:
                    duration = _u32(header, at)
                if bit == 0x20:
                    sample_flags = _u32(header, at)
                at += size
        decode = _find(traf, "tfdt")
        ticks = int.from_bytes(decode[4:12] if decode[0] else decode[4:8], "big")
        for found, run in _boxes(traf):
            if found == "trun":
                for sample, lasts in _run(run, ticks, timescale, duration, sample_flags):
                    yield sample
                    ticks += lasts


def _run(
    run: bytes, ticks: int, timescale: int, default_duration: int, default_flags: int
) -> Iterator[tuple[Sample, int]]:
    flags, count = _u32(run, 0) & 0xFFFFFF, _u32(run, 4)
    at = 8 + (4 if flags & 0x1 else 0)
    first_flags = None
    if flags & 0x4:
        first_flags, at = _u32(run, at), at + 4
    for number in range(count):
        lasts, own_flags, shift = default_duration, default_flags, 0
        if flags & 0x100:
            lasts, at = _u32(run, at), at + 4
        if flags & 0x200:
            at += 4
        if flags & 0x400:
            own_flags, at = _u32(run, at), at + 4
        if flags & 0x800:
            shift, at = struct.unpack_from(">i", run, at)[0], at + 4
        if number == 0 and first_flags is not None:
            own_flags = first_flags
        yield (
            Sample(
                dts_s=ticks / timescale,
                pts_s=(ticks + shift) / timescale,
                duration_s=lasts / timescale,
                keyframe=not own_flags & NON_SYNC,
            ),
            lasts,
        )
        ticks += lasts
