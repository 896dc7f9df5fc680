"""Find ffmpeg and ffprobe, and learn once what they can do."""

from __future__ import annotations

import importlib.util
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from echo_core.plugin_api import Codec, Rung, UnavailableError
from echo_transcode_ffmpeg.config import GIB, FfmpegConfig
from echo_transcode_ffmpeg.encoders import encoder_options
from echo_transcode_ffmpeg.process import Limits, Outcome, ProgramTimeoutError, run
from echo_transcode_ffmpeg.sandbox import Confinement, find_confinement

OLDEST_VERSION = (5, 0)
"""Of ffmpeg and ffprobe: the HLS muxer's options of older ones are not tested."""
VERSION_TIMEOUT_S = 20.0
TRIAL_FPS = 10
SOMEBODY_WAITS, PICTURES, ENCODES = 0.25, 0.7, 1.0
"""How far programs stand back: what a video needs to be watched not far, long encodes behind everything."""
REQUIRED_ENCODERS = frozenset({"libx264", "aac"})
_VERSION = re.compile(r"^ff\w+ version n?(\S+)")
_NUMBERS = re.compile(r"(\d+)\.(\d+)")


@dataclass(frozen=True, kw_only=True)
class Tools:
    """The programs of this plugin. ``ffprobe`` None: PyAV probes, in a process of its own."""

    ffmpeg: Path
    ffmpeg_version: str
    ffprobe: Path | None
    encoders: frozenset[str]
    filters: frozenset[str]
    confinement: Confinement

    @property
    def can_tonemap(self) -> bool:
        """Whether HDR can be turned into what an ordinary screen shows."""
        return {"zscale", "tonemap"} <= self.filters


def limits(config: FfmpegConfig, *, cpu_s: float, file_bytes: int = GIB, patience: float = SOMEBODY_WAITS) -> Limits:
    """The limits of one program, from the configuration and what this call may cost. ``patience``: how far it stands
    back from the others, 0 to 1."""
    return Limits(
        memory_bytes=config.memory_limit_bytes,
        cpu_s=int(cpu_s) + 1,
        file_bytes=file_bytes,
        nice=round(config.nice * patience),
        network=config.sandbox_network,
        files=config.sandbox_files,
        calls=config.sandbox_calls,
    )


async def find_tools(config: FfmpegConfig) -> Tools:
    """Choose the programs and ask them for their capabilities.

    Raises ``UnavailableError`` with a remedy when there is no ffmpeg that can be used, or confined as required.
    """
    confinement = await find_confinement(config, limits(config, cpu_s=VERSION_TIMEOUT_S))
    ffmpeg, version = await _choose_ffmpeg(config)
    encoders = _names(await _ask(ffmpeg, "-encoders", config), flags=6)
    missing = REQUIRED_ENCODERS - encoders
    if missing:
        raise UnavailableError(
            f"This ffmpeg ({ffmpeg}) lacks the encoders {', '.join(sorted(missing))}.",
            code="ffmpeg_incomplete",
            remedy="Install a complete ffmpeg, or remove it from PATH so that the bundled one is used.",
        )
    for codec in config.codecs:
        if codec != "h264" and not await _can_encode(ffmpeg, codec, config):
            raise UnavailableError(
                f"This ffmpeg ({ffmpeg}, {version}) cannot make {codec} with keyframes where they are wanted.",
                code="ffmpeg_incomplete",
                remedy="Name a newer ffmpeg in plugins.transcode_ffmpeg.ffmpeg, such as the one of the Python package "
                f"imageio-ffmpeg, or remove {codec} from plugins.transcode_ffmpeg.codecs.",
            )
    filters = _names(await _ask(ffmpeg, "-filters", config), flags=3)
    return Tools(
        ffmpeg=ffmpeg,
        ffmpeg_version=version,
        ffprobe=await _choose_ffprobe(config),
        encoders=encoders,
        filters=filters,
        confinement=confinement,
    )


