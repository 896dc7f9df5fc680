"""The tables, all in the schema ``echo`` (docs/adr/0002-own-schema.md).

The models describe; nothing loads through them. Entities are frozen dataclasses of the domain, so rows become them
directly: no session, no identity map, and a relationship can never load by surprise. Row level security, grants and
functions live in the migrations.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar
from uuid import UUID

from sqlalchemy import (
    REAL,
    BigInteger,
    CheckConstraint,
    Double,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP, TSVECTOR
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from echo_core.domain.caption_tracks import CaptionSource
from echo_core.domain.jobs import JobKind, JobState, StepState
from echo_core.domain.suggestions import SuggestionState
from echo_core.domain.uploads import UploadState
from echo_core.domain.videos import VideoStatus, Visibility
from echo_core.plugin_api.steps import Resource

SCHEMA = "echo"

NAMING = {
    "pk": "pk_%(table_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
}


class Base(DeclarativeBase):
    """All tables of the kernel."""

    if TYPE_CHECKING:
        __table__: ClassVar[Table]

    metadata = MetaData(schema=SCHEMA, naming_convention=NAMING)
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it as a plain class attribute
        str: Text(),
        int: BigInteger(),
        float: Double(),
        bytes: LargeBinary(),
        UUID: Uuid(),
        datetime: TIMESTAMP(timezone=True),
    }


def _one_of(column: str, values: type[StrEnum]) -> CheckConstraint:
    """Text with a check rather than an enum type: a value is added without rewriting or locking for long."""
    return CheckConstraint(f"{column} in ({', '.join(repr(str(v)) for v in values)})", name=column)


_NOW = text("clock_timestamp()")
_EMPTY_TEXT = text("''")
_NO_TEXTS = text("'{}'::text[]")
_NO_NUMBERS = text("'{}'::double precision[]")
_NO_OBJECT = text("'{}'::jsonb")
_FALSE = text("false")
_ZERO = text("0")


class UserRow(Base):
    """A user of the embedded identity; with another identity provider the table stays empty."""

    __tablename__ = "users"
    __table_args__ = (
        UniqueConstraint("email"),
        CheckConstraint("email = lower(email) and email <> ''", name="email"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    email: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)


class VideoRow(Base):
    """A video."""

    __tablename__ = "videos"
    __table_args__ = (
        UniqueConstraint("id", "owner_id"),  # what hangs on a video refers to both, so it has the same owner
        _one_of("status", VideoStatus),
        _one_of("visibility", Visibility),
        Index("ix_videos_listed", "owner_id", text("id desc"), postgresql_where=text("deleted_at is null")),
        Index("ix_videos_owner_id", "owner_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    owner_id: Mapped[UUID]
    status: Mapped[str]
    title: Mapped[str]
    filename: Mapped[str]
    content_type: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    updated_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    description: Mapped[str] = mapped_column(server_default=_EMPTY_TEXT)
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=_NO_TEXTS)
    language: Mapped[str] = mapped_column(server_default=_EMPTY_TEXT)
    visibility: Mapped[str] = mapped_column(server_default=text("'private'"))
    chapters: Mapped[list[object]] = mapped_column(JSONB, server_default=text("'[]'::jsonb"))
    poster: Mapped[str] = mapped_column(server_default=_EMPTY_TEXT)
    edited_fields: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=_NO_TEXTS)
    version: Mapped[int] = mapped_column(Integer, server_default=text("1"))
    size_bytes: Mapped[int | None]
    duration_s: Mapped[float | None]
    width: Mapped[int | None] = mapped_column(Integer)
    height: Mapped[int | None] = mapped_column(Integer)
    deleted_at: Mapped[datetime | None]


class UploadRow(Base):
    """The upload of a video. ``check_at``: when somebody looks whether its object is there without anybody having said
    so."""

    __tablename__ = "uploads"
    __table_args__ = (
        ForeignKeyConstraint(
            ["video_id", "owner_id"], [f"{SCHEMA}.videos.id", f"{SCHEMA}.videos.owner_id"], ondelete="CASCADE"
        ),
        _one_of("state", UploadState),
        Index("ix_uploads_owner_id", "owner_id"),
        Index("ix_uploads_check_at", "check_at", postgresql_where=text("state = 'open'")),
        Index("ix_uploads_unfinished", "expires_at", postgresql_where=text("state in ('open', 'quarantined')")),
    )

    video_id: Mapped[UUID] = mapped_column(primary_key=True)
    owner_id: Mapped[UUID]
    state: Mapped[str]
    storage_key: Mapped[str]
    filename: Mapped[str]
    content_type: Mapped[str]
    size_bytes: Mapped[int | None]
    backend: Mapped[str]
    backend_state: Mapped[str]
    expires_at: Mapped[datetime]
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    completed_at: Mapped[datetime | None]
    generation: Mapped[str] = mapped_column(server_default=_EMPTY_TEXT)
    checksum: Mapped[str] = mapped_column(server_default=_EMPTY_TEXT)
    quarantine_code: Mapped[str] = mapped_column(server_default=_EMPTY_TEXT)
    quarantine_message: Mapped[str] = mapped_column(server_default=_EMPTY_TEXT)
    check_at: Mapped[datetime] = mapped_column(server_default=text("now() + '00:02:00'::interval"))


class JobRow(Base):
    """A job. One of each kind for a video."""

    __tablename__ = "jobs"
    __table_args__ = (
        UniqueConstraint("video_id", "kind"),
        UniqueConstraint("id", "owner_id"),
        ForeignKeyConstraint(
            ["video_id", "owner_id"], [f"{SCHEMA}.videos.id", f"{SCHEMA}.videos.owner_id"], ondelete="CASCADE"
        ),
        _one_of("kind", JobKind),
        _one_of("state", JobState),
        # With the id behind the owner: row security adds the owner to every condition, and two indexes combined are
        # slow for owners with much more than their share.
        Index("ix_jobs_owner_id_video_id", "owner_id", "video_id"),
        Index(
            "ix_jobs_unfinished",
            "owner_id",
            text("id desc"),
            postgresql_where=text("state in ('queued', 'running')"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    video_id: Mapped[UUID]
    owner_id: Mapped[UUID]
    kind: Mapped[str]
    state: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    correlation_id: Mapped[str] = mapped_column(server_default=_EMPTY_TEXT)
    cancel_requested: Mapped[bool] = mapped_column(server_default=_FALSE)
    finished_at: Mapped[datetime | None]


class StepRow(Base):
    """A step of a job. ``rung_at``: when the reconciler last rang for it since it was queued.
    ``sweep_tried_at``: when one last took on its sweeping."""

    __tablename__ = "steps"
    __table_args__ = (
        UniqueConstraint("job_id", "name"),
        ForeignKeyConstraint(
            ["job_id", "owner_id"], [f"{SCHEMA}.jobs.id", f"{SCHEMA}.jobs.owner_id"], ondelete="CASCADE"
        ),
        _one_of("resource", Resource),
        _one_of("state", StepState),
        CheckConstraint("state <> 'queued' or run_at is not null", name="queued_has_run_at"),
        Index("ix_steps_owner_id_job_id", "owner_id", "job_id"),
        Index("ix_steps_claimed", "resource", "owner_id", "run_at", "id", postgresql_where=text("state = 'queued'")),
        Index("ix_steps_running", "resource", "owner_id", postgresql_where=text("state = 'running'")),
        Index(
            "ix_steps_unswept",
            "id",
            postgresql_where=text(
                "state in ('succeeded', 'failed', 'skipped', 'cancelled') and swept_token < lease_token"
            ),
        ),
        Index("ix_steps_leases", "lease_expires_at", postgresql_where=text("state = 'running'")),
        Index("ix_steps_succeeded", text("finished_at desc"), postgresql_where=text("state = 'succeeded'")),
        Index(
            "ix_steps_unfinished",
            "resource",
            "owner_id",
            postgresql_where=text("state in ('pending', 'queued', 'running')"),
        ),
        Index(
            "ix_steps_served",
            "resource",
            "owner_id",
            text("started_at desc"),
            postgresql_where=text("started_at is not null"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    job_id: Mapped[UUID]
    owner_id: Mapped[UUID]
    name: Mapped[str]
    position: Mapped[int] = mapped_column(Integer)
    consumes: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=_NO_TEXTS)
    produces: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=_NO_TEXTS)
    after: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=_NO_TEXTS)
    resource: Mapped[str]
    optional: Mapped[bool]
    max_attempts: Mapped[int] = mapped_column(Integer)
    first_delay_s: Mapped[float]
    max_delay_s: Mapped[float]
    timeout_s: Mapped[float]
    timeout_per_media_s: Mapped[float]
    weight: Mapped[float]
    plugin: Mapped[str] = mapped_column(server_default=_EMPTY_TEXT)
    state: Mapped[str]
    attempt: Mapped[int] = mapped_column(Integer, server_default=_ZERO)
    lease_token: Mapped[int] = mapped_column(server_default=_ZERO)
    swept_token: Mapped[int] = mapped_column(server_default=_ZERO)
    lease_expires_at: Mapped[datetime | None]
    worker: Mapped[str] = mapped_column(server_default=_EMPTY_TEXT)
    run_at: Mapped[datetime | None]
    cancel_requested: Mapped[bool] = mapped_column(server_default=_FALSE)
    progress: Mapped[float] = mapped_column(server_default=_ZERO)
    expected_s: Mapped[float] = mapped_column(server_default=_ZERO)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    error: Mapped[dict[str, object] | None] = mapped_column(JSONB(none_as_null=True))
    output: Mapped[dict[str, object]] = mapped_column(JSONB, server_default=_NO_OBJECT)
    skipped_reason: Mapped[str] = mapped_column(server_default=_EMPTY_TEXT)
    warnings: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=_NO_TEXTS)
    rung_at: Mapped[datetime | None]
    sweep_tried_at: Mapped[datetime | None]
    waiting_since: Mapped[datetime | None]


class ArtefactRow(Base):
    """An artefact. ``segments`` is compact JSON (``[[duration_s, offset_bytes, length_bytes], …]``) as text: it is
    read whole or not at all, and never searched."""

    __tablename__ = "artefacts"
    __table_args__ = (
        UniqueConstraint("video_id", "kind", "name"),
        ForeignKeyConstraint(
            ["video_id", "owner_id"], [f"{SCHEMA}.videos.id", f"{SCHEMA}.videos.owner_id"], ondelete="CASCADE"
        ),
        Index("ix_artefacts_owner_id_video_id", "owner_id", "video_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    video_id: Mapped[UUID]
    owner_id: Mapped[UUID]
    step: Mapped[str]
    lease_token: Mapped[int]
    kind: Mapped[str]
    name: Mapped[str]
    storage_key: Mapped[str]
    content_type: Mapped[str]
    size_bytes: Mapped[int]
    checksum: Mapped[str]
    generation: Mapped[str]
    backend: Mapped[str] = mapped_column(server_default=text("'local'"))
    producer: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    facts: Mapped[dict[str, object]] = mapped_column(JSONB, server_default=_NO_OBJECT)
    init_length_bytes: Mapped[int] = mapped_column(server_default=_ZERO)
    segments: Mapped[str] = mapped_column(server_default=_EMPTY_TEXT)


class EventCounterRow(Base):
    """The newest event number of an owner. Its row lock puts that owner's writers in a line: no gap, no overtaking."""

    __tablename__ = "event_counters"

    owner_id: Mapped[UUID] = mapped_column(primary_key=True)
    newest: Mapped[int]


