"""Completing uploads: what was stored is compared with what was announced, and the job starts or the upload is put into
quarantine. Whoever finds the whole object does it: the owner who says complete, or a worker that looks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from functools import partial

import structlog

from echo_core.application.job_changes import store_change
from echo_core.application.ports import UnitOfWork
from echo_core.application.services import ApiServices, UploadServices
from echo_core.domain.errors import ConflictError, IllegalChangeError, InvalidInputError, TooLargeError
from echo_core.domain.ids import JobId, VideoId
from echo_core.domain.jobs import Job, JobKind
from echo_core.domain.uploads import (
    Mismatch,
    Upload,
    UploadState,
    announcement_mismatch,
    check_content_type,
    check_filename,
    checksum_mismatch,
    title_from_filename,
)
from echo_core.domain.users import User
from echo_core.domain.videos import Video, VideoStatus
from echo_core.plugin_api.errors import NotFoundError
from echo_core.plugin_api.storage import ObjectInfo, UploadOffset, UploadRef

log = structlog.get_logger("echo.uploads")

OpenUnitOfWork = Callable[[], AbstractAsyncContextManager[UnitOfWork]]


class UploadIncompleteError(IllegalChangeError):
    """Bytes are missing. ``offset_bytes`` of them are durable: the client goes on there."""

    default_code = "upload_incomplete"
    default_remedy = "Send the rest of the file, from the offset on, then say complete again."

    def __init__(self, offset_bytes: int) -> None:
        super().__init__(f"The file is not there yet: {offset_bytes} bytes have been stored.")
        self.offset_bytes = offset_bytes


class UploadGoneError(ConflictError):
    """The storage does not know this upload any more, or it was another storage's."""

    default_code = "upload_gone"
    default_remedy = "Resume the upload: it begins again, for the same video."

    def __init__(self) -> None:
        super().__init__("The storage has forgotten this upload.")


@dataclass(frozen=True, kw_only=True, slots=True)
class CompleteUploadCommand:
    """Say that all bytes of an upload were sent. ``checksum`` (``algorithm:hex``) is that of the client's file."""

    video_id: VideoId
    original_filename: str
    storage_key: str
    content_type: str
    size_bytes: int
    checksum: str | None = None
    correlation_id: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class CompletedUpload:
    """The job that a complete upload has started, now or before."""

    video_id: VideoId
    job_id: JobId
    status: VideoStatus


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundObject:
    """The whole object of an upload, and what is known of it beside the upload's row."""

    stored: ObjectInfo
    filename: str
    checksum: str | None = None
    correlation_id: str = ""

    def mismatch(self, upload: Upload) -> Mismatch | None:
        """In what it is not what was announced."""
        announced = announcement_mismatch(
            upload, size_bytes=self.stored.size_bytes, content_type=self.stored.content_type
        )
        return announced or checksum_mismatch(self.checksum, self.stored.checksum)


async def complete_upload(services: ApiServices, user: User, command: CompleteUploadCommand) -> CompletedUpload:
    """Check the stored object and start the job. Saying it again, or many times at once, gives the same job.

    Raises ``UnknownEntityError``, ``InvalidInputError`` (``storage_path_mismatch``, ``content_type_mismatch``,
    ``size_mismatch``), ``IllegalChangeError`` (``upload_expired``), ``UploadIncompleteError``, ``UploadGoneError``,
    ``ConflictError`` (``upload_size_mismatch``, ``upload_content_type_mismatch``, ``upload_checksum_mismatch``: the
    object is not what was announced, and never will be).
    """
    open_uow = partial(services.units_of_work.for_user, user)
    async with open_uow() as uow:
        upload = await uow.uploads.get(command.video_id)
        video = await uow.videos.get(command.video_id)
        job = await uow.jobs.find_for_video(command.video_id, JobKind.PROCESS)
    _check_belongs(upload, command)
    if job is not None:
        _check_same_file(command, upload, video.size_bytes)
        return CompletedUpload(video_id=video.id, job_id=job.id, status=video.status)
    check_open(services, upload)
    stored = await _stored_object(services, upload)
    if announcement_mismatch(upload, size_bytes=stored.size_bytes, content_type=stored.content_type) is None:
        # Otherwise what is wrong is the object, not what is said of it now.
        _check_same_size(command.size_bytes, stored.size_bytes)
    found = FoundObject(
        stored=stored,
        filename=check_filename(command.original_filename),
        checksum=command.checksum,
        correlation_id=command.correlation_id,
    )
    return await complete_with(services, open_uow, upload, found)


async def complete_with(
    services: UploadServices, open_uow: OpenUnitOfWork, upload: Upload, found: FoundObject
) -> CompletedUpload:
    """Start the job of an upload whose whole object was found, or put the upload into quarantine.

    Raises ``UnknownEntityError``, ``TooLargeError``, ``InvalidInputError`` (``empty_file``), ``IllegalChangeError``
    (``upload_expired``), ``ConflictError`` (what it is quarantined for).
    """
    if found.mismatch(upload) is None:
        check_size(found.stored.size_bytes, services.limits.max_upload_bytes)
    async with open_uow() as uow:
        # The upload's row is the lock: of all that say complete at once, and of a delete, one goes first.
        upload = await uow.uploads.get(upload.video_id, for_update=True)
        job = await uow.jobs.find_for_video(upload.video_id, JobKind.PROCESS)
        video = await uow.videos.get(upload.video_id, for_update=True)
        if job is None:
            check_open(services, upload)
            if (mismatch := found.mismatch(upload)) is None:
                return await _start(services, uow, upload, video, found)
            upload = await _quarantine(services, uow, upload, found, mismatch)
    if job is None:
        raise quarantine_of(upload)
    _check_same_bytes(found.checksum, upload.checksum)
    return CompletedUpload(video_id=video.id, job_id=job.id, status=video.status)


