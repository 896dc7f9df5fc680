"""The calls of a model: generateContent, streamGenerateContent, countTokens, embeddings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.fakes.gemini.answers import answer_text, embedding, spoil
from tests.fakes.gemini.content import TEXT_BYTES_PER_TOKEN, Prompt, get, read_prompt
from tests.fakes.gemini.errors import Refusal
from tests.fakes.gemini.world import World

MODELS = {
    "gemini-3.8-flash": ("generateContent", "countTokens"),
    "gemini-3.5-flash": ("generateContent", "countTokens"),
    "gemini-3.5-flash-lite": ("generateContent", "countTokens"),
    "gemini-3.1-pro-preview": ("generateContent", "countTokens"),
    "gemini-4-argon": ("generateContent", "countTokens"),
    "gemini-embedding-001": ("embedContent",),
}
INPUT_TOKEN_LIMIT = 1_048_576
THOUGHTS = 64
EMBEDDING_SIZE = 3072
FINISH = {"safety": "SAFETY", "recitation": "RECITATION", "max_tokens": "MAX_TOKENS"}


def model_resource(world: World, model: str) -> dict[str, Any]:
    """``GET models/{model}``."""
    if model not in MODELS or model in world.retired:
        raise Refusal(
            404, f"models/{model} is not found for API version v1beta, or is not supported for generateContent."
        )
    return {
        "name": f"models/{model}",
        "version": "001",
        "displayName": model,
        "inputTokenLimit": INPUT_TOKEN_LIMIT,
        "outputTokenLimit": 65_536,
        "supportedGenerationMethods": list(MODELS[model]),
    }


def generate(world: World, model: str, body: Mapping[str, Any], mode: str) -> dict[str, Any]:
    """An answer, spoilt as the mode says."""
    model_resource(world, model)
    config = get(body, "generation_config") or {}
    prompt = read_prompt(world, body)
    if prompt.tokens > INPUT_TOKEN_LIMIT:
        raise Refusal(400, f"The input token count ({prompt.tokens}) exceeds the maximum number of tokens allowed.")
    shared = {"modelVersion": f"{model}-001", "responseId": world.next_id()}
    if mode == "blocked_prompt":
        feedback = {"blockReason": "PROHIBITED_CONTENT"}
        return {"promptFeedback": feedback, "usageMetadata": _usage(prompt, "", 0), **shared}
    text = spoil(mode, answer_text(world, prompt, config))
    finish = FINISH.get(mode, "STOP")
    candidate: dict[str, Any] = {"finishReason": finish, "index": 0}
    if mode not in {"safety", "recitation"}:
        candidate["content"] = {"role": "model", "parts": [{"text": text}]}
    else:
        text = ""
    usage = {} if mode == "no_usage" else {"usageMetadata": _usage(prompt, text, THOUGHTS)}
    return {"candidates": [candidate], **usage, **shared}


def stream(world: World, model: str, body: Mapping[str, Any], mode: str) -> bytes:
    """The same as server-sent events, in two halves."""
    whole = generate(world, model, body, mode)
    events = []
    candidates = whole.get("candidates", [])
    if candidates and "content" in candidates[0]:
        text = candidates[0]["content"]["parts"][0]["text"]
        half = len(text) // 2
        first = {"candidates": [{"content": {"role": "model", "parts": [{"text": text[:half]}]}, "index": 0}]}
        events.append(first)
        candidates[0]["content"]["parts"][0]["text"] = text[half:]
    events.append(whole)
    return b"".join(b"data: " + json.dumps(event).encode() + b"\r\n\r\n" for event in events)


def count_tokens(world: World, model: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """``countTokens``; the Gemini API wraps the prompt where there is more than contents."""
    model_resource(world, model)
    return {"totalTokens": read_prompt(world, get(body, "generate_content_request") or body).tokens}


def embed(world: World, model: str, requests: list[Mapping[str, Any]]) -> list[list[float]]:
    """One vector a request."""
    model_resource(world, model)
    vectors = []
    for request in requests:
        text = " ".join(part.get("text", "") for part in request["content"]["parts"])
        if not text:
            raise Refusal(400, "* EmbedContentRequest.content: content is empty")
        config = get(request, "embed_content_config") or request  # Vertex AI has it apart
        vectors.append(embedding(text, int(get(config, "output_dimensionality") or EMBEDDING_SIZE)))
    return vectors


def predict(world: World, model: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Embeddings of Vertex AI."""
    model_resource(world, model)
    size = int(get(body.get("parameters") or {}, "output_dimensionality") or EMBEDDING_SIZE)
    predictions = []
    for instance in body.get("instances", []):
        count = -(-len(instance["content"].encode()) // TEXT_BYTES_PER_TOKEN)
        values = embedding(instance["content"], size)
        predictions.append({"embeddings": {"values": values, "statistics": {"token_count": count, "truncated": False}}})
    return {"predictions": predictions}


def _usage(prompt: Prompt, text: str, thoughts: int) -> dict[str, Any]:
    written = -(-len(text.encode()) // TEXT_BYTES_PER_TOKEN)
    return {
        "promptTokenCount": prompt.tokens,
        "candidatesTokenCount": written,
        "thoughtsTokenCount": thoughts,
        "totalTokenCount": prompt.tokens + written + thoughts,
    }
