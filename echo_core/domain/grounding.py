"""What AI providers say, checked before anything of it is stored: repaired where a rule can, else refused.

A provider's result is hostile input, since what is said in a video decides much of it. Everything in here takes any
value of the right type and gives a valid result or raises ``UngroundedError``:

=========================== ============================================================================================
code                        refused because
=========================== ============================================================================================
ai_result_invalid           a value is not of the kind that was asked for, or the length of the video is not known
ai_times_invalid            a time of a segment is not a number, or over half of the text lies outside of the video,
                            ends before it starts, or is more than anybody can say in its time: such times are invented
ai_translation_incomplete   a translation has another count than the cues, or over 10 % of its texts are missing
ai_embedding_invalid        vectors are too few or too many, of different lengths, zero, or not finite
=========================== ============================================================================================

Repaired, with a sentence for the owner: order, overlaps, texts repeated four times or more in a row, segments and
chapters outside of the video, chapters less than 10 s apart, texts over their limit, markup. A transcript without text
is none of this: where nothing is said, nothing is what there is to write down. Limits of titles, descriptions and tags
are below those of the HTTP contract and those of the large video sites.

One module although it is long, since its rules are read together.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from echo_core.domain import texts as plain
from echo_core.domain.caption_layout import Atom, ends_sentence, is_unspaced, joined, lay_out, rewrap
from echo_core.domain.captions import MAX_TIME_S, Cue, encodable, floor_ms, is_visible, literal, unformatted, unmarked
from echo_core.domain.speech_timing import are_of_text, spoken_atoms
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
    Usage,
)
from echo_core.plugin_api.errors import ProviderError

MAX_DURATION_S = 1e7
"""Some months: more is no length of a video."""
MIN_REPEATED = 4
"""Identical segments in a row that are a model going round in circles."""
MIN_SEGMENT_S = 0.05
"""Shorter ones are joined: nobody says anything in less."""
SPOKEN_CHARACTERS_PER_S = 60
"""Twice as fast as the fastest speakers."""
UNTIMED_CHARACTERS = 84
"""One cue: that much is shown however short its time is."""
MAX_BACKWARD_S = 1.0
"""Words that go back by more have no times that could be trusted."""
MAX_WARNINGS = 20
MAX_WARNING_LENGTH = 500
MAX_TRANSLATED_LINES = 4
MISSING_SHARE = 0.1
MAX_DIMENSIONS = 16_384
MAX_NAME_LENGTH = 200
SENTENCE_GAP_S = 2.0
MAX_SENTENCE_LENGTH = 400
MAX_TITLE_LENGTH = 100
MAX_DESCRIPTION_LENGTH = 5000
MAX_TAGS = 15
MAX_TAG_LENGTH = 40
MIN_CHAPTERS = 3
MIN_CHAPTER_S = 10.0
MAX_CHAPTERS = 400
SNAP_S = 5.0
"""How far a chapter may be moved to where a sentence or a scene begins."""
MIN_CHAPTERED_S = 30.0
MAX_EVIDENCE = 50
"""Spans of one field."""
_LANGUAGE = re.compile(
    r"(?P<language>[A-Za-z]{2,3})(?:-(?P<script>[A-Za-z]{4}))?(?:-(?P<region>[A-Za-z]{2}|[0-9]{3}))?"
    r"(?P<variants>(?:-(?:[A-Za-z0-9]{5,8}|[0-9][A-Za-z0-9]{3}))*)"
)
"""RFC 5646, section 2.1, without extensions."""
_PUNCTUATION = re.compile(r"[\W_]+")


class UngroundedError(ProviderError):
    """An AI provider's result cannot be used. Asking again may help, waiting does not."""

    default_code = "ai_result_invalid"
    default_remedy = "Run the step again, or configure another AI provider."


def language_tag(tag: str) -> str:
    """A BCP 47 tag as it is usually written (``EN_us`` is ``en-US``), at most 35 characters; empty where it is none, or
    says that the language is not known (``und``)."""
    if not isinstance(tag, str):
        return ""
    matched = _LANGUAGE.fullmatch(tag.strip().replace("_", "-"))
    if matched is None or matched["language"].lower() == "und" or len(tag) > 35:
        return ""
    parts = [matched["language"].lower(), (matched["script"] or "").title(), (matched["region"] or "").upper()]
    return "-".join(part for part in parts if part) + matched["variants"].lower()


