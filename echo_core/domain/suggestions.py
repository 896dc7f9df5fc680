"""Suggestions: what AI proposes for a field of a video, and what may become of it.

A suggestion never changes what a person has set. It is taken over by itself only for a field that nobody has edited and
that no suggestion has filled before; every later one waits for its owner, who sees the difference.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from echo_core.domain.errors import IllegalChangeError, InvalidInputError
from echo_core.domain.ids import SuggestionId, UserId, VideoId
from echo_core.domain.texts import one_line
from echo_core.domain.videos import Chapter, Video
from echo_core.plugin_api.ai import TimeSpan
from echo_core.plugin_api.json import JsonValue

LANGUAGE_FIELD = "language"
SUGGESTED_FIELDS = ("title", "description", "tags", "chapters", LANGUAGE_FIELD)


MAX_TITLE_CHARS = 200
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8})*")
_SHAPES = {
    "title": f"Send a text of one line, 1 to {MAX_TITLE_CHARS} characters.",
    "description": "Send a text.",
    "tags": "Send a list of texts.",
    "chapters": "Send a list of chapters, each with startSeconds and title.",
    LANGUAGE_FIELD: "Send a language tag, such as en or pt-BR.",
}


class SuggestionState(StrEnum):
    """``edited``: accepted with another value. ``superseded``: a newer one took its place before anybody decided."""

    PENDING = "pending"
    ACCEPTED = "accepted"
    EDITED = "edited"
    REJECTED = "rejected"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, kw_only=True, slots=True)
class Suggestion:
    """A value for one field, who made it and of what. ``evidence``: the parts of the video that it rests on.
    ``cost_usd``: of the call that made it, which may have made others too. ``auto``: taken over by itself."""

    id: SuggestionId
    video_id: VideoId
    owner_id: UserId
    field: str
    value: JsonValue
    state: SuggestionState
    provider: str
    model: str
    prompt_version: str
    evidence: tuple[TimeSpan, ...]
    cost_usd: float
    created_at: datetime
    auto: bool = False
    decided_at: datetime | None = None

    def decided(self, state: SuggestionState, now: datetime, *, auto: bool = False) -> Suggestion:
        """Raises ``IllegalChangeError`` (``suggestion_decided``) unless it is pending."""
        if self.state is not SuggestionState.PENDING:
            raise IllegalChangeError(
                f"This suggestion is {self.state} already.",
                code="suggestion_decided",
                remedy="Read the suggestions again; a newer one may have taken its place.",
            )
        return replace(self, state=state, decided_at=now, auto=auto)


def value_of(video: Video, name: str) -> JsonValue:
    """What a video has in a field now, in the shape of suggestions' values."""
    value = getattr(video, name)
    if name == "chapters":
        return [{"start_s": chapter.start_s, "title": chapter.title} for chapter in value]
    return list(value) if name == "tags" else value


def with_value(video: Video, name: str, value: JsonValue) -> Video:
    """The video with a suggested value in a field; ``edited_fields`` stay."""
    if value_of(video, name) == value:
        return video
    return replace(video, **{name: _as_field(name, value)}, version=video.version + 1)  # type: ignore[arg-type]


def checked_value(name: str, value: JsonValue) -> JsonValue:
    """What a person has made of a suggestion, cleaned. Raises ``InvalidInputError`` (``invalid_suggestion_value``)
    unless it has the shape of the field."""
    if name == "description" and isinstance(value, str):
        return value
    if name == "title" and isinstance(value, str) and 0 < len(line := one_line(value).strip()) <= MAX_TITLE_CHARS:
        return line
    if name == LANGUAGE_FIELD and isinstance(value, str) and _LANGUAGE.fullmatch(value):
        return value
    if isinstance(value, Sequence) and not isinstance(value, str):
        if name == "tags" and all(isinstance(tag, str) for tag in value):
            return list(value)
        if name == "chapters" and all(isinstance(chapter, Mapping) for chapter in value):
            return list(value)
    raise InvalidInputError(
        f"This is no value for {name}.",
        code="invalid_suggestion_value",
        remedy=_SHAPES.get(name, "Send what has the shape of the suggestion's own value."),
    )


def _as_field(name: str, value: JsonValue) -> object:
    if name == "chapters" and isinstance(value, Sequence):
        return tuple(_chapter(one) for one in value)
    if name == "tags" and isinstance(value, Sequence):
        return tuple(str(tag) for tag in value)
    return str(value)


def _chapter(value: JsonValue) -> Chapter:
    if not isinstance(value, Mapping):
        raise TypeError(f"a suggested chapter is a {type(value).__name__}")
    return Chapter(start_s=float(str(value["start_s"])), title=str(value["title"]))


def takes_over(video: Video, name: str, earlier: Sequence[Suggestion]) -> bool:
    """Whether a new suggestion for a field may be taken over by itself."""
    filled = any(s.field == name and s.state is not SuggestionState.SUPERSEDED for s in earlier)
    return name not in video.edited_fields and not filled
