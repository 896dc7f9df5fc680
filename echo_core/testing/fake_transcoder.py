"""A transcoder without codecs: reads files that ``write_fake_media`` wrote, and passes the conformance kit.

Its renditions have the structure of the real ones (boxes, byte ranges, boundaries) around made-up media; its pictures
and sounds are real files of the promised size. Quick and exact, for tests of everything around a transcoder.
"""

from __future__ import annotations

import asyncio
import json
import struct
import wave
import zlib
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import ClassVar

from echo_core.plugin_api import (
    AudioStream,
    EchoError,
    ExtractAudioRequest,
    ExtractedAudio,
    ExtractSubtitlesRequest,
    InspectRequest,
    InvalidRequestError,
    LadderRequest,
    LadderResult,
    MediaInfo,
    PackageRequest,
    PackageResult,
    Picture,
    PlanLadder,
    Poster,
    PosterRequest,
    PreviewRequest,
    Rendition,
    Rung,
    Segment,
    Storyboard,
    StoryboardRequest,
    StoryboardTile,
    Subtitles,
    SubtitleStream,
    Transcoder,
    TranscoderHealth,
    VideoStream,
)

MAGIC = b"echo-fake-media "
SEGMENT_BYTES = 1000
SPEECH_RATE_HZ = 16_000


@dataclass(frozen=True, kw_only=True)
class FakeMedia:
    """What a fake source says about itself. ``playable``: it can be packaged without encoding. ``damaged``: some of it
    cannot be decoded."""

    duration_s: float = 10.0
    width: int = 1280
    height: int = 720
    fps: float = 25.0
    picture: bool = True
    sound: bool = True
    sounds: tuple[str, ...] = ("",)
    """Languages of its sound tracks."""
    subtitles: tuple[str, ...] = ()
    """Languages of its subtitles."""
    playable: bool = True
    damaged: bool = False


def write_fake_media(path: Path, media: FakeMedia | None = None, *, metadata: str = "", size_bytes: int = 0) -> Path:
    """Write a source that ``FakeTranscoder`` reads, padded to ``size_bytes``; returns its path."""
    head = MAGIC + json.dumps(asdict(media or FakeMedia())).encode() + b"\n" + metadata.encode()
    path.write_bytes(head.ljust(size_bytes, b"\0"))
    return path