async def _start(
    services: UploadServices, uow: UnitOfWork, upload: Upload, video: Video, found: FoundObject
) -> CompletedUpload:
    stored = found.stored
    if services.limits.quota_bytes and upload.size_bytes is None:
        # What was announced was reserved when it began; what was not is known only now.
        use = await uow.uploads.use_of(upload.owner_id, with_bytes=True)
        use.check_quota(services.limits.quota_bytes, stored.size_bytes)
    now = await uow.jobs.now()
    await uow.uploads.save(
        replace(
            upload,
            state=UploadState.COMPLETED,
            backend=services.storage_name,  # where it was found, which need not be where it began
            completed_at=now,
            size_bytes=stored.size_bytes,
            generation=stored.generation,
            checksum=stored.checksum,
        )
    )
    title = video.title if "title" in video.edited_fields else title_from_filename(found.filename)
    await uow.videos.save(replace(video, filename=found.filename, title=title, size_bytes=stored.size_bytes))
    started: Job = services.pipeline.new_job(
        JobKind.PROCESS,
        video_id=video.id,
        owner_id=video.owner_id,
        now=now,
        correlation_id=found.correlation_id,
    )
    started = (await uow.jobs.learned_rates()).likely(started, stored.size_bytes)
    await store_change(uow, None, started)
    return CompletedUpload(video_id=video.id, job_id=started.id, status=VideoStatus.PROCESSING)


async def _quarantine(
    services: UploadServices, uow: UnitOfWork, upload: Upload, found: FoundObject, mismatch: Mismatch
) -> Upload:
    quarantined = replace(
        upload,
        state=UploadState.QUARANTINED,
        backend=services.storage_name,  # as the generation is
        size_bytes=found.stored.size_bytes,
        generation=found.stored.generation,
        checksum=found.stored.checksum,
        quarantine_code=mismatch.code,
        quarantine_message=mismatch.message,
    )
    await uow.uploads.save(quarantined)
    log.warning("upload.quarantined", video_id=str(upload.video_id), code=mismatch.code, reason=mismatch.message)
    return quarantined


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


def _check_same_file(command: CompleteUploadCommand, upload: Upload, stored_bytes: int | None) -> None:
    _check_same_size(command.size_bytes, stored_bytes)
    _check_same_bytes(command.checksum, upload.checksum)


def _check_same_size(said_bytes: int, stored_bytes: int | None) -> None:
    if said_bytes != stored_bytes:
        raise InvalidInputError(
            f"The stored file has {stored_bytes} bytes, not {said_bytes}.",
            code="size_mismatch",
            remedy="Send the size of the file that was uploaded; if that is what you sent, upload the file again.",
        )


def _check_same_bytes(said: str | None, stored: str) -> None:
    """The job has begun before anybody told the checksum: too late for a quarantine, not for saying so."""
    if (mismatch := checksum_mismatch(said, stored)) is not None:
        raise _not_as_announced(mismatch)


def check_size(size_bytes: int | None, limit_bytes: int) -> None:
    """Raises ``InvalidInputError`` (``empty_file``), ``TooLargeError`` (``upload_too_large``)."""
    if size_bytes == 0:
        raise InvalidInputError("The file is empty.", code="empty_file", remedy="Choose a file with something in it.")
    if size_bytes is not None and size_bytes > limit_bytes:
        raise TooLargeError(
            f"The file has {size_bytes} bytes; this instance takes at most {limit_bytes} (upload.max_size_bytes).",
            code="upload_too_large",
            remedy="Choose a smaller file, or ask the operator to raise upload.max_size_bytes.",
        )


def check_open(services: UploadServices, upload: Upload) -> None:
    """Raises ``IllegalChangeError`` (``upload_expired``), ``ConflictError`` (what it is quarantined for)."""
    if upload.state is UploadState.QUARANTINED:
        raise quarantine_of(upload)
    if upload.state is UploadState.EXPIRED or upload.expires_at <= services.clock.now():
        raise IllegalChangeError(
            "This upload has expired.", code="upload_expired", remedy="Begin a new upload of the same file."
        )


def quarantine_of(upload: Upload) -> ConflictError:
    """What a quarantined upload is answered with, whoever asks."""
    return _not_as_announced(Mismatch(code=upload.quarantine_code, message=upload.quarantine_message))


def _not_as_announced(mismatch: Mismatch) -> ConflictError:
    return ConflictError(
        mismatch.message, code=mismatch.code, remedy="Delete this video and upload the file again, as a new upload."
    )


async def _stored_object(services: UploadServices, upload: Upload) -> ObjectInfo:
    """The whole object. Raises ``UploadIncompleteError`` with the offset, ``UploadGoneError``."""
    try:
        return await services.storage.stat(upload.storage_key)
    except NotFoundError:
        offset = await offset_of(services, upload)
    if offset.complete:
        # It became whole between the two questions.
        return await services.storage.stat(upload.storage_key)
    raise UploadIncompleteError(offset.offset_bytes)


async def offset_of(services: UploadServices, upload: Upload) -> UploadOffset:
    """How much is durable. Raises ``UploadGoneError``."""
    if upload.backend != services.storage_name:
        raise UploadGoneError
    try:
        return await services.storage.upload_offset(UploadRef(key=upload.storage_key, state=upload.backend_state))
    except NotFoundError as error:
        raise UploadGoneError from error
