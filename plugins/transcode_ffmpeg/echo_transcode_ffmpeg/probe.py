"""Read a file's facts: run the probe, refuse what cannot be used, and turn its JSON into ``MediaInfo``."""

from __future__ import annotations

import asyncio
import json
import math
import sys
import sysconfig
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from babel import Locale, UnknownLocaleError
from babel.core import get_global

from echo_core.plugin_api import AudioStream, InspectRequest, MediaInfo, SubtitleStream, VideoStream
from echo_transcode_ffmpeg import arguments, errors
from echo_transcode_ffmpeg.binaries import Tools, limits
from echo_transcode_ffmpeg.config import FfmpegConfig
from echo_transcode_ffmpeg.process import OutputTooLargeError, ProgramTimeoutError, View, run

PYAV_PROBE = Path(__file__).with_name("pyav_probe.py")
VARIABLE_FPS_TOLERANCE = 0.03
"""Average and nominal rate further apart than this: frames come at uneven times."""
NO_FPS = 25.0
"""Assumed for a picture whose rate the container does not tell (a single frame)."""
MAX_SOUNDS = 8
MAX_SUBTITLES = 16
MAX_TITLE_CHARS = 100
NO_LANGUAGES = frozenset({"", "und", "mis", "mul", "zxx"})
_ALIASES: Mapping[str, str] = get_global("language_aliases")
MAX_PLAUSIBLE_FPS = 1000.0

NOWHERE = Path("/")
"""Working directory of what writes no file."""

Json = dict[str, Any]


async def probe(tools: Tools, config: FfmpegConfig, path: Path) -> Json:
    """The probe's JSON for a file. Raises ``InvalidRequestError`` for what is not readable media."""
    if (await asyncio.to_thread(path.stat)).st_size == 0:
        raise errors.unreadable("The file is empty.", "media_empty", "Upload the file again.")
    if tools.ffprobe is not None:
        options = [text for name, value in arguments.PROBE.items() for text in (f"-{name}", value)]
        argv = [str(tools.ffprobe), "-hide_banner", "-v", "error", *options]
        argv += ["-show_format", "-show_streams", "-of", "json", arguments.file_url(path)]
    else:
        argv = [sys.executable, "-I", str(PYAV_PROBE), json.dumps(arguments.PROBE), arguments.file_url(path)]
    timeout_s = config.probe_timeout_s
    view = View(reads=(path,), runs=() if tools.ffprobe is not None else _python())
    try:
        outcome = await run(argv, cwd=NOWHERE, limits=limits(config, cpu_s=timeout_s), timeout_s=timeout_s, view=view)
    except (ProgramTimeoutError, OutputTooLargeError) as cause:
        raise errors.unreadable(
            "Reading the facts of the file took too long.",
            "media_unreadable",
            "The file may be damaged: export it again as MP4 and upload that.",
        ) from cause
    if outcome.returncode != 0:
        raise errors.inspection_failed(outcome, path, await asyncio.to_thread(_head, path))
    found: Json = json.loads(outcome.stdout)
    container = found.setdefault("format", {})
    if not _duration(found):
        container["duration"] = str(await _count_duration(tools, config, path))
    return found


