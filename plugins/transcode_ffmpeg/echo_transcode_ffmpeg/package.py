"""Make a source playable by copying its bytes, where every player can play those bytes."""

from __future__ import annotations

from typing import Any

import ffmpeg

from echo_core.plugin_api import AudioStream, MediaInfo, PackageRequest, PackageResult
from echo_transcode_ffmpeg import arguments, graph, loudness
from echo_transcode_ffmpeg.binaries import Tools
from echo_transcode_ffmpeg.config import FfmpegConfig
from echo_transcode_ffmpeg.encode import NO_GAINS, audio_names, audio_options, compile_argv, is_short, remove
from echo_transcode_ffmpeg.playlist import BrokenOutputError, Measured, measure
from echo_transcode_ffmpeg.running import Runner

PROFILES = frozenset({"Constrained Baseline", "Main", "High"})
PIXEL_FORMATS = frozenset({"yuv420p", "yuvj420p"})
MAX_LEVEL = 51
MAX_FPS = 60.5
START_TOLERANCE_S = 0.1
"""A player skips a longer hole before the first picture; shorter ones come from B-frames without an edit list."""
LATE_SOUND_S = 0.05
"""Sound that starts later than the picture gets silence in front."""
MAX_SEGMENT_S = 12.0
"""Rare keyframes make long segments: slow to start and to seek."""
MAX_COPIED_CHANNELS = 2
MAX_COPIED_RATE_HZ = 48_000
COPY_BYTES_PER_S = 20_000_000
BASE_TIMEOUT_S = 60.0
AUDIO_TIMEOUT_FACTOR = 0.5
SOURCE = "source"
NO_EARLY_PACKETS = r"noise=drop=lt(pts\,0)"
"""Drops packets before time 0 (encoder priming), whose decode time would wrap around."""


def obstacle(media: MediaInfo, config: FfmpegConfig) -> str:
    """Why players could not play the picture as it is; empty if they can."""
    video = media.video
    if video is None:
        return ""
    bitrate = video.bitrate_bps or media.bitrate_bps or 0
    checks = (
        (video.codec != "h264", f"the picture is {video.codec or 'unknown'}, not H.264"),
        (video.profile not in PROFILES, f"the H.264 profile is {video.profile}"),
        (video.pixel_format not in PIXEL_FORMATS, f"the pixel format is {video.pixel_format}"),
        (video.level > MAX_LEVEL, f"the H.264 level is {video.level / 10:g}"),
        (video.rotation_deg != 0, "the picture is stored rotated"),
        (video.mirrored, "the picture is stored mirrored"),
        (abs(video.sample_aspect_ratio - 1) > 1e-6, "the pixels are not square"),
        (video.interlaced, "the picture is interlaced"),
        (video.variable_fps, "the frames come at uneven times"),
        (video.fps > MAX_FPS, f"the picture has {video.fps:g} frames per second"),
        (bitrate > config.package_max_bitrate_bps, f"the bitrate is {bitrate / 1e6:.1f} Mb/s"),
    )
    return next((reason for failed, reason in checks if failed), "")


def can_copy_audio(media: MediaInfo, sound: AudioStream, gains: loudness.Gains = NO_GAINS) -> bool:
    """Whether a sound plays everywhere as it is, as loud as is wanted, and in step with the picture."""
    late_s = sound.start_s - media.video.start_s if media.video else sound.start_s
    return (
        sound.index not in gains
        and sound.codec == "aac"
        and sound.profile in ("LC", "")
        and 0 < sound.channels <= MAX_COPIED_CHANNELS
        and sound.sample_rate_hz <= MAX_COPIED_RATE_HZ
        and abs(late_s) <= LATE_SOUND_S
    )


