"""Entry point of the plugin: registers the transcoder ``ffmpeg``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from echo_core.plugin_api import PluginContext, Transcoder, TranscoderSpec, hookimpl
from echo_transcode_ffmpeg.config import FfmpegConfig


@asynccontextmanager
async def open_transcoder(context: PluginContext) -> AsyncIterator[Transcoder]:
    """Open the transcoder; no program runs before its first call."""
    from echo_transcode_ffmpeg.transcoder import FfmpegTranscoder

    yield FfmpegTranscoder(context.config_as(FfmpegConfig))


@hookimpl
def echo_register_transcoders() -> Sequence[TranscoderSpec]:
    """The transcoder of this plugin."""
    return [
        TranscoderSpec(
            name="ffmpeg",
            open=open_transcoder,
            config_model=FfmpegConfig,
            description="Transcodes with ffmpeg, confined and without network",
            capabilities=frozenset(
                {"package", "posters", "preview", "storyboard", "extract_audio", "extract_subtitles"}
            ),
        )
    ]
