"""What a video is about: from its transcript and some pictures, or a look at the whole film."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.genai import types

from echo_ai_gemini import prompts
from echo_ai_gemini.calls import Calls, Question
from echo_ai_gemini.config import GeminiConfig
from echo_ai_gemini.errors import AnswerError
from echo_ai_gemini.prices import IMAGE_TOKENS, text_tokens
from echo_ai_gemini.times import clock_of, seconds_of
from echo_ai_gemini.watching import Watcher
from echo_core.plugin_api import (
    DESCRIBED_FIELDS,
    DescribedChapter,
    DescribeRequest,
    Description,
    JsonObject,
    TimeSpan,
    Usage,
)

OUTPUT_TOKENS = 8192


@dataclass
class Material:
    """What the model is shown, as lines; ``taken`` is what making it has cost."""

    said: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    pictures: list[types.Part] = field(default_factory=list)
    picture_times: list[str] = field(default_factory=list)
    chapters: list[dict[str, Any]] | None = None
    taken: Usage = field(default_factory=Usage)


class Describer:
    """Describes with one model."""

    def __init__(self, calls: Calls, config: GeminiConfig) -> None:
        self._calls = calls
        self._config = config
        self._model = config.model(config.describe_model)
        self._watcher = Watcher(calls, config)

    async def describe(self, request: DescribeRequest) -> Description:
        """The wanted fields, as the model says them; none where there is nothing to go by."""
        wanted = [name for name in DESCRIBED_FIELDS if name in request.wanted]
        material = await self._material(request)
        if not (material.said or material.seen or material.pictures):
            return Description(
                usage=Usage(model=self._model, prompt_version=prompts.DESCRIBE_VERSION),
                warnings=("There is nothing to describe: nothing is said, and there are no pictures.",),
            )
        request.call.report_progress(0.8)
        asked = [name for name in wanted if not (name == "chapters" and material.chapters is not None)]
        answer, usage = await self._final(request, material, asked or ["title"])
        request.call.report_progress(1.0)
        return _description(answer, material.chapters, wanted, material.taken + usage)

    async def _material(self, request: DescribeRequest) -> Material:
        material = Material()
        lines = [f"[{clock_of(segment.start_s)}] {prompts.as_material(segment.text)}" for segment in request.segments]
        windows = _windows(lines, self._config.window_tokens)
        if len(windows) > 1:
            await self._read_windows(request, windows, material)
        else:
            material.said = lines
        if self._config.visual == "video" and self._watcher.can_watch(request.video):
            material.seen, taken = await self._watcher.watch(request)
            material.taken = material.taken + taken
        elif self._config.visual != "off":
            for frame in _spread(request.frames, self._config.frames):
                data = await asyncio.to_thread(frame.path.read_bytes)
                material.pictures.append(types.Part.from_bytes(data=data, mime_type=frame.content_type))
                material.picture_times.append(clock_of(frame.at_s))
        return material

    async def _read_windows(
        self, request: DescribeRequest, windows: Sequence[Sequence[str]], material: Material
    ) -> None:
        material.chapters = []
        for index, lines in enumerate(windows):
            text = prompts.tagged("transcript", lines)
            key = f"window/{self._model}/{prompts.WINDOW_VERSION}/{_digest(text)}"
            known = await request.call.recall(key)
            if known is not None:
                part = known
            else:
                question = Question(
                    model=self._model,
                    version=prompts.WINDOW_VERSION,
                    instruction=prompts.WINDOW,
                    parts=[types.Part.from_text(text=text)],
                    schema=prompts.WINDOW_SCHEMA,
                    input_tokens=text_tokens(prompts.WINDOW, text),
                    output_tokens=OUTPUT_TOKENS,
                )
                part, taken = await self._calls.ask(request.call, question, _window)
                material.taken = material.taken + taken
                await request.call.remember(key, part)
            start = lines[0].partition("]")[0]
            material.said.append(f"{start}] {prompts.as_material(str(part['summary']))}")
            material.chapters += _dicts(part["chapters"])
            request.call.report_progress(0.7 * (index + 1) / len(windows))

    async def _final(
        self, request: DescribeRequest, material: Material, wanted: Sequence[str]
    ) -> tuple[JsonObject, Usage]:
        text = _told(request, material)
        key = f"describe/{self._model}/{prompts.DESCRIBE_VERSION}/{','.join(wanted)}/" + _digest(
            text, *(part.inline_data.data or b"" for part in material.pictures if part.inline_data)
        )
        if (known := await request.call.recall(key)) is not None:
            return known, Usage(model=self._model, prompt_version=prompts.DESCRIBE_VERSION)
        question = Question(
            model=self._model,
            version=prompts.DESCRIBE_VERSION,
            instruction=prompts.DESCRIBE,
            parts=[*material.pictures, types.Part.from_text(text=text)],
            schema=prompts.describe_schema(wanted),
            input_tokens=text_tokens(prompts.DESCRIBE, text) + IMAGE_TOKENS * len(material.pictures),
            output_tokens=OUTPUT_TOKENS,
        )
        answer, usage = await self._calls.ask(request.call, question, lambda given: _checked(given, wanted))
        await request.call.remember(key, answer)
        return answer, usage


def _digest(*parts: str | bytes) -> str:
    whole = hashlib.sha256()
    for part in parts:
        piece = part.encode() if isinstance(part, str) else part
        whole.update(len(piece).to_bytes(8, "big") + piece)
    return whole.hexdigest()[:32]


def _windows(lines: Sequence[str], most_tokens: int) -> list[list[str]]:
    windows: list[list[str]] = [[]]
    size = 0
    for line in lines:
        tokens = text_tokens(line)
        if windows[-1] and size + tokens > most_tokens:
            windows.append([])
            size = 0
        windows[-1].append(line)
        size += tokens
    return windows


def _spread(frames: Sequence[Any], most: int) -> list[Any]:
    """At most so many, evenly spread."""
    if len(frames) <= most:
        return list(frames)
    return [frames[(2 * index + 1) * len(frames) // (2 * most)] for index in range(most)]


def _told(request: DescribeRequest, material: Material) -> str:
    language = prompts.as_material(request.language) or "the language that is spoken, or else English"
    lines = [
        f"The video lasts {clock_of(request.duration_s)}. Answer in this language: {language}.",
        "The name of its file, which may say nothing:",
        prompts.tagged("filename", [prompts.as_material(request.filename)]),
    ]
    if material.picture_times:
        lines.append(f"The pictures are from {', '.join(material.picture_times)}.")
    if material.seen:
        lines += ["What is seen:", prompts.tagged("scenes", material.seen)]
    lines.append("What is said:" if material.said else "Nothing is said in it.")
    if material.said:
        lines.append(prompts.tagged("transcript", material.said))
    return "\n".join(lines)


def _dicts(value: object) -> list[dict[str, Any]]:
    return [dict(entry) for entry in value if isinstance(entry, Mapping)] if isinstance(value, list | tuple) else []


def _window(answer: Mapping[str, Any]) -> JsonObject:
    summary = answer.get("summary")
    if not isinstance(summary, str) or not summary.strip():
        raise AnswerError("Gemini's answer on a part of the transcript has no summary.")
    return {"summary": summary, "chapters": _dicts(answer.get("chapters"))}


def _checked(answer: Mapping[str, Any], wanted: Sequence[str]) -> JsonObject:
    """The wanted fields of an answer. Raises ``AnswerError`` where none has its shape, or all times are none."""
    kept: dict[str, Any] = {}
    for name in wanted:
        key = prompts.FIELD_OF[name]
        value = answer.get(key)
        if name in {"title", "description"} and isinstance(value, str) and value.strip():
            kept[key] = value.strip()
        elif name == "tags" and isinstance(value, list):
            kept[key] = [tag.strip() for tag in value if isinstance(tag, str) and tag.strip()]
        elif name == "chapters" and isinstance(value, list):
            kept[key] = _dicts(value)
            if value and not _chapters(kept[key]):
                raise AnswerError("The chapters of Gemini's answer have no usable times.")
    if not kept:
        raise AnswerError("Gemini's answer has none of the fields that were asked for.")
    kept["evidence"] = _dicts(answer.get("evidence"))
    return kept


def _chapters(entries: object) -> tuple[DescribedChapter, ...]:
    chapters = []
    for entry in _dicts(entries):
        start, title = seconds_of(entry.get("start")), entry.get("title")
        if start is not None and isinstance(title, str) and title.strip():
            chapters.append(DescribedChapter(start_s=start, title=title.strip()))
    return tuple(chapters)


def _evidence(entries: object, wanted: Sequence[str]) -> dict[str, tuple[TimeSpan, ...]]:
    names = {prompts.FIELD_OF[name]: name for name in wanted}
    found: dict[str, tuple[TimeSpan, ...]] = {}
    for entry in _dicts(entries):
        name, start, end = (
            names.get(str(entry.get("field"))),
            seconds_of(entry.get("start")),
            seconds_of(entry.get("end")),
        )
        if name is not None and start is not None:
            span = TimeSpan(start_s=start, end_s=max(start, end if end is not None else start))
            found[name] = (*found.get(name, ()), span)
    return found


def _description(
    answer: JsonObject, chapters: list[dict[str, Any]] | None, wanted: Sequence[str], usage: Usage
) -> Description:
    tags = answer.get("tags", ())
    given = chapters if chapters is not None else answer.get("chapters", ())
    return Description(
        title=str(answer.get("title", "")) if "title" in wanted else "",
        description=str(answer.get("summary", "")),
        tags=tuple(str(tag) for tag in tags) if isinstance(tags, list | tuple) else (),
        chapters=_chapters(given) if "chapters" in wanted else (),
        evidence=_evidence(answer.get("evidence", ()), wanted),
        usage=usage,
    )
