"""Preview, storyboard, subtitles and the sound for speech recognition."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any
from uuid import uuid4

import ffmpeg

from echo_core.plugin_api import (
    ExtractAudioRequest,
    ExtractedAudio,
    ExtractSubtitlesRequest,
    InvalidRequestError,
    NotSupportedError,
    Picture,
    PreviewRequest,
    Storyboard,
    StoryboardRequest,
    StoryboardTile,
    Subtitles,
    VideoStream,
)
from echo_transcode_ffmpeg import arguments, graph
from echo_transcode_ffmpeg.binaries import PICTURES, Tools
from echo_transcode_ffmpeg.config import FfmpegConfig
from echo_transcode_ffmpeg.encode import STARTUP_TIMEOUT_S, compile_argv
from echo_transcode_ffmpeg.errors import unreadable
from echo_transcode_ffmpeg.running import Runner

JPEG = "image/jpeg"
JPEG_FORMAT = "yuvj420p"
SHEET_QUALITY = 5
PICTURE_TIMEOUT_S = 60.0
PREVIEW_ENCODER = "libwebp_anim"
PREVIEW_MOMENTS = 4
PREVIEW_FPS = 8
PREVIEW_QUALITY = 55
MAX_INTERVAL_S = 5.0
WANTED_TILES = 25
MAX_TILES = 500
MAX_TILE_ASPECT = 3.0
SPEECH_RATE_HZ = 16_000
SPEECH_BYTES_PER_S = SPEECH_RATE_HZ * 2
WAV_HEADER_BYTES = 44
SPEECH_ENCODER = "libopus"
SPEECH_OPTIONS: dict[str, dict[str, str]] = {
    "wav": {"f": "wav", "c:a": "pcm_s16le"},
    "opus": {"f": "ogg", "c:a": SPEECH_ENCODER, "b:a": "24k", "application": "voip"},
}
CUE = b" --> "


async def preview(tools: Tools, config: FfmpegConfig, request: PreviewRequest) -> Picture:
    """An animated WebP of a few moments, spread over the video; of a short one, of its beginning."""
    if PREVIEW_ENCODER not in tools.encoders:
        raise NotSupportedError(f"This ffmpeg cannot make WebP pictures: it lacks the encoder {PREVIEW_ENCODER}.")
    video = _video(request.media.video)
    width, height = fit(video, request.max_width)
    moments = preview_moments(request.media.duration_s, request.duration_s)
    lasts_s = request.duration_s / len(moments)
    streams = []
    for at_s in moments:
        # One thread for each of the decoders: what they all reserve would exceed the limit of address space.
        where = {"ss": f"{at_s:.3f}", "t": f"{lasts_s:.3f}", "threads": 1}
        source = ffmpeg.input(arguments.file_url(request.path), **where, **arguments.INPUT)
        stream = graph.progressive(source["V:0"], video).filter("fps", fps=PREVIEW_FPS, start_time=0, eof_action="pass")
        streams.append(still(stream, video, width, height, tools, "yuv420p"))
    stream = ffmpeg.concat(*streams) if len(streams) > 1 else streams[0]
    path = request.out_dir / "preview.webp"
    options: dict[str, Any] = {"f": "webp", "c:v": PREVIEW_ENCODER, "q:v": PREVIEW_QUALITY, "loop": 0}
    options |= {"compression_level": 4, "an": None, "bitexact": None, **arguments.NO_METADATA}
    runner = Runner(tools=tools, config=config, path=request.path, media=request.media)
    await runner.run(
        compile_argv(tools, [ffmpeg.output(stream, path.name, **options)]),
        out_dir=request.out_dir,
        timeout_s=PICTURE_TIMEOUT_S,
        doing="making the preview",
        patience=PICTURES,
    )
    if not path.exists() or not path.stat().st_size:
        raise no_picture()
    return Picture(path=path, content_type="image/webp", width=width, height=height)


def preview_moments(duration_s: float, lasts_s: float) -> list[float]:
    """Where the moments begin, in seconds: not at the very start or end, where titles are."""
    if duration_s < PREVIEW_MOMENTS * lasts_s:
        return [0.0]
    return [duration_s * (number + 0.5) / PREVIEW_MOMENTS for number in range(PREVIEW_MOMENTS)]


async def storyboard(tools: Tools, config: FfmpegConfig, request: StoryboardRequest) -> Storyboard:
    """Sheets of small pictures, from keyframes alone: a tenth of the time that decoding all frames takes."""
    video = _video(request.media.video)
    interval_s = request.interval_s or default_interval(request.media.duration_s)
    count = max(1, math.ceil(request.media.duration_s / interval_s - 1e-6))
    per_sheet = request.columns * request.rows
    sheet_count = math.ceil(count / per_sheet)
    width, height = _tile_size(video, request.tile_width)
    source = ffmpeg.input(arguments.file_url(request.path), skip_frame="nokey", **arguments.INPUT)
    stream = source["V:0"].filter("fps", fps=f"1000/{round(interval_s * 1000)}", start_time=0, eof_action="pass")
    stream = still(stream, video, width, height, tools, JPEG_FORMAT)
    # The last picture is repeated until the last sheet is full, so that there are as many sheets as promised.
    stream = stream.filter("tpad", stop=sheet_count * per_sheet, stop_mode="clone")
    stream = stream.filter("tile", f"{request.columns}x{request.rows}")
    options = jpeg(SHEET_QUALITY, frames=sheet_count)
    runner = Runner(tools=tools, config=config, path=request.path, media=request.media)
    await runner.run(
        compile_argv(tools, [ffmpeg.output(stream, "storyboard-%03d.jpg", start_number=0, **options)]),
        out_dir=request.out_dir,
        timeout_s=STARTUP_TIMEOUT_S + config.encode_timeout_factor * request.media.duration_s,
        doing="making the storyboard",
        patience=PICTURES,
        on_progress=request.on_progress,
    )
    paths = [request.out_dir / f"storyboard-{number:03d}.jpg" for number in range(sheet_count)]
    if not all(path.exists() for path in paths):
        raise no_picture()
    size = {"width": width * request.columns, "height": height * request.rows}
    sheets = tuple(Picture(path=path, content_type=JPEG, **size) for path in paths)
    return Storyboard(sheets=sheets, tiles=_tiles(request, interval_s, count, width, height))


async def extract_audio(tools: Tools, config: FfmpegConfig, request: ExtractAudioRequest) -> ExtractedAudio:
    """16 kHz mono, WAV or Opus; silence where the source's sound has gaps, so that times stay those of the video."""
    if not request.media.audio:
        raise InvalidRequestError("The video has no sound.", code="media_no_audio")
    if request.codec == "opus" and SPEECH_ENCODER not in tools.encoders:
        raise NotSupportedError(f"This ffmpeg cannot make Opus: it lacks the encoder {SPEECH_ENCODER}.")
    end_s = request.media.duration_s if request.end_s is None else min(request.end_s, request.media.duration_s)
    length_s = end_s - request.start_s
    if not 0 <= request.start_s < end_s:
        raise InvalidRequestError(
            f"There is no sound from {request.start_s:g} to {end_s:g} s in a video of {request.media.duration_s:g} s.",
            code="media_no_such_part",
        )
    path = request.out_dir / f"speech-{uuid4().hex}.{'wav' if request.codec == 'wav' else 'ogg'}"
    part = {"ss": f"{request.start_s:.3f}", "t": f"{length_s:.3f}"} if request.start_s or request.end_s else {}
    source = ffmpeg.input(arguments.file_url(request.path), **part, **arguments.INPUT)
    stream = source[f"a:{request.media.audio[0].index}"].filter(
        "aresample", SPEECH_RATE_HZ, **{"async": 1, "first_pts": 0}
    )
    if part:
        stream = stream.filter("apad", whole_dur=f"{length_s:.3f}").filter("atrim", end=f"{length_s:.3f}")
    options: dict[str, Any] = {"ac": 1, "ar": SPEECH_RATE_HZ, "vn": None, **SPEECH_OPTIONS[request.codec]}
    options |= {"bitexact": None, **arguments.NO_METADATA}
    media = replace(request.media, duration_s=length_s)
    runner = Runner(tools=tools, config=config, path=request.path, media=media)
    await runner.run(
        compile_argv(tools, [ffmpeg.output(stream, path.name, **options)]),
        out_dir=request.out_dir,
        timeout_s=STARTUP_TIMEOUT_S + request.media.duration_s,
        doing="extracting the sound",
        patience=PICTURES,
        on_progress=request.on_progress,
    )
    if request.codec == "opus":
        return ExtractedAudio(path=path, content_type="audio/ogg", duration_s=length_s)
    duration_s = max(0, path.stat().st_size - WAV_HEADER_BYTES) / SPEECH_BYTES_PER_S
    return ExtractedAudio(path=path, content_type="audio/wav", duration_s=duration_s)


