from __future__ import annotations

import wave
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import pytest
from echo_ai_local.config import LocalAIConfig
from echo_ai_local.provider import LocalAIProvider

from echo_core.plugin_api.json import JsonObject

RATE = 16_000


class Call:
    """Keeps what is remembered, and the progress."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.kept: dict[str, JsonObject] = {}
        self.progress: list[float] = []
        self.on_progress: Callable[[], None] = lambda: None

    async def recall(self, key: str) -> JsonObject | None:
        return self.kept.get(key)

    async def remember(self, key: str, value: JsonObject) -> None:
        self.kept[key] = value

    def report_progress(self, fraction: float) -> None:
        self.progress.append(fraction)
        self.on_progress()

    @asynccontextmanager
    async def reserve(self, at_most: object) -> AsyncIterator[None]:
        raise AssertionError("nothing here costs anything")
        yield


class Speech:
    """Samples of 16 bits, cut into WAV files."""

    def __init__(self, pcm: bytes, scratch: Path) -> None:
        self.pcm, self.scratch = pcm, scratch
        self.duration_s = len(pcm) / 2 / RATE
        self.cuts: list[float] = []

    async def cut(
        self, start_s: float = 0.0, end_s: float | None = None, codec: Literal["wav", "opus"] = "wav"
    ) -> Path:
        self.cuts.append(start_s)
        path = self.scratch / f"{len(self.cuts)}-{id(self)}.wav"
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE)
            file.writeframes(self.pcm[int(start_s * RATE) * 2 : None if end_s is None else int(end_s * RATE) * 2])
        return path


@pytest.fixture
def call(tmp_path: Path) -> Call:
    return Call(tmp_path)


@pytest.fixture
def speech(tmp_path: Path) -> Callable[[bytes], Speech]:
    return lambda pcm: Speech(pcm, tmp_path)


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture
async def provider(model_dir: Path) -> AsyncIterator[LocalAIProvider]:
    provider = LocalAIProvider(LocalAIConfig(slice_s=30.0), model_dir)
    yield provider
    await provider.aclose()
