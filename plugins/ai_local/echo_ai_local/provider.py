"""The AI provider ``local``: cuts the sound into slices, keeps each that is done, and puts the answers together."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from echo_ai_local.child import Child
from echo_ai_local.config import LocalAIConfig
from echo_ai_local.models import BUNDLED, PARTS
from echo_core.plugin_api import (
    AIProvider,
    Capability,
    DescribedChapter,
    DescribeRequest,
    Description,
    TimeSpan,
    TranscribeRequest,
    Transcript,
    TranscriptSegment,
    TranscriptWord,
    Usage,
)

LISTENED_S = 60.0
"""Length of each piece in which the language is looked for."""
LISTENED_AT = (0.1, 0.5, 0.85)
"""Where those pieces begin, as fractions of the video."""
SURE = 0.6
"""A language less probable than this is worth a warning."""
START_S = 60.0
"""Time to start a process and to load a model, on a slow disk."""
DESCRIBE_TIMEOUT_S = 300.0
MAX_VOCABULARY_CHARS = 200
TAIL_S = 0.05
DESCRIBER = "extract-1"


class LocalAIProvider(AIProvider):
    """Rules in ``plugin_api.ai``. ``aclose`` ends the process."""

    capabilities = frozenset({Capability.TRANSCRIBE, Capability.DESCRIBE})

    def __init__(self, config: LocalAIConfig, data_dir: Path) -> None:
        self._config = config
        self._model = config.model.name if config.model else BUNDLED
        self.child = Child(
            config,
            {
                "model": str(data_dir / config.model) if config.model else "",
                "model_sha256": config.model_sha256,
                "model_cache": str(data_dir / config.model_cache),
                "threads": config.threads or min(os.cpu_count() or 1, 4),
                "nice": config.nice,
                "beam_size": config.beam_size,
                "memory_limit_bytes": config.memory_limit_bytes,
            },
        )

    async def aclose(self) -> None:
        """End the process, if it runs."""
        await self.child.aclose()

    async def check(self) -> Sequence[str]:
        """Whether the model is installed."""
        from importlib.util import find_spec

        missing = [name.replace("_", "-") for name in PARTS if find_spec(name) is None]
        if missing and self._config.model is None:
            return [f"ai_local has no speech model. Run: pip install {' '.join(missing)}"]
        return []

    async def transcribe(self, request: TranscribeRequest) -> Transcript:
        """What is said; slices that an earlier try has finished are not listened to again."""
        language, confidence = request.language.split("-")[0].lower(), None
        if not language:
            language, confidence = await self._language(request)
        usage = Usage(model=self._model, media_s=request.speech.duration_s)
        if not language:
            return Transcript(language="und", segments=(), usage=usage)
        segments: list[TranscriptSegment] = []
        start_s, duration_s = 0.0, request.speech.duration_s
        while duration_s - start_s > TAIL_S:
            done = await self._slice(request, language, start_s)
            segments += [_segment(found, start_s) for found in done["segments"]]
            start_s += max(done["end_s"], 1.0)
            request.call.report_progress(min(1.0, start_s / duration_s))
        warnings = []
        if confidence is not None and confidence < SURE and segments:
            warnings.append(
                f"The spoken language is probably {language!r}, but that is not certain ({confidence:.0%}). "
                "If it is another, set the language of the video and transcribe again."
            )
        return Transcript(
            language=request.language or language,
            segments=tuple(segments),
            usage=usage,
            language_confidence=confidence,
            warnings=tuple(warnings),
        )

    async def describe(self, request: DescribeRequest) -> Description:
        """Chapters, summary, tags and title, out of the sentences that are said."""
        usage = Usage(model=DESCRIBER)
        if not request.segments:
            return Description(usage=usage, warnings=("Nothing is said in this video, so there is nothing to go by.",))
        found = await self.child.ask(
            {
                "op": "describe",
                "language": request.language,
                "duration_s": request.duration_s,
                "wanted": list(request.wanted),
                "segments": [[s.text, s.start_s, s.end_s] for s in request.segments],
            },
            timeout_s=DESCRIBE_TIMEOUT_S,
        )
        return Description(
            title=found["title"],
            description=found["description"],
            tags=tuple(found["tags"]),
            chapters=tuple(DescribedChapter(start_s=start, title=title) for start, title in found["chapters"]),
            evidence={
                field: tuple(TimeSpan(start_s=start, end_s=end) for start, end in spans)
                for field, spans in found["evidence"].items()
            },
            usage=usage,
        )

    async def _language(self, request: TranscribeRequest) -> tuple[str, float]:
        """The language of several pieces together, and its probability; empty where nobody speaks in them."""
        key = f"language/{self._key}"
        if (known := await request.call.recall(key)) is not None:
            return str(known["language"]), float(str(known["confidence"]))
        total, shares = 0.0, dict[str, float]()
        duration_s = request.speech.duration_s
        starts = [0.0] if duration_s <= LISTENED_S else [duration_s * at for at in LISTENED_AT]
        if duration_s > LISTENED_S:
            # Where the chosen pieces are silent, everything is looked through.
            starts += [float(at) for at in range(0, math.ceil(duration_s), int(LISTENED_S))]
        for number, start_s in enumerate(starts):
            if number >= len(LISTENED_AT) and total > 0:
                break
            path = await request.speech.cut(start_s, min(duration_s, start_s + LISTENED_S))
            try:
                heard = await self.child.ask({"op": "detect", "path": str(path)}, timeout_s=START_S + 120)
            finally:
                path.unlink(missing_ok=True)
            weight = min(30.0, heard["speech_s"])
            total += weight
            for code, share in heard["languages"].items():
                shares[code] = shares.get(code, 0.0) + weight * share
        language, confidence = "", 0.0
        if total:
            language = max(shares, key=lambda code: shares[code])
            confidence = min(1.0, shares[language] / total)
        await request.call.remember(key, {"language": language, "confidence": confidence})
        return language, confidence

    async def _slice(self, request: TranscribeRequest, language: str, start_s: float) -> Any:
        key = f"slice/{self._key}/{language}/{start_s:.3f}"
        if (known := await request.call.recall(key)) is not None:
            return known
        duration_s = request.speech.duration_s
        # A remainder of less than half a slice is not worth a slice of its own.
        last = duration_s - start_s <= self._config.slice_s * 1.5
        end_s = duration_s if last else start_s + self._config.slice_s
        path = await request.speech.cut(start_s, end_s)

        def tell(fraction: float) -> None:
            request.call.report_progress(min(1.0, (start_s + fraction * (end_s - start_s)) / duration_s))

        try:
            done = await self.child.ask(
                {
                    "op": "transcribe",
                    "path": str(path),
                    "language": language,
                    "last": last,
                    "vocabulary": ", ".join(request.vocabulary)[:MAX_VOCABULARY_CHARS],
                },
                timeout_s=START_S + (end_s - start_s) * self._config.slice_timeout_factor,
                on_progress=tell,
            )
        finally:
            path.unlink(missing_ok=True)
        if last:
            done["end_s"] = end_s - start_s
        await request.call.remember(key, done)
        return done

    @property
    def _key(self) -> str:
        config = self._config
        return f"2/{self._model}{config.model_sha256[:12]}/{config.beam_size}/{config.slice_s:g}"


def _segment(found: Any, offset_s: float) -> TranscriptSegment:
    text, start_s, end_s, words = found
    said = tuple(
        TranscriptWord(text=word.strip(), start_s=offset_s + start, end_s=offset_s + end, confidence=sure)
        for word, start, end, sure in words
        if word.strip()
    )
    return TranscriptSegment(
        text=text,
        start_s=offset_s + start_s,
        end_s=offset_s + end_s,
        words=said,
        confidence=sum(word.confidence or 0.0 for word in said) / len(said) if said else None,
    )
