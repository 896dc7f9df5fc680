"""Videos: the work, as its owner sees it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from echo_core.domain.ids import JobId, UserId, VideoId


class VideoStatus(StrEnum):
    """Derived from the upload, the job's steps and the renditions; never set by hand.

    ``playable`` is watchable while work goes on; ``failed`` may be watchable too, when a rendition exists.
    """

    AWAITING_UPLOAD = "awaiting_upload"
    PROCESSING = "processing"
    PLAYABLE = "playable"
    READY = "ready"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Visibility(StrEnum):
    """Who may see a video."""

    PRIVATE = "private"
    UNLISTED = "unlisted"
    PUBLIC = "public"


@dataclass(frozen=True, kw_only=True, slots=True)
class Chapter:
    """A titled part of a video that starts at ``start_s`` and lasts until the next."""

    start_s: float
    title: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Video:
    """A video. ``version`` counts edits of its metadata (the ETag); ``edited_fields`` are those a person has set."""

    id: VideoId
    owner_id: UserId
    status: VideoStatus
    title: str
    filename: str
    content_type: str
    created_at: datetime
    updated_at: datetime
    description: str = ""
    tags: tuple[str, ...] = ()
    language: str = ""
    visibility: Visibility = Visibility.PRIVATE
    chapters: tuple[Chapter, ...] = ()
    poster: str = ""
    """The name of the picture that was chosen to stand for it; empty: the best one."""
    edited_fields: frozenset[str] = frozenset()
    version: int = 1
    size_bytes: int | None = None
    duration_s: float | None = None
    width: int | None = None
    height: int | None = None
    deleted_at: datetime | None = None
    """A tombstone: the video is gone for its owner, its objects are being removed."""


@dataclass(kw_only=True, slots=True)
class VideoSummary:
    """One row of a list: what a grid of videos shows. Not frozen, since it is made fifty at a time for the hottest
    request, and a frozen one takes twice as long to make."""

    id: VideoId
    status: VideoStatus
    title: str
    filename: str
    visibility: Visibility
    created_at: datetime
    updated_at: datetime
    duration_s: float | None
    width: int | None
    height: int | None
    size_bytes: int | None
    has_poster: bool
    playable: bool
    job_id: JobId | None = None
    percent: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoPage:
    """A page of a list, newest first. ``next_before`` is the id to go on before; None at the end."""

    videos: tuple[VideoSummary, ...] = field(default=())
    next_before: VideoId | None = None