def _python() -> tuple[Path, ...]:
    """Where this interpreter and the installed packages lie: code, no configuration."""
    found = sysconfig.get_paths()
    libraries = {found[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    if libdir := sysconfig.get_config_var("LIBDIR"):
        libraries.add(libdir)
    return (PYAV_PROBE, Path(sys.prefix, "pyvenv.cfg"), *(Path(library) for library in sorted(libraries)))


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(8)


async def _count_duration(tools: Tools, config: FfmpegConfig, path: Path) -> float:
    """Seconds, by reading the file through without decoding: what browsers record does not say how long it is."""
    times = [0]

    def line(text: str) -> bool:
        key, _, value = text.partition("=")
        if key == "out_time_us" and value.isdigit():
            times.append(int(value))
        return key == "out_time_us"

    options = [text for name, value in arguments.INPUT.items() for text in (f"-{name}", value)]
    argv = [*arguments.command(tools.ffmpeg), *arguments.PROGRESS, *options, "-i", arguments.file_url(path)]
    argv += ["-map", "0:V:0?", "-map", "0:a:0?", "-c", "copy", "-f", "null", "-"]
    timeout_s = config.probe_timeout_s
    try:
        await run(
            argv,
            cwd=NOWHERE,
            limits=limits(config, cpu_s=timeout_s),
            timeout_s=timeout_s,
            view=View(reads=(path,)),
            on_line=line,
        )
    except ProgramTimeoutError:
        return 0.0
    return max(times) / 1e6


def media_info(found: Json, request: InspectRequest) -> MediaInfo:
    """Facts from the probe's JSON. Raises ``InvalidRequestError`` for media beyond the limits of the request."""
    streams: list[Json] = found.get("streams", [])
    container: Json = found.get("format", {})
    if len(streams) > request.max_streams:
        raise errors.unreadable(
            f"The file has {len(streams)} streams; at most {request.max_streams} are accepted.",
            "media_too_many_streams",
            "Export it with one picture and the sound tracks that viewers need.",
        )
    pictures = [s for s in streams if s.get("codec_type") == "video" and not _is_cover(s) and _int(s.get("width"))]
    start_s = _float(container.get("start_time")) or 0.0
    video = _video(pictures[0], start_s) if pictures else None
    warnings: list[str] = []
    audio = _sounds(streams, start_s, warnings)
    subtitles = _subtitles(streams, warnings)
    if video is not None and not arguments.can_decode(video.codec):
        raise errors.unreadable(
            f"The picture is {video.codec or 'of an unknown kind'}, which is not accepted.",
            "media_codec_unsupported",
            "Export the video as MP4 (H.264, AAC) and upload that.",
        )
    if len(pictures) > 1:
        warnings.append(f"The file has {len(pictures)} pictures; only the first is used.")
    if video is None and not audio:
        raise errors.unreadable(
            "The file has neither picture nor sound that can be read.",
            "media_no_streams",
            "Upload a video or a sound file; subtitles and pictures alone cannot be played.",
        )
    duration_s = _duration(found)
    _check_limits(video, duration_s, request)
    return MediaInfo(
        container=str(container.get("format_name", "")),
        duration_s=duration_s,
        size_bytes=request.path.stat().st_size,
        bitrate_bps=_int(container.get("bit_rate")),
        video=video,
        audio=audio,
        subtitles=subtitles,
        cover=any(_is_cover(s) and arguments.can_decode(str(s.get("codec_name", ""))) for s in streams),
        warnings=tuple(warnings),
    )


def _check_limits(video: VideoStream | None, duration_s: float, request: InspectRequest) -> None:
    if duration_s > request.max_duration_s:
        raise errors.unreadable(
            f"The file is {duration_s / 60:.0f} minutes long; at most {request.max_duration_s / 60:.0f} are accepted.",
            "media_too_long",
            "Cut it into parts, or ask the operator for a higher limit.",
        )
    if video is not None and video.width * video.height > request.max_pixels:
        raise errors.unreadable(
            f"The picture is {video.width}x{video.height}; at most {request.max_pixels} pixels are accepted.",
            "media_too_large",
            "Export it in a smaller size, such as 3840x2160.",
        )
    if duration_s <= 0:
        raise errors.unreadable(
            "The file does not contain any playable time.",
            "media_empty",
            "Check that the recording was finished, then upload it again.",
        )


def _video(stream: Json, container_start_s: float) -> VideoStream:
    rotation = _rotation(stream)
    aspect = float(_fraction(stream.get("sample_aspect_ratio")) or 1)
    width, height = max(1, round(int(stream["width"]) * aspect)), int(stream["height"])
    if rotation % 180 == 90:
        width, height = height, width
    average, nominal = _fraction(stream.get("avg_frame_rate")), _fraction(stream.get("r_frame_rate"))
    average, nominal = average or nominal, nominal or average
    variable = average is not None and nominal is not None and abs(average / nominal - 1) > VARIABLE_FPS_TOLERANCE
    # The nominal rate of a steady stream is the exact one; that of an unsteady one says little.
    fps = float((average if variable else nominal) or NO_FPS)
    return VideoStream(
        codec=str(stream.get("codec_name", "")),
        width=width,
        height=height,
        fps=min(fps, MAX_PLAUSIBLE_FPS),
        profile=str(stream.get("profile", "")),
        level=_int(stream.get("level")) or 0,
        pixel_format=str(stream.get("pix_fmt", "")),
        bitrate_bps=_int(stream.get("bit_rate")),
        rotation_deg=rotation,
        mirrored=_mirrored(stream),
        sample_aspect_ratio=aspect,
        transfer=str(stream.get("color_transfer", "")),
        interlaced=stream.get("field_order", "progressive") not in ("progressive", "unknown", ""),
        variable_fps=variable,
        start_s=(_float(stream.get("start_time")) or 0.0) - container_start_s,
    )


def _sounds(streams: list[Json], container_start_s: float, warnings: list[str]) -> tuple[AudioStream, ...]:
    """All that can be decoded, the default one first."""
    found: list[tuple[bool, AudioStream]] = []
    sounds = [stream for stream in streams if stream.get("codec_type") == "audio"]
    for index, stream in enumerate(sounds):
        if not _int(stream.get("channels")):
            continue
        sound = _audio(stream, container_start_s, index)
        if arguments.can_decode(sound.codec):
            found.append((not stream.get("disposition", {}).get("default"), sound))
        else:
            which = "The sound" if len(sounds) == 1 else f"Sound track {index + 1}"
            warnings.append(f"{which} is {sound.codec or 'of an unknown kind'}, which is not accepted: it is left out.")
    if len(found) > MAX_SOUNDS:
        warnings.append(f"The file has {len(found)} sound tracks; only {MAX_SOUNDS} are kept.")
    return tuple(sound for _, sound in sorted(found, key=lambda pair: pair[0])[:MAX_SOUNDS])


def _subtitles(streams: list[Json], warnings: list[str]) -> tuple[SubtitleStream, ...]:
    """All that is text; pictures of text cannot be carried over."""
    subtitles = [stream for stream in streams if stream.get("codec_type") == "subtitle"]
    texts = [(n, stream) for n, stream in enumerate(subtitles) if stream.get("codec_name") in arguments.TEXT_SUBTITLES]
    if left_out := len(subtitles) - len(texts):
        warnings.append(f"{left_out} of {len(subtitles)} subtitle tracks are pictures, not text: they are left out.")
    return tuple(
        SubtitleStream(
            codec=str(stream["codec_name"]),
            language=_language(stream),
            title=_title(stream),
            forced=bool(stream.get("disposition", {}).get("forced")),
            index=index,
        )
        for index, stream in texts[:MAX_SUBTITLES]
    )


def _language(stream: Json) -> str:
    """BCP 47 for what containers say, which is ISO 639-2 mostly (``eng``, ``ger``); empty for what is no language."""
    said = str(stream.get("tags", {}).get("language", "")).strip().replace("_", "-")
    if said.lower() in NO_LANGUAGES:
        return ""
    try:
        return str(Locale.parse(_ALIASES.get(said.lower(), said), sep="-")).replace("_", "-")
    except (ValueError, UnknownLocaleError):
        return ""


def _title(stream: Json) -> str:
    """What the file calls a track, else its language in its own words."""
    if said := str(stream.get("tags", {}).get("title", "")).strip():
        return said[:MAX_TITLE_CHARS]
    language = _language(stream)
    name = Locale.parse(language, sep="-").get_display_name() if language else None
    return name[:1].upper() + name[1:] if name else ""


def _audio(stream: Json, container_start_s: float, index: int) -> AudioStream:
    return AudioStream(
        index=index,
        title=_title(stream),
        codec=str(stream.get("codec_name", "")),
        channels=int(stream["channels"]),
        sample_rate_hz=_int(stream.get("sample_rate")) or 0,
        profile=str(stream.get("profile", "")),
        bitrate_bps=_int(stream.get("bit_rate")),
        language=_language(stream),
        start_s=(_float(stream.get("start_time")) or 0.0) - container_start_s,
    )


def _rotation(stream: Json) -> int:
    """Degrees, 0 to 359, to the next quarter turn, counter-clockwise as ffmpeg counts."""
    for side_data in stream.get("side_data_list", ()):
        if "rotation" in side_data:
            return round(float(side_data["rotation"]) / 90) * 90 % 360
    return 0


def _mirrored(stream: Json) -> bool:
    """Whether the display matrix turns left to right: its determinant is negative."""
    for side_data in stream.get("side_data_list", ()):
        rows = str(side_data.get("displaymatrix", "")).strip().splitlines()
        if len(rows) >= 2:
            a, b = (int(number) for number in rows[0].split()[1:3])
            c, d = (int(number) for number in rows[1].split()[1:3])
            return a * d - b * c < 0
    return False


def _duration(found: Json) -> float:
    """Of the container, or of its longest stream where that does not know; 0 if neither does."""
    whole = _float(found["format"].get("duration"))
    if whole:
        return whole
    streams = [stream for stream in found.get("streams", []) if not _is_cover(stream)]
    return max((_float(stream.get("duration")) or 0.0 for stream in streams), default=0.0)


def _is_cover(stream: Json) -> bool:
    return bool(stream.get("disposition", {}).get("attached_pic"))


def _fraction(text: object) -> Fraction | None:
    try:
        value = Fraction(str(text).replace(":", "/"))
    except (ValueError, ZeroDivisionError):
        return None
    return value if value > 0 else None


def _float(text: object) -> float | None:
    try:
        value = float(str(text))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _int(text: object) -> int | None:
    value = _float(text)
    return None if value is None else int(value)
