"""Uploads: from an announced file to the job that makes it watchable."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from echo_core.application.job_changes import store_change
from echo_core.application.ports import UnitOfWork
from echo_core.application.services import ApiServices
from echo_core.domain.errors import ConflictError, IllegalChangeError, InvalidInputError, TooLargeError
from echo_core.domain.ids import JobId, VideoId, new_video_id
from echo_core.domain.jobs import Job, JobKind
from echo_core.domain.uploads import (
    Upload,
    UploadState,
    check_content_type,
    check_filename,
    source_key,
    title_from_filename,
)
from echo_core.domain.users import User
from echo_core.domain.videos import Video, VideoStatus
from echo_core.plugin_api.errors import EchoError, NotFoundError
from echo_core.plugin_api.storage import (
    BeginUpload,
    ObjectInfo,
    ResumeUpload,
    UploadOffset,
    UploadRef,
    UploadTicket,
)


class UploadIncompleteError(IllegalChangeError):
    """Bytes are missing. ``offset_bytes`` of them are durable: the client goes on there."""

    default_code = "upload_incomplete"
    default_remedy = "Send the rest of the file, from the offset on, then say complete again."

    def __init__(self, offset_bytes: int) -> None:
        super().__init__(f"The file is not there yet: {offset_bytes} bytes have been stored.")
        self.offset_bytes = offset_bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class BeginUploadCommand:
    """Announce a file. ``origin`` is the browser's, for storages that bind an upload to it."""

    filename: str
    content_type: str
    size_bytes: int | None = None
    origin: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class BegunUpload:
    """A new video and where its bytes go."""

    video: Video
    storage_key: str
    ticket: UploadTicket


@dataclass(frozen=True, kw_only=True, slots=True)
class CompleteUploadCommand:
    """Say that all bytes of an upload were sent."""

    video_id: VideoId
    original_filename: str
    storage_key: str
    content_type: str
    size_bytes: int
    correlation_id: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class CompletedUpload:
    """The job that a complete upload has started, now or before."""

    video_id: VideoId
    job_id: JobId
    status: VideoStatus


@dataclass(frozen=True, kw_only=True, slots=True)
class ResumedUpload:
    """How far an upload is. ``ticket`` is None when all bytes are stored: only completing is left."""

    video_id: VideoId
    storage_key: str
    offset: UploadOffset
    ticket: UploadTicket | None


async def begin_upload(services: ApiServices, user: User, command: BeginUploadCommand) -> BegunUpload:
    """Create a video that awaits its bytes.

    Raises ``InvalidInputError``, ``TooLargeError`` (also ``quota_exceeded``), ``ConflictError``
    (``too_many_unfinished_uploads``), ``ProviderError``.
    """
    filename = check_filename(command.filename)
    content_type = check_content_type(command.content_type)
    limit = services.limits.max_upload_bytes
    _check_size(command.size_bytes, limit)
    if services.limits.quota_bytes:
        # A first look, without holding anybody up: before the storage is asked for room, and to tell it the most.
        async with services.units_of_work.for_user(user) as uow:
            use = await uow.uploads.use_of(user.id, with_bytes=True)
        use.check_quota(services.limits.quota_bytes, command.size_bytes or 1)
        limit = min(limit, services.limits.quota_bytes - use.total_bytes)
    video_id = new_video_id()
    key = source_key(video_id, filename)
    ticket = await services.storage.begin_upload(
        BeginUpload(
            key=key,
            content_type=content_type,
            size_bytes=command.size_bytes,
            max_size_bytes=limit,
            expires_in_s=services.limits.upload_expires_in_s,
            origin=command.origin,
        )
    )
    accepted = replace(command, filename=filename, content_type=content_type)
    video = _new_video(user, video_id, accepted, services.clock.now())
    upload = _new_upload(services, video, key, ticket)
    try:
        async with services.units_of_work.for_user(user) as uow:
            use = await uow.uploads.use_of(user.id, with_bytes=bool(services.limits.quota_bytes))
            use.check_unfinished(services.limits.max_unfinished_uploads)
            use.check_quota(services.limits.quota_bytes, command.size_bytes or 1)
            await uow.videos.add(video)
            await uow.uploads.add(upload)
    except EchoError:
        if services.storage.supports_upload_abort:
            await services.storage.abort_upload(UploadRef(key=key, state=ticket.state))
        raise
    return BegunUpload(video=video, storage_key=key, ticket=ticket)


