"""Calls of a model: reserved before, settled after, tried again where that makes sense."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeVar

from google import genai
from google.genai import types

from echo_ai_gemini.config import GeminiConfig, Price
from echo_ai_gemini.errors import FILE_GONE, AnswerError, from_google, is_unbilled, read_answer
from echo_ai_gemini.prices import at_most, counted, price_on
from echo_core.plugin_api import AICall, Clock, EchoError, RateLimitedError, Usage

_log = logging.getLogger(__name__)
ResultT = TypeVar("ResultT")
Part = types.Part
ANSWERS = 2
"""An answer that is of no use is asked for once more."""
MAX_DELAY_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question to a model. ``schema`` is JSON Schema of the answer, an object."""

    model: str
    version: str
    instruction: str
    parts: Sequence[Part]
    schema: Mapping[str, Any]
    input_tokens: float
    output_tokens: int
    """The answer's limit, thoughts included."""
    media_s: float = 0.0


class Calls:
    """All calls that cost something go through here."""

    def __init__(self, client: genai.Client, config: GeminiConfig, clock: Clock) -> None:
        self.client = client
        self._config = config
        self._clock = clock

    def price(self, model: str) -> Price:
        """The price of a model today. Raises ``ProviderError`` (``ai_price_missing``)."""
        return price_on(self._config.prices, model, self._clock.now().date())

    async def ask(
        self, call: AICall, question: Question, read: Callable[[Mapping[str, Any]], ResultT]
    ) -> tuple[ResultT, Usage]:
        """What ``read`` makes of the answer, and all that was taken. ``read`` raises ``AnswerError`` for one that is of
        no use; it is then asked for once more."""
        price = self.price(question.model)
        estimate = at_most(
            price,
            question.version,
            input_tokens=question.input_tokens,
            output_tokens=question.output_tokens,
            media_s=question.media_s,
        )
        taken = Usage()
        for again in count(1):
            answer, usage = await self.paid(
                call,
                estimate,
                lambda: self._generate(question),
                lambda found: counted(price, estimate, found),
            )
            taken = taken + usage
            try:
                return read(read_answer(answer)), taken
            except AnswerError as error:
                if not error.asks_again or again == ANSWERS:
                    raise
                _log.info("ai.asked_again", extra={"model": question.model, "reason": error.message})
        raise AssertionError("unreachable")

    async def _generate(self, question: Question) -> types.GenerateContentResponse:
        level = self._config.thinking_level
        return await self.client.aio.models.generate_content(
            model=question.model,
            contents=[types.Content(role="user", parts=list(question.parts))],
            config=types.GenerateContentConfig(
                system_instruction=question.instruction,
                response_mime_type="application/json",
                response_json_schema=question.schema,
                max_output_tokens=question.output_tokens,
                candidate_count=1,
                thinking_config=types.ThinkingConfig(thinking_level=types.ThinkingLevel(level.upper()))
                if level
                else None,
            ),
        )

    async def paid(
        self,
        call: AICall,
        estimate: Usage,
        send: Callable[[], Awaitable[ResultT]],
        measure: Callable[[ResultT], Usage],
    ) -> tuple[ResultT, Usage]:
        """One call that costs something, with its tries: each is reserved by itself, since each may be billed."""

        async def attempt() -> tuple[ResultT, Usage]:
            async with call.reserve(estimate) as reservation:
                try:
                    async with asyncio.timeout(self._config.deadline_s):
                        answer = await send()
                except Exception as error:
                    if is_unbilled(error):
                        await reservation.release()
                    raise
                usage = measure(answer)
                await reservation.settle(usage)
                return answer, usage

        return await self.tried(attempt)

    async def tried(self, attempt: Callable[[], Awaitable[ResultT]]) -> ResultT:
        """Try again what may pass by itself, as long as patience and tries last. Raises errors of Echo."""
        until = time.monotonic() + self._config.patience_s
        for number in count(1):
            try:
                return await attempt()
            except Exception as error:
                mapped = from_google(error)
                if not isinstance(mapped, EchoError):
                    raise
                delay_s = self._delay(mapped, number)
                if delay_s is None or number >= self._config.attempts or time.monotonic() + delay_s > until:
                    if mapped is error:
                        raise
                    raise mapped from error
                _log.info("ai.tried_again", extra={"code": mapped.code, "delay_s": delay_s})
            await asyncio.sleep(delay_s)
        raise AssertionError("unreachable")

    def _delay(self, error: EchoError, number: int) -> float | None:
        """Seconds until the next try; None: there is to be none."""
        if not error.retryable or error.code == FILE_GONE:
            return None
        backoff = min(self._config.retry_delay_s * 2.0 ** (number - 1), MAX_DELAY_S)
        jittered = backoff * (0.5 + random.random() / 2)  # noqa: S311 - spreads tries, hides nothing
        if isinstance(error, RateLimitedError) and error.retry_after_s is not None:
            return error.retry_after_s + jittered
        return jittered
