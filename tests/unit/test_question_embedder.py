"""Vectors of questions: asked for once, reserved first, and never waited for in vain."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from echo_core.application.ai import AIProviders
from echo_core.application.embedding import REMEMBERED_QUESTIONS, AIQuestionEmbedder
from echo_core.domain.ai_calls import Budgets, NewAICall
from echo_core.domain.ids import AICallId
from echo_core.plugin_api.ai import Capability, Usage
from echo_core.plugin_api.errors import QuotaExceededError, UnavailableError
from echo_core.testing.fake_ai import FakeAIProvider
from tests.fakes.api import OTHER, OWNER

BUDGETS = Budgets(per_video_usd=1.0, per_day_usd=1.0)


@dataclass
class MemoryLedger:
    refuses: str = ""
    reserved: list[NewAICall] = field(default_factory=list)
    settled: list[Usage] = field(default_factory=list)

    async def reserve(self, call: NewAICall, budgets: Budgets) -> str:
        self.reserved.append(call)
        return self.refuses

    async def settle(self, call_id: AICallId, usage: Usage) -> None:
        self.settled.append(usage)

    async def release(self, call_id: AICallId) -> None:
        raise AssertionError("nothing here is released")


@dataclass
class Opening:
    """Opens the fake, counts how often, and fails as often as it is told to."""

    provider: FakeAIProvider = field(default_factory=FakeAIProvider)
    failures: int = 0
    opened: int = 0
    closed: int = 0

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[AIProviders]:
        self.opened += 1
        if self.failures >= self.opened:
            raise OSError("no such file")
        yield AIProviders(opened={"fake": self.provider}, serving={Capability.EMBED: ("fake",)})
        self.closed += 1


async def test_a_question_is_asked_for_once_in_its_askers_name_and_costs_what_it_does() -> None:
    opening, ledger = Opening(), MemoryLedger()
    embedder = AIQuestionEmbedder(opening, ledger, BUDGETS)
    first = await embedder.embed(OWNER, "red flowers")
    again = await embedder.embed(OTHER, "red flowers")
    other = await embedder.embed(OWNER, "blue sky")
    await embedder.aclose()
    assert first == again
    assert first is not None
    assert other is not None
    assert first.values != other.values
    assert (opening.opened, opening.closed, opening.provider.outgoing) == (1, 1, 2)
    assert [(call.owner_id, call.video_id, call.step) for call in ledger.reserved] == [(OWNER.id, None, "search")] * 2
    assert len(ledger.settled) == 2


async def test_questions_that_are_remembered_are_bounded() -> None:
    opening = Opening()
    embedder = AIQuestionEmbedder(opening, MemoryLedger(), BUDGETS)
    for number in range(REMEMBERED_QUESTIONS + 1):
        await embedder.embed(OWNER, f"question {number}")
    asked = opening.provider.outgoing
    await embedder.embed(OWNER, "question 0")
    await embedder.embed(OWNER, f"question {REMEMBERED_QUESTIONS}")
    await embedder.aclose()
    assert opening.provider.outgoing == asked + 1


async def test_nothing_is_asked_that_the_budget_does_not_allow() -> None:
    opening = Opening()
    embedder = AIQuestionEmbedder(opening, MemoryLedger(refuses="day"), BUDGETS)
    with pytest.raises(QuotaExceededError) as refused:
        await embedder.embed(OWNER, "anything")
    await embedder.aclose()
    assert (refused.value.code, opening.provider.outgoing) == ("ai_budget_day", 0)


async def test_what_cannot_be_opened_is_said_at_once_and_tried_again() -> None:
    opening = Opening(failures=1)
    embedder = AIQuestionEmbedder(opening, MemoryLedger(), BUDGETS)
    with pytest.raises(UnavailableError, match="no such file"):
        await embedder.embed(OWNER, "anything")
    assert await embedder.embed(OWNER, "anything") is not None
    await embedder.aclose()


async def test_closing_what_was_never_opened_is_nothing() -> None:
    opening = Opening()
    await AIQuestionEmbedder(opening, MemoryLedger(), BUDGETS).aclose()
    assert opening.opened == 0
