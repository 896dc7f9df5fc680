"""What is searched for, and what the database finds.

A question has words, ``"phrases"``, ``or`` between alternatives, and ``-`` before what must not be there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from echo_core.domain.errors import InvalidInputError
from echo_core.domain.ids import VideoId
from echo_core.domain.videos import VideoStatus

_TERM = re.compile(r'-?"[^"]*"?|[^\s"]+')
_WORD = re.compile(r"\w", re.UNICODE)
UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
    "\U00020000-\U0003ffff]+"
)
"""As in migration 0019: what is written without spaces between words."""
Matched = Literal["title", "description", "tags", "speech", "meaning"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Alternative:
    """What must be found together: ``text`` in the syntax of web searches, ``pairs`` a tsquery of characters that
    stand next to each other (empty: there are none)."""

    text: str
    pairs: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What is looked for: one of ``wanted``, and none of ``unwanted``. ``runs``: texts of scripts without spaces.
    ``width``: how many words it has."""

    text: str
    wanted: tuple[Alternative, ...]
    unwanted: tuple[Alternative, ...]
    runs: tuple[str, ...]
    width: int


@dataclass(frozen=True, kw_only=True, slots=True)
class QuestionVector:
    """A question as a unit vector of a space."""

    space: str
    values: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchCursor:
    """Where a page ended. ``known_at``: videos that are newer than the first page are left out of the others."""

    semantic: bool
    score: float
    video_id: VideoId
    known_at: VideoId


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchQuery:
    """One page of what matches. ``vector`` None: by words alone."""

    question: Question
    limit: int
    known_at: VideoId
    vector: QuestionVector | None = None
    after: SearchCursor | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Passage:
    """A part of what is searched, by its key. ``track`` empty: what the video says about itself."""

    video_id: VideoId
    track: str
    number: int
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundPassage:
    """A passage of captions. ``marked`` None: near in meaning, without the words. ``words``: when each starts."""

    track: str
    start_s: float
    end_s: float
    text: str
    words: tuple[float, ...]
    marked: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundVideo:
    """A video as the database found it."""

    id: VideoId
    title: str
    status: VideoStatus
    created_at: datetime
    updated_at: datetime
    duration_s: float | None
    has_poster: bool
    score: float
    meant: bool
    matched_fields: tuple[Matched, ...]
    title_marked: str | None
    passages: tuple[FoundPassage, ...]


def read_question(text: str) -> Question:
    """What a text asks for. Raises ``InvalidInputError`` (``empty_search``)."""
    groups: list[list[str]] = [[]]
    unwanted: list[str] = []
    for term in _TERM.findall(text):
        if term.lower() == "or":
            groups.append([])
        elif term.startswith("-"):
            unwanted.append(term[1:])
        else:
            groups[-1].append(term)
    wanted = [group for group in groups if any(_WORD.search(term) for term in group)]
    if not wanted:
        raise InvalidInputError(
            "There is nothing to look for.",
            code="empty_search",
            remedy="Send q with at least one word that shall be found, besides those that shall not (-word).",
        )
    return Question(
        text=text,
        wanted=tuple(_alternative(group) for group in wanted),
        unwanted=tuple(_alternative([term]) for term in unwanted if _WORD.search(term)),
        runs=tuple(run for group in wanted for term in group for run in UNSPACED.findall(term.lower())),
        width=max(sum(len(term.replace('"', " ").split()) for term in group) for group in wanted),
    )


def _alternative(terms: Sequence[str]) -> Alternative:
    spaced = " ".join(UNSPACED.sub(" ", term) if '"' in term else " ".join(UNSPACED.split(term)) for term in terms)
    runs = [run for term in terms for run in UNSPACED.findall(term.lower())]
    pairs = [f"'{run[at : at + 2]}'" for run in runs for at in range(max(1, len(run) - 1)) if len(run) > 1]
    pairs += [f"'{run}':*" for run in runs if len(run) == 1]
    return Alternative(text=spaced, pairs=" & ".join(dict.fromkeys(pairs)))