class EventRow(Base):
    """A committed state change. Refers to nothing by key: events outlive what they tell of."""

    __tablename__ = "events"
    __table_args__ = (Index("ix_events_at", "at"),)

    owner_id: Mapped[UUID] = mapped_column(primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    type: Mapped[str]
    video_id: Mapped[UUID]
    at: Mapped[datetime]
    job_id: Mapped[UUID | None]
    step: Mapped[str | None]
    state: Mapped[str | None]
    facts: Mapped[dict[str, object]] = mapped_column(JSONB, server_default=_NO_OBJECT)


class IdempotencyKeyRow(Base):
    """The answer that a caller's idempotency key stands for; ``status`` 0: not answered yet."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index("ix_idempotency_keys_created_at", "created_at"),)

    owner_id: Mapped[UUID] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    request_hash: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    status: Mapped[int] = mapped_column(Integer, server_default=_ZERO)
    body: Mapped[bytes] = mapped_column(server_default=text("''::bytea"))
    content_type: Mapped[str] = mapped_column(server_default=_EMPTY_TEXT)
    location: Mapped[str] = mapped_column(server_default=_EMPTY_TEXT)
    headers: Mapped[dict[str, object]] = mapped_column(JSONB, server_default=_NO_OBJECT)
    token: Mapped[UUID | None]


class WorkerRow(Base):
    """A worker process, the names of the steps that it can run, and how many of each class at once: its slots count
    until ``expires_at``. Nobody's: only workers see it."""

    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(primary_key=True)
    steps: Mapped[list[str]] = mapped_column(ARRAY(Text))
    version: Mapped[str]
    started_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    seen_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    light_slots: Mapped[int] = mapped_column(Integer, server_default=_ZERO)
    cpu_slots: Mapped[int] = mapped_column(Integer, server_default=_ZERO)
    net_slots: Mapped[int] = mapped_column(Integer, server_default=_ZERO)
    expires_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    ai_slots: Mapped[int] = mapped_column(Integer, server_default=_ZERO)


class CaptionTrackRow(Base):
    """Captions of a video in one language, as text. ``cues``: see ``caption_tracks.py``."""

    __tablename__ = "caption_tracks"
    __table_args__ = (
        ForeignKeyConstraint(
            ["video_id", "owner_id"], [f"{SCHEMA}.videos.id", f"{SCHEMA}.videos.owner_id"], ondelete="CASCADE"
        ),
        _one_of("source", CaptionSource),
        Index("ix_caption_tracks_owner_id_video_id", "owner_id", "video_id"),
    )

    video_id: Mapped[UUID] = mapped_column(primary_key=True)
    owner_id: Mapped[UUID]
    name: Mapped[str] = mapped_column(primary_key=True)
    language: Mapped[str] = mapped_column(server_default=_EMPTY_TEXT)
    title: Mapped[str] = mapped_column(server_default=_EMPTY_TEXT)
    source: Mapped[str]
    edited: Mapped[bool] = mapped_column(server_default=_FALSE)
    forced: Mapped[bool] = mapped_column(server_default=_FALSE)
    provider: Mapped[str] = mapped_column(server_default=_EMPTY_TEXT)
    model: Mapped[str] = mapped_column(server_default=_EMPTY_TEXT)
    cues: Mapped[list[object]] = mapped_column(JSONB)
    version: Mapped[int] = mapped_column(Integer, server_default=text("1"))
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    updated_at: Mapped[datetime] = mapped_column(server_default=_NOW)


class SuggestionRow(Base):
    """What AI suggests for a field of a video. At most one of a field is pending."""

    __tablename__ = "suggestions"
    __table_args__ = (
        ForeignKeyConstraint(
            ["video_id", "owner_id"], [f"{SCHEMA}.videos.id", f"{SCHEMA}.videos.owner_id"], ondelete="CASCADE"
        ),
        _one_of("state", SuggestionState),
        CheckConstraint("(state = 'pending') = (decided_at is null)", name="decided"),
        Index("ix_suggestions_owner_id_video_id", "owner_id", "video_id"),
        Index("uq_suggestions_pending", "video_id", "field", unique=True, postgresql_where=text("state = 'pending'")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    video_id: Mapped[UUID]
    owner_id: Mapped[UUID]
    field: Mapped[str]
    value: Mapped[object] = mapped_column(JSONB)
    state: Mapped[str]
    provider: Mapped[str]
    model: Mapped[str]
    prompt_version: Mapped[str]
    evidence: Mapped[list[object]] = mapped_column(JSONB)
    cost_usd: Mapped[float] = mapped_column(server_default=_ZERO)
    auto: Mapped[bool] = mapped_column(server_default=_FALSE)
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    decided_at: Mapped[datetime | None]


class AICallRow(Base):
    """What one call to an AI provider took, or may have taken (``reserved``). Outlives its video: it was spent."""

    __tablename__ = "ai_calls"
    __table_args__ = (
        CheckConstraint("state in ('reserved', 'settled')", name="state"),
        CheckConstraint(
            "cost_usd >= 0 and cost_usd < 'Infinity'::double precision and input_tokens >= 0 and output_tokens >= 0",
            name="amounts",
        ),
        Index("ix_ai_calls_video_id", "video_id"),
        Index("ix_ai_calls_owner_id_at", "owner_id", "at"),
        Index("ix_ai_calls_at", "at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    owner_id: Mapped[UUID]
    video_id: Mapped[UUID | None]
    step: Mapped[str]
    capability: Mapped[str]
    provider: Mapped[str]
    model: Mapped[str]
    prompt_version: Mapped[str]
    input_tokens: Mapped[int]
    output_tokens: Mapped[int]
    media_s: Mapped[float]
    cost_usd: Mapped[float]
    state: Mapped[str]
    at: Mapped[datetime] = mapped_column(server_default=_NOW)


class AICheckpointRow(Base):
    """A part of an AI provider's work that was finished, so that another try need not pay for it; gone once the whole
    has been done. ``source`` tells the bytes that it was made of. Workers' alone."""

    __tablename__ = "ai_checkpoints"
    __table_args__ = (
        ForeignKeyConstraint(
            ["video_id", "owner_id"], [f"{SCHEMA}.videos.id", f"{SCHEMA}.videos.owner_id"], ondelete="CASCADE"
        ),
    )

    video_id: Mapped[UUID] = mapped_column(primary_key=True)
    owner_id: Mapped[UUID]
    capability: Mapped[str] = mapped_column(primary_key=True)
    provider: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    source: Mapped[str]
    value: Mapped[object] = mapped_column(JSONB)
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)


class PassageRow(Base):
    """A part of what search looks into: some cues of a caption track, or (track empty) what a video says about itself.
    Triggers write it (docs/adr/0026); ``embedding`` is a unit vector of ``embedding_space``."""

    __tablename__ = "passages"
    __table_args__ = (
        ForeignKeyConstraint(
            ["video_id", "owner_id"], [f"{SCHEMA}.videos.id", f"{SCHEMA}.videos.owner_id"], ondelete="CASCADE"
        ),
        Index("ix_passages_owner_id_video_id", "owner_id", "video_id"),
        Index("ix_passages_tsv", "tsv", postgresql_using="gin"),
    )

    video_id: Mapped[UUID] = mapped_column(primary_key=True)
    owner_id: Mapped[UUID]
    track: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    start_s: Mapped[float]
    end_s: Mapped[float]
    text: Mapped[str]
    word_starts_s: Mapped[list[float]] = mapped_column(ARRAY(Double), server_default=_NO_NUMBERS)
    config: Mapped[str]
    tsv: Mapped[str] = mapped_column(TSVECTOR)
    embedding: Mapped[list[float] | None] = mapped_column(ARRAY(REAL))
    embedding_space: Mapped[str] = mapped_column(server_default=_EMPTY_TEXT)
