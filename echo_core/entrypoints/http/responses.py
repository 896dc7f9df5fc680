"""What answers say: msgspec structs, encoded without a detour; the OpenAPI document is made from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec
from starlette.responses import Response

from echo_core.domain.jobs import JobState, StepState
from echo_core.domain.videos import VideoStatus, Visibility

_encoder = msgspec.json.Encoder()


class Model(msgspec.Struct, rename="camel", kw_only=True):
    """A JSON object in camelCase."""


class UploadTarget(Model):
    """How to send the bytes: by Google's resumable protocol (``google-resumable``; ``chunkSizeBytes`` null: in one
    piece is fine), or, to clients that asked for it, in one PUT with exactly these headers (``signed-put``)."""

    protocol: str
    method: str
    headers: Mapping[str, str]
    chunk_size_bytes: int | None
    expires_at: datetime


class SignedUploadUrl(Model):
    """A new video and where its bytes go. ``uploadUrl`` is a secret: whoever has it may send the file."""

    video_id: UUID
    upload_url: str
    storage_path: str
    upload: UploadTarget


class UploadCompleted(Model):
    """The job that makes the video watchable."""

    video_id: UUID
    job_id: UUID
    status: VideoStatus


class UploadResumed(Model):
    """How far an upload is. ``complete``: all bytes are stored and only upload-complete is left; no URL then."""

    video_id: UUID
    storage_path: str
    offset_bytes: int
    complete: bool
    upload_url: str | None
    upload: UploadTarget | None


class VideoItem(Model):
    """A video as a list shows it. ``playable``: it can be watched now. ``percent``: of the job that goes on."""

    video_id: UUID
    status: VideoStatus
    title: str
    filename: str
    visibility: Visibility
    created_at: datetime
    updated_at: datetime
    duration_seconds: float | None
    width: int | None
    height: int | None
    size_bytes: int | None
    playable: bool
    poster_url: str | None
    job_id: UUID | None
    percent: float | None


class VideoList(Model):
    """A page, newest first. ``nextCursor`` null: that was the last."""

    items: list[VideoItem]
    next_cursor: str | None


class StepFailure(Model):
    """Why a step failed, what to do, and the end of the tool's own log."""

    code: str
    message: str
    remedy: str
    log_tail: Sequence[str]


class StepItem(Model):
    """One step. An ``optional`` one that fails keeps the video from nothing."""

    name: str
    state: StepState
    attempt: int
    percent: float
    optional: bool
    started_at: datetime | None
    finished_at: datetime | None
    error: StepFailure | None
    skipped_reason: str | None
    warnings: Sequence[str]


class Job(Model):
    """A job. ``queuePosition`` counts the steps claimed before its next one, everybody's; null: it does not wait.
    ``etaSeconds``: until it has finished, waiting included; null: not known yet."""

    job_id: UUID
    video_id: UUID
    state: JobState
    percent: float
    eta_seconds: float | None
    queue_position: int | None
    cancel_requested: bool
    created_at: datetime
    finished_at: datetime | None
    error: StepFailure | None
    steps: list[StepItem]


class PictureFacts(Model):
    """The picture of the source, as displayed."""

    codec: str
    width: int
    height: int
    fps: float
    bitrate_bps: int | None
    rotation_deg: int
    hdr: bool


class SoundFacts(Model):
    """One sound track of the source."""

    codec: str
    channels: int
    sample_rate_hz: int
    bitrate_bps: int | None
    language: str
    title: str


class MediaFacts(Model):
    """What inspecting the source found."""

    container: str
    duration_seconds: float
    bitrate_bps: int | None
    video: PictureFacts | None
    audio: list[SoundFacts]
    warnings: Sequence[str]


class RenditionItem(Model):
    """One playable stream. ``copied``: the source's own picture or sound, not encoded again. ``language`` and
    ``title`` are a sound's."""

    name: str
    type: str
    codecs: str
    width: int | None
    height: int | None
    fps: float | None
    peak_bitrate_bps: int
    average_bitrate_bps: int
    duration_seconds: float
    size_bytes: int
    copied: bool
    language: str | None
    title: str | None


