"""The transcoder keeps the contract, with the ffmpeg of the system and with the one from pip alone."""

from pathlib import Path

import pytest
from echo_transcode_ffmpeg.config import FfmpegConfig
from echo_transcode_ffmpeg.transcoder import FfmpegTranscoder

from echo_core.plugin_api import Transcoder
from echo_core.testing.transcoder_kit import TranscoderTests


class TestFfmpeg(TranscoderTests):
    @pytest.fixture
    def transcoder(self) -> Transcoder:
        return FfmpegTranscoder(FfmpegConfig())


class TestWithoutAnyInstalledFfmpeg(TranscoderTests):
    @pytest.fixture
    def transcoder(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Transcoder:
        monkeypatch.setenv("PATH", str(tmp_path))
        return FfmpegTranscoder(FfmpegConfig())

    async def test_uses_what_pip_brought(self, transcoder: Transcoder) -> None:
        facts = (await transcoder.check()).facts
        assert "imageio_ffmpeg" in str(facts["ffmpeg"])
        assert facts["ffprobe"] == "PyAV"