@dataclass
class FakeTranscoder(Transcoder):
    """Obeys T1 to T12.

    ``calls`` lists the methods called. ``failures`` maps a method's name to the error that it raises. A method waits
    at ``hold`` (when given) before it finishes, so that a test can act in its middle. Larger pictures cost more, unless
    it is ``still``: then each costs the same.
    """

    calls: list[str] = field(default_factory=list)
    failures: dict[str, EchoError] = field(default_factory=dict)
    hold: asyncio.Event | None = None
    still: bool = False

    supports_package: ClassVar[bool] = True
    supports_posters: ClassVar[bool] = True
    supports_preview: ClassVar[bool] = True
    supports_extract_subtitles: ClassVar[bool] = True
    supports_storyboard: ClassVar[bool] = True
    supports_extract_audio: ClassVar[bool] = True

    async def check(self) -> TranscoderHealth:
        """Say that all is well."""
        await self._begin("check")
        return TranscoderHealth(facts={"fake": True})

    async def inspect(self, request: InspectRequest) -> MediaInfo:
        """Read what ``write_fake_media`` wrote; anything else is not media."""
        await self._begin("inspect")
        fake = _read(request.path)
        streams = int(fake.picture) + int(fake.sound)
        if streams > request.max_streams:
            raise InvalidRequestError("Too many streams.", code="media_too_many_streams", remedy="Use fewer.")
        if fake.duration_s > request.max_duration_s:
            raise InvalidRequestError("Too long.", code="media_too_long", remedy="Cut it.")
        if fake.picture and fake.width * fake.height > request.max_pixels:
            raise InvalidRequestError("Too large.", code="media_too_large", remedy="Scale it down.")
        codec = "h264" if fake.playable else "fake"
        video = VideoStream(codec=codec, width=fake.width, height=fake.height, fps=fake.fps, pixel_format="yuv420p")
        return MediaInfo(
            container="fake",
            duration_s=fake.duration_s,
            size_bytes=request.path.stat().st_size,
            video=video if fake.picture else None,
            audio=tuple(
                AudioStream(codec="aac", channels=2, sample_rate_hz=48_000, language=language, index=index)
                for index, language in enumerate(fake.sounds if fake.sound else ())
            ),
            subtitles=tuple(
                SubtitleStream(codec="subrip", language=language, index=index)
                for index, language in enumerate(fake.subtitles)
            ),
        )

    def plan_ladder(self, request: PlanLadder) -> tuple[Rung, ...]:
        """Rungs at the wanted short sides below the source, or the source's own size."""
        video = request.media.video
        if video is None:
            return ()
        short = min(video.width, video.height)
        sides = [
            s for s in sorted(request.short_sides, reverse=True) if s < short or (s == short and not request.packaged)
        ]
        if not sides and not request.packaged:
            sides = [short]
        return tuple(
            Rung(
                name=f"{side}p",
                width=max(2, video.width * side // short // 2 * 2),
                height=max(2, video.height * side // short // 2 * 2),
                fps=video.fps,
                max_bitrate_bps=side * 5000,
            )
            for side in sides
        )

    def can_cut(self, media: MediaInfo) -> bool:
        """Whatever has a picture."""
        return media.video is not None

    async def package(self, request: PackageRequest) -> PackageResult:
        """Make renditions of a playable source."""
        await self._begin("package")
        video = request.media.video
        if video is not None and video.codec != "h264":
            return PackageResult(reason="Cannot be played as it is: the picture is fake.")
        cuts = _cuts(request.media.duration_s, request.segment_s)
        renditions = []
        if video is not None:
            renditions.append(
                _rendition(
                    request.out_dir,
                    "source",
                    cuts,
                    width=video.width,
                    height=video.height,
                    fps=video.fps,
                    size=_segment_bytes(video.width, video.height),
                )
            )
        renditions += _sounds(request.out_dir, request.media, cuts)
        await self._finish()
        request.on_progress(1.0)
        return PackageResult(renditions=tuple(renditions), boundaries_s=cuts[:-1] if video is not None else ())

    async def encode_ladder(self, request: LadderRequest) -> LadderResult:
        """Make a rendition for each rung and one for the sound."""
        await self._begin("encode_ladder")
        source = _read(request.path)
        request.on_progress(0.0)
        duration_s = request.media.duration_s
        whole = (*request.align_to_s, duration_s) if request.align_to_s else _cuts(duration_s, request.segment_s)
        end_s = duration_s if request.end_s is None else request.end_s
        cuts = tuple(at for at in whole if request.start_s <= at <= end_s)
        renditions = []
        for number, rung in enumerate(request.rungs):
            renditions.append(
                _rendition(
                    request.out_dir,
                    rung.name,
                    cuts,
                    width=rung.width,
                    height=rung.height,
                    fps=rung.fps,
                    size=SEGMENT_BYTES if self.still else _segment_bytes(rung.width, rung.height),
                )
            )
            request.on_progress((number + 1) / (len(request.rungs) + 1))
        if request.with_audio:
            renditions += _sounds(request.out_dir, request.media, _cuts(duration_s, request.segment_s))
        await self._finish()
        request.on_progress(1.0)
        return LadderResult(renditions=tuple(renditions), damaged=source.damaged)

    async def posters(self, request: PosterRequest) -> tuple[Poster, ...]:
        """Grey pictures, of sound too; the second is the best."""
        await self._begin("posters")
        video = request.media.video
        width, height = _fit(video, request.max_width) if video is not None else (16, 9)
        await self._finish()
        return tuple(
            Poster(
                picture=_png(request.out_dir / f"poster-{number}.png", width, height),
                at_s=request.media.duration_s * number / request.count,
                score=0.9 if number == 1 else 0.5,
            )
            for number in range(request.count)
        )

    async def preview(self, request: PreviewRequest) -> Picture:
        """A grey picture that does not move."""
        await self._begin("preview")
        width, height = _fit(_picture_of(request.media), request.max_width)
        await self._finish()
        return _png(request.out_dir / "preview.png", width, height)

    async def extract_subtitles(self, request: ExtractSubtitlesRequest) -> tuple[Subtitles, ...]:
        """One line of text for each track."""
        await self._begin("extract_subtitles")
        made = []
        for stream in request.media.subtitles:
            path = request.out_dir / f"subtitles-{stream.index}.vtt"
            path.write_text("WEBVTT\n\n00:00.000 --> 00:01.000\nhello\n")
            made.append(Subtitles(path=path, stream=stream))
        await self._finish()
        return tuple(made)

    async def storyboard(self, request: StoryboardRequest) -> Storyboard:
        """Grey sheets."""
        await self._begin("storyboard")
        video = _picture_of(request.media)
        interval_s = request.interval_s or 5.0
        width, height = request.tile_width, max(1, request.tile_width * video.height // video.width)
        count, per_sheet = max(1, ceil(request.media.duration_s / interval_s)), request.columns * request.rows
        sheets = tuple(
            _png(request.out_dir / f"storyboard-{number}.png", width * request.columns, height * request.rows)
            for number in range(ceil(count / per_sheet))
        )
        tiles = tuple(
            StoryboardTile(
                start_s=number * interval_s,
                end_s=min((number + 1) * interval_s, request.media.duration_s),
                sheet=number // per_sheet,
                x=number % per_sheet % request.columns * width,
                y=number % per_sheet // request.columns * height,
                width=width,
                height=height,
            )
            for number in range(count)
        )
        await self._finish()
        request.on_progress(1.0)
        return Storyboard(sheets=sheets, tiles=tiles)

    async def extract_audio(self, request: ExtractAudioRequest) -> ExtractedAudio:
        """Silence of the right length; called Opus where that was asked for."""
        await self._begin("extract_audio")
        if not request.media.audio:
            raise InvalidRequestError("The video has no sound.", code="media_no_audio")
        end_s = request.media.duration_s if request.end_s is None else min(request.end_s, request.media.duration_s)
        length_s = end_s - request.start_s
        kind = "wav" if request.codec == "wav" else "ogg"
        path = request.out_dir / f"speech-{len(self.calls)}.{kind}"
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(SPEECH_RATE_HZ)
            file.writeframes(bytes(2 * round(SPEECH_RATE_HZ * length_s)))
        await self._finish()
        request.on_progress(1.0)
        return ExtractedAudio(path=path, content_type=f"audio/{kind}", duration_s=length_s)

    async def _begin(self, method: str) -> None:
        self.calls.append(method)
        if method in self.failures:
            raise self.failures[method]
        for _ in range(30):  # a real one awaits its programs: cancelling must be possible
            await asyncio.sleep(0)

    async def _finish(self) -> None:
        if self.hold is not None:
            await self.hold.wait()


def _read(path: Path) -> FakeMedia:
    with path.open("rb") as file:
        line = file.readline(4096)
    if not line.startswith(MAGIC):
        raise InvalidRequestError(
            "The file is empty." if not line else "The file is not a video.",
            code="media_empty" if not line else "media_unreadable",
            remedy="Upload a file that write_fake_media wrote.",
        )
    return FakeMedia(**json.loads(line[len(MAGIC) :]))


def _picture_of(media: MediaInfo) -> VideoStream:
    if media.video is None:
        raise InvalidRequestError("The file has no picture.", code="media_no_video")
    return media.video


def _fit(video: VideoStream, max_width: int) -> tuple[int, int]:
    width = min(video.width, max_width)
    return width, max(1, video.height * width // video.width)


def _cuts(duration_s: float, segment_s: float) -> tuple[float, ...]:
    count = max(1, ceil(duration_s / segment_s - 1e-9))
    return (*(number * segment_s for number in range(count)), duration_s)


def _box(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body) + 8, name) + body


def _sounds(out_dir: Path, media: MediaInfo, cuts: tuple[float, ...]) -> list[Rendition]:
    return [
        replace(
            _rendition(out_dir, "audio" if number == 1 else f"audio-{number}", cuts),
            language=sound.language,
            title=sound.title,
        )
        for number, sound in enumerate(media.audio, 1)
    ]


def _segment_bytes(width: int, height: int) -> int:
    return SEGMENT_BYTES + min(width, height) ** 2 // 100


def _rendition(
    out_dir: Path,
    name: str,
    cuts: tuple[float, ...],
    *,
    width: int = 0,
    height: int = 0,
    fps: float = 0.0,
    size: int = SEGMENT_BYTES,
) -> Rendition:
    init = _box(b"ftyp", b"iso6") + _box(b"moov", name.encode())
    segment = _box(b"moof", b"") + _box(b"mdat", bytes(size - 16))
    path = out_dir / f"{name}.mp4"
    path.write_bytes(init + segment * (len(cuts) - 1))
    segments = tuple(
        Segment(duration_s=end - start, offset_bytes=len(init) + number * size, length_bytes=size)
        for number, (start, end) in enumerate(pairwise(cuts))
    )
    duration_s = cuts[-1] - cuts[0]
    return Rendition(
        name=name,
        kind="video" if width else "audio",
        path=path,
        codecs="avc1.64001F" if width else "mp4a.40.2",
        duration_s=duration_s,
        init_length_bytes=len(init),
        segments=segments,
        peak_bitrate_bps=ceil(max(size * 8 / segment.duration_s for segment in segments)),
        average_bitrate_bps=round(len(segments) * size * 8 / duration_s),
        width=width,
        height=height,
        fps=fps,
        channels=0 if width else 2,
        copied=name == "source",
    )


def _png(path: Path, width: int, height: int) -> Picture:
    """A grey picture, by hand (PNG, section 11): header, one row of zeros after another, end."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\x80" * width) * height)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    return Picture(path=path, content_type="image/png", width=width, height=height)
