"""Encode the ladder: one process, one decode, one fragmented MP4 for each rung and one for the sound."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import ffmpeg

from echo_core.plugin_api import AudioStream, LadderRequest, LadderResult, Rung
from echo_transcode_ffmpeg import arguments, graph, loudness
from echo_transcode_ffmpeg.binaries import ENCODES, SOMEBODY_WAITS, Tools
from echo_transcode_ffmpeg.config import FfmpegConfig
from echo_transcode_ffmpeg.encoders import encoder_options
from echo_transcode_ffmpeg.plan import exact_fps
from echo_transcode_ffmpeg.playlist import BrokenOutputError, Measured, has_segments, measure
from echo_transcode_ffmpeg.running import Runner

EVERY_KEYFRAME_S = 0.001
"""Keyframes stand exactly where segments shall begin, so the muxer cuts at each of them, however times round."""
NO_OWN_KEYFRAMES = 1_000_000
STARTUP_TIMEOUT_S = 30.0
EARLY_FRAMES = 0.25
LEAD_FRAMES = 8
BOUNDARY_TOLERANCE_S = 0.001
MAX_CHANNELS = 2
MAX_THREADS = 16
"""Of one encoder. Each keeps pictures of its own; more bring nothing at the sizes of a ladder."""
SHORTER_TOLERANCE = 0.02
SHORTER_TOLERANCE_S = 0.5
AUDIO = "audio"
NO_GAINS: loudness.Gains = {}


def ladder_argv(
    tools: Tools, config: FfmpegConfig, request: LadderRequest, gains: loudness.Gains = NO_GAINS
) -> list[str]:
    """The whole command."""
    video = request.media.video
    part = Part.of(request)
    source = ffmpeg.input(arguments.file_url(request.path), **arguments.INPUT, **part.input_options())
    outputs = []
    if video is not None and request.rungs:
        frames = part.steady(graph.progressive(source["V:0"], video))
        streams = graph.rung_streams(frames, video, request.rungs, can_tonemap=tools.can_tonemap)
        outputs = [
            ffmpeg.output(streams[rung.name], f"{rung.name}.m3u8", **video_options(config, request, rung, part))
            for rung in request.rungs
        ]
        if graph.is_hdr(video) and tools.can_tonemap:
            for output in outputs:
                output.node.kwargs.update(color_primaries="bt709", color_trc="bt709", colorspace="bt709")
    elif request.rungs:
        (rung,) = request.rungs
        picture = graph.waveform(source[f"a:{request.media.audio[0].index}"], rung, request.duration_s)
        outputs.append(ffmpeg.output(picture, f"{rung.name}.m3u8", **video_options(config, request, rung, part)))
    for name, sound in audio_names(request.media.audio if request.with_audio else ()):
        options = audio_options(config, sound, name, request.segment_s)
        stream = loudness.louder(graph.audio_stream(source[f"a:{sound.index}"]), gains, sound)
        outputs.append(ffmpeg.output(stream, f"{name}.m3u8", **options))
    return compile_argv(tools, outputs)


@dataclass(frozen=True, kw_only=True)
class Part:
    """The picture, or a part of it (T11), in frames of the steady rate ``fps``: ``[first, end)``; ``end`` None: to the
    end. Frame 0 is at ``phase_s``, which is where a copied source starts: its frames and these are shown together.

    It is decoded from a few frames before its first one, on the grid of the whole: which picture a frame shows then
    does not depend on where the cut is, not even where the source's times lie between those of the grid.
    """

    fps: Fraction
    phase_s: float = 0.0
    first: int = 0
    end: int | None = None

    @classmethod
    def of(cls, request: LadderRequest) -> Part:
        """The part that is asked for."""
        whole = cls(
            fps=exact_fps(max((rung.fps for rung in request.rungs), default=1.0)),
            phase_s=request.align_to_s[0] if request.align_to_s else 0.0,
        )
        end = None if request.end_s is None else whole.nearest(request.end_s)
        return replace(whole, first=max(0, whole.nearest(request.start_s)), end=end)

    def nearest(self, at_s: float) -> int:
        """The frame that shows what the source shows from then on: as the filter ``fps`` rounds."""
        return math.floor(Fraction(at_s - self.phase_s).limit_denominator(1_000_000) * self.fps + Fraction(1, 2))

    @property
    def lead(self) -> int:
        """Frames that are decoded before the first one."""
        return min(LEAD_FRAMES, self.first)

    @property
    def start_s(self) -> float:
        """When the first frame is shown."""
        return self.phase_s + float(self.first / self.fps)

    def input_options(self) -> dict[str, Any]:
        """Where to begin and to end reading."""
        options: dict[str, Any] = {}
        if self.first:
            options["ss"] = f"{self.start_s - float(self.lead / self.fps):.6f}"
        if self.end is not None:
            options["t"] = f"{float((self.lead + self.end - self.first + LEAD_FRAMES) / self.fps):.6f}"
        return options

    def steady(self, source: graph.Stream) -> graph.Stream:
        """The frames, from time 0 on.

        ``start_time=0`` repeats the first frame where the picture starts late, so that every rendition starts at once.
        """
        if self.phase_s and not self.first:
            source = source.filter("setpts", f"PTS-{self.phase_s:.6f}/TB")
        stream = source.filter("fps", fps=str(self.fps), start_time=0)
        kept = {"start_frame": self.lead} if self.lead else {}
        if self.end is not None:
            kept["end_frame"] = self.lead + self.end - self.first
        return stream.filter("trim", **kept).filter("setpts", "PTS-STARTPTS") if kept else stream


def compile_argv(tools: Tools, outputs: Sequence[Any]) -> list[str]:
    """The command for outputs of ffmpeg-python, with progress on stdout."""
    command = [*arguments.command(tools.ffmpeg), *arguments.PROGRESS]
    return [str(argument) for argument in ffmpeg.compile(ffmpeg.merge_outputs(*outputs), cmd=command)]


def video_options(config: FfmpegConfig, request: LadderRequest, rung: Rung, part: Part) -> dict[str, Any]:
    """Options of one rung: capped constant quality, closed groups of pictures that are the segments."""
    options: dict[str, Any] = {
        **arguments.hls_output(rung.name, EVERY_KEYFRAME_S),
        **arguments.keep_times(_segments_before(request)),
        **encoder_options(config, rung, encoder_threads(config)),
        "an": None,
    }
    if request.align_to_s:
        # A little early, so that the frame at the boundary becomes the keyframe however ffmpeg rounds: some versions
        # take the frame nearest to the time, others the first one not before it.
        boundaries = [part.nearest(at) - part.first - EARLY_FRAMES for at in _boundaries(request)[1:]]
        options |= {"g": NO_OWN_KEYFRAMES, "keyint_min": 1}
        options["force_key_frames"] = ",".join(f"{at:.4f}" for at in [0.0, *(at / part.fps for at in boundaries)])
    else:
        group = max(1, round(rung.fps * request.segment_s))
        options |= {"g": group, "keyint_min": group}
    if part.start_s:
        options["output_ts_offset"] = f"{part.start_s:.6f}"
    return options


def _boundaries(request: LadderRequest) -> list[float]:
    """The given boundaries of the part."""
    end_s = float("inf") if request.end_s is None else request.end_s
    return [
        at for at in request.align_to_s if request.start_s - BOUNDARY_TOLERANCE_S <= at < end_s - BOUNDARY_TOLERANCE_S
    ]


def _segments_before(request: LadderRequest) -> int:
    if request.align_to_s:
        return sum(at < request.start_s - BOUNDARY_TOLERANCE_S for at in request.align_to_s)
    return round(request.start_s / request.segment_s)


def encoder_threads(config: FfmpegConfig) -> int:
    """Threads of each rung's encoder. x264 would take half as many again as there are processors, for each rung: more
    memory and more to wait for, and no more speed, since the rungs share the processors anyway."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return config.threads or min(MAX_THREADS, processors)


