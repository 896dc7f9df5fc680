"""Uploads: from an announced file on, until all of its bytes are stored."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

import structlog

from echo_core.application.completing import UploadGoneError, check_open, check_size, offset_of
from echo_core.application.services import ApiServices
from echo_core.domain.errors import ConflictError
from echo_core.domain.ids import VideoId, new_video_id
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
from echo_core.plugin_api.errors import EchoError, NotFoundError, PreconditionFailedError, UnavailableError
from echo_core.plugin_api.storage import (
    BeginUpload,
    ResumeUpload,
    UploadOffset,
    UploadProtocol,
    UploadRef,
    UploadTicket,
)

log = structlog.get_logger("echo.uploads")

RESUME_TRIES = 5
"""Among so many who resume one upload at the same moment, each gets an answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BeginUploadCommand:
    """Announce a file. ``origin`` is the browser's, for storages that bind an upload to it; ``protocols``: what the
    client speaks beside the resumable one."""

    filename: str
    content_type: str
    size_bytes: int | None = None
    origin: str | None = None
    protocols: tuple[UploadProtocol, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class BegunUpload:
    """A new video and where its bytes go."""

    video: Video
    storage_key: str
    ticket: UploadTicket


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
    check_size(command.size_bytes, limit)
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
            protocols=("google-resumable", *command.protocols),
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
        await _abort(services, UploadRef(key=key, state=ticket.state))
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


async def resume_upload(services: ApiServices, user: User, video_id: VideoId, *, origin: str | None) -> ResumedUpload:
    """A fresh URL for an unfinished upload, and how much of it is durable.

    An upload that the storage has forgotten, or that began in another storage than is configured now, begins again.
    Raises ``UnknownEntityError``, ``ConflictError`` (``upload_completed``; what it is quarantined for),
    ``IllegalChangeError`` (``upload_expired``), ``ProviderError``.
    """
    for _ in range(RESUME_TRIES):
        upload = await _resumable(services, user, video_id)
        try:
            resumed = await _go_on(services, user, upload, origin)
        except UploadGoneError:
            resumed = await _begin_again(services, user, upload, origin)
        if resumed is not None:
            return resumed
        # Somebody else was faster, and theirs counts.
    raise UnavailableError(
        "Others resume this upload over and over.",
        code="upload_contended",
        remedy="Let one program or tab send this file, and try again.",
    )


async def _resumable(services: ApiServices, user: User, video_id: VideoId) -> Upload:
    async with services.units_of_work.for_user(user) as uow:
        upload = await uow.uploads.get(video_id)
        await uow.videos.get(video_id)
    if upload.state is UploadState.COMPLETED:
        raise ConflictError(
            "This upload is complete.", code="upload_completed", remedy="There is nothing to resume; see the video."
        )
    check_open(services, upload)
    return upload


async def _go_on(services: ApiServices, user: User, upload: Upload, origin: str | None) -> ResumedUpload | None:
    """Where the rest goes, or the whole object if it is there. None: somebody else was faster. Raises
    ``UploadGoneError``."""
    offset = await offset_of(services, upload)
    if offset.complete:
        return ResumedUpload(video_id=upload.video_id, storage_key=upload.storage_key, offset=offset, ticket=None)
    try:
        ticket = await _fresh_ticket(services, upload, origin)
    except PreconditionFailedError:
        if (whole := await _whole(services, upload)) is not None:
            return whole  # it became whole between the two questions, in a storage that opens another upload to resume
        raise
    if not await _agreed(services, user, upload, ticket):
        return None
    return ResumedUpload(video_id=upload.video_id, storage_key=upload.storage_key, offset=offset, ticket=ticket)


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
        raise UploadGoneError from error


async def _begin_again(services: ApiServices, user: User, upload: Upload, origin: str | None) -> ResumedUpload | None:
    """A new upload to the same key, or the whole object if it is there after all. None: somebody else was faster."""
    if (whole := await _whole(services, upload)) is not None:
        return whole
    request = BeginUpload(
        key=upload.storage_key,
        content_type=upload.content_type,
        size_bytes=upload.size_bytes,
        max_size_bytes=await _most_bytes(services, user, upload),
        expires_in_s=services.limits.upload_expires_in_s,
        origin=origin,
    )
    try:
        ticket = await services.storage.begin_upload(request)
    except PreconditionFailedError:
        if (whole := await _whole(services, upload)) is not None:
            return whole  # it became whole between the two questions
        raise
    if not await _agreed(services, user, upload, ticket):
        return None
    log.info("upload.begun_again", video_id=str(upload.video_id))
    offset = UploadOffset(offset_bytes=0, complete=False)
    return ResumedUpload(video_id=upload.video_id, storage_key=upload.storage_key, offset=offset, ticket=ticket)


async def _whole(services: ApiServices, upload: Upload) -> ResumedUpload | None:
    try:
        stored = await services.storage.stat(upload.storage_key)
    except NotFoundError:
        return None
    offset = UploadOffset(offset_bytes=stored.size_bytes, complete=True)
    return ResumedUpload(video_id=upload.video_id, storage_key=upload.storage_key, offset=offset, ticket=None)


async def _most_bytes(services: ApiServices, user: User, upload: Upload) -> int:
    """What the storage may take: with an announced size that is reserved, without one what is left of the quota."""
    limit, quota = services.limits.max_upload_bytes, services.limits.quota_bytes
    if upload.size_bytes is None and quota:
        async with services.units_of_work.for_user(user) as uow:
            use = await uow.uploads.use_of(user.id, with_bytes=True)
        use.check_quota(quota, 1)
        limit = min(limit, quota - use.total_bytes)
    return limit


async def _agreed(services: ApiServices, user: User, upload: Upload, ticket: UploadTicket) -> bool:
    """Whether the upload goes where the ticket leads from now on. Of its way until now and this one, the other is
    aborted: one alone may become the object. Raises ``UnknownEntityError``."""
    before, now = (upload.backend, upload.backend_state), (services.storage_name, ticket.state)
    kept = False
    try:
        kept = await _keep(services, user, upload, ticket)
    finally:
        backend, state = before if kept else now
        if before != now and backend == services.storage_name:
            await _abort(services, UploadRef(key=upload.storage_key, state=state))
    return kept


async def _abort(services: ApiServices, request: UploadRef) -> None:
    if not services.storage.supports_upload_abort:
        return
    try:
        await services.storage.abort_upload(request)
    except EchoError as error:
        # It expires by itself. Above all, what was decided stands, or the reason why it could not be.
        log.warning("upload.abort_failed", key=request.key, code=error.code, error=error.message)


async def _keep(services: ApiServices, user: User, upload: Upload, ticket: UploadTicket) -> bool:
    """Store where the bytes go now, unless somebody changed the upload meanwhile. Raises ``UnknownEntityError``."""
    async with services.units_of_work.for_user(user) as uow:
        latest = await uow.uploads.get(upload.video_id, for_update=True)
        if (latest.state, latest.backend, latest.backend_state) != (upload.state, upload.backend, upload.backend_state):
            return False
        await uow.uploads.save(
            replace(
                latest,
                backend=services.storage_name,
                backend_state=ticket.state,
                expires_at=ticket.expires_at,
            )
        )
        return True
