"""What calls cost: before them at most, and after them as Google counted."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

from echo_ai_gemini.config import Price
from echo_core.plugin_api import ProviderError, Usage

if TYPE_CHECKING:
    from google.genai.types import GenerateContentResponse

PER = 1_000_000
LONG_PROMPT_TOKENS = 200_000
BYTES_PER_TOKEN = 2
"""Texts are some 4 bytes a token, digits and rare scripts down to 2: an estimate must not be too low."""
AUDIO_TOKENS_PER_S = 32
VIDEO_TOKENS_PER_S = 102
"""Sound and picture at the default resolution (ai.google.dev, "Media resolution"; Gemini 3)."""
IMAGE_TOKENS = 1120
"""A picture at the highest resolution, which is the default (same page)."""
MARGIN = 1.1


def price_on(prices: Sequence[Price], model: str, day: date) -> Price:
    """The price of a model on a day. Raises ``ProviderError`` (``ai_price_missing``)."""
    known = [price for price in prices if price.model == model and price.since <= day]
    if not known:
        raise ProviderError(
            f"The model {model} has no price for {day.isoformat()}, so its budget could not be held.",
            code="ai_price_missing",
            remedy="Add its price to plugins.ai_gemini.prices.",
        )
    return max(known, key=lambda price: price.since)


def cost_usd(price: Price, input_tokens: int, output_tokens: int) -> float:
    """What so many tokens cost."""
    factor = price.long_factor if input_tokens > LONG_PROMPT_TOKENS else 1.0
    return factor * (input_tokens * price.input_usd + output_tokens * price.output_usd) / PER


def text_tokens(*texts: str) -> int:
    """At most so many tokens."""
    return sum(len(text.encode()) for text in texts) // BYTES_PER_TOKEN + 16


def at_most(
    price: Price, prompt_version: str, *, input_tokens: float, output_tokens: int = 0, media_s: float = 0.0
) -> Usage:
    """What a call may take."""
    whole = round(input_tokens * MARGIN)
    return Usage(
        model=price.model,
        prompt_version=prompt_version,
        input_tokens=whole,
        output_tokens=output_tokens,
        media_s=media_s,
        cost_usd=cost_usd(price, whole, output_tokens),
    )


def counted(price: Price, estimate: Usage, answer: GenerateContentResponse) -> Usage:
    """What an answer has taken; as estimated where Google does not say."""
    counts = answer.usage_metadata
    if counts is None or counts.prompt_token_count is None:
        return estimate
    taken_in = counts.prompt_token_count + (counts.tool_use_prompt_token_count or 0)
    taken_out = (counts.candidates_token_count or 0) + (counts.thoughts_token_count or 0)
    return Usage(
        model=answer.model_version or price.model,
        prompt_version=estimate.prompt_version,
        input_tokens=taken_in,
        output_tokens=taken_out,
        media_s=estimate.media_s,
        cost_usd=cost_usd(price, taken_in, taken_out),
    )