async def extract_subtitles(
    tools: Tools, config: FfmpegConfig, request: ExtractSubtitlesRequest
) -> tuple[Subtitles, ...]:
    """WebVTT of every track; those without a single cue are left out."""
    tracks = request.media.subtitles
    if not tracks:
        return ()
    source = ffmpeg.input(arguments.file_url(request.path), **arguments.INPUT)
    options: dict[str, Any] = {"f": "webvtt", "c:s": "webvtt", **arguments.NO_METADATA}
    outputs = [ffmpeg.output(source[f"s:{t.index}"], f"subtitles-{t.index}.vtt", **options) for t in tracks]
    runner = Runner(tools=tools, config=config, path=request.path, media=request.media)
    await runner.run(
        compile_argv(tools, outputs),
        out_dir=request.out_dir,
        timeout_s=STARTUP_TIMEOUT_S + request.media.duration_s,
        doing="extracting the subtitles",
        patience=PICTURES,
        on_progress=request.on_progress,
    )
    found = [Subtitles(path=request.out_dir / f"subtitles-{t.index}.vtt", stream=t) for t in tracks]
    return tuple(one for one in found if CUE in one.path.read_bytes())


def default_interval(duration_s: float) -> float:
    """Seconds between tiles: close together in short videos, a bounded number of tiles in long ones."""
    if duration_s > MAX_TILES * MAX_INTERVAL_S:
        return duration_s / MAX_TILES
    return min(MAX_INTERVAL_S, max(1.0, duration_s / WANTED_TILES))


