"""Videos: listing, details, what a person says about them, and their end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from echo_core.application.completing import quarantine_of
from echo_core.application.job_changes import store_change, video_event
from echo_core.application.jobs import JobView, job_view
from echo_core.application.pipeline import Pipeline
from echo_core.application.playback import poster_name, posters_of
from echo_core.application.ports import UnitOfWork, VideoQuery
from echo_core.application.services import ApiServices
from echo_core.domain.ai_calls import AITotals
from echo_core.domain.artefacts import Artefact
from echo_core.domain.caption_tracks import CaptionTrack
from echo_core.domain.errors import ConflictError, InvalidInputError
from echo_core.domain.ids import VideoId
from echo_core.domain.jobs import JobKind
from echo_core.domain.suggestions import Suggestion
from echo_core.domain.uploads import UploadState
from echo_core.domain.users import User
from echo_core.domain.videos import Chapter, Video, VideoPage, Visibility


class VersionMismatchError(ConflictError):
    """The video was changed since the caller read it. ``version`` is the present one."""

    default_code = "version_mismatch"
    default_remedy = "Read it again, apply your change to it and send it with the new ETag."

    def __init__(self, version: int, what: str = "video was") -> None:
        super().__init__(f"The {what} changed by somebody else in the meantime.")
        self.version = version


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoDetails:
    """Everything about one video that its page shows."""

    video: Video
    job: JobView | None
    artefacts: Sequence[Artefact]
    tracks: Sequence[CaptionTrack] = ()
    suggestions: Sequence[Suggestion] = ()
    ai: AITotals = field(default_factory=AITotals)
    quarantine: ConflictError | None = None
    """Why nothing is made of what was uploaded."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MetadataCommand:
    """What a person sets; None leaves a field as it is. ``expected_versions=None``: whatever is there may be
    replaced."""

    title: str | None = None
    description: str | None = None
    tags: tuple[str, ...] | None = None
    language: str | None = None
    visibility: Visibility | None = None
    poster: str | None = None
    chapters: tuple[Chapter, ...] | None = None
    expected_versions: frozenset[int] | None = None


SHOWN_SUGGESTIONS = 50
"""The newest, of which the last of each field is shown."""
METADATA_FIELDS = ("title", "description", "tags", "language", "visibility", "poster", "chapters")


async def list_videos(services: ApiServices, user: User, query: VideoQuery) -> VideoPage:
    """One page of the caller's videos, newest first."""
    return await services.units_of_work.list_videos(user, query)


async def get_details(services: ApiServices, user: User, video_id: VideoId) -> VideoDetails:
    """One video with its job and artefacts. Raises ``UnknownEntityError``."""
    async with services.units_of_work.for_user(user) as uow:
        video = await uow.videos.get(video_id)
        job = await uow.jobs.find_for_video(video_id, JobKind.PROCESS)
        artefacts = await uow.artefacts.list_for_video(video_id)
        tracks = await uow.caption_tracks.list_for_video(video_id)
        suggestions = await uow.suggestions.list_for_video(video_id, SHOWN_SUGGESTIONS)
        ai = await uow.ai_calls.totals(video_id)
        view = await job_view(uow, job) if job is not None else None
        upload = await uow.uploads.get(video_id) if job is None else None
    held = quarantine_of(upload) if upload is not None and upload.state is UploadState.QUARANTINED else None
    return VideoDetails(
        video=video, job=view, artefacts=artefacts, tracks=tracks, suggestions=suggestions, ai=ai, quarantine=held
    )


async def update_metadata(services: ApiServices, user: User, video_id: VideoId, command: MetadataCommand) -> Video:
    """Store what a person says about a video; fields that thereby change are never overwritten by machines again.

    Saying what is there already changes nothing, not even the version. Raises ``UnknownEntityError``,
    ``VersionMismatchError``, ``InvalidInputError`` (``invalid_chapters``, ``unknown_poster``).
    """
    async with services.units_of_work.for_user(user) as uow:
        video = await uow.videos.get(video_id, for_update=True)
        if command.expected_versions is not None and video.version not in command.expected_versions:
            raise VersionMismatchError(video.version)
        said = {name: getattr(command, name) for name in METADATA_FIELDS}
        new = {name: value for name, value in said.items() if value is not None and value != getattr(video, name)}
        if not new:
            return video
        check_chapters(new.get("chapters", ()), video.duration_s)
        if new.get("poster"):
            check_poster(new["poster"], await uow.artefacts.list_for_video(video_id))
        changed = replace(video, **new, edited_fields=video.edited_fields | new.keys(), version=video.version + 1)
        await uow.videos.save(changed)
        await uow.events.add([video_event("video.updated", changed)])
        # The database's clock sets updated_at.
        return await uow.videos.get(video_id)


def check_chapters(chapters: Sequence[Chapter], duration_s: float | None) -> None:
    """Raises ``InvalidInputError`` unless starts rise strictly, from 0 on, and lie before the end (when known)."""
    previous_s = -1.0
    for number, chapter in enumerate(chapters, 1):
        if chapter.start_s < 0 or chapter.start_s <= previous_s:
            raise InvalidInputError(
                f"Chapter {number} does not start after the one before it.",
                code="invalid_chapters",
                remedy="Order the chapters by their start and give each another one.",
            )
        if duration_s is not None and chapter.start_s >= duration_s:
            raise InvalidInputError(
                f"Chapter {number} starts at {chapter.start_s:g} s, but the video ends at {duration_s:g} s.",
                code="invalid_chapters",
                remedy="Let every chapter start before the video ends.",
            )
        previous_s = chapter.start_s


def check_poster(name: str, artefacts: Sequence[Artefact]) -> None:
    """Raises ``InvalidInputError`` unless there is such a picture."""
    names = [poster_name(artefact) for artefact in posters_of(artefacts)]
    if name not in names:
        raise InvalidInputError(
            "This video has no such poster.",
            code="unknown_poster",
            remedy=f"Choose one of {', '.join(names)}." if names else "Wait until the step poster has made some.",
        )


async def delete_video(services: ApiServices, user: User, video_id: VideoId, *, correlation_id: str = "") -> None:
    """Take a video away from its owner at once; a purge job then stops its work and removes every object.

    Raises ``UnknownEntityError``.
    """
    async with services.units_of_work.for_user(user) as uow:
        await uow.videos.get(video_id)  # first, so that what is missing is called a video
        await bury_video(uow, services.pipeline, video_id, correlation_id=correlation_id)


async def bury_video(uow: UnitOfWork, pipeline: Pipeline, video_id: VideoId, *, correlation_id: str = "") -> None:
    """Mark a video as deleted, end its upload and its job, and start the purge. Raises ``UnknownEntityError``."""
    # The order in which completing an upload and the engine lock: upload, job, video.
    upload = await uow.uploads.get(video_id, for_update=True)
    job = await uow.jobs.find_for_video(video_id, JobKind.PROCESS, for_update=True)
    video = await uow.videos.get(video_id, for_update=True)
    now = await uow.jobs.now()
    await uow.videos.save(replace(video, deleted_at=now))
    if upload.unfinished:
        await uow.uploads.save(replace(upload, state=UploadState.EXPIRED))
    if job is not None and not job.state.finished:
        await store_change(uow, job, job.cancel(now))
    purge = pipeline.new_job(
        JobKind.PURGE, video_id=video_id, owner_id=video.owner_id, now=now, correlation_id=correlation_id
    )
    await store_change(uow, None, purge, also=[video_event("video.deleted", video)])
