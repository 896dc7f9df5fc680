"""Find ffmpeg and ffprobe, and learn once what they can do."""

from __future__ import annotations

import importlib.util
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from echo_core.plugin_api import UnavailableError
from echo_transcode_ffmpeg.config import GIB, FfmpegConfig
from echo_transcode_ffmpeg.process import Limits, Outcome, ProgramTimeoutError, run
from echo_transcode_ffmpeg.sandbox import Confinement, find_confinement

OLDEST_VERSION = (5, 0)
"""Of ffmpeg and ffprobe: the HLS muxer's options of older ones are not tested."""
VERSION_TIMEOUT_S = 20.0
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


def limits(config: FfmpegConfig, *, cpu_s: float, file_bytes: int = GIB, heavy: bool = False) -> Limits:
    """The limits of one program, from the configuration and what this call may cost. ``heavy``: an encode, which
    stands back from everything; what is quick stands back only half as far, so that encodes do not hold it up."""
    return Limits(
        memory_bytes=config.memory_limit_bytes,
        cpu_s=int(cpu_s) + 1,
        file_bytes=file_bytes,
        nice=config.nice if heavy else config.nice // 2,
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
    outcome = await _run(program, "-version", config)
    found = _VERSION.match(outcome.stdout.decode(errors="replace")) if outcome else None
    return found[1] if found else None


async def _ask(program: Path, question: str, config: FfmpegConfig) -> str:
    outcome = await _run(program, question, config)
    return outcome.stdout.decode(errors="replace") if outcome else ""


async def _run(program: Path, question: str, config: FfmpegConfig) -> Outcome | None:
    try:
        outcome = await run(
            [str(program), question],
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
