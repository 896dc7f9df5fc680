"""What requests may say. The models validate, and the OpenAPI document is made from them."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from echo_core.domain import texts
from echo_core.domain.captions import MAX_BYTES, MAX_CUE_CHARACTERS, MAX_CUES
from echo_core.domain.suggestions import SuggestionState
from echo_core.domain.videos import VideoStatus, Visibility

MAX_PAGE = 100
DEFAULT_PAGE = 50
MAX_FOUND = 50
DEFAULT_FOUND = 20
MAX_SEARCH_LENGTH = 200
MAX_TITLE_LENGTH = 200
MAX_DESCRIPTION_LENGTH = 10_000
MAX_TAGS = 100
MAX_TAG_LENGTH = 100
MAX_CHAPTERS = 500
MAX_SIZE_BYTES = (1 << 63) - 1
"""What a bigint holds; the instance's own limit is far below."""


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("NUL characters are not allowed")
    return text


def _distinct(tags: tuple[str, ...]) -> tuple[str, ...]:
    """Each tag once, whatever its case; the first spelling stays."""
    return tuple({tag.casefold(): tag for tag in reversed(tags)}.values())[::-1]


def _one_line(value: object) -> object:
    return texts.one_line(value).strip() if isinstance(value, str) else value


def _lines(value: object) -> object:
    return texts.lines(value) if isinstance(value, str) else value


OneLine = BeforeValidator(_one_line)
Lines = BeforeValidator(_lines)
"""Before the constraints: what is left after cleaning is what has to be long enough."""
NoNul = AfterValidator(_without_nul)
"""PostgreSQL keeps no NUL in text. Stands last: constraints behind a function are checked before they are applied."""
Name = Annotated[str, StringConstraints(min_length=1, max_length=1024), NoNul]
ContentType = Annotated[str, StringConstraints(min_length=1, max_length=255), NoNul]
Title = Annotated[str, OneLine, StringConstraints(min_length=1, max_length=MAX_TITLE_LENGTH)]
Tag = Annotated[str, OneLine, StringConstraints(min_length=1, max_length=MAX_TAG_LENGTH)]
Language = Annotated[str, StringConstraints(pattern=r"^(?:[A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8})*)?$", max_length=35)]
"""BCP 47 as far as syntax goes; empty: not known."""


class Body(BaseModel):
    """A JSON body: closed, no guessing of types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, alias_generator=to_camel)


class Query(BaseModel):
    """Parameters of a query: closed; values are text and converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel)


ProtocolName = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Protocols = Annotated[tuple[ProtocolName, ...], Field(max_length=16, strict=False)]


class SignedUploadUrlRequest(Body):
    """A file that a person chose. Without ``sizeBytes`` the size is announced with the first bytes. ``protocols``:
    those that the client speaks; with ``signed-put`` among them a small file may go in one request. Names that this
    server does not know are passed over."""

    filename: Name
    content_type: ContentType
    size_bytes: Annotated[int, Field(ge=0, le=MAX_SIZE_BYTES)] | None = None
    protocols: Protocols = ("google-resumable",)


Checksum = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]{1,16}:(?:[0-9a-f]{2}){4,64}$")]
"""``algorithm:hex``, as storages tell it (rule S11 of the storage contract)."""


class UploadCompleteRequest(Body):
    """All bytes were sent. ``storagePath`` is what came with the upload URL. ``checksum`` is that of the file, for
    example ``crc32c:0a1b2c3d``; it is compared if the storage keeps one by the same algorithm."""

    video_id: UUID
    original_filename: Name
    storage_path: Name
    content_type: ContentType
    size_bytes: Annotated[int, Field(ge=0, le=MAX_SIZE_BYTES)]
    checksum: Checksum | None = None


class ChapterRequest(Body):
    """A titled part that starts at ``startSeconds`` and lasts until the next."""

    start_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    title: Title


class MetadataRequest(Body):
    """What a person says about a video. A field that is absent (or null) stays as it is. ``poster``: the name of one of
    the ``posters`` of the details; empty: let Echo choose."""

    title: Title | None = None
    description: Annotated[str, Lines, StringConstraints(max_length=MAX_DESCRIPTION_LENGTH)] | None = None
    tags: Annotated[tuple[Tag, ...], Field(max_length=MAX_TAGS), AfterValidator(_distinct)] | None = None
    language: Language | None = None
    visibility: Visibility | None = None
    poster: Annotated[str, StringConstraints(max_length=100), NoNul] | None = None
    chapters: Annotated[tuple[ChapterRequest, ...], Field(max_length=MAX_CHAPTERS)] | None = None