def audio_names(sounds: Sequence[AudioStream]) -> list[tuple[str, AudioStream]]:
    """The renditions of these tracks (T7)."""
    return [(AUDIO if number == 1 else f"{AUDIO}-{number}", sound) for number, sound in enumerate(sounds, 1)]


def audio_options(config: FfmpegConfig, sound: AudioStream, name: str, segment_s: float) -> dict[str, Any]:
    """Options of a sound: AAC-LC, at most stereo (5.1 is mixed down)."""
    return {
        **arguments.hls_output(name, segment_s),
        "c:a": "aac",
        "b:a": config.audio_bitrate_bps,
        "ac": min(MAX_CHANNELS, sound.channels),
        "vn": None,
    }


async def encode_ladder(tools: Tools, config: FfmpegConfig, request: LadderRequest) -> LadderResult:
    """Encode, then look at what came out before believing it."""
    if not request.rungs and not (request.with_audio and request.media.audio):
        return LadderResult(renditions=())
    part = replace(request.media, duration_s=request.duration_s)
    runner = Runner(tools=tools, config=config, path=request.path, media=part)
    sounds = request.media.audio if request.with_audio else ()
    gains = await loudness.gains(tools, config, runner, sounds, request.out_dir)
    outcome = await runner.run(
        ladder_argv(tools, config, request, gains),
        out_dir=request.out_dir,
        timeout_s=STARTUP_TIMEOUT_S + config.encode_timeout_factor * request.duration_s,
        doing="encoding",
        on_progress=request.on_progress,
        patience=SOMEBODY_WAITS if request.urgent else ENCODES,
    )
    made: list[Measured] = []
    try:
        made += [
            measure(request.out_dir, rung.name, "video", width=rung.width, height=rung.height, fps=rung.fps)
            for rung in request.rungs
        ]
    except BrokenOutputError:
        if request.start_s <= 0 or any(has_segments(request.out_dir, rung.name) for rung in request.rungs):
            raise
        return LadderResult(renditions=(), warnings=(_only(request.start_s, request.media.duration_s),))
    warnings = []
    for name, sound in audio_names(sounds):
        try:
            made.append(measure(request.out_dir, name, "audio", sound=sound))
        except BrokenOutputError:
            if not made:
                raise
            remove(request.out_dir, name)
            which = "The sound" if len(request.media.audio) == 1 else f"Sound track {sound.index + 1}"
            warnings.append(f"{which} could not be decoded; the video plays without it.")
    warnings += _doubts(tools, request, made, outcome.error_count)
    return LadderResult(
        renditions=tuple(one.rendition for one in made), warnings=tuple(warnings), damaged=outcome.error_count > 0
    )


