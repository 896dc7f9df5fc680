"""What of its confinement this system permits, asked once: told to operators, and refused where it was required."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path

from echo_core.plugin_api import UnavailableError
from echo_transcode_ffmpeg.config import FfmpegConfig
from echo_transcode_ffmpeg.process import Limits, ProgramTimeoutError, run

_log = logging.getLogger("echo.transcoder")

TIMEOUT_S = 20.0


@dataclass(frozen=True, kw_only=True)
class Confinement:
    """What holds for every program of this process."""

    network: bool
    """There is none: by a namespace, or because sockets are refused."""
    landlock: int
    """Version of the kernel's Landlock that hides all files but those of a call; 0: they are not hidden."""
    calls: bool

    def warnings(self, config: FfmpegConfig) -> tuple[str, ...]:
        """One sentence for each layer that is wanted and missing."""
        missing = (
            (config.sandbox_network, self.network, "ffmpeg could reach the network"),
            (config.sandbox_files, bool(self.landlock), "ffmpeg could read what this user can read (no Landlock)"),
            (config.sandbox_calls, self.calls, "ffmpeg could start programs and make sockets (no seccomp)"),
        )
        return tuple(f"Less confined: {what}." for wanted, held, what in missing if wanted != "off" and not held)


async def find_confinement(config: FfmpegConfig, limits: Limits) -> Confinement:
    """Try it. Raises ``UnavailableError`` (``sandbox_unavailable``) where a layer that is required is not permitted."""
    try:
        outcome = await run([], cwd=Path("/"), limits=limits, timeout_s=TIMEOUT_S)
        held = json.loads(outcome.stdout)
        found = Confinement(network=bool(held["network"]), landlock=int(held["files"]), calls=bool(held["calls"]))
    except (ProgramTimeoutError, ValueError, KeyError) as error:
        raise UnavailableError(
            "ffmpeg cannot be confined as it is required on this system.",
            code="sandbox_unavailable",
            remedy="Permit user namespaces, Landlock and seccomp, or set the plugins.transcode_ffmpeg.sandbox_* "
            'that fails to "auto".',
        ) from error
    for warning in found.warnings(config):
        _log.warning("sandbox.degraded", extra={"detail": warning})
    return found
