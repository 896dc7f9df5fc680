"""Typed ids. All are UUIDv7, so that they sort by creation."""

from __future__ import annotations

from typing import NewType
from uuid import UUID

from uuid_utils.compat import uuid7

UserId = NewType("UserId", UUID)
VideoId = NewType("VideoId", UUID)
JobId = NewType("JobId", UUID)
StepId = NewType("StepId", UUID)
ArtefactId = NewType("ArtefactId", UUID)


def new_video_id() -> VideoId:
    """A fresh id."""
    return VideoId(uuid7())


def new_job_id() -> JobId:
    """A fresh id."""
    return JobId(uuid7())


def new_step_id() -> StepId:
    """A fresh id."""
    return StepId(uuid7())


def new_artefact_id() -> ArtefactId:
    """A fresh id."""
    return ArtefactId(uuid7())
