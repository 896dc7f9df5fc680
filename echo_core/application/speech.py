"""The sound of a video as AI providers get it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from echo_core.plugin_api.steps import StepContext
from echo_core.plugin_api.transcoder import ExtractAudioRequest, MediaInfo


class SpeechCuts:
    """``SpeechSource`` of a running step; what is cut goes below ``directory``, each part into a directory of its
    own."""

    def __init__(self, context: StepContext, media: MediaInfo, directory: Path) -> None:
        self._context = context
        self._media = media
        self._directory = directory
        self._cuts = 0

    @property
    def duration_s(self) -> float:
        """Length of the video in seconds; the sound has the same times."""
        return self._media.duration_s

    async def cut(
        self, start_s: float = 0.0, end_s: float | None = None, codec: Literal["wav", "opus"] = "wav"
    ) -> Path:
        """The part from ``start_s`` up to ``end_s`` (None: the end) as 16 kHz mono WAV, or Opus in Ogg (24 kbit/s)."""
        self._cuts += 1
        out_dir = self._directory / f"cut-{self._cuts:03d}"
        out_dir.mkdir(parents=True)
        sound = await self._context.transcoder.extract_audio(
            ExtractAudioRequest(
                path=await self._context.fetch_source(),
                media=self._media,
                out_dir=out_dir,
                start_s=start_s,
                end_s=end_s,
                codec=codec,
            )
        )
        return sound.path
