"""What the fake's model says: derived from the prompt and the schema of the answer, the same every time."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tests.fakes.gemini.content import Medium, Prompt, get
from tests.fakes.gemini.world import World

SECONDS_A_LINE = 4.0
SCENE_S = 60.0
WORDS = (
    "alpha",
    "bravo",
    "charlie",
    "delta",
    "echo",
    "foxtrot",
    "golf",
    "hotel",
    "india",
    "juliet",
    "kilo",
    "lima",
    "mike",
    "november",
    "oscar",
    "papa",
)
_LINE = re.compile(r"(?m)^\[(?P<at>[\d:.]+)\] (?P<text>.+)$")
_SENTENCE = re.compile(r"[^.!?\n]+[.!?]?")


def answer_text(world: World, prompt: Prompt, config: Mapping[str, Any]) -> str:
    """The text of the answer; JSON where the request has a schema."""
    schema = get(config, "response_schema") or get(config, "response_json_schema")
    if not schema:
        return "The fake has read: " + " ".join(prompt.texts)[:200]
    return json.dumps(_value(world, prompt, schema), ensure_ascii=False)


def _value(world: World, prompt: Prompt, schema: Mapping[str, Any]) -> Any:
    known = {
        "segments": _segments,
        "scenes": _scenes,
        "chapters": _chapters,
        "translations": _translations,
        "title": lambda _, asked: _first_sentence(asked)[:90],
        "summary": lambda _, asked: f"About {_first_sentence(asked)}",
        "tags": lambda _, asked: sorted(set(_long_words(asked)))[:5],
        "language": lambda _, asked: "en",
        "evidence": _evidence,
    }
    answer = {}
    for name, of in (get(schema, "properties") or {}).items():
        answer[name] = known[name](world, prompt) if name in known else _generic(of, name)
    return answer


def _generic(schema: Mapping[str, Any], name: str) -> Any:
    match str(schema.get("type", "")).lower():
        case "object":
            return {key: _generic(of, key) for key, of in (get(schema, "properties") or {}).items()}
        case "array":
            return [_generic(schema.get("items", {}), name)]
        case "integer" | "number":
            return 1
        case "boolean":
            return True
    return name


def clock_text(seconds: float) -> str:
    """MM:SS.s, minutes beyond an hour too."""
    minutes, rest = divmod(round(seconds * 10), 600)
    return f"{minutes:02d}:{rest / 10:04.1f}"


def _segments(world: World, prompt: Prompt) -> list[dict[str, str]]:
    lines = []
    for medium in prompt.media:
        if medium.kind == "image":
            continue
        for start, end, text in _heard(world, medium):
            lines.append({"start": clock_text(start), "end": clock_text(end), "text": text})
    return lines


def _heard(world: World, medium: Medium) -> Iterator[tuple[float, float, str]]:
    """(start, end, text), from the beginning of the medium."""
    part = medium.part
    if world.script:
        for spoken in world.script:
            if spoken.start_s >= part.start_s and spoken.end_s <= part.end_s:
                yield spoken.start_s - part.start_s, spoken.end_s - part.start_s, spoken.text
        return
    at = 0.0
    while at < part.duration_s:
        place = round((part.start_s + at) / SECONDS_A_LINE)
        digest = hashlib.sha256(str(place).encode()).digest()
        words = " ".join(WORDS[byte % len(WORDS)] for byte in digest[:6])
        yield at, min(at + SECONDS_A_LINE - 0.5, part.duration_s), f"{words.capitalize()}."
        at += SECONDS_A_LINE


def _scenes(_: World, prompt: Prompt) -> list[dict[str, str]]:
    """Times are those of the film, as the service gives them."""
    scenes = []
    for medium in prompt.media:
        at = 0.0
        while medium.kind == "video" and at < medium.part.duration_s:
            scenes.append({"at": clock_text(at), "seen": f"Scene at {medium.part.start_s + at:g} seconds"})
            at += SCENE_S
    return scenes


def _timed(prompt: Prompt) -> list[tuple[str, str]]:
    return [(found["at"], found["text"]) for text in prompt.texts for found in _LINE.finditer(text)]


def _first_sentence(prompt: Prompt) -> str:
    timed = _timed(prompt)
    material = timed[0][1] if timed else (prompt.texts[-1] if prompt.texts else "pictures")
    found = _SENTENCE.search(material)
    return found[0].strip() if found else material


def _long_words(prompt: Prompt) -> list[str]:
    return [word.lower() for _, text in _timed(prompt) for word in re.findall(r"[^\W\d_]{5,}", text)]


def _chapters(_: World, prompt: Prompt) -> list[dict[str, str]]:
    timed = _timed(prompt)
    step = max(1, len(timed) // 4)
    chapters = []
    for at, text in timed[::step][:4]:
        chapters.append({"start": at, "title": " ".join(text.split()[:5]).rstrip(".")})
    return chapters


def _evidence(_: World, prompt: Prompt) -> list[dict[str, str]]:
    return [{"field": "title", "start": at, "end": at} for at, _ in _timed(prompt)[:1]]


def _translations(_: World, prompt: Prompt) -> list[dict[str, Any]]:
    for text in prompt.texts:
        try:
            material = json.loads(text)
        except ValueError:
            continue
        if isinstance(material, list):
            return [{"index": entry["index"], "text": f"<{entry['text']}>"[1:-1].upper()} for entry in material]
    return []


def spoil(mode: str, text: str) -> str:
    """The text of an answer as that mode makes it."""
    match mode:
        case "max_tokens":
            return text[: len(text) // 2]
        case "fenced":
            return f"```json\n{text}\n```"
        case "wrong_shape":
            return json.dumps({"answer": "I would rather write an essay."})
        case "bad_times":
            return re.sub(r'"(start|end|at)": "[^"]*"', r'"\1": "around noon"', text)
        case "fewer":
            content = json.loads(text)
            content["translations"] = content.get("translations", [])[1:]
            return json.dumps(content)
    return text


def embedding(text: str, size: int) -> list[float]:
    """A vector of the words; not of length one, as the service's shortened ones are not."""
    vector = [0.01] * size
    for word in re.findall(r"\w+", text.lower()):
        vector[int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "big") % size] += 2.0
    return vector
