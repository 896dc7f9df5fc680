"""What AI providers say, made fit to be kept: validated, repaired where a rule can, else refused with a code.

| code | when |
|---|---|
| ``ai_result_invalid`` | the answer has not the shape that was asked for |
| ``ai_times_invalid`` | most of a transcript lies outside the video, or has no times at all |
| ``ai_translation_incomplete`` | more than a tenth of the captions were not translated, or their number differs |
| ``ai_embedding_invalid`` | vectors are missing, of different lengths, not finite, or nothing but zeros |

Times are seconds. Nothing here trusts a provider: numbers may be NaN, texts may hold markup or half a character.
"""

from __future__ import annotations

import bisect
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from echo_core.domain.caption_layout import Atom, atoms_of, ends_sentence, lay_out, pieces, rewrap
from echo_core.domain.captions import MAX_CUES, Cue, is_visible, literal, unformatted
from echo_core.domain.texts import lines
from echo_core.domain.videos import Chapter
from echo_core.plugin_api.ai import (
    DESCRIBED_FIELDS,
    DescribedChapter,
    Description,
    Embeddings,
    TimeSpan,
    Transcript,
    TranscriptSegment,
    TranscriptWord,
)
from echo_core.plugin_api.errors import ProviderError

MAX_REPEATS = 3
"""The same sentence so often in a row may be said; more is a model that has lost its way."""
MAX_LOST = 0.5
"""Share of segments that may lie outside the video before the rest is not believed either."""
MAX_UNTRANSLATED = 0.1
MAX_TRANSLATED_LINES = 3
MIN_CHAPTERS = 3
MAX_CHAPTERS = 100
CHAPTERS_FROM_S = 30.0
CHAPTER_GAP_S = 10.0
SNAP_S = 5.0
MAX_TITLE = 100
MAX_DESCRIPTION = 5000
MAX_TAGS = 15
MAX_TAG = 40
MAX_EVIDENCE = 20
MAX_SENTENCE_S = 30.0
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8}){0,3}")
_NO_LANGUAGE = frozenset({"und", "zxx", "mul", "mis", "auto"})
_TAG_MARKS = re.compile("[#,;\n]+")


class UngroundedError(ProviderError):
    """A provider's answer makes no sense, and nothing of it is stored. Not retried by itself: the same question would
    be answered, and paid for, the same way."""

    default_code = "ai_result_invalid"
    default_remedy = "Retry the step; if it happens again, name another provider for it in [ai] of the configuration."


@dataclass(frozen=True, kw_only=True, slots=True)
class GroundedDescription:
    """What is left of a description; None: nothing usable. ``notes`` say what was dropped or repaired."""

    title: str | None = None
    description: str | None = None
    tags: tuple[str, ...] | None = None
    chapters: tuple[Chapter, ...] | None = None
    evidence: Mapping[str, tuple[TimeSpan, ...]]
    notes: tuple[str, ...] = ()


# --- what is said -------------------------------------------------------------------------------------------------


def ground_transcript(transcript: Transcript, duration_s: float) -> Transcript:
    """The transcript with texts that are text, in order, inside the video. Raises ``UngroundedError``
    (``ai_times_invalid``)."""
    spoken = [s for s in transcript.segments if is_visible(_plain(s.text))]
    kept = [s for s in (_segment(one, duration_s) for one in spoken) if s is not None]
    if spoken and len(kept) < len(spoken) * (1 - MAX_LOST):
        raise UngroundedError(
            f"{len(spoken) - len(kept)} of {len(spoken)} parts of the transcript lie outside the video.",
            code="ai_times_invalid",
        )
    kept.sort(key=lambda s: (s.start_s, s.end_s))
    warnings = tuple(_plain(warning) for warning in transcript.warnings)
    said = _without_repeats(kept)
    if len(said) < len(kept):
        warnings = (*warnings, "A sentence that was heard again and again was kept once.")
    confidence = transcript.language_confidence
    return replace(
        transcript,
        language=language_tag(transcript.language),
        language_confidence=confidence if confidence is not None and 0.0 <= confidence <= 1.0 else None,
        segments=tuple(said),
        warnings=warnings,
    )


