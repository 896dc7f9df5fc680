"""How good the answers of an AI provider are, how long they take, and what they cost.

    python bench/evaluate_ai.py [--provider local] [--minutes 10]

The provider is one that ``echo.toml`` (or ECHO_CONFIG) can open. It hears the LibriVox clips of Debian's
``pocketsphinx-testdata`` (``make system-packages``): once each, and repeated until there are ``--minutes`` of talk; and
it describes four short talks on different matters, one after the other. Figures, each of which says what it can:

- word error rate: substitutions, insertions and deletions by words of the reference, without case and punctuation
- seconds of processors by second of sound, on as many as there are, and the highest memory of what it starts
- chapters: precision and recall of boundaries within 10 s of where the matter changes, as F1
- titles: the share of chapter titles, and whether the title of the whole, that name something of their matter
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import sys
import tempfile
import threading
import time
import wave
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jiwer
import psutil
from harness import Row, write_result

sys.path.insert(0, str(Path(__file__).parents[1]))

from echo_core.adapters.clock import SystemClock
from echo_core.adapters.plugin_registry import PluginRegistry
from echo_core.bootstrap import load_settings
from echo_core.domain.grounding import ground_description, ground_transcript
from echo_core.plugin_api.ai import AIProvider, Capability, DescribeRequest, TranscribeRequest, TranscriptSegment
from echo_core.testing.fake_ai import FakeAICall
from tests.fakes.speech import RATE, Clip, clips, joined

TOPICS = json.loads((Path(__file__).parent / "topics.json").read_text())
SENTENCE_S = 6.0
NEAR_S = 10.0


@dataclass
class Sound:
    """``SpeechSource`` of samples of 16 bits."""

    pcm: bytes
    scratch: Path
    cuts: int = 0

    @property
    def duration_s(self) -> float:
        return len(self.pcm) / 2 / RATE

    async def cut(
        self, start_s: float = 0.0, end_s: float | None = None, codec: Literal["wav", "opus"] = "wav"
    ) -> Path:
        self.cuts += 1
        path = self.scratch / f"cut-{self.cuts}.wav"
        end = None if end_s is None else int(end_s * RATE) * 2
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE)
            file.writeframes(self.pcm[int(start_s * RATE) * 2 : end])
        return path


class Watch:
    """Processor time and the highest memory of this process's children."""

    def __init__(self) -> None:
        self.peak_bytes = 0
        self.cpu_s = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._before = sum(self._times().values())
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        self.cpu_s -= self._before

    def _look(self) -> None:
        seen: dict[int, float] = {}
        while not self._stop.wait(0.1):
            seen |= self._times()
            self.cpu_s = sum(seen.values())
            for child in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):
                    self.peak_bytes = max(self.peak_bytes, child.memory_info().rss)

    def _times(self) -> dict[int, float]:
        found = {}
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                times = child.cpu_times()
                found[child.pid] = times.user + times.system
        return found


def row(measure: str, unit: str, value: float, limit: float | None = None) -> Row:
    return Row(measure=measure, unit=unit, echo=value, limit=limit)


def plain(text: str) -> str:
    return " ".join(re.sub(r"[^a-z' ]+", " ", text.lower().replace("mr.", "mister")).split())


def boundaries_f1(found: Sequence[float], wanted: Sequence[float]) -> float:
    """F1 of times, each of which counts once; the beginning does not."""
    found = [time_s for time_s in found if time_s > 0]
    left = list(wanted)
    hits = 0
    for time_s in found:
        if (near := min(left, key=lambda want: abs(want - time_s), default=None)) is None:
            break
        if abs(near - time_s) <= NEAR_S:
            left.remove(near)
            hits += 1
    return 2 * hits / (len(found) + len(wanted)) if found else 0.0


def names_something(text: str, keywords: Sequence[str]) -> bool:
    return any(keyword[:5] in text.lower() for keyword in keywords)


async def hear(provider: AIProvider, parts: tuple[Clip, ...], times: int) -> dict[str, Any]:
    reference = plain(" ".join(clip.text for clip in parts))
    with tempfile.TemporaryDirectory() as folder, Watch() as watch:
        sound = Sound(joined(parts) * times, Path(folder))
        call = FakeAICall(scratch=Path(folder))
        began = time.monotonic()
        said = await provider.transcribe(TranscribeRequest(call=call, speech=sound))
        wall_s = time.monotonic() - began
        await asyncio.sleep(0.3)
    grounded = ground_transcript(said, sound.duration_s)
    heard = plain(" ".join(segment.text for segment in grounded.segments))
    return {
        "seconds": round(sound.duration_s, 1),
        "words": len(reference.split()) * times,
        "language": grounded.language,
        "word_error_rate": round(jiwer.wer(" ".join([reference] * times), heard), 4),
        "wall_by_second": round(wall_s / sound.duration_s, 3),
        "processor_by_second": round(watch.cpu_s / sound.duration_s / (os.cpu_count() or 1), 3),
        "peak_mib": round(watch.peak_bytes / 2**20),
        "cost_usd": round(said.usage.cost_usd, 5),
    }


