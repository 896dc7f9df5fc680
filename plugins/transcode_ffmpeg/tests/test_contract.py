"""The transcoder keeps the contract, with the ffmpeg of the system and with the one from pip alone."""

from collections.abc import Iterator

import pytest
from echo_transcode_ffmpeg.config import FfmpegConfig
from echo_transcode_ffmpeg.transcoder import FfmpegTranscoder

from echo_core.plugin_api import Transcoder
from echo_core.testing.transcoder_kit import TranscoderTests


@pytest.fixture(scope="module")
def installed() -> Transcoder:
    return FfmpegTranscoder(FfmpegConfig())


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Transcoder]:
    """Finds no program on PATH."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(tmp_path_factory.mktemp("nothing")))
        yield FfmpegTranscoder(FfmpegConfig())


class TestFfmpeg(TranscoderTests):
    @pytest.fixture
    def transcoder(self, installed: Transcoder) -> Transcoder:
        return installed


class TestWithoutAnyInstalledFfmpeg(TranscoderTests):
    @pytest.fixture
    def transcoder(self, bundled: Transcoder) -> Transcoder:
        return bundled

    async def test_uses_what_pip_brought(self, transcoder: Transcoder) -> None:
        facts = (await transcoder.check()).facts
        assert "imageio_ffmpeg" in str(facts["ffmpeg"])
        assert facts["ffprobe"] == "PyAV"
