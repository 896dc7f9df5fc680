"""The conformance kit on the provider that comes with Echo, with real speech."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from echo_core.testing.ai_kit import AIProviderTests
from tests.fakes.speech import clips, joined

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not clips(), reason="needs pocketsphinx-testdata: make system-packages"),
]


class TestLocal(AIProviderTests):
    cancelled_within_s = 3.0
    extractive = True

    @pytest.fixture
    def provider(self, provider):
        return provider

    @pytest.fixture
    def speech(self, speech: Callable[[bytes], Any]) -> Any:
        return speech(joined(clips()))

    @pytest.fixture
    def spoken_text(self) -> str:
        return "respectable"
