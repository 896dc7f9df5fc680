"""Entry point of the plugin: registers the AI provider ``local``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from echo_ai_local.config import LocalAIConfig
from echo_core.plugin_api import AIProvider, AIProviderSpec, PluginContext, hookimpl

MEMORY_BYTES = 700 << 20
"""What listening takes at most, however long the video is (docs/ai-evaluation.md)."""


@asynccontextmanager
async def open_provider(context: PluginContext) -> AsyncIterator[AIProvider]:
    """Open the provider; no process starts before its first call, and none is left after it is closed."""
    from echo_ai_local.provider import LocalAIProvider

    provider = LocalAIProvider(context.config_as(LocalAIConfig), context.data_dir)
    try:
        yield provider
    finally:
        await provider.aclose()


@hookimpl
def echo_register_ai_providers() -> Sequence[AIProviderSpec]:
    """The AI provider of this plugin."""
    return [
        AIProviderSpec(
            name="local",
            open=open_provider,
            capabilities=frozenset({"transcribe", "describe"}),
            memory_bytes=MEMORY_BYTES,
            config_model=LocalAIConfig,
            description="Captions, chapters, summary and tags made on this machine, without any cloud",
            limitations=(
                "It cannot translate.",
                "It does not look at pictures: what is not said is not described.",
                "Titles, summaries and chapter titles are words from the video, shortened, never written anew.",
                "Accuracy falls with noise, music, accents and people who talk at the same time.",
                "It does not tell speakers apart.",
            ),
        )
    ]