def _segment(segment: TranscriptSegment, duration_s: float) -> TranscriptSegment | None:
    text = _plain(segment.text)
    words = _words(segment.words, text, duration_s)
    start_s, end_s = segment.start_s, segment.end_s
    if words and not _is_span(start_s, end_s):
        start_s, end_s = words[0].start_s, words[-1].end_s
    if not _is_span(start_s, end_s) or start_s >= duration_s or end_s <= 0:
        return None
    return TranscriptSegment(
        text=text,
        start_s=max(0.0, start_s),
        end_s=min(end_s, duration_s),
        words=words,
        confidence=_share(segment.confidence),
        speaker=_plain(segment.speaker)[:MAX_TAG],
    )


def _words(words: Sequence[TranscriptWord], text: str, duration_s: float) -> tuple[TranscriptWord, ...]:
    """The words, if they are those of the text and their times make sense; else none: times are then in proportion."""
    kept: list[TranscriptWord] = []
    for word in words:
        said = _plain(word.text)
        if not is_visible(said):
            continue
        if not _is_span(word.start_s, word.end_s, empty=True) or not 0 <= word.start_s < duration_s:
            return ()
        start_s = max(word.start_s, kept[-1].start_s) if kept else word.start_s
        end_s = min(max(word.end_s, start_s), duration_s)
        kept.append(TranscriptWord(text=said, start_s=start_s, end_s=end_s, confidence=_share(word.confidence)))
    return tuple(kept) if _bare("".join(w.text for w in kept)) == _bare(text) else ()


def _without_repeats(segments: Sequence[TranscriptSegment]) -> list[TranscriptSegment]:
    kept: list[TranscriptSegment] = []
    for _, run in groupby(segments, key=lambda s: _bare(s.text).casefold()):
        same = list(run)
        kept += same if len(same) <= MAX_REPEATS else same[:1]
    return kept


def cues_of(transcript: Transcript, duration_s: float) -> tuple[Cue, ...]:
    """Readable captions of a grounded transcript, with the times of words."""
    atoms = [atom for segment in transcript.segments for atom in _atoms(segment)]
    atoms.sort(key=lambda atom: atom.start_ms)
    return lay_out(atoms, math.floor(duration_s * 1000))[:MAX_CUES]


def _atoms(segment: TranscriptSegment) -> list[Atom]:
    start_ms, end_ms = round(segment.start_s * 1000), round(segment.end_s * 1000)
    if segment.words:
        return _timed_atoms(segment.words)
    plain = atoms_of(segment.text)
    whole = sum(len(atom.text) + 1 for atom in plain)
    atoms: list[Atom] = []
    before = 0
    for number, atom in enumerate(plain):
        after = before + len(atom.text) + 1
        atoms.append(
            replace(
                atom,
                start_ms=start_ms + (end_ms - start_ms) * before // whole,
                end_ms=start_ms + (end_ms - start_ms) * after // whole,
                apart=number == 0,
            )
        )
        before = after
    return atoms


def _timed_atoms(words: Sequence[TranscriptWord]) -> list[Atom]:
    atoms = []
    for word in words:
        parts = [part for token in word.text.split() for part in pieces(token)]
        span = word.end_s - word.start_s
        for number, part in enumerate(parts):
            atoms.append(
                Atom(
                    text=part,
                    start_ms=round((word.start_s + span * number / len(parts)) * 1000),
                    end_ms=round((word.start_s + span * (number + 1) / len(parts)) * 1000),
                    spaced=number == 0,
                )
            )
    return atoms


