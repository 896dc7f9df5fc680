"""The provider, opened as an instance would, on the fake of Gemini."""

import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from echo_ai_gemini.config import GeminiConfig
from echo_ai_gemini.provider import GeminiProvider, open_gemini

from echo_core.plugin_api import PluginContext
from echo_core.testing.manual_clock import ManualClock
from tests.fakes.ai_call import DeclaredSpeech, StoredCall
from tests.fakes.gcs.accounts import Accounts
from tests.fakes.gemini.server import FakeGemini

TODAY = datetime(2026, 11, 28, 12, tzinfo=UTC)


def make_context(
    gemini: FakeGemini, data_dir: Path, *, instance: str = "test", now: datetime = TODAY, **config: Any
) -> PluginContext:
    given = {
        "api_key": gemini.api_key,
        "endpoint": gemini.url,
        "retry_delay_s": 0.0,
        "deadline_s": 20.0,
        "file_deadline_s": 20.0,
    }
    return PluginContext(
        plugin="ai_gemini",
        config=GeminiConfig.model_validate(given | config),
        data_dir=data_dir,
        routes_url="http://127.0.0.1:1/plugins/ai_gemini",
        clock=ManualClock(now),
        derive_key=lambda label: hashlib.sha256(f"{instance}:{label}".encode()).digest(),
    )


@pytest.fixture(scope="module")
def serving() -> Iterator[FakeGemini]:
    with FakeGemini.serve() as gemini:
        yield gemini


@pytest.fixture
def gemini(serving: FakeGemini) -> FakeGemini:
    serving.reset()
    return serving


@pytest.fixture
def vertex(gemini: FakeGemini) -> dict[str, Any]:
    """Settings of Vertex AI."""
    key = Accounts(time.time).info(gemini.url)
    return {"vertex": {"project": gemini.project, "credentials": json.dumps(key)}}


@pytest.fixture
def open_provider(gemini: FakeGemini, tmp_path: Path) -> Callable[..., AbstractAsyncContextManager[GeminiProvider]]:
    """``async with open_provider(**config)``."""
    return lambda **config: open_gemini(make_context(gemini, tmp_path, **config))


@pytest.fixture
async def provider(
    open_provider: Callable[..., AbstractAsyncContextManager[GeminiProvider]],
) -> AsyncIterator[GeminiProvider]:
    async with open_provider() as provider:
        yield provider


@pytest.fixture
def call(tmp_path: Path) -> StoredCall:
    return StoredCall(tmp_path / "call")


@pytest.fixture
def speech(call: StoredCall) -> Callable[[float], DeclaredSpeech]:
    """Sound of so many seconds."""
    return lambda duration_s: DeclaredSpeech(call.scratch, duration_s)
