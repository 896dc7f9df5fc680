"""Asking AI providers: which one serves, what it may spend, what earlier tries have left."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import msgspec
import structlog

from echo_core.application.ports import WorkerUnitsOfWork
from echo_core.domain.ai_calls import Budgets, NewAICall, RememberedPart
from echo_core.domain.grounding import ground_usage
from echo_core.domain.ids import AICallId, UserId, VideoId, new_ai_call_id
from echo_core.plugin_api.ai import (
    AIProvider,
    Capability,
    DescribeRequest,
    Description,
    Embeddings,
    EmbedRequest,
    Reservation,
    TranscribeRequest,
    Transcript,
    TranslateRequest,
    Translation,
    Usage,
)
from echo_core.plugin_api.errors import EchoError, InvalidRequestError, NotSupportedError, QuotaExceededError
from echo_core.plugin_api.json import JsonObject

log = structlog.get_logger("echo.ai")

MAX_REMEMBERED_BYTES = 1 << 20
MAX_KEY_CHARS = 500
ResultT = TypeVar("ResultT")


class Ledger(Protocol):
    """Where reservations are kept. Each call is a transaction of its own."""

    async def reserve(self, call: NewAICall, budgets: Budgets) -> str:
        """Empty: it is reserved; else the budget that is too small, ``video`` or ``day``."""

    async def settle(self, call_id: AICallId, usage: Usage) -> None:
        """This is what it took."""

    async def release(self, call_id: AICallId) -> None:
        """It was not billed."""


@dataclass(frozen=True)
class WorkerLedger:
    """A worker's."""

    units_of_work: WorkerUnitsOfWork

    async def reserve(self, call: NewAICall, budgets: Budgets) -> str:
        """Empty: it is reserved; else the budget that is too small, ``video`` or ``day``."""
        async with self.units_of_work.for_worker() as uow:
            return await uow.ai_calls.reserve(call, budgets)

    async def settle(self, call_id: AICallId, usage: Usage) -> None:
        """This is what it took."""
        async with self.units_of_work.for_worker() as uow:
            await uow.ai_calls.settle(call_id, usage)

    async def release(self, call_id: AICallId) -> None:
        """It was not billed."""
        async with self.units_of_work.for_worker() as uow:
            await uow.ai_calls.release(call_id)


@dataclass(frozen=True)
class Reserved:
    """``Reservation`` in a ledger. Left without a word, what was set aside counts as spent."""

    ledger: Ledger
    call_id: AICallId

    async def settle(self, usage: Usage) -> None:
        """This is what the call has really taken."""
        await self.ledger.settle(self.call_id, ground_usage(usage))

    async def release(self) -> None:
        """The call was certainly not billed."""
        await self.ledger.release(self.call_id)


@asynccontextmanager
async def reserved(ledger: Ledger, call: NewAICall, budgets: Budgets) -> AsyncIterator[Reservation]:
    """Set aside what a call may take. Raises ``QuotaExceededError`` (``ai_budget_video``, ``ai_budget_day``),
    ``InvalidRequestError`` (``ai_estimate_invalid``) for what is no amount."""
    if not math.isfinite(call.at_most.cost_usd) or call.at_most.cost_usd < 0:
        raise InvalidRequestError(
            f"The AI provider {call.provider} says that a call may cost {call.at_most.cost_usd} US dollars.",
            code="ai_estimate_invalid",
            remedy="That is a defect of its plugin; tell its author.",
        )
    call = replace(call, at_most=ground_usage(call.at_most))
    match await ledger.reserve(call, budgets):
        case "video":
            raise QuotaExceededError(
                f"This would take more than AI may cost for one video ({budgets.per_video_usd:g} US dollars).",
                code="ai_budget_video",
                remedy="Raise ai.budget_per_video_usd, then retry the step; what was paid for is not paid again.",
            )
        case "day":
            raise QuotaExceededError(
                f"This would take more than AI may cost in one day ({budgets.per_day_usd:g} US dollars).",
                code="ai_budget_day",
                remedy="Retry the step after midnight (UTC), or raise ai.budget_per_day_usd.",
            )
    yield Reserved(ledger, call.id)


