"""Decide what to encode: sizes, rates and bitrates of the rungs. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Final

from echo_core.plugin_api import Codec, MediaInfo, PlanLadder, Rung, VideoStream
from echo_transcode_ffmpeg.encoders import ENCODERS

CAPS_BPS = (
    (2160, 16_000_000),
    (1440, 9_000_000),
    (1080, 6_000_000),
    (720, 3_000_000),
    (480, 1_400_000),
    (360, 800_000),
    (240, 400_000),
    (144, 250_000),
)
"""Ceiling by short side, for H.264 up to 31 frames per second."""
FAST_FPS = 31.0
FAST_FACTOR = 1.5
MAX_FPS = 60.5
STEADY_FPS = (24.0, 25.0, 30.0, 50.0, 60.0)
"""Rates that an unsteady source is brought to."""
NEARLY = 1.05
"""A source this little below a rung still gets the rung, in its own size."""
APART = 1.2
"""Two rungs closer together than this help nobody."""
MAX_LONG_SIDE = 4096
"""Beyond it H.264 decoders of phones and browsers give up."""
INDEXED = frozenset({"mp4", "mov", "matroska", "webm"})
"""Containers, as ffmpeg names them, that say where each frame lies."""
WAVE_SHORT_SIDE = 720
WAVE_FPS = 5.0
H264: Final = "h264"
OTHER_CODECS_FROM = 480
NTSC_BASES = (24, 30, 48, 60, 120)


def target_fps(video: VideoStream) -> float:
    """The steady rate to encode at, at most 60: a fast source is halved, an unsteady one rounded up."""
    fps = video.fps
    while fps > MAX_FPS:
        fps /= 2
    if video.variable_fps:
        fps = next((steady for steady in STEADY_FPS if steady >= fps * 0.99), STEADY_FPS[-1])
    return fps


def exact_fps(fps: float) -> Fraction:
    """The rational rate meant by a decimal one: 29.97 is 30000/1001. A rounded rate drifts off the source's frames."""
    for base in NTSC_BASES:
        if abs(fps - base / 1.001) < 0.005:
            return Fraction(base * 1000, 1001)
    return max(Fraction(fps).limit_denominator(1001), Fraction(1, 1000))


def can_cut(media: MediaInfo) -> bool:
    """Whether a part of the picture is the same whether or not what comes before it was decoded.

    It takes an index: where there is none (a broadcast), ffmpeg guesses where a time lies. And where pictures come at
    uneven times, the one on show at a cut may have begun long before it.
    """
    video = media.video
    return video is not None and not video.variable_fps and not INDEXED.isdisjoint(media.container.split(","))


def ceiling_bps(short_side: int, fps: float) -> int:
    """The bitrate ceiling of a picture with this short side."""
    cap = CAPS_BPS[-1][1]
    for side, bps in CAPS_BPS:
        if short_side <= side:
            cap = bps
    if short_side > CAPS_BPS[0][0]:
        cap = CAPS_BPS[0][1]
    return round(cap * FAST_FACTOR) if fps > FAST_FPS else cap


def plan_ladder(request: PlanLadder, codecs: Sequence[Codec] = (H264,)) -> tuple[Rung, ...]:
    """The rungs, highest first (T8); those of H.264 last, so that the very last is what to begin with.

    The other codecs' largest is the source's own size even if that was copied: it is for their fewer bytes that they
    are wanted. Their small ones would save next to nothing.
    """
    video = request.media.video
    if video is None:
        return _wave_rungs(request)
    planned: list[Rung] = []
    for codec in sorted(codecs, key=lambda codec: codec == H264):
        own = codec == H264
        rungs = _rungs(request if own else replace(request, packaged=False), video)
        planned += rungs if own else [_as(rung, codec) for rung in rungs if _is_large(rung)]
    return tuple(planned)


def _rungs(request: PlanLadder, video: VideoStream) -> list[Rung]:
    fps = target_fps(video)
    rungs: list[Rung] = []
    for short_side in _short_sides(request, video):
        width, height = _size(video, short_side)
        if all((width, height) != (rung.width, rung.height) for rung in rungs):
            rungs.append(
                Rung(
                    name=f"{short_side}p",
                    width=width,
                    height=height,
                    fps=fps,
                    max_bitrate_bps=ceiling_bps(min(width, height), fps),
                )
            )
    return rungs


def _is_large(rung: Rung) -> bool:
    return min(rung.width, rung.height) >= OTHER_CODECS_FROM


def _as(rung: Rung, codec: Codec) -> Rung:
    ceiling_bps = round(rung.max_bitrate_bps * ENCODERS[codec].ceiling)
    return replace(rung, name=f"{rung.name}-{codec}", codec=codec, max_bitrate_bps=ceiling_bps)


def _wave_rungs(request: PlanLadder) -> tuple[Rung, ...]:
    """One rung, since a picture that does not move costs next to nothing at any size."""
    sides = [side for side in request.short_sides if 0 < side <= WAVE_SHORT_SIDE]
    if not sides:
        return ()
    height = max(sides) // 2 * 2
    width = round(height * 16 / 9 / 2) * 2
    bps = ceiling_bps(height, WAVE_FPS)
    return (Rung(name=f"{height}p", width=width, height=height, fps=WAVE_FPS, max_bitrate_bps=bps),)


def _short_sides(request: PlanLadder, video: VideoStream) -> list[int]:
    source = min(video.width, video.height)
    wanted = sorted({side for side in request.short_sides if side > 0}, reverse=True)
    if request.packaged:
        return [side for side in wanted if side * APART <= source]
    fitting = [side for side in wanted if side <= source * NEARLY]
    # The source's own size, where it lies well above the rungs that fit, but never above what was asked for.
    if wanted and source <= wanted[0] and (not fitting or source > fitting[0] * APART):
        fitting.insert(0, source)
    return fitting


def _size(video: VideoStream, short_side: int) -> tuple[int, int]:
    short, long = min(video.width, video.height), max(video.width, video.height)
    scale = min(1.0, short_side / short, MAX_LONG_SIDE / long)
    return _even(video.width, scale), _even(video.height, scale)


def _even(length: int, scale: float) -> int:
    """The nearest even length, not above the source's; 2 is the least there is."""
    return max(2, min(round(length * scale / 2) * 2, length // 2 * 2))
