"""A process that transcribes on the fake of Gemini: what a test kills between slices.

``python -m tests.integration.gemini.transcribing URL DIRECTORY DURATION_S``; prints the transcript as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from echo_ai_gemini.config import GeminiConfig
from echo_ai_gemini.provider import open_gemini

from echo_core.plugin_api import PluginContext, TranscribeRequest
from echo_core.testing.manual_clock import ManualClock
from tests.fakes.ai_call import DeclaredSpeech, StoredCall
from tests.fakes.gemini.world import API_KEY


def make_context(url: str, directory: Path, now: datetime | None = None) -> PluginContext:
    """The same instance in every process."""
    config = {"api_key": API_KEY, "endpoint": url, "retry_delay_s": 0.0, "slice_s": 60.0, "overlap_s": 5.0}
    return PluginContext(
        plugin="ai_gemini",
        config=GeminiConfig.model_validate(config),
        data_dir=directory,
        routes_url="http://127.0.0.1:1/plugins/ai_gemini",
        clock=ManualClock(now or datetime.now(UTC)),
        derive_key=lambda label: label.encode().ljust(32, b"."),
    )


async def transcribe(url: str, directory: Path, duration_s: float) -> list[str]:
    """The lines, in order."""
    call = StoredCall(directory)
    async with open_gemini(make_context(url, directory)) as provider:
        speech = DeclaredSpeech(call.scratch, duration_s)
        transcript = await provider.transcribe(TranscribeRequest(call=call, speech=speech, language="en"))
    return [segment.text for segment in transcript.segments]


if __name__ == "__main__":
    lines = asyncio.run(transcribe(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])))
    sys.stdout.write(json.dumps(lines) + "\n")
