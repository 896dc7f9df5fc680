"""Search over what videos say about themselves and what is said in them (docs/adr/0026).

The database finds and ranks; here its marks become parts of texts, and words become seconds.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import structlog

from echo_core.application.services import ApiServices
from echo_core.domain.ids import new_video_id
from echo_core.domain.searches import (
    UNSPACED,
    FoundPassage,
    FoundVideo,
    Matched,
    Question,
    QuestionVector,
    SearchCursor,
    SearchQuery,
    read_question,
)
from echo_core.domain.users import User
from echo_core.plugin_api.errors import EchoError, UnavailableError

log = structlog.get_logger("echo.search")

EMBED_TIMEOUT_S = 2.0
"""A question whose vector takes longer is answered by its words alone."""
MAX_HITS = 5
MATCH, END = "\ue000", "\ue001"
"""Around what matches, in texts from the database."""
SAME_MOMENT_S = 0.5
"""Hits of one track that are nearer to each other are one: passages overlap by a cue."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A piece of a text; ``match``: it is what was looked for."""

    text: str
    match: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Hit:
    """Something said, from the second at which the word (or the passage) starts."""

    track: str
    start_s: float
    end_s: float
    parts: tuple[Part, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchResult:
    """A video that was found. ``hits`` are in the order of their times, ``MAX_HITS`` at most."""

    video: FoundVideo
    title: tuple[Part, ...]
    matched: tuple[Matched, ...]
    hits: tuple[Hit, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchPage:
    """A page, best first. ``semantic``: meaning was compared, not words alone."""

    results: tuple[SearchResult, ...]
    semantic: bool
    after: SearchCursor | None


async def search(
    services: ApiServices,
    user: User,
    text: str,
    *,
    limit: int,
    after: SearchCursor | None = None,
) -> SearchPage:
    """The caller's videos that match. Raises ``InvalidInputError`` (``empty_search``) where there is nothing to look
    for, ``UnavailableError`` (``search_changed``) where the pages before were by meaning and this one cannot be."""
    question = read_question(text)
    vector = await _vector(services, user, text) if after is None or after.semantic else None
    if after is not None and after.semantic and vector is None:
        raise UnavailableError(
            "Meaning cannot be compared at the moment, and the pages before this one were ordered by it.",
            code="search_changed",
            remedy="Search again from the first page.",
        )
    known_at = after.known_at if after is not None else new_video_id()
    query = SearchQuery(question=question, limit=limit + 1, known_at=known_at, vector=vector, after=after)
    found = await services.units_of_work.search(user, query)
    shown = found[:limit]
    more = len(found) > limit
    semantic = vector is not None
    return SearchPage(
        results=tuple(_result(video, question) for video in shown),
        semantic=semantic,
        after=SearchCursor(semantic=semantic, score=shown[-1].score, video_id=shown[-1].id, known_at=known_at)
        if more
        else None,
    )


async def _vector(services: ApiServices, user: User, text: str) -> QuestionVector | None:
    if services.embedder is None:
        return None
    try:
        async with asyncio.timeout(EMBED_TIMEOUT_S):
            return await services.embedder.embed(user, text)
    except (EchoError, TimeoutError) as error:
        log.warning("search.not_embedded", error=str(error), code=getattr(error, "code", "timeout"))
        return None


def _result(video: FoundVideo, question: Question) -> SearchResult:
    hits = _hits(video.passages, question)
    title = _parts(video.title, _spans(video.title, video.title_marked, question.runs))
    matched: list[Matched] = list(video.matched_fields)
    if "title" not in matched and any(part.match for part in title):
        matched.insert(0, "title")
    if any(passage.marked is not None for passage in video.passages):
        matched.append("speech")
    if video.meant:
        matched.append("meaning")
    return SearchResult(video=video, title=title, matched=tuple(matched), hits=hits)


def _hits(passages: Sequence[FoundPassage], question: Question) -> tuple[Hit, ...]:
    hits: list[Hit] = []
    for passage in passages:
        spans = _spans(passage.text, passage.marked, question.runs) if passage.marked is not None else []
        start_s = _said_at(passage, spans, question.width) if spans else passage.start_s
        near_s = SAME_MOMENT_S if spans else passage.end_s - passage.start_s
        twice = any(hit.track == passage.track and abs(hit.start_s - start_s) < near_s for hit in hits)
        if not twice and len(hits) < MAX_HITS:
            hits.append(
                Hit(track=passage.track, start_s=start_s, end_s=passage.end_s, parts=_parts(passage.text, spans))
            )
    return tuple(sorted(hits, key=lambda hit: (hit.start_s, hit.track)))


def _spans(text: str, marked: str | None, runs: Sequence[str]) -> list[tuple[int, int]]:
    """Where a text has what was looked for, in order: by the marks, and by substring for what has no spaces."""
    spans: list[tuple[int, int]] = []
    folded = text.translate({0xE000: None, 0xE001: None}).lower()
    if marked is not None and len(folded) == len(text):
        # A letter whose small form is longer would move all marks behind it.
        spans += _marks(marked) if len(marked.replace(MATCH, "").replace(END, "")) == len(text) else []
        for run in runs:
            spans += [(found.start(), found.end()) for found in re.finditer(re.escape(run), folded)]
    return sorted(spans)


def _marks(marked: str) -> Iterator[tuple[int, int]]:
    at, start = 0, 0
    for piece in re.split(f"([{MATCH}{END}])", marked):
        if piece == MATCH:
            start = at
        elif piece == END:
            yield start, at
        else:
            at += len(piece)


def _parts(text: str, spans: Sequence[tuple[int, int]]) -> tuple[Part, ...]:
    parts: list[Part] = []
    at = 0
    for start, end in spans:
        if start > at:
            parts.append(Part(text=text[at:start], match=False))
        if end > max(start, at):
            parts.append(Part(text=text[max(start, at) : end], match=True))
            at = end
    if at < len(text):
        parts.append(Part(text=text[at:], match=False))
    return tuple(parts)


def _said_at(passage: FoundPassage, spans: Sequence[tuple[int, int]], width: int) -> float:
    """When it is said: where most of what was looked for stands within as many words as the question has. A passage's
    words are separated by one space each (migration 0019)."""
    at_word = [passage.text.count(" ", 0, start) for start, _ in spans]
    best = max(range(len(spans)), key=lambda n: (sum(at_word[n] <= w < at_word[n] + width for w in at_word), -n))
    start, word = spans[best][0], at_word[best]
    if word >= len(passage.words):
        return passage.start_s
    began = passage.text.rfind(" ", 0, start) + 1
    said = passage.text[began:].split(" ", 1)[0]
    if not UNSPACED.search(said):
        return passage.words[word]
    # Without spaces a "word" is a whole line: in proportion to the characters before it.
    ends_s = passage.words[word + 1] if word + 1 < len(passage.words) else passage.end_s
    return passage.words[word] + (ends_s - passage.words[word]) * (start - began) / len(said)
