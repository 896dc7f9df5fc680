"""The hooks: an AI provider named ``gemini``. Google's libraries are imported when it is opened, and not before."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from echo_ai_gemini.config import GeminiConfig
from echo_core.plugin_api import AIProvider, AIProviderSpec, Capability, PluginContext, hookimpl


@asynccontextmanager
async def open_provider(context: PluginContext) -> AsyncIterator[AIProvider]:
    """Open the provider."""
    from echo_ai_gemini.provider import open_gemini

    async with open_gemini(context) as provider:
        yield provider


@hookimpl
def echo_register_ai_providers() -> Sequence[AIProviderSpec]:
    """Gemini, through the Gemini API or Vertex AI."""
    return [
        AIProviderSpec(
            name="gemini",
            open=open_provider,
            capabilities=frozenset(Capability),
            config_model=GeminiConfig,
            description="Google's Gemini: captions, chapters, titles, summaries, tags, translations, embeddings.",
            limitations=(
                "What is said in a video, and pictures of it, are sent to Google.",
                "Every call costs money, unless the account has a free tier; [ai] sets the budgets.",
                "Times are those of sentences, not of words.",
            ),
        )
    ]
