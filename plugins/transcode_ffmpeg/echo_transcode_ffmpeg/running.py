"""One ffmpeg of a call: progress, limits in proportion to the media, and errors in Echo's words."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from echo_core.plugin_api import MediaInfo, ProgressCallback, ignore_progress
from echo_transcode_ffmpeg import errors
from echo_transcode_ffmpeg.binaries import SOMEBODY_WAITS, Tools, limits
from echo_transcode_ffmpeg.config import GIB, FfmpegConfig
from echo_transcode_ffmpeg.process import Outcome, ProgramTimeoutError, View, run

PROGRESS_INTERVAL_S = 0.1
OUTPUT_FACTOR = 3
"""No single output may be larger than so many times the source, and a gigabyte."""


@dataclass
class Progress:
    """Turns lines of ``-progress`` into fractions of the duration (T4)."""

    duration_s: float
    report: ProgressCallback
    clock: Callable[[], float] = time.monotonic
    _done: float = 0.0
    _reported_at: float | None = None
    _seen: dict[str, str] = field(default_factory=dict)

    def line(self, line: str) -> bool:
        """Take one line; true if ffmpeg came further since the last."""
        key, _, value = line.partition("=")
        if key not in ("out_time_us", "total_size", "frame"):
            return False
        moved = self._seen.get(key) != value
        self._seen[key] = value
        if key == "out_time_us" and value.lstrip("-").isdigit() and self.duration_s > 0:
            self._tell(min(int(value) / 1e6 / self.duration_s, 0.99))
        return moved

    def finish(self) -> None:
        """Report that all is done."""
        self.report(1.0)

    def _tell(self, fraction: float) -> None:
        now = self.clock()
        too_soon = self._reported_at is not None and now - self._reported_at < PROGRESS_INTERVAL_S
        if fraction > self._done and not too_soon:
            self._done, self._reported_at = fraction, now
            self.report(fraction)


@dataclass(frozen=True, kw_only=True)
class Runner:
    """Runs ffmpeg on one source."""

    tools: Tools
    config: FfmpegConfig
    path: Path
    media: MediaInfo

    async def run(
        self,
        argv: Sequence[str],
        *,
        out_dir: Path,
        timeout_s: float,
        doing: str,
        on_progress: ProgressCallback = ignore_progress,
        patience: float = SOMEBODY_WAITS,
    ) -> Outcome:
        """Run ``argv`` (with ``-progress pipe:1``) in ``out_dir`` and return its outcome, exit status 0.

        ``patience``: see ``binaries``.

        Raises what ``errors.run_failed`` and ``errors.timed_out`` say.
        """
        progress = Progress(self.media.duration_s, on_progress)
        try:
            outcome = await run(
                argv,
                cwd=out_dir,
                limits=limits(
                    self.config,
                    cpu_s=timeout_s * (os.cpu_count() or 1),
                    file_bytes=OUTPUT_FACTOR * self.media.size_bytes + GIB,
                    patience=patience,
                ),
                timeout_s=timeout_s,
                view=View(reads=(self.path,), writes=(out_dir,)),
                on_line=progress.line,
                stall_timeout_s=self.config.stall_timeout_s,
            )
        except ProgramTimeoutError as cause:
            raise errors.timed_out(doing, stalled=cause.stalled) from cause
        if outcome.returncode != 0 or errors.lost_output(outcome):
            raise errors.run_failed(outcome, self.path, doing)
        progress.finish()
        return outcome
