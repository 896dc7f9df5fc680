"""The provider: each capability in a module of its own, on one client."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import ClassVar

from google import genai

from echo_ai_gemini.calls import Calls
from echo_ai_gemini.client import open_client
from echo_ai_gemini.config import GeminiConfig
from echo_ai_gemini.describing import Describer
from echo_ai_gemini.embedding import Embedder
from echo_ai_gemini.files import Files
from echo_ai_gemini.transcribing import Transcriber
from echo_ai_gemini.translating import Translator
from echo_core.plugin_api import (
    AIProvider,
    Capability,
    Clock,
    DescribeRequest,
    Description,
    Embeddings,
    EmbedRequest,
    InvalidRequestError,
    PluginContext,
    TranscribeRequest,
    Transcript,
    TranslateRequest,
    Translation,
)

_log = logging.getLogger(__name__)
PREFIX_BYTES = 4


class GeminiProvider(AIProvider):
    """Gemini with the models of the configuration."""

    capabilities: ClassVar[frozenset[Capability]] = frozenset(Capability)

    def __init__(self, client: genai.Client, config: GeminiConfig, clock: Clock, prefix: str) -> None:
        self._config = config
        self._client = client
        self._calls = Calls(client, config, clock)
        self.files = Files(self._calls, config, clock, prefix)
        self._transcriber = Transcriber(self._calls, self.files, config)
        self._describer = Describer(self._calls, config)
        self._translator = Translator(self._calls, config)
        self._embedder = Embedder(self._calls, config)

    async def check(self) -> Sequence[str]:
        """Models that Google does not offer, as sentences. Deletes files that a killed process has left."""
        wanted = {
            name: self._config.model(getattr(self._config, name))
            for name in ("transcribe_model", "describe_model", "translate_model", "embed_model")
        }
        missing: dict[str, InvalidRequestError] = {}
        for model in sorted(set(wanted.values())):
            self._calls.price(model)
            try:
                await self._calls.tried(lambda model=model: self._client.aio.models.get(model=model))  # type: ignore[misc]
            except InvalidRequestError as error:
                if error.code != "ai_model_unknown":
                    raise
                missing[model] = error
        if len(missing) == len(set(wanted.values())):
            raise next(iter(missing.values()))
        if swept := await self.files.sweep():
            _log.info("ai.files_swept", extra={"count": swept})
        return [
            f"Google does not offer the model {model!r} to this account: change plugins.ai_gemini.{name}, or aliases."
            for name, model in wanted.items()
            if model in missing
        ]

    async def transcribe(self, request: TranscribeRequest) -> Transcript:
        """From the sound alone, in slices."""
        return await self._transcriber.transcribe(request)

    async def describe(self, request: DescribeRequest) -> Description:
        """From the transcript, with pictures."""
        return await self._describer.describe(request)

    async def translate(self, request: TranslateRequest) -> Translation:
        """In batches."""
        return await self._translator.translate(request)

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """In batches."""
        return await self._embedder.embed(request)


@asynccontextmanager
async def open_gemini(context: PluginContext) -> AsyncIterator[GeminiProvider]:
    """Open it; nothing is sent yet."""
    config = context.config_as(GeminiConfig)
    prefix = "echo-" + context.derive_key("gemini files")[:PREFIX_BYTES].hex()
    async with open_client(config) as client:
        yield GeminiProvider(client, config, context.clock, prefix)
