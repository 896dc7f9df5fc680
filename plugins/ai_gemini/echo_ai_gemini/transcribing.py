"""What is said, slice by slice: each is paid for once, and remembered."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from google.genai import types

from echo_ai_gemini import prompts
from echo_ai_gemini.calls import Calls, Question
from echo_ai_gemini.config import GeminiConfig
from echo_ai_gemini.errors import AnswerError
from echo_ai_gemini.files import Files
from echo_ai_gemini.prices import AUDIO_TOKENS_PER_S, at_most, text_tokens
from echo_ai_gemini.times import seconds_of
from echo_core.plugin_api import JsonObject, TranscribeRequest, Transcript, TranscriptSegment, Usage

_log = logging.getLogger(__name__)
OGG = "audio/ogg"
LEAST_OUTPUT_TOKENS = 4096
OUTPUT_TOKENS_PER_S = 20
"""Fast speech is 4 words a second, some 6 tokens; with the times of short segments, twice that; and thoughts."""
SLACK_S = 2.0
"""Models drift by about a second: so far beyond the end, a time is taken for the end."""
SAME_TEXT = 0.8
COMPARED = 4
SHORTEST_S = 0.3
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8}){0,3}")


@dataclass(frozen=True)
class Slice:
    """A part of the sound, in seconds of the video; ``until_s`` is where the next takes over."""

    index: int
    start_s: float
    end_s: float
    until_s: float


def slices_of(duration_s: float, slice_s: float, overlap_s: float) -> tuple[Slice, ...]:
    """Slices that overlap; a rest that the overlap covers makes none of its own."""
    count = max(1, math.ceil((duration_s - overlap_s) / slice_s))
    slices = []
    for index in range(count):
        start = index * slice_s
        last = index == count - 1
        end = duration_s if last else min(start + slice_s + overlap_s, duration_s)
        until = math.inf if last else start + slice_s + overlap_s / 2
        slices.append(Slice(index, start, end, until))
    return tuple(slices)


class Transcriber:
    """Transcribes with one model."""

    def __init__(self, calls: Calls, files: Files, config: GeminiConfig) -> None:
        self._calls = calls
        self._files = files
        self._config = config
        self._model = config.model(config.transcribe_model)

    async def transcribe(self, request: TranscribeRequest) -> Transcript:
        """All slices, in order, as one."""
        parts = slices_of(request.speech.duration_s, self._config.slice_s, self._config.overlap_s)
        segments: list[TranscriptSegment] = []
        languages: dict[str, float] = {}
        warnings: list[str] = []
        usage = Usage(model=self._model, prompt_version=prompts.TRANSCRIBE_VERSION)
        since = -math.inf
        for part in parts:
            heard, taken = await self._slice(request, part)
            usage = usage + taken
            found = [_segment(entry, part) for entry in heard["segments"]]
            segments = joined(segments, found, since, part.until_s)
            since = part.until_s
            spoken = sum(segment.end_s - segment.start_s for segment in found)
            languages[heard["language"]] = languages.get(heard["language"], 0.0) + spoken
            if heard["dropped"]:
                warnings.append(
                    f"From {part.start_s:g} s on, {heard['dropped']} lines had no usable times and were left out."
                )
            request.call.report_progress((part.index + 1) / len(parts))
        language = request.language or max(languages, key=lambda name: languages[name])
        return Transcript(language=language, segments=tuple(segments), usage=usage, warnings=tuple(warnings))

    async def _slice(self, request: TranscribeRequest, part: Slice) -> tuple[Mapping[str, Any], Usage]:
        key = (
            f"transcribe/{self._model}/{prompts.TRANSCRIBE_VERSION}/{request.language or 'auto'}"
            f"/{part.start_s:.3f}-{part.end_s:.3f}"
        )
        if (known := await request.call.recall(key)) is not None:
            return known, Usage()
        length = part.end_s - part.start_s
        told = _told(request)
        question = Question(
            model=self._model,
            version=prompts.TRANSCRIBE_VERSION,
            instruction=prompts.TRANSCRIBE,
            parts=(),
            schema=prompts.TRANSCRIBE_SCHEMA,
            input_tokens=length * AUDIO_TOKENS_PER_S + text_tokens(prompts.TRANSCRIBE, told),
            output_tokens=LEAST_OUTPUT_TOKENS + round(length * OUTPUT_TOKENS_PER_S),
            media_s=length,
        )
        await self._affordable(request, question)
        path = await request.speech.cut(part.start_s, part.end_s, codec="opus")
        try:
            async with self._files.part(path, OGG) as sound:
                asked = _with_parts(question, [sound, types.Part.from_text(text=told)])
                heard, usage = await self._calls.ask(request.call, asked, lambda answer: _heard(answer, length))
        finally:
            path.unlink(missing_ok=True)
        await request.call.remember(key, heard)
        return heard, usage

    async def _affordable(self, request: TranscribeRequest, question: Question) -> None:
        """Ask the budget before anything is cut or sent; the call itself reserves again."""
        price = self._calls.price(question.model)
        estimate = at_most(
            price, question.version, input_tokens=question.input_tokens, output_tokens=question.output_tokens
        )
        async with request.call.reserve(estimate) as reservation:
            await reservation.release()


def _with_parts(question: Question, parts: Sequence[types.Part]) -> Question:
    return Question(
        model=question.model,
        version=question.version,
        instruction=question.instruction,
        parts=parts,
        schema=question.schema,
        input_tokens=question.input_tokens,
        output_tokens=question.output_tokens,
        media_s=question.media_s,
    )


def _told(request: TranscribeRequest) -> str:
    lines = [f"The language is {prompts.as_material(request.language)}."] if request.language else []
    if request.vocabulary:
        lines.append("Names and terms that may be said, as they are written:")
        lines.append(prompts.tagged("terms", map(prompts.as_material, request.vocabulary)))
    return "\n".join(lines) or "Write down what is said."


def _heard(answer: Mapping[str, Any], length_s: float) -> JsonObject:
    """What is remembered of a slice: times in seconds from its start. Raises ``AnswerError``."""
    given = answer.get("segments")
    if not isinstance(given, list):
        raise AnswerError("Gemini's transcript has no list of segments.")
    segments: list[list[Any]] = []
    dropped = 0
    for entry in given:
        text = entry.get("text") if isinstance(entry, dict) else None
        start = seconds_of(entry.get("start")) if isinstance(entry, dict) else None
        if not isinstance(text, str) or start is None or start > length_s + SLACK_S:
            dropped += 1
            continue
        end = seconds_of(entry.get("end"))
        start = min(start, length_s)
        end = min(end if end is not None else start, length_s)
        if text.strip():
            segments.append([start, max(end, start), text.strip()])
    if dropped * 5 > len(given):
        raise AnswerError("Too many times of Gemini's transcript are none, or lie beyond the end of the sound.")
    language = answer.get("language")
    known = isinstance(language, str) and _LANGUAGE.fullmatch(language) is not None
    segments.sort(key=lambda segment: segment[0])
    return {"language": language if known else "und", "segments": segments, "dropped": dropped}


def _segment(entry: Sequence[Any], part: Slice) -> TranscriptSegment:
    start, end, text = entry
    return TranscriptSegment(
        text=text,
        start_s=round(part.start_s + start, 3),
        end_s=round(min(part.start_s + max(end, start + SHORTEST_S), max(part.end_s, part.start_s + end)), 3),
    )


def joined(
    before: Sequence[TranscriptSegment], found: Sequence[TranscriptSegment], since_s: float, until_s: float
) -> list[TranscriptSegment]:
    """Those before and, of those found, the ones whose middle lies from ``since_s`` up to ``until_s``.

    A sentence that both slices have, with times so different that both would keep it, is kept once.
    """
    kept = list(before)
    recent = kept[-COMPARED:]
    for segment in found:
        middle = (segment.start_s + segment.end_s) / 2
        if not since_s <= middle < until_s or any(_same(segment, other) for other in recent):
            continue
        kept.append(segment)
    return kept


def _same(one: TranscriptSegment, other: TranscriptSegment) -> bool:
    """Nearly the same words at nearly the same time: speech may well repeat itself, but only one after the other."""
    shared_s = min(one.end_s, other.end_s) - max(one.start_s, other.start_s)
    if shared_s <= 0 or shared_s * 2 < min(one.end_s - one.start_s, other.end_s - other.start_s):
        return False
    return SequenceMatcher(None, one.text.casefold(), other.text.casefold()).ratio() >= SAME_TEXT