class RetryRequest(Body):
    """Which step to run again, with all that depends on it; absent: what did not succeed."""

    step: Annotated[str, StringConstraints(min_length=1, max_length=100), NoNul] | None = None


CueText = Annotated[str, Lines, StringConstraints(min_length=1, max_length=MAX_CUE_CHARACTERS)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
CaptionTitle = Annotated[str, OneLine, StringConstraints(max_length=MAX_TAG_LENGTH)]


class CueRequest(Body):
    """One caption, shown from ``startSeconds`` up to ``endSeconds``. ``text`` may have several lines."""

    start_seconds: Seconds
    end_seconds: Seconds
    text: CueText


class CaptionsRequest(Body):
    """What captions shall be. A field that is absent (or null) stays as it is."""

    cues: Annotated[tuple[CueRequest, ...], Field(max_length=MAX_CUES)] | None = None
    language: Language | None = None
    title: CaptionTitle | None = None


class CaptionsUploadRequest(Body):
    """A WebVTT or SubRip file as ``text``. Without a ``name`` one is made of the language."""

    text: Annotated[str, StringConstraints(min_length=1, max_length=MAX_BYTES), NoNul]
    language: Language
    title: CaptionTitle = ""
    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(?:-[a-z0-9]+)*$", max_length=60)] | None = None


SuggestedTags = Annotated[tuple[Tag, ...], Field(max_length=MAX_TAGS), AfterValidator(_distinct)]
SuggestedChapters = Annotated[tuple[ChapterRequest, ...], Field(max_length=MAX_CHAPTERS)]
SuggestedText = Annotated[str, Lines, StringConstraints(max_length=MAX_DESCRIPTION_LENGTH)]


class AcceptSuggestionRequest(Body):
    """``value``: what you have made of it, in the shape of the suggestion's; absent: as it is."""

    value: SuggestedText | SuggestedTags | SuggestedChapters | None = None


AIStep = Annotated[str, StringConstraints(pattern=r"^(?:transcribe|describe|translate|embed)$")]


class SuggestAgainRequest(Body):
    """Which steps to run again; none: all there are."""

    steps: Annotated[tuple[AIStep, ...], Field(max_length=4)] = ()


class SuggestionListQuery(Query):
    """Which suggestions to list."""

    state: SuggestionState | None = None


class AIUsageQuery(Query):
    """``days``: how many days back, today included."""

    days: Annotated[int, Field(ge=1, le=366)] = 30


class VideoListQuery(Query):
    """Which videos to list. ``cursor`` is the ``nextCursor`` of the page before; ``q`` looks into titles and names."""

    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = DEFAULT_PAGE
    cursor: Annotated[str, StringConstraints(max_length=200)] | None = None
    status: VideoStatus | None = None
    q: Annotated[str, StringConstraints(max_length=200), NoNul] = ""


class SearchParameters(Query):
    """What to look for: words, ``"phrases"``, ``or`` between alternatives, ``-`` before what must not be there.
    ``cursor`` is the ``nextCursor`` of the page before."""

    q: Annotated[str, OneLine, StringConstraints(max_length=MAX_SEARCH_LENGTH)] = ""
    limit: Annotated[int, Field(ge=1, le=MAX_FOUND)] = DEFAULT_FOUND
    cursor: Annotated[str, StringConstraints(max_length=200)] | None = None


class SourceQuery(Query):
    """``download``: let the browser save the file under its name. ``token``: a playback token."""

    download: bool = False
    token: str | None = None


class PlaybackQuery(Query):
    """``token``: a playback token, where no Authorization header can be sent."""

    token: str | None = None


class CaptionsFileQuery(PlaybackQuery):
    """``download``: let the browser save the file. ``token``: a playback token."""

    download: bool = False


class PosterQuery(PlaybackQuery):
    """``v``: anything; another value makes browsers ask again. ``token``: a playback token."""

    v: str | None = None