def _new_video(user: User, video_id: VideoId, command: BeginUploadCommand, now: datetime) -> Video:
    return Video(
        id=video_id,
        owner_id=user.id,
        status=VideoStatus.AWAITING_UPLOAD,
        title=title_from_filename(command.filename),
        filename=command.filename,
        content_type=command.content_type,
        size_bytes=command.size_bytes,
        created_at=now,
        updated_at=now,
    )


def _new_upload(services: ApiServices, video: Video, key: str, ticket: UploadTicket) -> Upload:
    return Upload(
        video_id=video.id,
        owner_id=video.owner_id,
        state=UploadState.OPEN,
        storage_key=key,
        filename=video.filename,
        content_type=video.content_type,
        size_bytes=video.size_bytes,
        backend=services.storage_name,
        backend_state=ticket.state,
        expires_at=ticket.expires_at,
        created_at=video.created_at,
    )


def _check_size(size_bytes: int | None, limit_bytes: int) -> None:
    if size_bytes == 0:
        raise InvalidInputError("The file is empty.", code="empty_file", remedy="Choose a file with something in it.")
    if size_bytes is not None and size_bytes > limit_bytes:
        raise TooLargeError(
            f"The file has {size_bytes} bytes; this instance takes at most {limit_bytes} (upload.max_size_bytes).",
            code="upload_too_large",
            remedy="Choose a smaller file, or ask the operator to raise upload.max_size_bytes.",
        )


async def complete_upload(services: ApiServices, user: User, command: CompleteUploadCommand) -> CompletedUpload:
    """Check the stored object and start the job. Saying it again, or many times at once, gives the same job.

    Raises ``UnknownEntityError``, ``InvalidInputError`` (``storage_path_mismatch``, ``content_type_mismatch``,
    ``size_mismatch``), ``IllegalChangeError`` (``upload_expired``), ``UploadIncompleteError``.
    """
    async with services.units_of_work.for_user(user) as uow:
        upload = await uow.uploads.get(command.video_id)
        video = await uow.videos.get(command.video_id)
        job = await uow.jobs.find_for_video(command.video_id, JobKind.PROCESS)
    _check_belongs(upload, command)
    if job is not None:
        _check_same_size(command.size_bytes, video.size_bytes)
        return CompletedUpload(video_id=video.id, job_id=job.id, status=video.status)
    _check_open(services, upload)
    stored = await _stored_object(services, upload)
    _check_same_size(command.size_bytes, stored.size_bytes)
    _check_size(stored.size_bytes, services.limits.max_upload_bytes)
    async with services.units_of_work.for_user(user) as uow:
        return await _start(services, uow, command, stored)


async def _start(
    services: ApiServices, uow: UnitOfWork, command: CompleteUploadCommand, stored: ObjectInfo
) -> CompletedUpload:
    # The upload's row is the lock: of all that say complete at once, and of a delete, one goes first.
    upload = await uow.uploads.get(command.video_id, for_update=True)
    job = await uow.jobs.find_for_video(command.video_id, JobKind.PROCESS)
    video = await uow.videos.get(command.video_id, for_update=True)
    if job is not None:
        return CompletedUpload(video_id=video.id, job_id=job.id, status=video.status)
    _check_open(services, upload)
    if services.limits.quota_bytes and upload.size_bytes is None:
        # What was announced was reserved when it began; what was not is known only now.
        use = await uow.uploads.use_of(upload.owner_id, with_bytes=True)
        use.check_quota(services.limits.quota_bytes, stored.size_bytes)
    now = await uow.jobs.now()
    await uow.uploads.save(
        replace(
            upload,
            state=UploadState.COMPLETED,
            completed_at=now,
            size_bytes=stored.size_bytes,
            generation=stored.generation,
            checksum=stored.checksum,
        )
    )
    filename = check_filename(command.original_filename)
    title = video.title if "title" in video.edited_fields else title_from_filename(filename)
    await uow.videos.save(replace(video, filename=filename, title=title, size_bytes=stored.size_bytes))
    started: Job = services.pipeline.new_job(
        JobKind.PROCESS,
        video_id=video.id,
        owner_id=video.owner_id,
        now=now,
        correlation_id=command.correlation_id,
    )
    started = (await uow.jobs.learned_rates()).likely(started, stored.size_bytes)
    await store_change(uow, None, started)
    return CompletedUpload(video_id=video.id, job_id=started.id, status=VideoStatus.PROCESSING)


