"""Calls to AI providers: what they took, and what may be spent."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from echo_core.domain.ids import AICallId, UserId, VideoId
from echo_core.plugin_api.ai import Usage


@dataclass(frozen=True, kw_only=True, slots=True)
class NewAICall:
    """A call that is about to be made. ``video_id`` None: for no video, such as the vector of a question."""

    id: AICallId
    owner_id: UserId
    video_id: VideoId | None
    step: str
    capability: str
    provider: str
    at_most: Usage


@dataclass(frozen=True, kw_only=True, slots=True)
class RememberedPart:
    """Which part of a provider's work on a video; ``source`` tells the bytes that it was made of."""

    video_id: VideoId
    capability: str
    provider: str
    key: str
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AICallRecord:
    """A call. Until it is ``settled``, ``usage`` is what was set aside for it: nobody knows whether it was billed."""

    id: AICallId
    video_id: VideoId | None
    step: str
    capability: str
    provider: str
    usage: Usage
    settled: bool
    at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class AITotals:
    """Sums of calls."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    media_s: float = 0.0
    cost_usd: float = 0.0

    def __add__(self, other: AITotals) -> AITotals:
        """Both together."""
        return AITotals(
            calls=self.calls + other.calls,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            media_s=self.media_s + other.media_s,
            cost_usd=self.cost_usd + other.cost_usd,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class AIDay:
    """What one user's calls to one model took on one day (UTC)."""

    day: date
    provider: str
    model: str
    totals: AITotals


@dataclass(frozen=True, kw_only=True, slots=True)
class Budgets:
    """US dollars."""

    per_video_usd: float
    per_day_usd: float