def _tiles(
    request: StoryboardRequest, interval_s: float, count: int, width: int, height: int
) -> tuple[StoryboardTile, ...]:
    per_sheet = request.columns * request.rows
    tiles = []
    for number in range(count):
        row, column = divmod(number % per_sheet, request.columns)
        last = number == count - 1
        tiles.append(
            StoryboardTile(
                start_s=number * interval_s,
                end_s=request.media.duration_s if last else (number + 1) * interval_s,
                sheet=number // per_sheet,
                x=column * width,
                y=row * height,
                width=width,
                height=height,
            )
        )
    return tuple(tiles)


def still(stream: Any, video: VideoStream, width: int, height: int, tools: Tools, pixel_format: str) -> Any:
    """Scale to one size in square pixels; ``yuvj420p`` has the range of colours that JPEG has."""
    stream = stream.filter("scale", width, height)
    if graph.is_hdr(video) and tools.can_tonemap:
        stream = graph.tonemap(stream, video)
    out_range = "full" if pixel_format == JPEG_FORMAT else "tv"
    return stream.filter("scale", out_range=out_range).filter("format", pixel_format).filter("setsar", 1)


def jpeg(quality: int, *, frames: int) -> dict[str, Any]:
    """Options of an output of numbered JPEG files; ``frames``: at most so many."""
    return {
        "f": "image2",
        "c:v": "mjpeg",
        "q:v": quality,
        "frames:v": frames,
        "bitexact": None,
        **arguments.NO_METADATA,
    }


def no_picture() -> InvalidRequestError:
    """What is raised when nothing could be decoded."""
    return unreadable(
        "No picture of the video could be decoded.",
        "media_undecodable",
        "Check that the file plays; export it again as MP4 (H.264, AAC) and upload that.",
    )


def fit(video: VideoStream, max_width: int) -> tuple[int, int]:
    """The displayed size, or the largest even one of this shape that is no wider than ``max_width``."""
    width = max(2, min(video.width, max_width) // 2 * 2)
    return width, max(2, round(video.height * width / video.width / 2) * 2)


def _tile_size(video: VideoStream, tile_width: int) -> tuple[int, int]:
    width = max(2, tile_width // 2 * 2)
    aspect = min(MAX_TILE_ASPECT, max(1 / MAX_TILE_ASPECT, video.height / video.width))
    return width, max(2, round(width * aspect / 2) * 2)


def _video(video: VideoStream | None) -> VideoStream:
    if video is None:
        raise InvalidRequestError("The file has no picture.", code="media_no_video")
    return video