async def describe(provider: AIProvider) -> dict[str, Any]:
    sentences = [(number, text) for number, topic in enumerate(TOPICS) for text in topic["sentences"]]
    segments = tuple(
        TranscriptSegment(text=text, start_s=at * SENTENCE_S, end_s=(at + 1) * SENTENCE_S - 0.5)
        for at, (_, text) in enumerate(sentences)
    )
    duration_s = len(sentences) * SENTENCE_S
    starts = [
        next(at for at, (n, _) in enumerate(sentences) if n == number) * SENTENCE_S for number in range(len(TOPICS))
    ]
    with tempfile.TemporaryDirectory() as folder:
        call = FakeAICall(scratch=Path(folder))
        said = await provider.describe(
            DescribeRequest(call=call, duration_s=duration_s, language="en", segments=segments, filename="talk.mp4")
        )
    found = ground_description(said, duration_s=duration_s, segments=segments)
    chapters = found.chapters or ()
    matters = [max(n for n, start in enumerate(starts) if start <= chapter.start_s + 0.01) for chapter in chapters]
    named = [
        names_something(chapter.title, TOPICS[matter]["keywords"])
        for chapter, matter in zip(chapters, matters, strict=True)
    ]
    everything = [keyword for topic in TOPICS for keyword in topic["keywords"]]
    return {
        "chapters": [[round(c.start_s, 1), c.title] for c in chapters],
        "chapter_f1": round(boundaries_f1([c.start_s for c in chapters], starts[1:]), 3),
        "chapter_titles_named": round(sum(named) / len(named), 3) if named else 0.0,
        "title": found.title,
        "title_named": names_something(found.title or "", everything),
        "tags": list(found.tags or ()),
        "tags_named": round(
            sum(names_something(tag, everything) for tag in found.tags or ()) / max(1, len(found.tags or ())), 3
        ),
        "summary": found.description,
        "cost_usd": round(said.usage.cost_usd, 5),
    }


async def evaluate(name: str, minutes: float) -> None:
    settings = load_settings()
    registry = PluginRegistry.load(settings, secret=b"evaluation" * 4, clock=SystemClock(), strict=False)
    rows: list[Row] = []
    details: dict[str, Any] = {"provider": name}
    async with registry.open_ai_provider(name) as provider:
        if Capability.TRANSCRIBE in provider.capabilities:
            parts = clips()
            if not parts:
                sys.exit("There are no clips to hear. Run 'make system-packages' first.")
            once_s = len(joined(parts)) / 2 / RATE
            details["clips"] = await hear(provider, parts, 1)
            details["talk"] = talk = await hear(provider, parts, max(1, round(minutes * 60 / once_s)))
            local = talk["peak_mib"] > 0
            rows += [
                row(f"{name}: word error rate, clips", "", details["clips"]["word_error_rate"], limit=0.03),
                row(f"{name}: word error rate, {minutes:g} min", "", talk["word_error_rate"], limit=0.03),
                row(f"{name}: wall by second of sound", "s", talk["wall_by_second"]),
            ]
            if local:
                rows.append(
                    row(f"{name}: all processors by second of sound", "s", talk["processor_by_second"], limit=0.25)
                )
                rows.append(row(f"{name}: highest memory, {minutes:g} min", "MiB", talk["peak_mib"], limit=700))
        if Capability.DESCRIBE in provider.capabilities:
            details["describe"] = described = await describe(provider)
            rows += [
                row(f"{name}: chapter boundaries, F1", "", described["chapter_f1"]),
                row(f"{name}: chapter titles that name their matter", "", described["chapter_titles_named"]),
                row(f"{name}: tags that name a matter", "", described["tags_named"]),
            ]
    cost = sum(details.get(part, {}).get("cost_usd", 0.0) for part in ("clips", "talk", "describe"))
    rows.append(row(f"{name}: cost of this evaluation", "USD", round(cost, 4)))
    write_result(f"evaluate_ai_{name}", rows, details)
    print(json.dumps(details.get("describe", {}), indent=1, ensure_ascii=False))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--provider", default="local", help="an AI provider, as [ai] would name it")
    parser.add_argument("--minutes", type=float, default=10.0, help="length of the long talk")
    chosen = parser.parse_args()
    asyncio.run(evaluate(chosen.provider, chosen.minutes))