class ChapterItem(Model):
    """A titled part that lasts until the next."""

    start_seconds: float
    title: str


class Video(Model):
    """A video's own facts. ``version`` is also the ETag; ``editedFields`` were set by a person and stay so.
    ``poster``: the name of the picture that was chosen; empty: the best one."""

    video_id: UUID
    status: VideoStatus
    title: str
    description: str
    tags: Sequence[str]
    language: str
    visibility: Visibility
    chapters: list[ChapterItem]
    poster: str
    edited_fields: Sequence[str]
    version: int
    filename: str
    content_type: str
    size_bytes: int | None
    duration_seconds: float | None
    width: int | None
    height: int | None
    created_at: datetime
    updated_at: datetime


class PosterItem(Model):
    """A picture to choose as poster: send its ``name`` as ``poster`` of the metadata. ``chosen``: it is the one."""

    name: str
    url: str
    at_seconds: float
    width: int
    height: int
    chosen: bool


class CaptionItem(Model):
    """Captions. ``language``: BCP 47, empty if not known. ``forced``: only what is not in the sound's language."""

    name: str
    url: str
    language: str
    title: str
    forced: bool


class VideoDetails(Video):
    """All that a video's page shows. Addresses carry a playback token and expire; null: not made (yet)."""

    playable: bool
    playback_url: str | None
    poster_url: str | None
    preview_url: str | None
    storyboard_url: str | None
    source_url: str | None
    job: Job | None
    upload_problem: StepFailure | None
    """Why nothing is made of what was uploaded: it is not what was announced."""
    media: MediaFacts | None
    renditions: list[RenditionItem]
    posters: list[PosterItem]
    captions: list[CaptionItem]
    suggestions: list[dict[str, str]]
    publications: list[dict[str, str]]


class WatchPage(Model):
    """An unlisted or public video, for anybody. Addresses as in its details; null: not made (yet)."""

    video_id: UUID
    title: str
    description: str
    tags: Sequence[str]
    language: str
    chapters: list[ChapterItem]
    duration_seconds: float | None
    width: int | None
    height: int | None
    created_at: datetime
    visibility: Visibility
    playback_url: str | None
    poster_url: str | None
    preview_url: str | None
    storyboard_url: str | None
    captions: list[CaptionItem]


class WsTicket(Model):
    """Opens one WebSocket until ``expiresAt``."""

    ticket: str
    expires_at: datetime


class PluginItem(Model):
    """One plugin. ``selected``: the configuration names it; ``reason``: why it is disabled or has failed."""

    name: str
    version: str
    status: str
    reason: str
    selected: bool
    provides: Mapping[str, Sequence[str]]
    capabilities: Mapping[str, Any]


class PluginList(Model):
    """All plugins that were found."""

    items: list[PluginItem]


class InstanceAuth(Model):
    """What supabase-js is created with. ``url`` null: nobody keeps users here, and there is no signing in."""

    url: str | None
    key: str


class InstanceUpload(Model):
    """What may be uploaded, and how long an upload may take."""

    max_size_bytes: int
    expires_in_seconds: int


class Instance(Model):
    """What a front end has to know before anybody has signed in."""

    name: str
    version: str
    public_url: str
    auth: InstanceAuth
    upload: InstanceUpload


class Alive(Model):
    """The process serves."""

    status: Literal["ok"] = "ok"


class Check(Model):
    """One dependency. Without a ``required`` one the API still serves."""

    name: str
    ok: bool
    required: bool
    duration_ms: float
    error: str


class Readiness(Model):
    """Every dependency by name."""

    status: Literal["ready"]
    checks: list[Check]


def json_response(model: msgspec.Struct, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """The model as JSON, for this caller alone and not to be kept."""
    return Response(
        _encoder.encode(model),
        status,
        {"Cache-Control": "no-store", **(headers or {})},
        "application/json",
    )
