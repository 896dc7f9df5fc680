"""The transcoder: requests in, files out; every piece of work in a module of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from echo_core.plugin_api import (
    EstimateRequest,
    ExtractAudioRequest,
    ExtractedAudio,
    ExtractSubtitlesRequest,
    InspectRequest,
    LadderRequest,
    LadderResult,
    MediaInfo,
    Needs,
    PackageRequest,
    PackageResult,
    Picture,
    PlanLadder,
    Poster,
    PosterRequest,
    PreviewRequest,
    Rung,
    Storyboard,
    StoryboardRequest,
    Subtitles,
    Transcoder,
    TranscoderHealth,
    TuneRequest,
)
from echo_transcode_ffmpeg import encode, estimate, package, pictures, plan, posters, probe, tune
from echo_transcode_ffmpeg.binaries import Tools, find_tools
from echo_transcode_ffmpeg.config import FfmpegConfig


class FfmpegTranscoder(Transcoder):
    """Runs ffmpeg as confined programs. The programs are looked for at the first call, or by ``check``."""

    supports_package: ClassVar[bool] = True
    supports_posters: ClassVar[bool] = True
    supports_preview: ClassVar[bool] = True
    supports_storyboard: ClassVar[bool] = True
    supports_extract_audio: ClassVar[bool] = True
    supports_extract_subtitles: ClassVar[bool] = True

    def __init__(self, config: FfmpegConfig) -> None:
        self._config = config
        self._tools: Tools | None = None

    async def _found(self) -> Tools:
        if self._tools is None:
            self._tools = await find_tools(self._config)
        return self._tools

    async def inspect(self, request: InspectRequest) -> MediaInfo:
        """Read the facts of a file (T2)."""
        tools = await self._found()
        path = _local(request.path)
        found = await probe.probe(tools, self._config, path)
        return probe.media_info(found, replace(request, path=path))

    def plan_ladder(self, request: PlanLadder) -> tuple[Rung, ...]:
        """The rungs to encode, highest first (T8)."""
        return plan.plan_ladder(request, self._config.codecs)

    async def tune_ladder(self, request: TuneRequest) -> tuple[Rung, ...]:
        """The rungs with the rate factor that suits what the video shows."""
        _local(request.path)
        return await tune.tune_ladder(await self._found(), self._config, request)

    def can_cut(self, media: MediaInfo) -> bool:
        """Whether parts of this source can be encoded one by one (T11)."""
        return plan.can_cut(media)

    def estimate(self, request: EstimateRequest) -> Needs:
        """What a call takes: the contract's own arithmetic for the disk, measured memory."""
        return replace(super().estimate(request), memory_bytes=estimate.memory_bytes(self._config, request))

    async def encode_ladder(self, request: LadderRequest) -> LadderResult:
        """Encode all rungs in one decode (T3 to T7)."""
        _local(request.path)
        return await encode.encode_ladder(await self._found(), self._config, request)

    async def package(self, request: PackageRequest) -> PackageResult:
        """Copy the source into playable form (T9)."""
        _local(request.path)
        return await package.package(await self._found(), self._config, request)

    async def posters(self, request: PosterRequest) -> tuple[Poster, ...]:
        """Still pictures from all over the video."""
        _local(request.path)
        return await posters.posters(await self._found(), self._config, request)

    async def preview(self, request: PreviewRequest) -> Picture:
        """An animated WebP."""
        _local(request.path)
        return await pictures.preview(await self._found(), self._config, request)

    async def storyboard(self, request: StoryboardRequest) -> Storyboard:
        """The pictures of the seek bar."""
        _local(request.path)
        return await pictures.storyboard(await self._found(), self._config, request)

    async def extract_audio(self, request: ExtractAudioRequest) -> ExtractedAudio:
        """The sound, for speech recognition."""
        _local(request.path)
        return await pictures.extract_audio(await self._found(), self._config, request)

    async def extract_subtitles(self, request: ExtractSubtitlesRequest) -> tuple[Subtitles, ...]:
        """The subtitles as WebVTT."""
        _local(request.path)
        return await pictures.extract_subtitles(await self._found(), self._config, request)

    async def check(self) -> TranscoderHealth:
        """Versions and capabilities; raises ``UnavailableError`` with a remedy if it cannot work."""
        self._tools = tools = await find_tools(self._config)
        warnings = list(tools.confinement.warnings(self._config))
        if not tools.can_tonemap:
            warnings.append("This ffmpeg cannot convert HDR: such videos will look pale.")
        return TranscoderHealth(
            facts={
                "ffmpeg": str(tools.ffmpeg),
                "ffmpeg_version": tools.ffmpeg_version,
                "ffprobe": str(tools.ffprobe) if tools.ffprobe else "PyAV",
                "encoders": sorted(tools.encoders & {"libx264", "aac", "libsvtav1", "libx265"}),
                "tonemap": tools.can_tonemap,
                "without_network": tools.confinement.network,
                "landlock": tools.confinement.landlock,
                "seccomp": tools.confinement.calls,
            },
            warnings=tuple(warnings),
        )


def _local(path: Path) -> Path:
    """T1: ffmpeg runs in another directory, where a relative path would mean another file."""
    if not path.is_absolute():
        raise ValueError(f"the path must be absolute: {path}")
    return path
