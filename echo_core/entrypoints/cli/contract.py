"""What ``echoctl`` reads of the server's answers (``docs/http.md``).

Fields that it does not know are ignored, and those that an older server leaves out have defaults.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

FINISHED_JOBS = frozenset({"succeeded", "failed", "cancelled"})
FINISHED_STEPS = FINISHED_JOBS | {"skipped"}


class UploadTarget(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """How the bytes are to be sent. ``chunk_size_bytes`` None: in one piece."""

    protocol: str = "google-resumable"
    method: str = "PUT"
    headers: dict[str, str] = {}
    chunk_size_bytes: int | None = None
    expires_at: datetime | None = None


class UploadSession(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """Where the bytes of a video go. ``upload_url`` None: all of them are there, only completing is left."""

    video_id: str
    storage_path: str
    upload_url: str | None = None
    upload: UploadTarget | None = None
    offset_bytes: int | None = None
    complete: bool = False


class CompletedUpload(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """The job that a whole upload has started."""

    video_id: str
    job_id: str
    status: str


class Problem(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """Why something failed."""

    code: str = "failed"
    message: str = ""
    remedy: str = ""
    log_tail: tuple[str, ...] = ()


class Step(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """One step of a job; ``percent`` is its own, 0 to 100."""

    name: str
    state: str
    attempt: int = 0
    percent: float = 0.0
    optional: bool = False
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error: Problem | None = None
    skipped_reason: str | None = None
    warnings: tuple[str, ...] = ()


class Job(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """A job as ``GET /api/v1/videos/jobs/{jobId}`` shows it."""

    job_id: str
    video_id: str
    state: str
    percent: float = 0.0
    eta_seconds: float | None = None
    queue_position: int | None = None
    error: Problem | None = None
    steps: tuple[Step, ...] = ()

    @property
    def finished(self) -> bool:
        """Nothing more happens by itself."""
        return self.state in FINISHED_JOBS

    @property
    def reason(self) -> Problem | None:
        """Why it failed: its own error, else that of a step that failed."""
        failed = (s for s in self.steps if s.state == "failed" and s.error is not None)
        step = next(iter(sorted(failed, key=lambda s: s.optional)), None)
        return self.error or (step.error if step is not None else None)


class VideoSummary(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """One row of the list of videos."""

    video_id: str
    title: str
    status: str
    created_at: datetime
    duration_seconds: float | None = None
    percent: float | None = None


class VideoPage(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """A page of the list, newest first."""

    items: tuple[VideoSummary, ...]
    next_cursor: str | None = None


class VideoDetails(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """What is needed of ``GET /api/v1/videos/{videoId}/details``."""

    title: str = ""
    status: str = ""
    job: Job | None = None
    playback_url: str | None = None


class SearchPart(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """A piece of a text; ``match``: it is what was looked for."""

    text: str
    match: bool = False


class SearchHit(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """Something said."""

    start_seconds: float
    parts: tuple[SearchPart, ...] = ()


class SearchedVideo(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """A video that was found, and where."""

    video_id: str
    title: str
    title_parts: tuple[SearchPart, ...] = ()
    hits: tuple[SearchHit, ...] = ()