def segments_of(cues: Sequence[Cue]) -> tuple[TranscriptSegment, ...]:
    """Captions as sentences, as far as sentences can be told; a pause or half a minute ends one as well."""
    sentences: list[TranscriptSegment] = []
    run: list[Cue] = []
    for number, cue in enumerate(cues):
        run.append(cue)
        following = cues[number + 1] if number + 1 < len(cues) else None
        if (
            following is None
            or ends_sentence(cue.text)
            or following.start_s - cue.end_s > 1.5
            or following.end_s - run[0].start_s > MAX_SENTENCE_S
        ):
            text = " ".join(part.text.replace("\n", " ") for part in run)
            sentences.append(TranscriptSegment(text=text, start_s=run[0].start_s, end_s=run[-1].end_s))
            run = []
    return tuple(sentences)


# --- what it is about ---------------------------------------------------------------------------------------------


def ground_description(
    description: Description,
    *,
    duration_s: float,
    segments: Sequence[TranscriptSegment],
    cuts_s: Sequence[float] = (),
    wanted: Sequence[str] = DESCRIBED_FIELDS,
) -> GroundedDescription:
    """The wanted fields within their limits; chapters at the beginnings of sentences, or where the picture changes."""
    notes: list[str] = []
    chapters: tuple[Chapter, ...] | None = None
    if "chapters" in wanted and description.chapters:
        anchors = sorted({s.start_s for s in segments} | {t for t in cuts_s if math.isfinite(t)})
        chapters = _chapters(description.chapters, duration_s, anchors, notes)
    title = _shortened(_plain(description.title), MAX_TITLE) if "title" in wanted else ""
    summary = _shortened(_paragraphs(description.description), MAX_DESCRIPTION) if "description" in wanted else ""
    tags = _tags(description.tags) if "tags" in wanted else ()
    evidence = {
        field: spans
        for field, said in description.evidence.items()
        if field in wanted and (spans := _spans(said, duration_s))
    }
    return GroundedDescription(
        title=title if is_visible(title) else None,
        description=summary if is_visible(summary) else None,
        tags=tags or None,
        chapters=chapters,
        evidence=evidence,
        notes=tuple(notes),
    )


def _chapters(
    described: Sequence[DescribedChapter], duration_s: float, anchors: Sequence[float], notes: list[str]
) -> tuple[Chapter, ...] | None:
    if duration_s < CHAPTERS_FROM_S:
        notes.append("The video is too short for chapters.")
        return None
    usable = sorted(
        (max(0.0, c.start_s), title)
        for c in described
        if math.isfinite(c.start_s)
        and c.start_s < duration_s
        and is_visible(title := _shortened(_plain(c.title), MAX_TITLE))
    )
    kept: list[Chapter] = []
    for start_s, title in usable:
        snapped_s = 0.0 if not kept else round(_snapped(start_s, anchors), 3)
        if kept and (snapped_s - kept[-1].start_s < CHAPTER_GAP_S or duration_s - snapped_s < 1.0):
            continue
        kept.append(Chapter(start_s=snapped_s, title=title))
    if len(kept) < len(described):
        notes.append(f"{len(described) - len(kept)} chapters lay outside the video or too close together.")
    if len(kept) < MIN_CHAPTERS:
        notes.append(f"Fewer than {MIN_CHAPTERS} chapters are left, so there are none.")
        return None
    return tuple(kept[:MAX_CHAPTERS])


def _snapped(time_s: float, anchors: Sequence[float]) -> float:
    """The nearest anchor within reach, else the time itself."""
    at = bisect.bisect_left(anchors, time_s)
    near = min(anchors[max(0, at - 1) : at + 1], key=lambda anchor: abs(anchor - time_s), default=time_s)
    return near if abs(near - time_s) <= SNAP_S else time_s


def _tags(tags: Sequence[str]) -> tuple[str, ...]:
    found: dict[str, str] = {}
    for tag in tags:
        name = " ".join(_TAG_MARKS.sub(" ", _plain(tag)).split())
        if is_visible(name) and len(name) <= MAX_TAG:
            found.setdefault(name.casefold(), name)
    return tuple(found.values())[:MAX_TAGS]


