"""The fake AI provider keeps the contract that the real ones keep; so does one with a single capability."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from echo_core.plugin_api import (
    AIProvider,
    Capability,
    EmbedRequest,
    QuotaExceededError,
    SpeechSource,
    TranscribeRequest,
    TranslateRequest,
    Translation,
    UnavailableError,
    Usage,
)
from echo_core.testing.ai_kit import AIProviderTests
from echo_core.testing.fake_ai import FakeAICall, FakeAIProvider, FakeSpeech, spoken


class TestFakeAIProvider(AIProviderTests):
    cancelled_within_s = 30.0  # it waits for nothing: only a busy machine takes so long

    @pytest.fixture
    def provider(self) -> AIProvider:
        return FakeAIProvider()

    @pytest.fixture
    def speech(self, tmp_path: Path) -> SpeechSource:
        return FakeSpeech(directory=tmp_path)

    @pytest.fixture
    def spoken_text(self) -> str:
        return " ".join(segment.text for segment in spoken(70.0))

    @pytest.fixture
    def outgoing(self, provider: AIProvider) -> Callable[[], int] | None:
        assert isinstance(provider, FakeAIProvider)
        return lambda: provider.outgoing


class TranslatesOnly(AIProvider):
    """What the smallest plugin looks like: free, and with one capability."""

    capabilities = frozenset({Capability.TRANSLATE})

    async def translate(self, request: TranslateRequest) -> Translation:
        return Translation(texts=tuple(text.upper() for text in request.texts), usage=Usage(model="upper"))


class TestOneCapability(AIProviderTests):
    @pytest.fixture
    def provider(self) -> AIProvider:
        return TranslatesOnly()


def wav_files(directory: Path) -> list[Path]:
    return list(directory.glob("*.wav"))


async def test_fails_as_told(tmp_path: Path) -> None:
    provider = FakeAIProvider(failures={"embed": UnavailableError("busy")})
    with pytest.raises(UnavailableError, match="busy"):
        await provider.embed(EmbedRequest(call=FakeAICall(scratch=tmp_path), texts=("a",), purpose="query"))
    assert provider.calls == ["embed"]
    assert provider.outgoing == 0


async def test_answers_as_told(tmp_path: Path) -> None:
    provider = FakeAIProvider(results={"translate": Translation(texts=())})
    request = TranslateRequest(
        call=FakeAICall(scratch=tmp_path), texts=("a",), source_language="en", target_language="de"
    )
    assert (await provider.translate(request)).texts == ()


async def test_a_budget_for_two_parts_of_three_leaves_two_for_the_second_try(tmp_path: Path) -> None:
    provider = FakeAIProvider(cost_usd=1.0)
    speech = FakeSpeech(directory=tmp_path)
    first = FakeAICall(scratch=tmp_path, budget_usd=2.5)
    with pytest.raises(QuotaExceededError) as caught:
        await provider.transcribe(TranscribeRequest(call=first, speech=speech))
    assert caught.value.code == "ai_budget_video"
    assert [reservation.state for reservation in first.reservations] == ["settled", "settled"]
    second = FakeAICall(scratch=tmp_path, memory=first.memory)
    result = await provider.transcribe(TranscribeRequest(call=second, speech=speech))
    assert result.segments == spoken(speech.duration_s)
    assert second.spent_usd == 1.0
    assert len(second.recalled) == 2
    assert wav_files(tmp_path) == []


async def test_what_is_cancelled_in_the_middle_counts_as_spent(tmp_path: Path) -> None:
    provider = FakeAIProvider(hold=asyncio.Event(), cost_usd=1.0)
    call = FakeAICall(scratch=tmp_path)
    task = asyncio.create_task(provider.embed(EmbedRequest(call=call, texts=("a",), purpose="query")))
    while not provider.outgoing:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [reservation.state for reservation in call.reservations] == ["left"]
    assert call.spent_usd == 1.0


async def test_only_json_is_remembered(tmp_path: Path) -> None:
    call = FakeAICall(scratch=tmp_path)
    with pytest.raises(ValueError, match="smaller parts"):
        await call.remember("key", {"text": "x" * (1 << 20)})
    with pytest.raises(ValueError, match="JSON"):
        await call.remember("key", {"number": float("nan")})
    assert call.memory == {}
