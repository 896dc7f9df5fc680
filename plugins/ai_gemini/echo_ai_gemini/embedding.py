"""Vectors of texts."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence

from google.genai import types

from echo_ai_gemini.calls import Calls
from echo_ai_gemini.config import GeminiConfig
from echo_ai_gemini.errors import AnswerError
from echo_ai_gemini.prices import at_most, cost_usd, text_tokens
from echo_core.plugin_api import Embeddings, EmbedRequest, Usage

BATCH_TEXTS = 50
"""Google takes 100 at once; 50 vectors of full length still fit into what can be remembered."""
TASKS = {"passage": "RETRIEVAL_DOCUMENT", "query": "RETRIEVAL_QUERY"}
DIGITS = 6
BYTES_PER_TOKEN = 4
VERSION = "embed-1"
Vector = tuple[float, ...]


class Embedder:
    """Embeds with one model."""

    def __init__(self, calls: Calls, config: GeminiConfig) -> None:
        self._calls = calls
        self._model = config.model(config.embed_model)
        self._dimensions = config.dimensions

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Unit vectors, as many as texts."""
        vectors: list[Vector] = []
        usage = Usage(model=self._model, prompt_version=VERSION)
        for start in range(0, len(request.texts), BATCH_TEXTS):
            batch = request.texts[start : start + BATCH_TEXTS]
            made, taken = await self._batch(request, batch)
            vectors += made
            usage = usage + taken
            request.call.report_progress(len(vectors) / len(request.texts))
        return Embeddings(space=f"{self._model}/{self._dimensions}", vectors=tuple(vectors), usage=usage)

    async def _batch(self, request: EmbedRequest, batch: Sequence[str]) -> tuple[list[Vector], Usage]:
        digest = hashlib.sha256(json.dumps(batch).encode()).hexdigest()[:32]
        key = f"embed/{self._model}/{self._dimensions}/{request.purpose}/{digest}"
        known = await request.call.recall(key)
        if known is not None and isinstance(known["vectors"], list | tuple):
            return [_unit(vector) for vector in known["vectors"]], Usage()
        texts = [text if text.strip() else "-" for text in batch]  # an empty one is refused, and all others with it
        price = self._calls.price(self._model)
        estimate = at_most(price, VERSION, input_tokens=text_tokens(*texts))
        answer, usage = await self._calls.paid(
            request.call,
            estimate,
            lambda: self._send(texts, TASKS[request.purpose]),
            lambda found: _counted(found, texts, estimate, price.input_usd and cost_usd(price, 1, 0)),
        )
        made = [_unit(embedding.values or ()) for embedding in answer.embeddings or ()]
        if len(made) != len(batch) or any(len(vector) != self._dimensions for vector in made):
            raise AnswerError("Gemini gave another number of vectors, or others, than was asked for.")
        await request.call.remember(key, {"vectors": [[round(value, DIGITS) for value in one] for one in made]})
        return made, usage

    async def _send(self, texts: Sequence[str], task: str) -> types.EmbedContentResponse:
        contents = [types.Content(role="user", parts=[types.Part.from_text(text=text)]) for text in texts]
        return await self._calls.client.aio.models.embed_content(
            model=self._model,
            contents=list(contents),
            config=types.EmbedContentConfig(task_type=task, output_dimensionality=self._dimensions),
        )


def _counted(answer: types.EmbedContentResponse, texts: Sequence[str], estimate: Usage, token_usd: float) -> Usage:
    """Vertex AI counts the tokens; the Gemini API says nothing of them."""
    counts = [one.statistics.token_count for one in answer.embeddings or () if one.statistics is not None]
    known = [count for count in counts if count is not None]
    if known and len(known) == len(texts):
        tokens = round(sum(known))
    else:
        tokens = sum(-(-len(text.encode()) // BYTES_PER_TOKEN) for text in texts)
    return Usage(model=estimate.model, prompt_version=VERSION, input_tokens=tokens, cost_usd=tokens * token_usd)


def _unit(values: object) -> Vector:
    """Of length one: shortened vectors of this model are not."""
    numbers = [float(value) for value in values] if isinstance(values, list | tuple) else []
    length = math.sqrt(sum(number * number for number in numbers))
    if not numbers or length == 0 or not math.isfinite(length):
        raise AnswerError("Gemini gave a vector that is none.")
    return tuple(number / length for number in numbers)