def _spans(spans: Sequence[TimeSpan], duration_s: float) -> tuple[TimeSpan, ...]:
    inside = [
        TimeSpan(start_s=max(0.0, span.start_s), end_s=min(span.end_s, duration_s))
        for span in spans
        if _is_span(span.start_s, span.end_s) and span.start_s < duration_s and span.end_s > 0
    ]
    return tuple(sorted(inside, key=lambda span: (span.start_s, span.end_s))[:MAX_EVIDENCE])


# --- other languages and vectors ----------------------------------------------------------------------------------


def ground_translation(cues: Sequence[Cue], texts: Sequence[str]) -> tuple[Cue, ...]:
    """As many captions at the same times, in other words. A few that were left out stay in the original language.

    Raises ``UngroundedError`` (``ai_translation_incomplete``).
    """
    if len(texts) != len(cues):
        raise UngroundedError(
            f"{len(texts)} translations came back for {len(cues)} captions.", code="ai_translation_incomplete"
        )
    translated: list[Cue] = []
    missing = 0
    for cue, text in zip(cues, texts, strict=True):
        laid = rewrap(_plain(text), MAX_TRANSLATED_LINES) if is_visible(_plain(text)) else None
        missing += laid is None
        translated.append(replace(cue, text=laid if laid is not None else cue.text, word_starts_s=()))
    if missing > len(cues) * MAX_UNTRANSLATED:
        raise UngroundedError(
            f"{missing} of {len(cues)} captions were not translated, or are too long.",
            code="ai_translation_incomplete",
        )
    return tuple(translated)


def ground_embeddings(result: Embeddings, count: int) -> Embeddings:
    """Unit vectors, as many as were asked for. Raises ``UngroundedError`` (``ai_embedding_invalid``)."""
    lengths = {len(vector) for vector in result.vectors}
    if len(result.vectors) != count or len(lengths) > 1 or 0 in lengths or not result.space:
        raise UngroundedError(
            f"{len(result.vectors)} vectors of lengths {sorted(lengths)} came back for {count} texts.",
            code="ai_embedding_invalid",
        )
    vectors = []
    for vector in result.vectors:
        norm = math.hypot(*vector)
        if not math.isfinite(norm) or norm == 0.0:
            raise UngroundedError("A vector is not finite, or nothing but zeros.", code="ai_embedding_invalid")
        vectors.append(tuple(value / norm for value in vector))
    return replace(result, vectors=tuple(vectors))


def language_tag(said: str) -> str:
    """A BCP 47 tag as it is usually written (``pt-BR``); empty for what is none."""
    tag = said.strip().replace("_", "-")
    if _LANGUAGE.fullmatch(tag) is None or tag.partition("-")[0].lower() in _NO_LANGUAGE:
        return ""
    first, *others = tag.split("-")
    return "-".join([first.lower(), *(_subtag(other) for other in others)])


def _subtag(subtag: str) -> str:
    if len(subtag) == 2:
        return subtag.upper()
    return subtag.title() if len(subtag) == 4 and subtag.isalpha() else subtag.lower()


# --- texts and numbers --------------------------------------------------------------------------------------------


def _plain(text: str) -> str:
    """One line of literal text."""
    return " ".join(literal(unformatted(text)).split())


def _paragraphs(text: str) -> str:
    """Literal text with its paragraphs."""
    parts = re.split(r"\n\s*\n", lines(text))
    return "\n\n".join(shown for part in parts if is_visible(shown := literal(unformatted(part))))


def _shortened(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    head = text[: limit - 1]
    return (head.rpartition(" ")[0] if " " in head[limit // 2 :] else head).rstrip() + "…"


def _bare(text: str) -> str:
    """The letters and digits, to compare by."""
    return "".join(character for character in text if character.isalnum())


def _is_span(start_s: float, end_s: float, *, empty: bool = False) -> bool:
    return math.isfinite(start_s) and math.isfinite(end_s) and (start_s < end_s or (empty and start_s <= end_s))


def _share(value: float | None) -> float | None:
    return value if value is not None and 0.0 <= value <= 1.0 else None