def ground_usage(usage: Usage) -> Usage:
    """What a call has taken, without negative amounts and what is no number."""
    return Usage(
        model=one_line(usage.model)[:MAX_NAME_LENGTH],
        prompt_version=one_line(usage.prompt_version)[:MAX_NAME_LENGTH],
        input_tokens=_count(usage.input_tokens),
        output_tokens=_count(usage.output_tokens),
        media_s=min(max(_number(usage.media_s) or 0.0, 0.0), MAX_DURATION_S),
        cost_usd=min(max(_number(usage.cost_usd) or 0.0, 0.0), 1e9),
    )


def ground_transcript(transcript: Transcript, duration_s: float) -> Transcript:
    """The transcript with segments in order, apart, inside the video, each with text; words in order within theirs.

    ``warnings`` say what was repaired, after the provider's own. Raises ``UngroundedError`` (``ai_times_invalid``,
    ``ai_result_invalid``).
    """
    check_duration(duration_s)
    notes: list[str] = []
    found = [_read_segment(segment) for segment in transcript.segments]
    read = [segment for segment in found if segment is not None]
    total = sum(len(segment.text) for segment in read)
    segments = [
        replace(segment, start_s=max(segment.start_s, 0.0), end_s=min(segment.end_s, duration_s))
        for segment in read
        if segment.start_s < segment.end_s and segment.start_s < duration_s and segment.end_s > 0
    ]
    if len(segments) < len(read):
        notes.append(f"{len(read) - len(segments)} segments lay outside of the video or had no length; they are gone.")
    if any(later.start_s < earlier.start_s for earlier, later in pairwise(segments)):
        segments.sort(key=lambda segment: segment.start_s)
        notes.append("The segments were not in order; they were sorted by their times.")
    lost = total - sum(len(segment.text) for segment in segments)
    once = _without_repetitions(segments)
    if len(once) < len(segments):
        notes.append(f"{len(segments) - len(once)} segments repeated the one before them; they are gone.")
    apart = _set_apart(once)
    said = _sayable(apart, duration_s)
    if len(said) < len(apart):
        notes.append(f"{len(apart) - len(said)} segments held more text than can be said in their time; they are gone.")
        lost += sum(len(segment.text) for segment in apart) - sum(len(segment.text) for segment in said)
    if 2 * lost > total:
        raise UngroundedError(
            "The times of the transcript do not fit the video: most of its text lies where it cannot be.",
            code="ai_times_invalid",
        )
    return Transcript(
        language=language_tag(transcript.language),
        segments=tuple(_within(segment) for segment in said),
        usage=ground_usage(transcript.usage),
        language_confidence=_share(transcript.language_confidence),
        warnings=(*ground_warnings(transcript.warnings), *notes),
    )


def cues_of(transcript: Transcript, duration_s: float) -> tuple[Cue, ...]:
    """Readable captions of a grounded transcript, with the start of each word.

    At most 2 lines of 42 characters and 7 s each; at least 0.7 s, and 20 characters a second at most, where the time
    up to the next one allows; divided at the ends of sentences, at pauses, or else at clauses.
    """
    check_duration(duration_s)
    atoms: list[Atom] = []
    speaker = ""
    for segment in transcript.segments:
        new = spoken_atoms(segment)
        if not new:
            continue
        unspaced = bool(atoms) and is_unspaced(atoms[-1].text[-1]) and is_unspaced(new[0].text[0])
        apart = bool(atoms) and segment.speaker != speaker
        atoms += [replace(new[0], spaced=not unspaced, apart=apart), *new[1:]]
        speaker = segment.speaker
    limit_ms = floor_ms(min(duration_s, MAX_TIME_S))  # what a file of captions can tell
    return lay_out([atom for atom in atoms if atom.start_ms < limit_ms], limit_ms)


