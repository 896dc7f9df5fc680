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
SuggestionId = NewType("SuggestionId", UUID)
AICallId = NewType("AICallId", UUID)


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


def new_suggestion_id() -> SuggestionId:
    """A fresh id."""
    return SuggestionId(uuid7())


def new_ai_call_id() -> AICallId:
    """A fresh id."""
    return AICallId(uuid7())
