"""Posters: pictures from all over the video, and which of them stands for it best.

Each part of the video gives the best of a few pictures. Best is what is sharp (many bytes of JPEG for its size),
neither dark nor blank (so no fade), and like the rest of the video.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ffmpeg

from echo_core.plugin_api import InvalidRequestError, Picture, Poster, PosterRequest, VideoStream
from echo_transcode_ffmpeg import arguments, graph
from echo_transcode_ffmpeg.binaries import PICTURES, Tools
from echo_transcode_ffmpeg.config import FfmpegConfig
from echo_transcode_ffmpeg.encode import compile_argv
from echo_transcode_ffmpeg.pictures import JPEG, JPEG_FORMAT, PICTURE_TIMEOUT_S, fit, jpeg, no_picture, still
from echo_transcode_ffmpeg.running import Runner

QUALITY = 4
WINDOW_S = 1.25
SAMPLES_PER_S = 4
MAX_SAMPLES = 5
MIN_APART_S = 0.5
"""Two pictures closer together than this are the same."""
GREY_WIDTH, GREY_HEIGHT = 32, 18
BINS = 16
DARK, DIM, BRIGHT, GLARING = 16.0, 60.0, 190.0, 245.0
"""Mean brightness, 0 to 255: nothing to see up to DARK and from GLARING on, good between DIM and BRIGHT."""
GOOD_CONTRAST = 40.0
"""Standard deviation of the brightness from which on more is no better."""
TYPICAL_WEIGHT = 0.5
WAVE_SIZE = (1280, 720)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One picture and what can be told from it. ``histogram``: shares of brightness, darkest first."""

    path: Path
    at_s: float
    size_bytes: int
    mean: float
    contrast: float
    histogram: tuple[float, ...]

    @property
    def visible(self) -> float:
        """0 for a black, white or blank picture, 1 for a well lit one."""
        light = min(1.0, (self.mean - DARK) / (DIM - DARK), (GLARING - self.mean) / (GLARING - BRIGHT))
        return max(0.0, light) * min(1.0, self.contrast / GOOD_CONTRAST)


async def posters(tools: Tools, config: FfmpegConfig, request: PosterRequest) -> tuple[Poster, ...]:
    """The best picture of each part, in order of time; of sound alone its cover, or a picture of its loudness."""
    if request.media.video is None:
        return (await _of_sound(tools, config, request),)
    width, height = fit(request.media.video, request.max_width)
    video = request.media.video
    parts = [await _samples(tools, config, request, video, at_s) for at_s in part_starts(request)]
    if not any(parts):
        # Whatever the file says of its length: its beginning.
        parts = [await _samples(tools, config, request, video, 0.0)]
    chosen = best([part for part in parts if part])
    if not chosen:
        raise no_picture()
    for leftover in {sample.path for part in parts for sample in part} - {sample.path for sample, _ in chosen}:
        leftover.unlink()
    return tuple(
        Poster(
            picture=Picture(path=sample.path, content_type=JPEG, width=width, height=height),
            at_s=sample.at_s,
            score=score,
        )
        for sample, score in chosen
    )


def part_starts(request: PosterRequest) -> list[float]:
    """Where to look, in seconds: in the middle of equal parts."""
    duration_s = request.media.duration_s
    count = max(1, min(request.count, int(duration_s / MIN_APART_S)))
    return [duration_s * (number + 0.5) / count for number in range(count)]


def best(parts: Sequence[Sequence[Sample]]) -> list[tuple[Sample, float]]:
    """The best sample of each part, with its score from 0 to 1."""
    samples = list(itertools.chain.from_iterable(parts))
    if not samples:
        return []
    seen = [sample for sample in samples if sample.visible > 0] or samples
    usual = [sum(values) / len(seen) for values in zip(*(sample.histogram for sample in seen), strict=True)]
    most = max(sample.size_bytes for sample in samples)

    def score(sample: Sample) -> float:
        unusual = sum(abs(a - b) for a, b in zip(sample.histogram, usual, strict=True)) / 2
        sharp = math.sqrt(sample.size_bytes / most)
        return float(sample.visible * sharp * (1 - TYPICAL_WEIGHT * unusual))

    return [(winner, score(winner)) for winner in (max(part, key=score) for part in parts)]


