"""A look at the film itself, where Google can read it from the storage: long ones in parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.genai import types

from echo_ai_gemini import prompts
from echo_ai_gemini.calls import Calls, Question
from echo_ai_gemini.config import GeminiConfig
from echo_ai_gemini.errors import AnswerError
from echo_ai_gemini.prices import VIDEO_TOKENS_PER_S, text_tokens
from echo_ai_gemini.times import clock_of, seconds_of
from echo_ai_gemini.transcribing import SLACK_S, Slice, slices_of
from echo_core.plugin_api import DescribeRequest, JsonObject, Usage, VideoAddress

OUTPUT_TOKENS = 16_384


class Watcher:
    """Lists what is seen, with one model."""

    def __init__(self, calls: Calls, config: GeminiConfig) -> None:
        self._calls = calls
        self._config = config
        self._model = config.model(config.describe_model)

    def can_watch(self, video: VideoAddress | None) -> bool:
        """Whether Google can read this film by itself."""
        return bool(video and self._address(video))

    def _address(self, video: VideoAddress) -> str:
        # Vertex AI reads gs:// with the rights of its account; the Gemini API reads any https address.
        return video.uri if self._config.is_vertex else video.url

    async def watch(self, request: DescribeRequest) -> tuple[list[str], Usage]:
        """(lines of what is seen, with times of the video; what was taken)."""
        lines: list[str] = []
        usage = Usage(model=self._model, prompt_version=prompts.SCENES_VERSION)
        since = 0.0
        for part in slices_of(request.duration_s, self._config.visual_slice_s, self._config.overlap_s):
            key = f"scenes/{self._model}/{prompts.SCENES_VERSION}/{part.start_s:.3f}-{part.end_s:.3f}"
            seen = await request.call.recall(key)
            if seen is None:
                seen, taken = await self._part(request, part)
                usage = usage + taken
                await request.call.remember(key, seen)
            for at_s, text in _scenes(seen):
                if since <= part.start_s + at_s < part.until_s:
                    lines.append(f"[{clock_of(part.start_s + at_s)}] {prompts.as_material(text)}")
            since = part.until_s
        return lines, usage

    async def _part(self, request: DescribeRequest, part: Slice) -> tuple[JsonObject, Usage]:
        video = request.video
        assert video is not None  # noqa: S101 - can_watch
        length = part.end_s - part.start_s
        told = f"This part lasts {clock_of(length)}. List what is seen."
        parts = [
            types.Part(
                file_data=types.FileData(file_uri=self._address(video), mime_type=video.content_type or "video/mp4"),
                video_metadata=types.VideoMetadata(start_offset=f"{part.start_s:g}s", end_offset=f"{part.end_s:g}s"),
            ),
            types.Part.from_text(text=told),
        ]
        question = Question(
            model=self._model,
            version=prompts.SCENES_VERSION,
            instruction=prompts.SCENES,
            parts=parts,
            schema=prompts.SCENES_SCHEMA,
            input_tokens=length * VIDEO_TOKENS_PER_S + text_tokens(prompts.SCENES, told),
            output_tokens=OUTPUT_TOKENS,
            media_s=length,
        )
        return await self._calls.ask(request.call, question, lambda answer: _checked(answer, length))


def _checked(answer: Mapping[str, Any], length_s: float) -> JsonObject:
    given = answer.get("scenes")
    if not isinstance(given, list):
        raise AnswerError("Gemini's answer has no list of scenes.")
    scenes: list[list[Any]] = []
    for entry in given:
        at_s = seconds_of(entry.get("at")) if isinstance(entry, dict) else None
        seen = entry.get("seen") if isinstance(entry, dict) else None
        if at_s is not None and at_s <= length_s + SLACK_S and isinstance(seen, str) and seen.strip():
            scenes.append([at_s, seen.strip()])
    if given and not scenes:
        raise AnswerError("The times of Gemini's scenes are none, or lie beyond the end of the film.")
    scenes.sort(key=lambda scene: scene[0])
    return {"scenes": scenes}


def _scenes(seen: JsonObject) -> list[tuple[float, str]]:
    found = seen.get("scenes", ())
    scenes = []
    for entry in found if isinstance(found, list | tuple) else ():
        if isinstance(entry, list | tuple):
            at_s, text = entry
            scenes.append((float(str(at_s)), str(text)))
    return scenes
