"""What a video's status is, derived from everything that decides it."""

from __future__ import annotations

from echo_core.domain.jobs import Job, JobState
from echo_core.domain.videos import VideoStatus


def video_status(job: Job | None, *, has_rendition: bool) -> VideoStatus:
    """The status of a video with this processing job (None: the upload is not complete)."""
    if job is None:
        return VideoStatus.AWAITING_UPLOAD
    match job.state:
        case JobState.QUEUED | JobState.RUNNING:
            return VideoStatus.PLAYABLE if has_rendition else VideoStatus.PROCESSING
        case JobState.SUCCEEDED:
            return VideoStatus.READY
        case JobState.FAILED:
            return VideoStatus.FAILED
        case JobState.CANCELLED:
            return VideoStatus.CANCELLED
