"""The conformance kit on Gemini, through Google's own client."""

from collections.abc import Callable
from pathlib import Path

import pytest

from echo_core.testing.ai_kit import AIProviderTests
from tests.fakes.ai_call import DeclaredSpeech
from tests.fakes.gemini.server import FakeGemini

SAID = "Bread is baked in a small village"


class TestGemini(AIProviderTests):
    cancelled_within_s = 2.0

    @pytest.fixture
    def provider(self, provider):
        return provider

    @pytest.fixture
    def speech(self, gemini: FakeGemini, tmp_path: Path) -> DeclaredSpeech:
        gemini.speak([(1.0, 5.0, SAID)])
        return DeclaredSpeech(tmp_path, 30.0)

    @pytest.fixture
    def spoken_text(self) -> str:
        return SAID

    @pytest.fixture
    def outgoing(self, gemini: FakeGemini) -> Callable[[], int]:
        return lambda: len(gemini.log)
