"""The configuration of the plugin: ``[plugins.storage_local]``."""

from __future__ import annotations

from pathlib import PurePosixPath

from pydantic import BaseModel, ConfigDict, Field, field_validator

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

UPLOAD_GRANULE_BYTES = 256 * KIB
"""Chunks of Google's resumable protocol are multiples of this (GCS, "Perform resumable uploads")."""


class LocalStorageConfig(BaseModel):
    """Where objects lie and how uploads are bounded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    root: str = "objects"
    """Folder below ``data_dir``; it may be a mount point or a symbolic link to another disk."""
    min_free_bytes: int = Field(default=GIB, ge=0)
    """Room that is never filled, because the database and ffmpeg's scratch files usually share the disk."""
    chunk_size_bytes: int = Field(default=8 * MIB, ge=UPLOAD_GRANULE_BYTES, multiple_of=UPLOAD_GRANULE_BYTES)
    """Chunk size that clients are told to use: below every common proxy limit, and a lost chunk costs little."""
    idle_timeout_s: float = Field(default=60.0, gt=0)
    """An upload request that sends nothing for so long is ended; its bytes are kept."""
    upload_ttl_s: float = Field(default=7 * 24 * 3600.0, gt=0)
    """An unfinished upload that nobody touched for so long is removed (GCS sessions live a week too)."""
    sweep_interval_s: float = Field(default=3600.0, gt=0)
    io_threads: int = Field(default=8, ge=1, le=64)
    accel_prefix: str | None = Field(default=None, pattern=r"^/[A-Za-z0-9._/-]*$")
    """Answer reads with ``X-Accel-Redirect`` below this internal location of nginx, whose root is ``root``."""

    @field_validator("root")
    @classmethod
    def _below_data_dir(cls, value: str) -> str:
        path = PurePosixPath(value)
        if path.is_absolute() or ".." in path.parts or value.strip() in {"", "."} or "\0" in value:
            raise ValueError("must be a relative path below data_dir, without '..'")
        return value
