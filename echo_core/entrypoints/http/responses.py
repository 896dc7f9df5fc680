"""What answers say: msgspec structs, encoded without a detour; the OpenAPI document is made from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date as datetime_date
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec
from starlette.responses import Response

from echo_core.domain.caption_tracks import CaptionSource
from echo_core.domain.jobs import JobState, StepState
from echo_core.domain.suggestions import SuggestionState
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


class TextPart(Model):
    """A piece of a text; ``match``: it is what was looked for."""

    text: str
    match: bool


class SearchHit(Model):
    """What is said from ``startSeconds`` on: the second of the word, or of the passage where only its meaning is near.
    ``track``: the name of the captions."""

    start_seconds: float
    end_seconds: float
    track: str
    parts: list[TextPart]


class FoundVideo(Model):
    """A video that was found. ``matched``: where. ``titleParts`` are the title in pieces; ``hits`` at most five, in the
    order of their times."""

    video_id: UUID
    title: str
    title_parts: list[TextPart]
    status: VideoStatus
    poster_url: str | None
    duration_seconds: float | None
    created_at: datetime
    score: float
    matched: list[Literal["title", "description", "tags", "speech", "meaning"]]
    hits: list[SearchHit]


class SearchResults(Model):
    """A page, best first. ``nextCursor`` null: that was the last. ``semantic``: meaning was compared too."""

    items: list[FoundVideo]
    next_cursor: str | None
    semantic: bool


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


class ShownCaptions(Model):
    """Captions. ``language``: BCP 47, empty if not known. ``forced``: only what is not in the sound's language.
    ``automatic``: as a machine made them."""

    name: str
    url: str
    language: str
    title: str
    forced: bool
    automatic: bool


class CaptionItem(ShownCaptions):
    """Captions as their owner sees them. ``version`` 0 (and ``srtUrl`` null): kept only as the file that came."""

    srt_url: str | None
    source: CaptionSource
    edited: bool
    provider: str
    version: int


class CaptionList(Model):
    """All captions of a video."""

    items: list[CaptionItem]


class CueItem(Model):
    """One caption and when it is shown. ``text`` may have several lines."""

    start_seconds: float
    end_seconds: float
    text: str


class CaptionTrack(Model):
    """Captions with their text. ``version`` is also the ETag; ``edited``: a person has changed them, and no machine
    does any more."""

    name: str
    language: str
    title: str
    forced: bool
    source: CaptionSource
    edited: bool
    provider: str
    model: str
    version: int
    updated_at: datetime
    cues: list[CueItem]


class EvidenceItem(Model):
    """A part of the video that a suggestion rests on."""

    start_seconds: float
    end_seconds: float


class Suggestion(Model):
    """What AI suggests for a field (``title``, ``description``, ``tags``, ``chapters``, ``language``): text, a list of
    tags, or a list of chapters. ``current``: what the video has now. ``locked``: a person has set that. ``auto``: taken
    over by itself."""

    id: UUID
    field: str
    value: str | list[str | ChapterItem]
    current: str | list[str | ChapterItem]
    state: SuggestionState
    provider: str
    model: str
    prompt_version: str
    evidence: list[EvidenceItem]
    cost_usd: float
    locked: bool
    auto: bool
    created_at: datetime
    decided_at: datetime | None


class SuggestionList(Model):
    """Suggestions, newest first."""

    items: list[Suggestion]


class AITotals(Model):
    """What AI took: calls, tokens, seconds of sound or picture, and US dollars."""

    calls: int
    input_tokens: int
    output_tokens: int
    media_seconds: float
    cost_usd: float


class AICall(Model):
    """One call to an AI provider. ``reserved``: it is not known whether it was billed; the figures are the most it can
    have taken."""

    step: str
    capability: str
    provider: str
    model: str
    prompt_version: str
    input_tokens: int
    output_tokens: int
    media_seconds: float
    cost_usd: float
    state: Literal["reserved", "settled"]
    at: datetime


class VideoAIUsage(Model):
    """What AI took for one video: the newest calls, and the sums of all."""

    items: list[AICall]
    totals: AITotals


class AIModelUsage(AITotals):
    """What one model of one provider took."""

    provider: str
    model: str


class AIDay(AITotals):
    """What AI took on one day (UTC)."""

    date: datetime_date
    by_provider: list[AIModelUsage]


class AIUsage(Model):
    """What AI took for the caller's videos, newest day first; days without any are left out. ``budgetPerDayUsd`` is
    that of the whole instance."""

    today: AITotals
    days: list[AIDay]
    budget_per_day_usd: float
    budget_per_video_usd: float


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
    suggestions: list[Suggestion]
    """Of each field the one that waits, else the one that was decided last."""
    ai: AITotals
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
    captions: list[ShownCaptions]


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


class InstanceAI(Model):
    """Which AI providers serve what, in the order in which they are tried."""

    transcribe: Sequence[str]
    describe: Sequence[str]
    translate: Sequence[str]
    embed: Sequence[str]
    translate_to: Sequence[str]
    accept_suggestions: bool


class Instance(Model):
    """What a front end has to know before anybody has signed in."""

    name: str
    version: str
    public_url: str
    auth: InstanceAuth
    upload: InstanceUpload
    ai: InstanceAI


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