def measured(path: Path, at_s: float, grey: bytes) -> Sample:
    """What a picture is like. ``grey``: its brightness, pixel by pixel, in small."""
    mean = sum(grey) / len(grey)
    variance = sum((value - mean) ** 2 for value in grey) / len(grey)
    counts = [0] * BINS
    for value in grey:
        counts[value * BINS // 256] += 1
    return Sample(
        path=path,
        at_s=at_s,
        size_bytes=path.stat().st_size,
        mean=mean,
        contrast=math.sqrt(variance),
        histogram=tuple(count / len(grey) for count in counts),
    )


async def _samples(
    tools: Tools, config: FfmpegConfig, request: PosterRequest, video: VideoStream, at_s: float
) -> list[Sample]:
    """A few pictures from there on; none where nothing can be decoded."""
    name = f"at-{round(at_s * 1000)}"
    lasts_s = min(WINDOW_S, max(0.1, request.media.duration_s - at_s))
    source = ffmpeg.input(arguments.file_url(request.path), ss=f"{at_s:.3f}", t=f"{lasts_s:.3f}", **arguments.INPUT)
    stream = graph.progressive(source["V:0"], video).filter("fps", fps=SAMPLES_PER_S, start_time=0, eof_action="pass")
    stream = still(stream, video, *fit(video, request.max_width), tools, JPEG_FORMAT).filter_multi_output("split", 2)
    grey = stream[1].filter("scale", GREY_WIDTH, GREY_HEIGHT, flags="area").filter("format", "gray")
    raw: dict[str, Any] = {"f": "rawvideo", "frames:v": MAX_SAMPLES}
    outputs = [
        ffmpeg.output(stream[0], f"{name}-%d.jpg", start_number=0, **jpeg(QUALITY, frames=MAX_SAMPLES)),
        ffmpeg.output(grey, f"{name}.grey", **raw),
    ]
    runner = Runner(tools=tools, config=config, path=request.path, media=request.media)
    try:
        await runner.run(
            compile_argv(tools, outputs),
            out_dir=request.out_dir,
            timeout_s=PICTURE_TIMEOUT_S,
            doing="making the poster",
            patience=PICTURES,
        )
    except InvalidRequestError:
        return []
    greys = request.out_dir / f"{name}.grey"
    if not greys.exists():
        return []
    data, size = greys.read_bytes(), GREY_WIDTH * GREY_HEIGHT
    greys.unlink()
    paths = [request.out_dir / f"{name}-{number}.jpg" for number in range(len(data) // size)]
    return [
        measured(path, at_s + number / SAMPLES_PER_S, data[number * size : (number + 1) * size])
        for number, path in enumerate(paths)
        if path.exists()
    ]


async def _of_sound(tools: Tools, config: FfmpegConfig, request: PosterRequest) -> Poster:
    runner = Runner(tools=tools, config=config, path=request.path, media=request.media)
    path = request.out_dir / "poster.jpg"

    async def made(stream: Any, width: int, height: int) -> Poster | None:
        stream = stream.filter("format", JPEG_FORMAT).filter("setsar", 1)
        options = jpeg(QUALITY, frames=1)
        try:
            await runner.run(
                compile_argv(tools, [ffmpeg.output(stream, path.name, update=1, **options)]),
                out_dir=request.out_dir,
                timeout_s=PICTURE_TIMEOUT_S + request.media.duration_s / 10,
                doing="making the poster",
                patience=PICTURES,
            )
        except InvalidRequestError:
            return None
        if not path.exists() or not path.stat().st_size:
            return None
        return Poster(picture=Picture(path=path, content_type=JPEG, width=width, height=height), at_s=0.0, score=1.0)

    source = ffmpeg.input(arguments.file_url(request.path), **arguments.INPUT)
    width, height = (max(2, round(side * min(1.0, request.max_width / WAVE_SIZE[0]) / 2) * 2) for side in WAVE_SIZE)
    if request.media.cover:
        covered = source["v:0"].filter("scale", width, height, force_original_aspect_ratio="decrease")
        covered = covered.filter("pad", width, height, "(ow-iw)/2", "(oh-ih)/2")
        if poster := await made(covered, width, height):
            return poster
    sound = request.media.audio[0]
    poster = await made(
        graph.wave_picture(source[f"a:{sound.index}"], width, height, request.media.duration_s), width, height
    )
    if poster is None:
        raise no_picture()
    return replace(poster, score=0.5)
