"""Whatever a provider says: what is kept holds what players, editors and readers rely on, and nothing else raises."""

from __future__ import annotations

import math
import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echo_core.domain.captions import Cue, parse_captions, to_srt, to_vtt
from echo_core.domain.grounding import (
    UngroundedError,
    cues_of,
    ground_description,
    ground_embeddings,
    ground_transcript,
    ground_translation,
    language_tag,
    segments_of,
)
from echo_core.plugin_api.ai import (
    DescribedChapter,
    Description,
    Embeddings,
    TimeSpan,
    Transcript,
    TranscriptSegment,
    TranscriptWord,
)

ANY_NUMBER = st.floats(allow_nan=True, allow_infinity=True)
TIME = st.one_of(st.floats(-5, 130), ANY_NUMBER)
NASTY = st.sampled_from(
    [
        "-->",
        "<v Bob>hi</v>",
        "WEBVTT",
        "\u202eevil",
        "\ud800",
        "a\0b",
        "{\\an8}",
        "字幕" * 30,
        "x" * 400,
        "&amp;",
        "\n\n",
        "😀" * 9,
    ]
)
TEXT = st.one_of(st.text(max_size=60), NASTY, st.lists(NASTY, max_size=3).map(" ".join))
WORD = st.builds(TranscriptWord, text=TEXT, start_s=TIME, end_s=TIME, confidence=st.one_of(st.none(), ANY_NUMBER))
SEGMENT = st.builds(
    TranscriptSegment, text=TEXT, start_s=TIME, end_s=TIME, words=st.lists(WORD, max_size=6).map(tuple), speaker=TEXT
)
TRANSCRIPT = st.builds(
    Transcript, language=TEXT, segments=st.lists(SEGMENT, max_size=12).map(tuple), language_confidence=ANY_NUMBER
)
DURATION = st.floats(0.2, 120)


def is_refused_with(code: str, expected: str) -> None:
    assert code == expected


def width(line: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line)


def check_cues(cues: tuple[Cue, ...], duration_s: float) -> None:
    """Written without a look at how they are made."""
    for before, after in pairwise(cues):
        assert before.end_s <= after.start_s
    for cue in cues:
        assert 0 <= cue.start_s < cue.end_s <= duration_s
        assert cue.text.strip()
        lines = cue.text.split("\n")
        assert len(lines) <= 2
        assert all(width(line) <= 42 for line in lines)
        assert not any(ord(c) < 32 or c in "\u202a\u202b\u202c\u202d\u202e" for c in cue.text.replace("\n", ""))
        assert "-->" not in cue.text
        cue.text.encode()
        assert len(cue.word_starts_s) in (0, len(cue.text.split()))
        assert all(cue.start_s <= time_s <= cue.end_s for time_s in cue.word_starts_s)
        assert list(cue.word_starts_s) == sorted(cue.word_starts_s)


@settings(max_examples=300)
@given(TRANSCRIPT, DURATION)
def test_captions_of_any_transcript_can_be_shown_or_it_is_refused(said: Transcript, duration_s: float) -> None:
    try:
        grounded = ground_transcript(said, duration_s)
    except UngroundedError as error:
        is_refused_with(error.code, "ai_times_invalid")
        return
    cues = cues_of(grounded, duration_s)
    check_cues(cues, duration_s)
    assert language_tag(grounded.language) == grounded.language
    if cues:
        plain = [(c.start_s, c.end_s, c.text) for c in cues]
        assert [(c.start_s, c.end_s, c.text) for c in parse_captions(to_vtt(cues))] == plain
        assert [(c.start_s, c.end_s, c.text) for c in parse_captions(to_srt(cues))] == plain
    sentences = segments_of(cues)
    assert " ".join(s.text for s in sentences).split() == " ".join(c.text for c in cues).split()
    assert all(0 <= s.start_s < s.end_s <= duration_s for s in sentences)


@settings(max_examples=300)
@given(
    st.builds(
        Description,
        title=TEXT,
        description=TEXT,
        tags=st.lists(TEXT, max_size=30).map(tuple),
        chapters=st.lists(st.builds(DescribedChapter, start_s=TIME, title=TEXT), max_size=20).map(tuple),
        evidence=st.dictionaries(
            st.sampled_from(["title", "visibility", "tags"]),
            st.lists(st.builds(TimeSpan, start_s=TIME, end_s=TIME), max_size=4).map(tuple),
        ),
    ),
    DURATION,
    st.lists(st.floats(0, 120), max_size=8),
)
def test_suggestions_of_any_description_keep_to_their_limits(
    said: Description, duration_s: float, cuts_s: list[float]
) -> None:
    found = ground_description(said, duration_s=duration_s, segments=(), cuts_s=cuts_s)
    for text in filter(None, (found.title, found.description, *(found.tags or ()))):
        assert text.strip()
        text.encode()
        assert not any(ord(c) < 32 and c != "\n" for c in text)
    assert found.title is None or (len(found.title) <= 100 and "\n" not in found.title)
    assert found.description is None or len(found.description) <= 5000
    assert found.tags is None or (
        0 < len(found.tags) <= 15
        and len({t.casefold() for t in found.tags}) == len(found.tags)
        and all(len(t) <= 40 and "," not in t and "#" not in t for t in found.tags)
    )
    if found.chapters is not None:
        assert len(found.chapters) >= 3
        assert found.chapters[0].start_s == 0
        assert all(b.start_s - a.start_s >= 10 for a, b in pairwise(found.chapters))
        assert found.chapters[-1].start_s < duration_s
        assert all(0 < len(c.title) <= 100 for c in found.chapters)
    assert set(found.evidence) <= {"title", "tags"}, "there is no way to say anything of another field"
    assert all(0 <= s.start_s < s.end_s <= duration_s for spans in found.evidence.values() for s in spans)