def segments_of(cues: Sequence[Cue]) -> tuple[TranscriptSegment, ...]:
    """The cues as sentences, in order: a sentence ends with its full stop, at a silence of 2 s, or after 400
    characters."""
    sentences: list[TranscriptSegment] = []
    words: list[str] = []
    start_s = end_s = 0.0
    length = 0

    def close() -> None:
        if words:
            # Words that came at once still take a millisecond.
            last_s = max(end_s, 0.001)
            first_s = start_s if start_s < last_s else last_s - 0.001
            sentences.append(TranscriptSegment(text=unmarked(joined(words)), start_s=first_s, end_s=last_s))
            words.clear()

    for cue in cues:
        said = cue.text.split()
        times_s = _word_times(cue, said)
        for index, word in enumerate(said):
            if words and (times_s[index] - end_s > SENTENCE_GAP_S or length > MAX_SENTENCE_LENGTH):
                close()
            if not words:
                start_s, length = times_s[index], 0
            words.append(word)
            length += len(word) + 1
            end_s = times_s[index + 1] if index + 1 < len(said) else cue.end_s
            if ends_sentence(word):
                close()
    close()
    return tuple(sentences)


def ground_translation(cues: Sequence[Cue], texts: Sequence[str]) -> tuple[Cue, ...]:
    """The cues with these texts, in new lines (up to four where a language needs more room). A text that is missing, or
    so long that it can be no translation, leaves its cue as it is; ``missing_translations`` counts them.

    Raises ``UngroundedError`` (``ai_translation_incomplete``) for another count, or if over 10 % are missing.
    """
    translated = _translated(cues, texts)
    missing = translated.count(None)
    if missing > MISSING_SHARE * len(cues):
        raise UngroundedError(
            f"The translation is incomplete: {missing} of {len(cues)} captions have no text.",
            code="ai_translation_incomplete",
        )
    return tuple(
        cue if text is None else replace(cue, text=text, word_starts_s=())
        for cue, text in zip(cues, translated, strict=True)
    )


def missing_translations(cues: Sequence[Cue], texts: Sequence[str]) -> int:
    """How many cues ``ground_translation`` leaves untranslated; what it raises for the count, this does too."""
    return _translated(cues, texts).count(None)


def ground_embeddings(result: Embeddings, count: int) -> Embeddings:
    """The vectors at unit length. Raises ``UngroundedError`` (``ai_embedding_invalid``) unless there are ``count`` of
    one length, each finite and not zero, in a space that has a name."""
    space = one_line(result.space)
    if not space or len(space) > MAX_NAME_LENGTH:
        raise _bad_embedding("have no space with a name of at most 200 characters")
    if len(result.vectors) != count:
        raise _bad_embedding(f"are {len(result.vectors)}, not {count}")
    if len({len(vector) for vector in result.vectors}) > 1:
        raise _bad_embedding("have different lengths")
    if result.vectors and not 0 < len(result.vectors[0]) <= MAX_DIMENSIONS:
        raise _bad_embedding(f"have no length between 1 and {MAX_DIMENSIONS}")
    return Embeddings(space=space, vectors=tuple(map(_unit, result.vectors)), usage=ground_usage(result.usage))


@dataclass(frozen=True, kw_only=True, slots=True)
class GroundedDescription:
    """What can be suggested. None: nothing usable, or not asked for. ``evidence``: by field, spans inside the video.
    ``notes``: sentences on what was dropped or repaired."""

    title: str | None
    description: str | None
    tags: tuple[str, ...] | None
    chapters: tuple[Chapter, ...] | None
    evidence: Mapping[str, tuple[TimeSpan, ...]]
    notes: tuple[str, ...]


def ground_description(
    description: Description,
    *,
    duration_s: float,
    segments: Sequence[TranscriptSegment],
    cuts_s: Sequence[float] = (),
    wanted: Sequence[str] = DESCRIBED_FIELDS,
) -> GroundedDescription:
    """What of a description can be suggested. ``segments``: grounded sentences, whose starts and ``cuts_s`` are where
    chapters may begin. Raises ``UngroundedError`` only where the length of the video is not known."""
    check_duration(duration_s)
    notes: list[str] = []
    chapters = None
    if "chapters" in wanted:
        starts_s = (*(segment.start_s for segment in segments), *cuts_s)
        chapters = _chapters(description.chapters, duration_s, starts_s, notes)
    title = _title(description.title, notes) if "title" in wanted else None
    summary = _summary(description.description, notes) if "description" in wanted else None
    tags = _tags(description.tags, notes) if "tags" in wanted else None
    usable = {"title": title, "description": summary, "tags": tags, "chapters": chapters}
    evidence = {
        name: spans
        for name, value in usable.items()
        if value is not None and (spans := _spans(description.evidence.get(name, ()), duration_s))
    }
    return GroundedDescription(
        title=title, description=summary, tags=tags, chapters=chapters, evidence=evidence, notes=tuple(notes)
    )


