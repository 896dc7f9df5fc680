"""Poster, storyboard and the sound for speech recognition."""

from __future__ import annotations

import math
from typing import Any

import ffmpeg

from echo_core.plugin_api import (
    ExtractAudioRequest,
    ExtractedAudio,
    InvalidRequestError,
    Picture,
    PosterRequest,
    Storyboard,
    StoryboardRequest,
    StoryboardTile,
    VideoStream,
)
from echo_transcode_ffmpeg import arguments, graph
from echo_transcode_ffmpeg.binaries import Tools
from echo_transcode_ffmpeg.config import FfmpegConfig
from echo_transcode_ffmpeg.encode import STARTUP_TIMEOUT_S, compile_argv
from echo_transcode_ffmpeg.errors import unreadable
from echo_transcode_ffmpeg.running import Runner

JPEG = "image/jpeg"
JPEG_QUALITY = 4
SHEET_QUALITY = 5
POSTER_TIMEOUT_S = 60.0
POSTER_AT_S = 3.0
POSTER_CANDIDATES = 50
"""Frames among which the most typical one becomes the poster."""
MAX_INTERVAL_S = 5.0
WANTED_TILES = 25
MAX_TILES = 500
MAX_TILE_ASPECT = 3.0
SPEECH_RATE_HZ = 16_000
SPEECH_BYTES_PER_S = SPEECH_RATE_HZ * 2
WAV_HEADER_BYTES = 44


async def poster(tools: Tools, config: FfmpegConfig, request: PosterRequest) -> Picture:
    """One JPEG; near the end or in a damaged place, the first picture that can be had instead."""
    video = _video(request.media.video)
    runner = Runner(tools=tools, config=config, path=request.path, media=request.media)
    width, height = _fit(video, request.max_width)
    path = request.out_dir / "poster.jpg"
    wanted_s = min(POSTER_AT_S, request.media.duration_s / 3) if request.at_s is None else request.at_s
    for at_s in dict.fromkeys((max(0.0, wanted_s), 0.0)):
        source = ffmpeg.input(arguments.file_url(request.path), ss=f"{at_s:.3f}", **arguments.INPUT)
        stream = source["V:0"]
        if request.at_s is None:
            stream = stream.filter("thumbnail", POSTER_CANDIDATES)
        stream = _still(stream, video, width, height, tools)
        options = _jpeg(JPEG_QUALITY, frames=1)
        await runner.run(
            compile_argv(tools, [ffmpeg.output(stream, path.name, update=1, **options)]),
            out_dir=request.out_dir,
            timeout_s=POSTER_TIMEOUT_S,
            doing="making the poster",
        )
        if path.exists() and path.stat().st_size:
            return Picture(path=path, content_type=JPEG, width=width, height=height)
    raise unreadable(
        "No picture of the video could be decoded.",
        "media_undecodable",
        "Check that the file plays; export it again as MP4 (H.264, AAC) and upload that.",
    )


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
    stream = _still(stream, video, width, height, tools)
    # The last picture is repeated until the last sheet is full, so that there are as many sheets as promised.
    stream = stream.filter("tpad", stop=sheet_count * per_sheet, stop_mode="clone")
    stream = stream.filter("tile", f"{request.columns}x{request.rows}")
    options = _jpeg(SHEET_QUALITY, frames=sheet_count)
    runner = Runner(tools=tools, config=config, path=request.path, media=request.media)
    await runner.run(
        compile_argv(tools, [ffmpeg.output(stream, "storyboard-%03d.jpg", start_number=0, **options)]),
        out_dir=request.out_dir,
        timeout_s=STARTUP_TIMEOUT_S + config.encode_timeout_factor * request.media.duration_s,
        doing="making the storyboard",
        on_progress=request.on_progress,
    )
    paths = [request.out_dir / f"storyboard-{number:03d}.jpg" for number in range(sheet_count)]
    if not all(path.exists() for path in paths):
        raise unreadable(
            "The pictures of the video could not be decoded.",
            "media_undecodable",
            "Check that the file plays; export it again as MP4 (H.264, AAC) and upload that.",
        )
    size = {"width": width * request.columns, "height": height * request.rows}
    sheets = tuple(Picture(path=path, content_type=JPEG, **size) for path in paths)
    return Storyboard(sheets=sheets, tiles=_tiles(request, interval_s, count, width, height))


async def extract_audio(tools: Tools, config: FfmpegConfig, request: ExtractAudioRequest) -> ExtractedAudio:
    """16 kHz mono WAV; silence where the source's sound has gaps, so that times stay those of the video."""
    if not request.media.audio:
        raise InvalidRequestError("The video has no sound.", code="media_no_audio")
    path = request.out_dir / "speech.wav"
    source = ffmpeg.input(arguments.file_url(request.path), **arguments.INPUT)
    stream = source["a:0"].filter("aresample", SPEECH_RATE_HZ, **{"async": 1, "first_pts": 0})
    options: dict[str, Any] = {"f": "wav", "c:a": "pcm_s16le", "ac": 1, "ar": SPEECH_RATE_HZ, "vn": None}
    options |= {"bitexact": None, **arguments.NO_METADATA}
    runner = Runner(tools=tools, config=config, path=request.path, media=request.media)
    await runner.run(
        compile_argv(tools, [ffmpeg.output(stream, path.name, **options)]),
        out_dir=request.out_dir,
        timeout_s=STARTUP_TIMEOUT_S + request.media.duration_s,
        doing="extracting the sound",
        on_progress=request.on_progress,
    )
    duration_s = max(0, path.stat().st_size - WAV_HEADER_BYTES) / SPEECH_BYTES_PER_S
    return ExtractedAudio(path=path, content_type="audio/wav", duration_s=duration_s)


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


def _still(stream: Any, video: VideoStream, width: int, height: int, tools: Tools) -> Any:
    """Scale to one size in square pixels and the range of colours that JPEG has."""
    stream = stream.filter("scale", width, height)
    if graph.is_hdr(video) and tools.can_tonemap:
        stream = graph.tonemap(stream, video)
    return stream.filter("scale", out_range="full").filter("format", "yuvj420p").filter("setsar", 1)


def _jpeg(quality: int, *, frames: int) -> dict[str, Any]:
    return {
        "f": "image2",
        "c:v": "mjpeg",
        "q:v": quality,
        "frames:v": frames,
        "bitexact": None,
        **arguments.NO_METADATA,
    }


def _fit(video: VideoStream, max_width: int) -> tuple[int, int]:
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
