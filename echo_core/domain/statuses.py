"""What a video's status is, derived from everything that decides it."""

from __future__ import annotations

from echo_core.domain.jobs import Job, JobState, StepState
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
            return VideoStatus.READY if _is_complete(job) else VideoStatus.CANCELLED


def _is_complete(job: Job) -> bool:
    """Whether everything that a video must have is there: whoever then cancels what was optional (a transcription that
    was asked for anew, say) has not taken the video back."""
    done = {StepState.SUCCEEDED, StepState.SKIPPED}
    required = [step for step in job.steps if not step.optional]
    return bool(required) and all(step.state in done for step in required)