def remove(out_dir: Path, name: str) -> None:
    """Remove what ffmpeg left of a rendition that is not used."""
    for suffix in (".mp4", ".m3u8"):
        (out_dir / f"{name}{suffix}").unlink(missing_ok=True)


def _doubts(tools: Tools, request: LadderRequest, made: Sequence[Measured], error_count: int) -> list[str]:
    """Sentences about what is not as it should be, and errors for what must not be published."""
    pictures = [one for one in made if one.rendition.kind == "video"]
    warnings = []
    _check_alignment(pictures)
    longest_s = max(one.rendition.duration_s for one in made)
    if is_short(longest_s, request.duration_s):
        warnings.append(_only(request.start_s + longest_s, request.media.duration_s))
    elif error_count:
        warnings.append(f"The file is damaged ({error_count} errors while decoding); parts may look or sound wrong.")
    video = request.media.video
    if pictures and video is not None and graph.is_hdr(video) and not tools.can_tonemap:
        warnings.append("Colours look pale: this ffmpeg cannot convert HDR (it lacks the filters zscale and tonemap).")
    return warnings


def _only(read_s: float, media_s: float) -> str:
    return f"Only the first {clock(read_s)} of {clock(media_s)} could be read: the file is damaged or cut off."


def clock(seconds: float) -> str:
    """A length as people say it: 0:07, 12:31, 1:02:03."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def is_short(made_s: float, media_s: float) -> bool:
    """Whether an output lacks more of the source than rounding explains."""
    return made_s < media_s - max(media_s * SHORTER_TOLERANCE, SHORTER_TOLERANCE_S)


def _check_alignment(pictures: Sequence[Measured]) -> None:
    """T6 among the rungs of this call."""
    if not pictures:
        return
    first = pictures[0]
    tolerance_s = 1.0 / min(one.rendition.fps for one in pictures) + 0.001
    for other in pictures[1:]:
        same = len(other.starts_s) == len(first.starts_s) and all(
            abs(a - b) <= tolerance_s for a, b in zip(first.starts_s, other.starts_s, strict=True)
        )
        if not same:
            raise BrokenOutputError(f"{first.rendition.name} and {other.rendition.name} have different segments.")