async def _choose_ffmpeg(config: FfmpegConfig) -> tuple[Path, str]:
    if config.ffmpeg is not None:
        version = await _version(config.ffmpeg.absolute(), config)
        if version is None:
            raise UnavailableError(
                f"The configured ffmpeg ({config.ffmpeg}) cannot be run.",
                code="ffmpeg_missing",
                remedy="Correct plugins.transcode_ffmpeg.ffmpeg, or remove it to have one found. It must run confined: "
                "its libraries beside it or where the system keeps them, and without starting other programs.",
            )
        return config.ffmpeg.absolute(), version
    for candidate in (_on_path("ffmpeg"), _bundled()):
        version = await _version(candidate, config) if candidate else None
        if candidate and version and _recent(version):
            return candidate, version
    raise UnavailableError(
        "There is no ffmpeg that can be used.",
        code="ffmpeg_missing",
        remedy="Install ffmpeg 5.0 or newer, or the Python package imageio-ffmpeg.",
    )


async def _can_encode(ffmpeg: Path, codec: Codec, config: FfmpegConfig) -> bool:
    """Whether it has the encoder, and that one begins a group of pictures where it is told to: those that do not cannot
    keep to the segments of other renditions."""
    rung = Rung(name="trial", width=128, height=128, fps=TRIAL_FPS, max_bitrate_bps=1_000_000, codec=codec)
    arguments = ["-nostdin", "-v", "error", "-f", "lavfi", "-i", f"testsrc2=s=128x128:r={TRIAL_FPS}:d=1"]
    arguments += ["-pix_fmt", "yuv420p", "-g", "1000", "-force_key_frames", "0,0.45"]
    for name, value in encoder_options(config, rung, 1).items():
        arguments += [f"-{name}", str(value)]
    outcome = await _run(ffmpeg, config, *arguments, "-movflags", "empty_moov+frag_keyframe", "-f", "mp4", "-")
    return outcome is not None and outcome.stdout.count(b"moof") == 2


async def _choose_ffprobe(config: FfmpegConfig) -> Path | None:
    if config.ffprobe is not None:
        if await _version(config.ffprobe.absolute(), config) is None:
            raise UnavailableError(
                f"The configured ffprobe ({config.ffprobe}) cannot be run.",
                code="ffprobe_missing",
                remedy="Correct plugins.transcode_ffmpeg.ffprobe, or remove it to have one found.",
            )
        return config.ffprobe.absolute()
    candidate = _on_path("ffprobe")
    version = await _version(candidate, config) if candidate else None
    return candidate if version and _recent(version) else None


def _on_path(name: str) -> Path | None:
    found = shutil.which(name)
    return Path(found).absolute() if found else None


def _bundled() -> Path | None:
    """The program of the wheel. Its own ``get_ffmpeg_exe`` would run it, with all the secrets of our environment."""
    wheel = importlib.util.find_spec("imageio_ffmpeg")
    if wheel is None or wheel.origin is None:
        return None
    programs = sorted(Path(wheel.origin).parent.glob("binaries/ffmpeg-*"))
    return programs[0].absolute() if programs else None  # None: a platform without a wheel


def _recent(version: str) -> bool:
    """A build without a number (``N-121000-gabcdef``) comes from the development tree and counts as new."""
    numbers = _NUMBERS.match(version)
    return numbers is None or (int(numbers[1]), int(numbers[2])) >= OLDEST_VERSION


async def _version(program: Path, config: FfmpegConfig) -> str | None:
    outcome = await _run(program, config, "-version")
    found = _VERSION.match(outcome.stdout.decode(errors="replace")) if outcome else None
    return found[1] if found else None


async def _ask(program: Path, question: str, config: FfmpegConfig) -> str:
    outcome = await _run(program, config, question)
    return outcome.stdout.decode(errors="replace") if outcome else ""


async def _run(program: Path, config: FfmpegConfig, *arguments: str) -> Outcome | None:
    try:
        outcome = await run(
            [str(program), *arguments],
            cwd=Path("/"),
            limits=limits(config, cpu_s=VERSION_TIMEOUT_S),
            timeout_s=VERSION_TIMEOUT_S,
        )
    except ProgramTimeoutError:
        return None
    return outcome if outcome.returncode == 0 else None


def _names(listing: str, *, flags: int) -> frozenset[str]:
    """Names from ``-encoders`` or ``-filters``: lines of ``FLAGS name description`` with so many flags at least."""
    rows = (line.split() for line in listing.splitlines())
    return frozenset(row[1] for row in rows if len(row) > 1 and len(row[0]) in (flags, flags - 1) and row[1] != "=")
