"""The tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _create_users()
    _create_videos()
    _create_uploads()
    _create_jobs()
    _create_steps()
    _create_artefacts()
    _create_event_counters()
    _create_events()
    _create_idempotency_keys()


def _create_users() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column(
            "created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.CheckConstraint("email = lower(email) and email <> ''", name=op.f("ck_users_email")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("email", name=op.f("uq_users_email")),
        schema="echo",
    )


def _create_videos() -> None:
    op.create_table(
        "videos",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("filename", sa.Text(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column(
            "created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column(
            "updated_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("description", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("tags", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'::text[]"), nullable=False),
        sa.Column("language", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("visibility", sa.Text(), server_default=sa.text("'private'"), nullable=False),
        sa.Column("chapters", postgresql.JSONB(), server_default=sa.text("'[]'::jsonb"), nullable=False),
        sa.Column("edited_fields", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'::text[]"), nullable=False),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("duration_s", sa.Double(), nullable=True),
        sa.Column("width", sa.Integer(), nullable=True),
        sa.Column("height", sa.Integer(), nullable=True),
        sa.Column("deleted_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint(
            "status in ('awaiting_upload', 'processing', 'playable', 'ready', 'failed', 'cancelled')",
            name=op.f("ck_videos_status"),
        ),
        sa.CheckConstraint("visibility in ('private', 'unlisted', 'public')", name=op.f("ck_videos_visibility")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_videos")),
        sa.UniqueConstraint("id", "owner_id", name=op.f("uq_videos_id_owner_id")),
        schema="echo",
    )
    op.create_index(
        "ix_videos_listed",
        "videos",
        ["owner_id", sa.literal_column("id desc")],
        unique=False,
        schema="echo",
        postgresql_where=sa.text("deleted_at is null"),
    )
    op.create_index("ix_videos_owner_id", "videos", ["owner_id"], unique=False, schema="echo")


def _create_uploads() -> None:
    op.create_table(
        "uploads",
        sa.Column("video_id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("storage_key", sa.Text(), nullable=False),
        sa.Column("filename", sa.Text(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("backend", sa.Text(), nullable=False),
        sa.Column("backend_state", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column(
            "created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("completed_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("generation", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("checksum", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.CheckConstraint("state in ('open', 'completed', 'expired')", name=op.f("ck_uploads_state")),
        sa.ForeignKeyConstraint(
            ["video_id", "owner_id"],
            ["echo.videos.id", "echo.videos.owner_id"],
            name=op.f("fk_uploads_video_id_owner_id_videos"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("video_id", name=op.f("pk_uploads")),
        schema="echo",
    )
    op.create_index(
        "ix_uploads_open",
        "uploads",
        ["expires_at"],
        unique=False,
        schema="echo",
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_index("ix_uploads_owner_id", "uploads", ["owner_id"], unique=False, schema="echo")


def _create_jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("video_id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column(
            "created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("correlation_id", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("finished_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint("kind in ('process', 'purge')", name=op.f("ck_jobs_kind")),
        sa.CheckConstraint(
            "state in ('queued', 'running', 'succeeded', 'failed', 'cancelled')", name=op.f("ck_jobs_state")
        ),
        sa.ForeignKeyConstraint(
            ["video_id", "owner_id"],
            ["echo.videos.id", "echo.videos.owner_id"],
            name=op.f("fk_jobs_video_id_owner_id_videos"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sa.UniqueConstraint("id", "owner_id", name=op.f("uq_jobs_id_owner_id")),
        sa.UniqueConstraint("video_id", "kind", name=op.f("uq_jobs_video_id_kind")),
        schema="echo",
    )
    op.create_index("ix_jobs_owner_id_video_id", "jobs", ["owner_id", "video_id"], unique=False, schema="echo")
    op.create_index(
        "ix_jobs_unfinished",
        "jobs",
        ["owner_id", sa.literal_column("id desc")],
        unique=False,
        schema="echo",
        postgresql_where=sa.text("state in ('queued', 'running')"),
    )


def _create_steps() -> None:
    op.create_table(
        "steps",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("consumes", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'::text[]"), nullable=False),
        sa.Column("produces", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'::text[]"), nullable=False),
        sa.Column("after", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'::text[]"), nullable=False),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("optional", sa.Boolean(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("first_delay_s", sa.Double(), nullable=False),
        sa.Column("max_delay_s", sa.Double(), nullable=False),
        sa.Column("timeout_s", sa.Double(), nullable=False),
        sa.Column("timeout_per_media_s", sa.Double(), nullable=False),
        sa.Column("weight", sa.Double(), nullable=False),
        sa.Column("plugin", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("lease_token", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("lease_expires_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("worker", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("run_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("cancel_requested", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("progress", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.Column("expected_s", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.Column("started_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("finished_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("error", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("output", postgresql.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("skipped_reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("warnings", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'::text[]"), nullable=False),
        sa.Column("rung_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint("resource in ('light', 'cpu', 'net')", name=op.f("ck_steps_resource")),
        sa.CheckConstraint(
            "state in ('pending', 'queued', 'running', 'succeeded', 'failed', 'skipped', 'cancelled')",
            name=op.f("ck_steps_state"),
        ),
        sa.ForeignKeyConstraint(
            ["job_id", "owner_id"],
            ["echo.jobs.id", "echo.jobs.owner_id"],
            name=op.f("fk_steps_job_id_owner_id_jobs"),
            ondelete="CASCADE",
        ),
        sa.CheckConstraint("state <> 'queued' or run_at is not null", name=op.f("ck_steps_queued_has_run_at")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_steps")),
        sa.UniqueConstraint("job_id", "name", name=op.f("uq_steps_job_id_name")),
        schema="echo",
    )
    op.create_index(
        "ix_steps_leases",
        "steps",
        ["lease_expires_at"],
        unique=False,
        schema="echo",
        postgresql_where=sa.text("state = 'running'"),
    )
    op.create_index("ix_steps_owner_id_job_id", "steps", ["owner_id", "job_id"], unique=False, schema="echo")
    op.create_index(
        "ix_steps_claimed",
        "steps",
        ["resource", "owner_id", "run_at", "id"],
        unique=False,
        schema="echo",
        postgresql_where=sa.text("state = 'queued'"),
    )
    op.create_index(
        "ix_steps_queued",
        "steps",
        ["resource", "run_at", "id"],
        unique=False,
        schema="echo",
        postgresql_where=sa.text("state = 'queued'"),
    )
    op.create_index(
        "ix_steps_running",
        "steps",
        ["resource", "owner_id"],
        unique=False,
        schema="echo",
        postgresql_where=sa.text("state = 'running'"),
    )
    op.create_index(
        "ix_steps_succeeded",
        "steps",
        [sa.literal_column("finished_at desc")],
        unique=False,
        schema="echo",
        postgresql_where=sa.text("state = 'succeeded'"),
    )


def _create_artefacts() -> None:
    op.create_table(
        "artefacts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("video_id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("lease_token", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("storage_key", sa.Text(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("checksum", sa.Text(), nullable=False),
        sa.Column("generation", sa.Text(), nullable=False),
        sa.Column("producer", sa.Text(), nullable=False),
        sa.Column(
            "created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("facts", postgresql.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("init_length_bytes", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("segments", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.ForeignKeyConstraint(
            ["video_id", "owner_id"],
            ["echo.videos.id", "echo.videos.owner_id"],
            name=op.f("fk_artefacts_video_id_owner_id_videos"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_artefacts")),
        sa.UniqueConstraint("video_id", "kind", "name", name=op.f("uq_artefacts_video_id_kind_name")),
        schema="echo",
    )
    op.create_index(
        "ix_artefacts_owner_id_video_id", "artefacts", ["owner_id", "video_id"], unique=False, schema="echo"
    )


def _create_event_counters() -> None:
    op.create_table(
        "event_counters",
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("newest", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("owner_id", name=op.f("pk_event_counters")),
        schema="echo",
    )


def _create_events() -> None:
    op.create_table(
        "events",
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("video_id", sa.Uuid(), nullable=False),
        sa.Column("at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.Column("step", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=True),
        sa.Column("facts", postgresql.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.PrimaryKeyConstraint("owner_id", "sequence", name=op.f("pk_events")),
        schema="echo",
    )
    op.create_index("ix_events_at", "events", ["at"], unique=False, schema="echo")


def _create_idempotency_keys() -> None:
    op.create_table(
        "idempotency_keys",
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("request_hash", sa.Text(), nullable=False),
        sa.Column(
            "created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("status", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("body", sa.LargeBinary(), server_default=sa.text("''::bytea"), nullable=False),
        sa.Column("content_type", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("location", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.PrimaryKeyConstraint("owner_id", "key", name=op.f("pk_idempotency_keys")),
        schema="echo",
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"], unique=False, schema="echo")