def package_argv(
    tools: Tools, config: FfmpegConfig, request: PackageRequest, gains: loudness.Gains = NO_GAINS
) -> list[str]:
    """The whole command: one output for the picture, one for the sound."""
    media = request.media
    source = ffmpeg.input(arguments.file_url(request.path), **arguments.INPUT)
    outputs = []
    if media.video is not None:
        options: dict[str, Any] = {
            **arguments.hls_output(SOURCE, request.segment_s),
            **arguments.KEEP_TIMES,
            "c:v": "copy",
        }
        outputs.append(ffmpeg.output(source["V:0"], f"{SOURCE}.m3u8", **options))
    # Naming a filter switches off the automatic one that streams of broadcasts need.
    adts = "aac_adtstoasc," if media.container in ("mpegts", "aac") else ""
    for name, sound in audio_names(media.audio):
        stream = source[f"a:{sound.index}"]
        if can_copy_audio(media, sound, gains):
            options = {
                **arguments.hls_output(name, request.segment_s),
                **arguments.KEEP_TIMES,
                "c:a": "copy",
                "bsf:a": adts + NO_EARLY_PACKETS,
            }
        else:
            options = audio_options(config, sound, name, request.segment_s)
            stream = loudness.louder(graph.audio_stream(stream), gains, sound)
        outputs.append(ffmpeg.output(stream, f"{name}.m3u8", **options))
    return compile_argv(tools, outputs)


async def package(tools: Tools, config: FfmpegConfig, request: PackageRequest) -> PackageResult:
    """Copy, then publish only what passes every gate (T9)."""
    media = request.media
    if reason := obstacle(media, config):
        return PackageResult(reason=_sentence(reason))
    runner = Runner(tools=tools, config=config, path=request.path, media=media)
    gains = await loudness.gains(tools, config, runner, media.audio, request.out_dir)
    timeout_s = BASE_TIMEOUT_S + media.size_bytes / COPY_BYTES_PER_S
    encoded = sum(not can_copy_audio(media, sound, gains) for sound in media.audio)
    timeout_s += AUDIO_TIMEOUT_FACTOR * encoded * media.duration_s
    outcome = await runner.run(
        package_argv(tools, config, request, gains),
        out_dir=request.out_dir,
        timeout_s=timeout_s,
        doing="copying",
        on_progress=request.on_progress,
    )
    try:
        made = _measure(request, gains)
    except BrokenOutputError as error:
        return _refuse(request, error.message.rstrip("."))
    if outcome.error_count:
        return _refuse(request, "the file is damaged")
    if reason := _flaw(media, made):
        return _refuse(request, reason)
    boundaries_s = made[0].starts_s if media.video is not None else ()
    return PackageResult(renditions=tuple(one.rendition for one in made), boundaries_s=boundaries_s)


def _measure(request: PackageRequest, gains: loudness.Gains) -> list[Measured]:
    made = []
    video = request.media.video
    if video is not None:
        made.append(
            measure(
                request.out_dir,
                SOURCE,
                "video",
                width=video.width,
                height=video.height,
                fps=video.fps,
                copied=True,
            )
        )
    for name, sound in audio_names(request.media.audio):
        copied = can_copy_audio(request.media, sound, gains)
        made.append(measure(request.out_dir, name, "audio", sound=sound, copied=copied))
    return made


def _flaw(media: MediaInfo, made: list[Measured]) -> str:
    """What would break playback in a copy that ffmpeg was content with; empty if nothing."""
    for one in made:
        if not 0 <= round(one.starts_s[0], 3) <= START_TOLERANCE_S:
            return f"its {one.rendition.kind} starts at {one.starts_s[0]:.2f} s"
        if any(later <= earlier for earlier, later in zip(one.starts_s, one.starts_s[1:], strict=False)):
            return f"the times of its {one.rendition.kind} jump back"
    first = made[0].rendition
    if first.kind == "video":
        longest_s = max(segment.duration_s for segment in first.segments)
        if longest_s > MAX_SEGMENT_S:
            return f"its keyframes are up to {longest_s:.0f} s apart"
        if first.average_bitrate_bps <= 0:
            return "it has no picture"
    if is_short(max(one.rendition.duration_s for one in made), media.duration_s):
        return "it is shorter than it says"
    return ""


def _refuse(request: PackageRequest, reason: str) -> PackageResult:
    for name in (SOURCE, *(name for name, _ in audio_names(request.media.audio))):
        remove(request.out_dir, name)
    return PackageResult(reason=_sentence(reason))


def _sentence(reason: str) -> str:
    return f"Cannot be played as it is: {reason}."
