"""kill -9 in the middle of a transcription: what was paid for stays, what was left at Google goes."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from echo_ai_gemini.provider import open_gemini

from tests.fakes.ai_call import StoredCall
from tests.fakes.gemini.server import FakeGemini
from tests.integration.gemini.transcribing import make_context

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[3]
ASK = ":generateContent"
LINES = [(float(at), at + 3.0, f"This is sentence number {at}.") for at in range(0, 300, 5)]


@pytest.fixture
def gemini() -> Iterator[FakeGemini]:
    with FakeGemini.serve() as gemini:
        gemini.speak(LINES)
        yield gemini


def start(gemini: FakeGemini, directory: Path) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "tests.integration.gemini.transcribing", gemini.url, str(directory), "300"]
    return subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("after", [1, 3])
async def test_only_missing_slices_are_asked_for_again(gemini: FakeGemini, tmp_path: Path, after: int) -> None:
    gemini.faults.add("hang", ASK, nth=after + 1)
    first = start(gemini, tmp_path)
    try:
        async with asyncio.timeout(60):
            while not any(one.fault for one in gemini.log):
                assert first.poll() is None
                await asyncio.sleep(0.02)
    finally:
        first.send_signal(signal.SIGKILL)
        first.communicate()
    assert len(StoredCall(tmp_path).remembered()) == after
    (left,) = gemini.files  # the slice that was under way

    second = start(gemini, tmp_path)
    said, _ = await asyncio.to_thread(second.communicate, timeout=60)
    assert second.returncode == 0
    assert json.loads(said) == [text for _, _, text in LINES]
    assert len(gemini.calls(ASK)) == 5 + 1  # five slices, and the one that was cut off
    assert list(gemini.files) == [left]

    in_two_hours = datetime.now(UTC) + timedelta(hours=2)
    async with open_gemini(make_context(gemini.url, tmp_path, in_two_hours)) as provider:
        await provider.check()
    assert gemini.files == {}