def one_line(text: str) -> str:
    """A text without markup and without what acts, on one line; empty if nothing of it can be seen."""
    return literal(unformatted(encodable(text))).replace("\n", " ") if isinstance(text, str) else ""


def shortened(text: str, limit: int) -> str:
    """The text, or its beginning with an ellipsis, up to ``limit`` characters; cut between words if they are short."""
    if len(text) <= limit:
        return text
    cut = text[: limit - 1]
    words = cut[: cut.rfind(" ")] if " " in cut[limit // 2 :] else cut
    return words.rstrip(" \n,;:-") + "…"


def check_duration(duration_s: float) -> None:
    """Raise ``UngroundedError`` unless this is the length of a video."""
    number = _number(duration_s)
    if number is None or not 0 < number <= MAX_DURATION_S:
        raise UngroundedError(
            "The length of the video is not known, so times cannot be checked.",
            remedy="Let the step that inspects the video run again.",
        )


def ground_warnings(warnings: Sequence[str]) -> tuple[str, ...]:
    """A provider's own sentences, cleaned, at most 20."""
    lines = (shortened(one_line(warning), MAX_WARNING_LENGTH) for warning in warnings)
    return tuple(line for line in lines if line)[:MAX_WARNINGS]


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _count(value: object) -> int:
    return int(min(max(_number(value) or 0.0, 0.0), 1e15))


def _share(value: object) -> float | None:
    number = _number(value)
    return None if number is None else min(max(number, 0.0), 1.0)


def _read_segment(segment: TranscriptSegment) -> TranscriptSegment | None:
    """A segment with clean text and finite times, not yet inside the video; None if it has no text."""
    words = _read_words(segment.words)
    text = one_line(segment.text) or joined([word.text for word in words])
    if not text:
        return None
    start_s, end_s = _number(segment.start_s), _number(segment.end_s)
    if start_s is None or end_s is None:
        raise UngroundedError("The transcript has times that are no numbers.", code="ai_times_invalid")
    if end_s <= start_s and words:
        start_s, end_s = words[0].start_s, max(word.end_s for word in words)
    return TranscriptSegment(
        text=text,
        start_s=start_s,
        end_s=end_s,
        words=words,
        confidence=_share(segment.confidence),
        speaker=one_line(segment.speaker)[:MAX_NAME_LENGTH],
    )


def _read_words(words: Sequence[TranscriptWord]) -> tuple[TranscriptWord, ...]:
    """The words in order; none at all where their times cannot be trusted."""
    read: list[TranscriptWord] = []
    latest_s = -math.inf
    for word in words:
        start_s, end_s = _number(word.start_s), _number(word.end_s)
        if start_s is None or end_s is None or start_s < latest_s - MAX_BACKWARD_S:
            return ()
        text = one_line(word.text)
        latest_s = max(start_s, latest_s)
        if text:
            end_s = max(end_s, latest_s)
            read.append(TranscriptWord(text=text, start_s=latest_s, end_s=end_s, confidence=_share(word.confidence)))
    return tuple(read)


def _without_repetitions(segments: Sequence[TranscriptSegment]) -> list[TranscriptSegment]:
    kept: list[TranscriptSegment] = []
    at = 0
    while at < len(segments):
        said = _PUNCTUATION.sub("", segments[at].text.casefold()) or segments[at].text
        end = at + 1
        while (
            end < len(segments) and (_PUNCTUATION.sub("", segments[end].text.casefold()) or segments[end].text) == said
        ):
            end += 1
        kept += segments[at : at + 1] if end - at >= MIN_REPEATED else segments[at:end]
        at = end
    return kept


def _set_apart(segments: Sequence[TranscriptSegment]) -> list[TranscriptSegment]:
    """Sorted segments without overlaps: the earlier ends where the later starts, unless that takes most of it; then
    they are joined."""
    runs: list[list[TranscriptSegment]] = []
    starts_s: list[float] = []
    ends_s: list[float] = []
    for segment in segments:
        if runs:
            left_s = segment.start_s - starts_s[-1]
            if left_s < MIN_SEGMENT_S or left_s < (ends_s[-1] - starts_s[-1]) / 2:
                runs[-1].append(segment)
                ends_s[-1] = max(ends_s[-1], segment.end_s)
                continue
            ends_s[-1] = min(ends_s[-1], segment.start_s)
        runs.append([segment])
        starts_s.append(segment.start_s)
        ends_s.append(segment.end_s)
    apart = []
    for run, start_s, end_s in zip(runs, starts_s, ends_s, strict=True):
        if len(run) == 1:
            apart.append(replace(run[0], start_s=start_s, end_s=end_s))
            continue
        words = _read_words([word for segment in run for word in segment.words])
        if not all(segment.words for segment in run):
            words = ()
        text = unmarked(joined([segment.text for segment in run]))
        apart.append(replace(run[0], text=text, start_s=start_s, end_s=end_s, words=words))
    return apart


def _sayable(segments: Sequence[TranscriptSegment], duration_s: float) -> list[TranscriptSegment]:
    """The segments whose text can have been said up to the next one."""
    limits_s = [*(segment.start_s for segment in segments[1:]), duration_s]
    return [
        segment
        for segment, limit_s in zip(segments, limits_s, strict=False)
        if len(segment.text) <= UNTIMED_CHARACTERS + SPOKEN_CHARACTERS_PER_S * (limit_s - segment.start_s)
    ]


def _within(segment: TranscriptSegment) -> TranscriptSegment:
    """The segment with its words inside it; without them where they are not those of its text."""
    if not are_of_text(segment.words, segment.text):
        return replace(segment, words=())
    if not segment.words or (
        segment.start_s <= segment.words[0].start_s and max(word.end_s for word in segment.words) <= segment.end_s
    ):
        return segment

    def inside(time_s: float) -> float:
        return min(max(time_s, segment.start_s), segment.end_s)

    words = tuple(replace(word, start_s=inside(word.start_s), end_s=inside(word.end_s)) for word in segment.words)
    return replace(segment, words=words)


def _word_times(cue: Cue, words: Sequence[str]) -> Sequence[float]:
    """Starts of the words of a cue; linear where calling ``word_time`` for each is not."""
    if len(cue.word_starts_s) == len(words):
        return cue.word_starts_s
    total = sum(len(word) + 1 for word in words)
    times_s = []
    before = 0
    for word in words:
        times_s.append(cue.start_s + (cue.end_s - cue.start_s) * before / total)
        before += len(word) + 1
    return times_s


def _translated(cues: Sequence[Cue], texts: Sequence[str]) -> list[str | None]:
    if len(texts) != len(cues):
        raise UngroundedError(
            f"The translation has {len(texts)} texts for {len(cues)} captions.", code="ai_translation_incomplete"
        )
    return [rewrap(line, MAX_TRANSLATED_LINES) if (line := one_line(text)) else None for text in texts]


def _unit(vector: Sequence[float]) -> tuple[float, ...]:
    numbers = [number for value in vector if (number := _number(value)) is not None]
    if len(numbers) < len(vector):
        raise _bad_embedding("hold values that are no numbers")
    largest = max(map(abs, numbers))
    if largest == 0:
        raise _bad_embedding("are zero")
    scaled = [number / largest for number in numbers]  # so that no square overflows or vanishes
    length = math.hypot(*scaled)
    return tuple(number / length for number in scaled)


def _bad_embedding(what: str) -> UngroundedError:
    return UngroundedError(f"The vectors {what}.", code="ai_embedding_invalid")


def _title(text: str, notes: list[str]) -> str | None:
    line = one_line(text).strip(" \"'*#_`\u201c\u201d\u201e\u00ab\u00bb")
    if not is_visible(line):
        return None
    if len(line) > MAX_TITLE_LENGTH:
        notes.append(f"The title was longer than {MAX_TITLE_LENGTH} characters; its end is gone.")
    return shortened(line, MAX_TITLE_LENGTH)


def _summary(text: str, notes: list[str]) -> str | None:
    if not isinstance(text, str):
        return None
    paragraphs = re.split(r"\n\s*\n", plain.lines(encodable(text)))
    clean = unmarked("\n\n".join(one for paragraph in paragraphs if (one := literal(unformatted(paragraph)))))
    if len(clean) > MAX_DESCRIPTION_LENGTH:
        notes.append(f"The description was longer than {MAX_DESCRIPTION_LENGTH} characters; its end is gone.")
    return shortened(clean, MAX_DESCRIPTION_LENGTH) or None


def _tags(tags: Sequence[str], notes: list[str]) -> tuple[str, ...] | None:
    kept: dict[str, str] = {}
    parts = [part for tag in tags for part in re.split("[,\uff0c\u3001;]", one_line(tag))]
    for part in parts:
        tag = " ".join(part.replace("#", " ").replace("<", " ").replace(">", " ").replace('"', " ").split())
        if is_visible(tag) and len(tag) <= MAX_TAG_LENGTH:
            kept.setdefault(tag.casefold(), tag)
    if len(kept) > MAX_TAGS:
        notes.append(f"There were more than {MAX_TAGS} tags; the last ones are gone.")
    return tuple(kept.values())[:MAX_TAGS] or None


def _chapters(
    chapters: Sequence[DescribedChapter], duration_s: float, starts_s: Sequence[float], notes: list[str]
) -> tuple[Chapter, ...] | None:
    """Chapters that can be shown, or none with a note why."""
    if not chapters:
        return None
    if duration_s < MIN_CHAPTERED_S:
        notes.append("The video is too short for chapters.")
        return None
    latest_s = duration_s - MIN_CHAPTER_S
    possible = []
    for chapter in chapters:
        start_s, title = _number(chapter.start_s), shortened(one_line(chapter.title), MAX_TITLE_LENGTH)
        if start_s is not None and 0 <= start_s < duration_s and title:
            possible.append((start_s, title))
    possible.sort(key=lambda chapter: chapter[0])
    bounds_s = sorted(
        number for value in starts_s if (number := _number(value)) is not None and 0 <= number <= latest_s
    )
    apart_s = max(MIN_CHAPTER_S, duration_s / MAX_CHAPTERS)
    kept: list[Chapter] = []
    taken: set[str] = set()
    for start_s, title in possible:
        near_s = _nearest(bounds_s, start_s)
        at_s = near_s if near_s is not None and abs(near_s - start_s) <= SNAP_S else start_s
        at_s = floor_ms(at_s) / 1000 if kept else 0.0
        if kept and (at_s - kept[-1].start_s < apart_s or at_s > latest_s or title == kept[-1].title):
            continue
        title = _untaken(title, taken)
        taken.add(title.casefold())
        kept.append(Chapter(start_s=at_s, title=title))
    if len(kept) < MIN_CHAPTERS:
        notes.append(f"There were fewer than {MIN_CHAPTERS} chapters that fit the video; there are none.")
        return None
    if len(kept) < len(chapters):
        notes.append(
            f"{len(chapters) - len(kept)} chapters lay outside of the video, had no title, or were too near to another."
        )
    return tuple(kept)


def _nearest(sorted_s: Sequence[float], time_s: float) -> float | None:
    at = bisect_right(sorted_s, time_s)
    return min(sorted_s[max(at - 1, 0) : at + 1], key=lambda entry: abs(entry - time_s), default=None)


def _untaken(title: str, taken: set[str]) -> str:
    """The title, with a number behind it if another chapter has it."""
    number, candidate = 1, title
    while candidate.casefold() in taken:
        number += 1
        suffix = f" ({number})"
        candidate = shortened(title, MAX_TITLE_LENGTH - len(suffix)) + suffix
    return candidate


def _spans(spans: Sequence[TimeSpan], duration_s: float) -> tuple[TimeSpan, ...]:
    inside = set()
    for span in spans:
        start_s, end_s = _number(span.start_s), _number(span.end_s)
        if start_s is not None and end_s is not None:
            start_s, end_s = max(start_s, 0.0), min(end_s, duration_s)
            if start_s < end_s:
                inside.add((start_s, end_s))
    return tuple(TimeSpan(start_s=start_s, end_s=end_s) for start_s, end_s in sorted(inside)[:MAX_EVIDENCE])