CUES = tuple(Cue(start_s=n, end_s=n + 0.9, text=f"Caption {n}", word_starts_s=(n, n + 0.4)) for n in range(12))


@given(st.lists(TEXT, min_size=0, max_size=14))
def test_translations_keep_number_and_times_or_are_refused(texts: list[str]) -> None:
    try:
        translated = ground_translation(CUES, texts)
    except UngroundedError as error:
        is_refused_with(error.code, "ai_translation_incomplete")
        return
    assert [(c.start_s, c.end_s) for c in translated] == [(c.start_s, c.end_s) for c in CUES]
    assert all(c.text.strip() and len(c.text.split("\n")) <= 3 for c in translated)


@given(st.lists(st.lists(ANY_NUMBER, max_size=4).map(tuple), max_size=4), st.integers(0, 4), TEXT)
def test_vectors_are_unit_vectors_of_one_length_or_are_refused(
    vectors: list[tuple[float, ...]], count: int, space: str
) -> None:
    try:
        found = ground_embeddings(Embeddings(space=space, vectors=tuple(vectors)), count)
    except UngroundedError as error:
        is_refused_with(error.code, "ai_embedding_invalid")
        return
    assert len(found.vectors) == count
    assert all(math.isclose(math.hypot(*v), 1.0, rel_tol=1e-6) for v in found.vectors)


def spoken(*texts: str, length_s: float = 2.0) -> Transcript:
    segments = tuple(
        TranscriptSegment(text=t, start_s=n * length_s, end_s=(n + 1) * length_s) for n, t in enumerate(texts)
    )
    return Transcript(language="en_us", segments=segments)


def test_a_sentence_that_a_model_cannot_stop_saying_is_kept_once() -> None:
    found = ground_transcript(spoken("Hello.", *["Thanks for watching!"] * 20, "Bye."), 60.0)
    assert [s.text for s in found.segments] == ["Hello.", "Thanks for watching!", "Bye."]
    assert found.warnings
    assert found.language == "en-US"
    assert len(ground_transcript(spoken("No.", "No.", "No."), 60.0).segments) == 3


def test_most_of_it_after_the_end_is_not_believed_at_all() -> None:
    with pytest.raises(UngroundedError) as refused:
        ground_transcript(spoken(*(f"Sentence {n}." for n in range(10))), 8.0)
    assert refused.value.code == "ai_times_invalid"
    assert refused.value.remedy


def test_words_that_are_not_those_of_the_text_lend_it_no_times() -> None:
    words = (TranscriptWord(text="Something", start_s=0.1, end_s=0.5),)
    said = Transcript(
        language="en", segments=(TranscriptSegment(text="Other words", start_s=0.0, end_s=2.0, words=words),)
    )
    (segment,) = ground_transcript(said, 10.0).segments
    assert segment.words == ()


def test_chapters_begin_where_a_sentence_does() -> None:
    segments = tuple(TranscriptSegment(text="x", start_s=float(s), end_s=float(s) + 1) for s in (0, 11, 32, 58, 80))
    described = Description(
        chapters=tuple(DescribedChapter(start_s=s, title=t) for s, t in ((2, "A"), (30, "B"), (61.5, "C"), (70, "D")))
    )
    found = ground_description(described, duration_s=100.0, segments=segments)
    assert found.chapters is not None
    assert [(c.start_s, c.title) for c in found.chapters] == [(0, "A"), (32, "B"), (58, "C"), (70, "D")]


def test_six_hours_of_talk_are_laid_out_in_linear_time() -> None:
    words = [f"word{n}." if n % 12 == 11 else f"word{n}" for n in range(60_000)]
    segments = tuple(
        TranscriptSegment(
            text=" ".join(words[at : at + 12]),
            start_s=at * 0.36,
            end_s=(at + 12) * 0.36,
            words=tuple(
                TranscriptWord(text=w, start_s=(at + n) * 0.36, end_s=(at + n + 0.9) * 0.36)
                for n, w in enumerate(words[at : at + 12])
            ),
        )
        for at in range(0, 60_000, 12)
    )
    cues = cues_of(ground_transcript(Transcript(language="en", segments=segments), 21_600.0), 21_600.0)
    check_cues(cues, 21_600.0)
    assert sum(len(c.text.split()) for c in cues) == 60_000