def _check_belongs(upload: Upload, command: CompleteUploadCommand) -> None:
    if command.storage_key != upload.storage_key:
        raise InvalidInputError(
            "The storagePath is not that of this video.",
            code="storage_path_mismatch",
            remedy="Send the storagePath that came with the upload URL of this videoId.",
        )
    if check_content_type(command.content_type) != upload.content_type:
        raise InvalidInputError(
            f"The file was announced as {upload.content_type}.",
            code="content_type_mismatch",
            remedy="Send the same contentType as when the upload began.",
        )
    check_filename(command.original_filename)


def _check_same_size(said_bytes: int, stored_bytes: int | None) -> None:
    if said_bytes != stored_bytes:
        raise InvalidInputError(
            f"The stored file has {stored_bytes} bytes, not {said_bytes}.",
            code="size_mismatch",
            remedy="Send the size of the file that was uploaded; if that is what you sent, upload the file again.",
        )


def _check_open(services: ApiServices, upload: Upload) -> None:
    """Raises ``IllegalChangeError`` (``upload_expired``)."""
    if upload.state is UploadState.EXPIRED or upload.expires_at <= services.clock.now():
        raise IllegalChangeError(
            "This upload has expired.", code="upload_expired", remedy="Begin a new upload of the same file."
        )


async def _stored_object(services: ApiServices, upload: Upload) -> ObjectInfo:
    """The whole object. Raises ``UploadIncompleteError`` with the offset, ``ConflictError`` (``upload_gone``)."""
    try:
        return await services.storage.stat(upload.storage_key)
    except NotFoundError:
        offset = await _offset(services, upload)
    if offset.complete:
        # It became whole between the two questions.
        return await services.storage.stat(upload.storage_key)
    raise UploadIncompleteError(offset.offset_bytes)


async def _offset(services: ApiServices, upload: Upload) -> UploadOffset:
    try:
        return await services.storage.upload_offset(UploadRef(key=upload.storage_key, state=upload.backend_state))
    except NotFoundError as error:
        raise _forgotten() from error


def _forgotten() -> ConflictError:
    return ConflictError(
        "The storage has forgotten this upload.", code="upload_gone", remedy="Begin a new upload of the same file."
    )


async def resume_upload(services: ApiServices, user: User, video_id: VideoId, *, origin: str | None) -> ResumedUpload:
    """A fresh URL for an unfinished upload, and how much of it is durable.

    Raises ``UnknownEntityError``, ``ConflictError`` (``upload_completed``, ``upload_gone``), ``IllegalChangeError``
    (``upload_expired``).
    """
    async with services.units_of_work.for_user(user) as uow:
        upload = await uow.uploads.get(video_id)
        await uow.videos.get(video_id)
    if upload.state is UploadState.COMPLETED:
        raise ConflictError(
            "This upload is complete.", code="upload_completed", remedy="There is nothing to resume; see the video."
        )
    _check_open(services, upload)
    offset = await _offset(services, upload)
    if offset.complete:
        return ResumedUpload(video_id=video_id, storage_key=upload.storage_key, offset=offset, ticket=None)
    ticket = await _fresh_ticket(services, upload, origin)
    async with services.units_of_work.for_user(user) as uow:
        latest = await uow.uploads.get(video_id, for_update=True)
        if latest.state is UploadState.OPEN:
            await uow.uploads.save(replace(latest, backend_state=ticket.state, expires_at=ticket.expires_at))
    return ResumedUpload(video_id=video_id, storage_key=upload.storage_key, offset=offset, ticket=ticket)


async def _fresh_ticket(services: ApiServices, upload: Upload, origin: str | None) -> UploadTicket:
    try:
        return await services.storage.resume_upload(
            ResumeUpload(
                key=upload.storage_key,
                state=upload.backend_state,
                content_type=upload.content_type,
                size_bytes=upload.size_bytes,
                max_size_bytes=services.limits.max_upload_bytes,
                expires_in_s=services.limits.upload_expires_in_s,
                origin=origin,
            )
        )
    except NotFoundError as error:
        raise _forgotten() from error