@dataclass(frozen=True, kw_only=True)
class StepCall:
    """``AICall`` of a step: ``source`` tells the bytes that it works on."""

    units_of_work: WorkerUnitsOfWork
    budgets: Budgets
    video_id: VideoId
    owner_id: UserId
    source: str
    step: str
    capability: Capability
    provider: str
    scratch: Path
    on_progress: Callable[[float], None]

    def reserve(self, at_most: Usage) -> AbstractAsyncContextManager[Reservation]:
        """Set aside what one call to a vendor may take."""
        call = NewAICall(
            id=new_ai_call_id(),
            owner_id=self.owner_id,
            video_id=self.video_id,
            step=self.step,
            capability=self.capability,
            provider=self.provider,
            at_most=at_most,
        )
        return reserved(WorkerLedger(self.units_of_work), call, self.budgets)

    async def recall(self, key: str) -> JsonObject | None:
        """What an earlier try has remembered for the same source under this key."""
        async with self.units_of_work.for_worker() as uow:
            return await uow.ai_calls.recall(self._part(key))

    async def remember(self, key: str, value: JsonObject) -> None:
        """Keep a finished part. Raises ``InvalidRequestError`` (``ai_part_too_large``)."""
        if (size := len(msgspec.json.encode(value))) > MAX_REMEMBERED_BYTES:
            raise InvalidRequestError(
                f"The AI provider {self.provider} wants to keep {size} bytes at once; {MAX_REMEMBERED_BYTES} are the "
                "most.",
                code="ai_part_too_large",
                remedy="Its plugin should work in smaller parts; tell its author.",
            )
        async with self.units_of_work.for_worker() as uow:
            await uow.ai_calls.remember(self._part(key), self.owner_id, value)

    def report_progress(self, fraction: float) -> None:
        """Tell the done fraction, 0.0 to 1.0."""
        self.on_progress(fraction)

    def _part(self, key: str) -> RememberedPart:
        if not 0 < len(key) <= MAX_KEY_CHARS:
            raise ValueError(f"keys of remembered parts have 1 to {MAX_KEY_CHARS} characters; this has {len(key)}")
        return RememberedPart(
            video_id=self.video_id,
            capability=self.capability.value,
            provider=self.provider,
            key=key,
            source=self.source,
        )


@dataclass(frozen=True, kw_only=True)
class Answer(Generic[ResultT]):
    """What a provider gave, by whom, and what the ones before it could not do, as sentences."""

    provider: str
    result: ResultT
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class AIProviders:
    """The opened providers, and which serve a capability, in order."""

    opened: Mapping[str, AIProvider]
    serving: Mapping[Capability, tuple[str, ...]]

    async def ask(
        self, capability: Capability, call: Callable[[str, AIProvider], Awaitable[ResultT]]
    ) -> Answer[ResultT]:
        """What the first provider gives that can. ``call`` asks one of them and validates what it says.

        Raises what the providers raised: an error that may pass by itself before one that stays.
        """
        names = self.serving.get(capability, ())
        if not names:
            raise NotSupportedError(
                f"No AI provider is set up to {capability.value}.",
                code="ai_not_configured",
                remedy=f"Name one in ai.{capability.value} of the configuration.",
            )
        failures: list[tuple[str, EchoError]] = []
        for name in names:
            try:
                result = await call(name, self.opened[name])
            except EchoError as error:
                log.warning(
                    "ai.provider_failed",
                    provider=name,
                    capability=capability.value,
                    code=error.code,
                    error=error.message,
                )
                failures.append((name, error))
            else:
                return Answer(provider=name, result=result, warnings=_passed_over(failures, name))
        raise next((error for _, error in failures if error.retryable), failures[-1][1])


def _passed_over(failures: Sequence[tuple[str, EchoError]], by: str) -> tuple[str, ...]:
    return tuple(f"{name} could not do it, so {by} did: {error.message}" for name, error in failures)


class UnusableProvider(AIProvider):
    """Stands for a provider that could not be opened: whatever it is asked for fails with the reason."""

    def __init__(self, name: str, error: Exception) -> None:
        said = error.message if isinstance(error, EchoError) else f"{type(error).__name__}: {error}"
        self._message = f"The AI provider {name} could not be started: {said}"
        self._remedy = error.remedy if isinstance(error, EchoError) else "Look at the worker's log."

    def _refuse(self) -> NotSupportedError:
        return NotSupportedError(self._message, code="ai_provider_unusable", remedy=self._remedy)

    async def check(self) -> Sequence[str]:
        """Raises the reason."""
        raise self._refuse()

    async def transcribe(self, request: TranscribeRequest) -> Transcript:
        """Raises the reason."""
        raise self._refuse()

    async def describe(self, request: DescribeRequest) -> Description:
        """Raises the reason."""
        raise self._refuse()

    async def translate(self, request: TranslateRequest) -> Translation:
        """Raises the reason."""
        raise self._refuse()

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Raises the reason."""
        raise self._refuse()
