"""What goes over a status WebSocket: the server's frames, encoded once each, and the client's messages, decoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, NamedTuple
from uuid import UUID

import msgspec

from echo_core.application.ports import Progress
from echo_core.domain.ids import StepId
from echo_core.domain.jobs import Job, Step
from echo_core.domain.progress import Place, job_eta_s, job_percent
from echo_core.plugin_api.events import Event
from echo_core.plugin_api.json import JsonValue


class Frame(NamedTuple):
    """One encoded message. ``size_bytes`` is that of its UTF-8, which is what a queue of them costs."""

    text: str
    size_bytes: int


class ErrorBody(msgspec.Struct, rename="camel", frozen=True):
    """Why something failed."""

    code: str
    message: str
    remedy: str = ""


class EventFrame(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True, frozen=True):
    """A state change (with ``id``) or a progress report (without). ``progress`` is the job's percent."""

    id: int | None = None
    type: str
    video_id: UUID
    job_id: UUID | None = None
    step: str | None = None
    state: str | None = None
    progress: float | None = None
    step_progress: float | None = None
    eta_seconds: float | None = None
    attempt: int | None = None
    reason: str | None = None
    title: str | None = None
    error: ErrorBody | None = None
    at: datetime


class ReadyFrame(msgspec.Struct, rename="camel", tag="ready", omit_defaults=True, kw_only=True, frozen=True):
    """The first frame: the client is who it says."""

    user_id: UUID
    heartbeat_seconds: float
    expires_at: datetime | None = None


class RenewedFrame(msgspec.Struct, rename="camel", tag="renewed", kw_only=True, frozen=True):
    """A newer token was taken; the connection lasts until ``expires_at``."""

    expires_at: datetime | None


class TokenExpiringFrame(msgspec.Struct, rename="camel", tag="token_expiring", kw_only=True, frozen=True):
    """The connection ends at ``expires_at`` unless a newer token arrives."""

    expires_at: datetime


class SnapshotStep(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True, frozen=True):
    """A step as ``GET /api/v1/videos/jobs/{jobId}`` shows it."""

    name: str
    state: str
    attempt: int
    percent: float
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error: ErrorBody | None = None


class SnapshotJob(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True, frozen=True):
    """An unfinished job as ``GET /api/v1/videos/jobs/{jobId}`` shows it, without its place in the queue."""

    job_id: UUID
    video_id: UUID
    state: str
    percent: float
    eta_seconds: float | None = None
    steps: tuple[SnapshotStep, ...]


class SnapshotFrame(msgspec.Struct, rename="camel", tag="snapshot", kw_only=True, frozen=True):
    """Where everything unfinished stands after event ``id``. ``more``: older unfinished jobs were left out."""

    id: int
    reason: str
    jobs: tuple[SnapshotJob, ...]
    more: bool
    at: datetime


class HeartbeatFrame(msgspec.Struct, rename="camel", tag="heartbeat", kw_only=True, frozen=True):
    """Nothing happened, and the server is still there."""

    at: datetime


class PongFrame(msgspec.Struct, rename="camel", tag="pong", kw_only=True, frozen=True):
    """The answer to a client's ping."""

    at: datetime


class ErrorFrame(msgspec.Struct, rename="camel", tag="error", kw_only=True, frozen=True):
    """A message of the client was not understood or could not be served; the connection goes on."""

    code: str
    message: str


class ClientMessage(msgspec.Struct, rename="camel"):
    """Anything a client may say. Unknown fields are ignored, so that newer clients can talk to older servers."""

    type: str
    token: str | None = None
    ticket: str | None = None
    last_event_id: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)] | None = None


_encoder = msgspec.json.Encoder()
_client_messages = msgspec.json.Decoder(ClientMessage)


def encoded(frame: msgspec.Struct) -> Frame:
    """The frame as text, with its size."""
    data = _encoder.encode(frame)
    return Frame(data.decode(), len(data))


def decoded(text: str) -> ClientMessage | None:
    """What the client says, or None if it is not a message of this protocol."""
    try:
        return _client_messages.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


def event_frame(event: Event) -> Frame:
    """A state change."""
    facts = event.facts
    return encoded(
        EventFrame(
            id=event.sequence,
            type=event.type,
            video_id=event.video_id,
            job_id=event.job_id,
            step=event.step,
            state=event.state,
            progress=_number(facts.get("percent")),
            eta_seconds=_number(facts.get("eta_s")),
            attempt=attempt if isinstance(attempt := facts.get("attempt"), int) else None,
            reason=_text(facts.get("reason")),
            title=_text(facts.get("title")),
            error=_error(facts.get("error")),
            at=event.at,
        )
    )


def progress_frame(progress: Progress, *, percent: float, eta_s: float | None, at: datetime) -> Frame:
    """How far a step is. ``percent`` and ``eta_s`` are the job's newest, which another step may have told."""
    return encoded(
        EventFrame(
            type="job.progress",
            video_id=progress.video_id,
            job_id=progress.job_id,
            step=progress.step,
            state="running",
            progress=percent,
            step_progress=progress.step_percent,
            eta_seconds=eta_s,
            at=at,
        )
    )


def snapshot_frame(
    jobs: Sequence[Job], places: Mapping[StepId, Place], *, head: int, reason: str, more: bool, at: datetime
) -> Frame:
    """The unfinished jobs, newest first."""
    told = tuple(_snapshot_job(job, places, at) for job in jobs)
    return encoded(SnapshotFrame(id=head, reason=reason, jobs=told, more=more, at=at))


def _snapshot_job(job: Job, places: Mapping[StepId, Place], at: datetime) -> SnapshotJob:
    return SnapshotJob(
        job_id=job.id,
        video_id=job.video_id,
        state=job.state,
        percent=job_percent(job),
        eta_seconds=job_eta_s(job, at, places),
        steps=tuple(_snapshot_step(step) for step in job.steps),
    )


def _snapshot_step(step: Step) -> SnapshotStep:
    error = step.error
    return SnapshotStep(
        name=step.name,
        state=step.state,
        attempt=step.attempt,
        percent=round(100.0 * step.progress, 1),
        started_at=step.started_at,
        finished_at=step.finished_at,
        error=None if error is None else ErrorBody(error.code, error.message, error.remedy),
    )


def _number(value: JsonValue) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _text(value: JsonValue) -> str | None:
    return value if isinstance(value, str) else None


def _error(value: JsonValue) -> ErrorBody | None:
    if value is None or not isinstance(value, Mapping):
        return None
    return ErrorBody(*(_text(value.get(key)) or "" for key in ("code", "message", "remedy")))
