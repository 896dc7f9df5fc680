"""The plugin registers and opens as the kernel would do it."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from echo_transcode_ffmpeg import plugin
from pydantic import ValidationError

from echo_core.plugin_api import PluginContext


class Noon:
    def now(self) -> datetime:
        return datetime(2026, 1, 1, 12, tzinfo=UTC)


async def test_opens_a_transcoder_that_has_what_the_spec_promises(tmp_path: Path) -> None:
    (spec,) = plugin.echo_register_transcoders()
    context = PluginContext(
        plugin="transcode_ffmpeg",
        config=spec.config_model(),
        data_dir=tmp_path,
        routes_url="http://localhost/plugins/transcode_ffmpeg",
        clock=Noon(),
        derive_key=lambda label: bytes(32),
    )
    async with spec.open(context) as transcoder:
        assert spec.capabilities == {
            name
            for name in ("package", "posters", "preview", "storyboard", "extract_audio", "extract_subtitles")
            if getattr(transcoder, f"supports_{name}")
        }


def test_unknown_options_are_refused() -> None:
    (spec,) = plugin.echo_register_transcoders()
    with pytest.raises(ValidationError):
        spec.config_model.model_validate({"prest": "fast"})
