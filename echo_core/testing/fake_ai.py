"""An AI provider without a model: it hears numbered sentences, obeys A1 to A9, and passes the conformance kit.

Deterministic and quick, for tests of everything around a provider; ``FakeAICall`` is the budget and the memory of one
request, with a log of what was done to them.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import wave
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, Literal, TypeVar

from echo_core.plugin_api import (
    AICall,
    AIProvider,
    Capability,
    DescribedChapter,
    DescribeRequest,
    Description,
    EchoError,
    Embeddings,
    EmbedRequest,
    JsonObject,
    QuotaExceededError,
    TimeSpan,
    TranscribeRequest,
    Transcript,
    TranscriptSegment,
    TranscriptWord,
    TranslateRequest,
    Translation,
    Usage,
)

PART_S = 30.0
SENTENCE_S = 3.0
DIMENSIONS = 16
MAX_REMEMBERED_BYTES = 1 << 20
SAMPLE_RATE_HZ = 16_000
Result = TypeVar("Result")


@dataclass(kw_only=True)
class FakeReservation:
    """What was set aside for one call. ``state``: ``reserved``, then ``settled``, ``released`` or ``left`` (without a
    word: it counts as spent)."""

    at_most: Usage
    state: Literal["reserved", "settled", "released", "left"] = "reserved"
    usage: Usage = field(default_factory=Usage)

    async def settle(self, usage: Usage) -> None:
        """Keep what was taken."""
        self.state, self.usage = "settled", usage

    async def release(self) -> None:
        """Give all of it back."""
        self.state = "released"

    @property
    def spent_usd(self) -> float:
        """How much of the budget it takes now."""
        if self.state == "released":
            return 0.0
        return self.usage.cost_usd if self.state == "settled" else self.at_most.cost_usd


@dataclass(kw_only=True)
class FakeAICall:
    """The surroundings of one request, in memory.

    ``budget_usd`` is for all calls of the request; ``refuses``: there is none at all, even for what costs nothing. Give
    the ``memory`` of one call to another, and that is a second try. ``reservations`` is the log.
    """

    scratch: Path
    budget_usd: float = math.inf
    refuses: bool = False
    memory: dict[str, JsonObject] = field(default_factory=dict)
    reservations: list[FakeReservation] = field(default_factory=list)
    recalled: list[str] = field(default_factory=list)
    """Keys that were asked for and there."""
    fractions: list[float] = field(default_factory=list)

    @property
    def spent_usd(self) -> float:
        """What was settled, and what is or was left set aside."""
        return sum(reservation.spent_usd for reservation in self.reservations)

    def reserve(self, at_most: Usage) -> AbstractAsyncContextManager[FakeReservation]:
        """Set aside, if there is enough."""
        return self._reserved(at_most)

    @asynccontextmanager
    async def _reserved(self, at_most: Usage) -> AsyncIterator[FakeReservation]:
        if self.refuses or self.spent_usd + at_most.cost_usd > self.budget_usd:
            raise QuotaExceededError(
                "The AI budget of this video is spent.", code="ai_budget_video", remedy="Raise the budget in [ai]."
            )
        reservation = FakeReservation(at_most=at_most)
        self.reservations.append(reservation)
        try:
            yield reservation
        finally:
            if reservation.state == "reserved":
                reservation.state = "left"

    async def recall(self, key: str) -> JsonObject | None:
        """What was remembered under this key."""
        found = self.memory.get(key)
        if found is not None:
            self.recalled.append(key)
        return found

    async def remember(self, key: str, value: JsonObject) -> None:
        """Keep it, as JSON would. Raises ``ValueError`` for what is none, or more than 1 MiB of it."""
        text = json.dumps(value, allow_nan=False)
        if len(text.encode()) > MAX_REMEMBERED_BYTES:
            raise ValueError(f"more than {MAX_REMEMBERED_BYTES} bytes under {key!r}: remember smaller parts")
        self.memory[key] = json.loads(text)

    def report_progress(self, fraction: float) -> None:
        """Note it."""
        self.fractions.append(fraction)


@dataclass(frozen=True, kw_only=True)
class FakeSpeech:
    """Silence as the sound of a video; its parts are real WAV files, whatever the codec."""

    directory: Path
    duration_s: float = 70.0

    async def cut(
        self, start_s: float = 0.0, end_s: float | None = None, codec: Literal["wav", "opus"] = "wav"
    ) -> Path:
        """A file of the wanted length."""
        end_s = self.duration_s if end_s is None else min(end_s, self.duration_s)
        path = self.directory / f"speech-{start_s:.3f}-{end_s:.3f}.wav"
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(SAMPLE_RATE_HZ)
            file.writeframes(bytes(2 * round(SAMPLE_RATE_HZ * max(end_s - start_s, 0.0))))
        return path


def spoken(duration_s: float) -> tuple[TranscriptSegment, ...]:
    """What the fake hears in a video of this length: one sentence every 3 s, with its words."""
    return tuple(_sentence(number) for number in range(int(duration_s // SENTENCE_S)))


@dataclass
class FakeAIProvider(AIProvider):
    """Obeys A1 to A9.

    ``calls`` lists the methods called and ``outgoing`` counts what would have gone to a vendor. ``failures`` maps a
    method's name to the error that it raises, ``results`` to what it returns in place of its own. A vendor's answer
    waits at ``hold`` (when given), so that a test can act in its middle. Each of them costs ``cost_usd``.
    """

    calls: list[str] = field(default_factory=list)
    failures: dict[str, EchoError] = field(default_factory=dict)
    results: dict[str, Transcript | Description | Translation | Embeddings] = field(default_factory=dict)
    hold: asyncio.Event | None = None
    cost_usd: float = 0.01
    model: str = "fake-1"
    outgoing: int = 0

    capabilities: ClassVar[frozenset[Capability]] = frozenset(Capability)

    async def transcribe(self, request: TranscribeRequest) -> Transcript:
        """The sentences of ``spoken``, heard in parts of 30 s each of which is paid for and remembered."""
        self._begin("transcribe")
        duration_s = request.speech.duration_s
        heard: list[int] = []
        usage = Usage(model=self.model, prompt_version="1")
        parts = max(1, math.ceil(duration_s / PART_S))
        for part in range(parts):
            key = f"transcribe/{self.model}/1/{request.language}/{part}"
            found = await request.call.recall(key)
            if found is None:
                end_s = min((part + 1) * PART_S, duration_s)
                path = await request.speech.cut(part * PART_S, end_s)
                try:
                    usage += await self._ask(request.call, media_s=end_s - part * PART_S)
                finally:
                    path.unlink()
                count = range(int(duration_s // SENTENCE_S))
                found = {"sentences": [n for n in count if part * PART_S <= n * SENTENCE_S < (part + 1) * PART_S]}
                await request.call.remember(key, found)
            sentences = found["sentences"]
            heard += [int(str(number)) for number in sentences] if isinstance(sentences, list) else []
            request.call.report_progress((part + 1) / parts)
        made = Transcript(
            language=request.language or "en",
            segments=tuple(_sentence(number) for number in heard),
            usage=usage,
            language_confidence=1.0,
        )
        return self._result("transcribe", made)

    async def describe(self, request: DescribeRequest) -> Description:
        """A title of the first words, tags of the longest ones, and chapters at equal distances."""
        self._begin("describe")
        usage = await self._ask(request.call)
        text = " ".join(segment.text for segment in request.segments)
        words = Counter(word.strip(".,").lower() for word in text.split() if len(word) > 5)
        count = min(5, int(request.duration_s // 10))
        span = TimeSpan(start_s=0.0, end_s=request.duration_s)
        full = Description(
            title=" ".join(text.split()[:8]) or request.filename,
            description=text[:300],
            tags=tuple(word for word, _ in words.most_common(5)),
            chapters=tuple(
                DescribedChapter(start_s=request.duration_s * n / count, title=f"Part {n + 1}") for n in range(count)
            ),
            usage=usage,
        )
        made = Description(
            title=full.title if "title" in request.wanted else "",
            description=full.description if "description" in request.wanted else "",
            tags=full.tags if "tags" in request.wanted else (),
            chapters=full.chapters if "chapters" in request.wanted else (),
            evidence=dict.fromkeys(request.wanted, (span,)),
            usage=usage,
        )
        request.call.report_progress(1.0)
        return self._result("describe", made)

    async def translate(self, request: TranslateRequest) -> Translation:
        """The texts with the language before them; an empty one stays empty."""
        self._begin("translate")
        usage = await self._ask(request.call) if request.texts else Usage(model=self.model)
        texts = tuple(f"({request.target_language}) {text}" if text else "" for text in request.texts)
        return self._result("translate", Translation(texts=texts, usage=usage))

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Sums of one direction for each word: texts that share words are near each other."""
        self._begin("embed")
        usage = await self._ask(request.call) if request.texts else Usage(model=self.model)
        vectors = tuple(_vector(text) for text in request.texts)
        return self._result("embed", Embeddings(space=f"{self.model}/{DIMENSIONS}", vectors=vectors, usage=usage))

    def _begin(self, method: str) -> None:
        self.calls.append(method)
        if method in self.failures:
            raise self.failures[method]

    def _result(self, method: str, made: Result) -> Result:
        given = self.results.get(method, made)
        if not isinstance(given, type(made)):
            raise TypeError(f"the injected result of {method} is a {type(given).__name__}")
        return given

    async def _ask(self, call: AICall, media_s: float = 0.0) -> Usage:
        """Reserve, ask, settle: what each call to a vendor does (A3)."""
        usage = Usage(
            model=self.model,
            prompt_version="1",
            input_tokens=100,
            output_tokens=10,
            media_s=media_s,
            cost_usd=self.cost_usd,
        )
        async with call.reserve(usage) as reservation:
            self.outgoing += 1
            for _ in range(30):  # a real one awaits its vendor: cancelling must be possible
                await asyncio.sleep(0)
            if self.hold is not None:
                await self.hold.wait()
            await reservation.settle(usage)
        return usage


def _sentence(number: int) -> TranscriptSegment:
    text = f"This is sentence {number} of everything that is said."
    start_s = number * SENTENCE_S
    step_s = (SENTENCE_S - 0.5) / len(text.split())
    starts_s = [start_s + index * step_s for index in range(len(text.split()) + 1)]
    words = tuple(
        TranscriptWord(text=word, start_s=begin_s, end_s=end_s, confidence=0.9)
        for word, (begin_s, end_s) in zip(text.split(), pairwise(starts_s), strict=True)
    )
    return TranscriptSegment(text=text, start_s=start_s, end_s=starts_s[-1], words=words, confidence=0.9)


def _vector(text: str) -> tuple[float, ...]:
    total = [0.0] * DIMENSIONS
    for word in text.lower().split() or [""]:
        digest = hashlib.sha256(word.strip(".,").encode("utf-8", "replace")).digest()
        total = [value + byte - 127.5 for value, byte in zip(total, digest, strict=False)]
    length = math.hypot(*total)
    return tuple(value / length for value in total)
