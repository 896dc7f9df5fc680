"""Texts in another language: in batches with indices, counted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from google.genai import types

from echo_ai_gemini import prompts
from echo_ai_gemini.calls import Calls, Question
from echo_ai_gemini.config import GeminiConfig
from echo_ai_gemini.errors import AnswerError
from echo_ai_gemini.prices import text_tokens
from echo_core.plugin_api import TranslateRequest, Translation, Usage

LEAST_OUTPUT_TOKENS = 4096
GROWTH = 3
"""A translation has at most so many times the tokens (scripts differ), with its JSON."""


class Translator:
    """Translates with one model."""

    def __init__(self, calls: Calls, config: GeminiConfig) -> None:
        self._calls = calls
        self._config = config
        self._model = config.model(config.translate_model)

    async def translate(self, request: TranslateRequest) -> Translation:
        """As many texts as were asked for. Raises ``AnswerError`` where some stay missing."""
        size = self._config.batch_texts
        texts: list[str] = []
        usage = Usage(model=self._model, prompt_version=prompts.TRANSLATE_VERSION)
        for start in range(0, len(request.texts), size):
            batch = request.texts[start : start + size]
            done, taken = await self._batch(request, batch)
            texts += done
            usage = usage + taken
            request.call.report_progress(len(texts) / len(request.texts))
        return Translation(texts=tuple(texts), usage=usage)

    async def _batch(self, request: TranslateRequest, batch: Sequence[str]) -> tuple[list[str], Usage]:
        languages = f"{request.source_language}-{request.target_language}"
        digest = hashlib.sha256(json.dumps(batch).encode()).hexdigest()[:32]
        key = f"translate/{self._model}/{prompts.TRANSLATE_VERSION}/{languages}/{digest}"
        if (known := await request.call.recall(key)) is not None:
            stored = known["texts"]
            return [str(text) for text in stored] if isinstance(stored, list | tuple) else [], Usage()
        wanted = {index: text for index, text in enumerate(batch) if text.strip()}
        found: dict[int, str] = {}
        usage = Usage()
        for _ in range(2):  # what is missing is asked for once more
            missing = {index: text for index, text in wanted.items() if index not in found}
            if missing:
                more, taken = await self._ask(request, missing)
                found.update(more)
                usage = usage + taken
        lacking = [index for index in wanted if index not in found]
        if lacking:
            raise AnswerError(f"Gemini left out {len(lacking)} of {len(wanted)} texts, twice.")
        texts = [found.get(index, text) for index, text in enumerate(batch)]
        await request.call.remember(key, {"texts": texts})
        return texts, usage

    async def _ask(self, request: TranslateRequest, missing: Mapping[int, str]) -> tuple[dict[int, str], Usage]:
        # JSON is its own quoting: no text can end the list (rule A7).
        material = json.dumps(
            [{"index": index, "text": text} for index, text in missing.items()], ensure_ascii=False, indent=0
        )
        source = prompts.as_material(request.source_language) or "the language that it is in"
        told = f"Translate from {source} into {prompts.as_material(request.target_language)}."
        tokens = text_tokens(material)
        question = Question(
            model=self._model,
            version=prompts.TRANSLATE_VERSION,
            instruction=prompts.TRANSLATE,
            parts=[types.Part.from_text(text=told), types.Part.from_text(text=material)],
            schema=prompts.TRANSLATE_SCHEMA,
            input_tokens=tokens + text_tokens(prompts.TRANSLATE, told),
            output_tokens=LEAST_OUTPUT_TOKENS + GROWTH * tokens,
        )
        return await self._calls.ask(request.call, question, lambda answer: _read(answer, missing))


def _read(answer: Mapping[str, Any], wanted: Mapping[int, str]) -> dict[int, str]:
    given = answer.get("translations")
    if not isinstance(given, list):
        raise AnswerError("Gemini's answer has no list of translations.")
    found: dict[int, str] = {}
    for entry in given:
        if not isinstance(entry, dict):
            continue
        index, text = entry.get("index"), entry.get("text")
        if isinstance(index, int) and index in wanted and isinstance(text, str) and text.strip():
            found.setdefault(index, text.strip())
    return found
