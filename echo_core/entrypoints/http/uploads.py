"""Uploads over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from starlette.requests import Request
from starlette.responses import Response

from echo_core.application.completing import CompleteUploadCommand, complete_upload
from echo_core.application.uploads import BeginUploadCommand, begin_upload, resume_upload
from echo_core.domain.ids import VideoId
from echo_core.entrypoints.http import examples, responses, views
from echo_core.entrypoints.http.operations import Answer, Operation
from echo_core.entrypoints.http.parameters import path_uuid, read_body
from echo_core.entrypoints.http.request_ids import current_request_id
from echo_core.entrypoints.http.requests import SignedUploadUrlRequest, UploadCompleteRequest
from echo_core.entrypoints.http.state import services_of, user_of
from echo_core.plugin_api.storage import UploadProtocol


async def _begin(request: Request) -> Response:
    body = await read_body(request, SignedUploadUrlRequest)
    begun = await begin_upload(
        services_of(request),
        user_of(request),
        BeginUploadCommand(
            filename=body.filename,
            content_type=body.content_type,
            size_bytes=body.size_bytes,
            origin=request.headers.get("origin"),
            protocols=_further(body.protocols),
        ),
    )
    answer = responses.SignedUploadUrl(
        video_id=begun.video.id,
        upload_url=begun.ticket.url,
        storage_path=begun.storage_key,
        upload=views.upload_target(begun.ticket),
    )
    return responses.json_response(answer, 201, {"Location": f"/api/v1/videos/{begun.video.id}/details"})


def _further(spoken: Sequence[str]) -> tuple[UploadProtocol, ...]:
    """What a client speaks beside the resumable one; a client that is newer than this server may name more."""
    known: tuple[UploadProtocol, ...] = get_args(UploadProtocol)
    return tuple(name for name in known if name in spoken and name != "google-resumable")


async def _complete(request: Request) -> Response:
    body = await read_body(request, UploadCompleteRequest)
    completed = await complete_upload(
        services_of(request),
        user_of(request),
        CompleteUploadCommand(
            video_id=VideoId(body.video_id),
            original_filename=body.original_filename,
            storage_key=body.storage_path,
            content_type=body.content_type,
            size_bytes=body.size_bytes,
            checksum=body.checksum,
            correlation_id=current_request_id(),
        ),
    )
    answer = responses.UploadCompleted(video_id=completed.video_id, job_id=completed.job_id, status=completed.status)
    return responses.json_response(answer, 202, {"Location": f"/api/v1/videos/jobs/{completed.job_id}"})


async def _resume(request: Request) -> Response:
    resumed = await resume_upload(
        services_of(request),
        user_of(request),
        VideoId(path_uuid(request, "videoId")),
        origin=request.headers.get("origin"),
    )
    answer = responses.UploadResumed(
        video_id=resumed.video_id,
        storage_path=resumed.storage_key,
        offset_bytes=resumed.offset.offset_bytes,
        complete=resumed.offset.complete,
        upload_url=resumed.ticket.url if resumed.ticket is not None else None,
        upload=views.upload_target(resumed.ticket) if resumed.ticket is not None else None,
    )
    return responses.json_response(answer)


_QUARANTINED = ("upload_size_mismatch", "upload_content_type_mismatch", "upload_checksum_mismatch")

OPERATIONS = (
    Operation(
        id="beginUpload",
        method="POST",
        path="/api/v1/videos/signed-upload-url",
        handler=_begin,
        summary="Begin an upload",
        description=(
            "Creates a video that awaits its bytes and says where they go. Send them with `PUT` to `uploadUrl` by "
            "Google's resumable protocol (`Content-Range`, 308 with `Range`, `bytes */size` to ask), in one piece or "
            "in chunks. Only a client that says so in `protocols` may get `signed-put` as `upload.protocol`: then the "
            "whole file goes in one `PUT` with exactly `upload.headers`; whatever comes of it, resuming leads on. A "
            "video that is never completed disappears by itself."
        ),
        tag="uploads",
        body=SignedUploadUrlRequest,
        body_example=examples.UPLOAD_REQUEST,
        answers={
            201: Answer(
                description="The video awaits its bytes.",
                model=responses.SignedUploadUrl,
                example=examples.UPLOAD,
                headers={"Location": "The video's details."},
            )
        },
        problems={
            409: ("too_many_unfinished_uploads",),
            413: ("upload_too_large", "quota_exceeded"),
            422: ("invalid_filename", "invalid_content_type", "unsupported_content_type", "empty_file"),
            507: ("insufficient_storage",),
        },
    ),
    Operation(
        id="completeUpload",
        method="POST",
        path="/api/v1/videos/upload-complete",
        handler=_complete,
        summary="Say that all bytes were sent",
        description=(
            "Checks the stored file and starts the job. Saying it again, even many times at once, gives the same job. "
            "While bytes are missing the answer is 409 `upload_incomplete` with the durable `offsetBytes`. A stored "
            "file that is not what was announced, in size, content type or `checksum`, is never processed: the answer "
            "is 409 `upload_size_mismatch`, `upload_content_type_mismatch` or `upload_checksum_mismatch`, then and "
            "later."
        ),
        tag="uploads",
        body=UploadCompleteRequest,
        body_example=examples.COMPLETE_REQUEST,
        answers={
            202: Answer(
                description="The job has started, now or before.",
                model=responses.UploadCompleted,
                example=examples.COMPLETED,
                headers={"Location": "The job."},
            )
        },
        problems={
            404: ("not_found",),
            409: ("upload_incomplete", "upload_expired", "upload_gone", *_QUARANTINED),
            413: ("upload_too_large",),
            422: ("storage_path_mismatch", "content_type_mismatch", "size_mismatch", "invalid_filename", "empty_file"),
        },
    ),
    Operation(
        id="resumeUpload",
        method="POST",
        path="/api/v1/videos/{videoId}/upload/resume",
        handler=_resume,
        summary="Resume an upload",
        description=(
            "A fresh URL for the same unfinished upload, and how many bytes are durable already. If the storage has "
            "forgotten the upload, it begins again: `offsetBytes` is 0."
        ),
        tag="uploads",
        answers={200: Answer(description="Go on here.", model=responses.UploadResumed, example=examples.RESUMED)},
        problems={
            404: ("not_found",),
            409: ("upload_completed", "upload_expired", *_QUARANTINED),
            413: ("quota_exceeded",),
            507: ("insufficient_storage",),
        },
    ),
)
