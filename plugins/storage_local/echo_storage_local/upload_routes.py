"""Google's resumable upload protocol over HTTP (rule S9).

Sources: GCS, "Perform resumable uploads"; where it is silent, Google's storage-testbench. Statuses are chosen so that
both Google's clients and ``@mux/upchunk`` do the right thing: they retry 408 and 503, and take 308 for progress.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from echo_core.plugin_api import InvalidRequestError, ObjectInfo, ProviderError
from echo_storage_local.backend import LocalStorage
from echo_storage_local.holds import Hold
from echo_storage_local.objects import crc32c_of
from echo_storage_local.problems import problem
from echo_storage_local.ranges import ContentRange, parse_content_range
from echo_storage_local.receiving import BodyReceiver, Ending
from echo_storage_local.uploads import OpenUpload

_RANGE_REMEDY = (
    "Send Content-Range: bytes first-last/total with exactly these bytes, or bytes */total without any to ask."
)
_SIZE_REMEDY = "Send the file whose sizeBytes was announced, or begin a new upload for this one."
_CANCELLED = 499
"""What GCS answers to a successful cancellation."""


@dataclass(frozen=True, kw_only=True)
class Body:
    """What a request says about its body. ``end`` and ``total_bytes`` are None when only its end will tell."""

    start: int
    end: int | None
    total_bytes: int | None
    final_at_end: bool
    """Whether the end of the body is the end of the upload (no Content-Range was sent)."""


class GapError(Exception):
    """The bytes begin behind what is stored."""


async def receive_upload(request: Request, storage: LocalStorage, upload_id: str) -> Response:
    """PUT: take bytes, or answer how far the upload is."""
    header = request.headers.get("content-range")
    content_range = None if header is None else parse_content_range(header)
    if header is not None and content_range is None:
        return problem(
            400, "invalid_content_range", "The Content-Range header cannot be understood.", remedy=_RANGE_REMEDY
        )
    async with storage.holds.hold(upload_id) as hold:
        opened = await storage.threads.run(storage.uploads.open, upload_id)
        if isinstance(opened, ObjectInfo):
            return whole(opened)
        try:
            if content_range is not None and content_range.asks:
                return await _answer_question(request, storage, opened, content_range)
            return await _store_body(request, storage, opened, content_range, hold)
        except GapError:
            # 503 as GCS: clients retry or ask. Never 308: upchunk takes that for success.
            return problem(
                503,
                "upload_gap",
                "These bytes begin behind what is stored.",
                remedy="Ask how far the upload is and go on from there.",
                headers=_range_header(opened) | {"retry-after": "1"},
            )
        finally:
            await storage.threads.run(opened.close)


async def abort_upload(storage: LocalStorage, upload_id: str) -> Response:
    """DELETE: drop the upload."""
    async with storage.holds.hold(upload_id):
        await storage.threads.run(storage.uploads.terms, upload_id)
        await storage.threads.run(storage.uploads.remove, upload_id)
    return Response(status_code=_CANCELLED)


async def initiate_upload(request: Request, storage: LocalStorage, upload_id: str) -> Response:
    """POST: clients that always open a session get the URL that they have already."""
    terms = await storage.threads.run(storage.uploads.terms, upload_id)
    announced = request.headers.get("x-upload-content-length")
    if announced is not None and terms.size_bytes is not None and announced != str(terms.size_bytes):
        raise _size_mismatch()
    location = f"{storage.signer.base_url}/uploads/{upload_id}/{terms.key}?{request.url.query}"
    status = 201 if request.headers.get("x-goog-resumable") == "start" else 200
    return Response(status_code=status, headers={"location": location})


async def _answer_question(
    request: Request, storage: LocalStorage, upload: OpenUpload, asked: ContentRange
) -> Response:
    if request.headers.get("content-length", "0") != "0":
        return problem(
            400, "invalid_content_range", "A request that asks for the offset has no body.", remedy=_RANGE_REMEDY
        )
    total = _agree_on_total(upload, asked.total_bytes)
    if total is not None and total == upload.offset_bytes:
        return await _finish(request, storage, upload)
    return _incomplete(upload)


async def _store_body(
    request: Request, storage: LocalStorage, upload: OpenUpload, content_range: ContentRange | None, hold: Hold
) -> Response:
    body = _describe_body(request, upload, content_range)
    before = upload.mark
    upload.total_bytes = _agree_on_total(upload, body.total_bytes)
    await _admit(storage, upload, body)
    limit = body.end if body.end is not None else _limit(upload)
    receiver = BodyReceiver(
        upload,
        storage.threads,
        skip_bytes=upload.offset_bytes - body.start,
        room_bytes=None if limit is None else max(0, limit - upload.offset_bytes),
    )
    try:
        ending = await receiver.receive_all(request.receive, hold, storage.config.idle_timeout_s)
    finally:
        await storage.threads.run(upload.sync, storage.uploads.now_s())
        _claim_rest(storage, upload)
    if ending is Ending.TOO_LONG:
        await storage.threads.run(upload.rewind, before)
        raise InvalidRequestError("The body is longer than announced.", code="body_too_long", remedy=_SIZE_REMEDY)
    if ending is Ending.SUPERSEDED:
        return problem(
            409,
            "upload_superseded",
            "A newer request has taken over this upload.",
            remedy="Send each upload from one place at a time.",
        )
    if ending is not Ending.WHOLE:
        return problem(
            408,
            "upload_interrupted",
            "The body did not arrive in time.",
            remedy="Go on behind the bytes that the Range header tells.",
            headers=_range_header(upload),
        )
    if body.final_at_end and upload.total_bytes is None:
        upload.total_bytes = upload.offset_bytes
    if upload.offset_bytes == upload.total_bytes:
        return await _finish(request, storage, upload)
    return _incomplete(upload)


def _describe_body(request: Request, upload: OpenUpload, content_range: ContentRange | None) -> Body:
    """Check what the headers say before a byte is read."""
    header = request.headers.get("content-length")
    length = int(header) if header is not None and header.isdecimal() else None
    if content_range is None:
        return Body(start=0, end=length, total_bytes=length, final_at_end=True)
    start, end = content_range.start or 0, content_range.end or 0
    if length is not None and length != end - start:
        raise InvalidRequestError(
            "Content-Length and Content-Range disagree.", code="invalid_content_range", remedy=_RANGE_REMEDY
        )
    if start > upload.offset_bytes:
        raise GapError
    total = _agree_on_total(upload, content_range.total_bytes)
    limit = total if total is not None else upload.terms.max_size_bytes
    if limit is not None and end > limit:
        raise _too_large() if total is None else _size_mismatch()
    return Body(start=start, end=end, total_bytes=content_range.total_bytes, final_at_end=False)


def _agree_on_total(upload: OpenUpload, announced: int | None) -> int | None:
    """The size of the whole, if anybody has said it; refuses one that contradicts what was said before."""
    if announced is None:
        return upload.total_bytes
    if upload.total_bytes is not None and announced != upload.total_bytes:
        raise _size_mismatch()
    if announced < upload.offset_bytes:
        raise _size_mismatch()
    if upload.terms.max_size_bytes is not None and announced > upload.terms.max_size_bytes:
        raise _too_large()
    return announced


def _limit(upload: OpenUpload) -> int | None:
    return upload.total_bytes if upload.total_bytes is not None else upload.terms.max_size_bytes


async def _admit(storage: LocalStorage, upload: OpenUpload, body: Body) -> None:
    """Refuse before a byte is read what cannot fit; keep room for the rest of what is let in."""
    final = upload.total_bytes if upload.total_bytes is not None else body.end
    missing = max(0, (final or 0) - upload.offset_bytes)
    await storage.threads.run(storage.room.require, missing, claimant=upload.upload_id)
    _claim_rest(storage, upload)


def _claim_rest(storage: LocalStorage, upload: OpenUpload) -> None:
    storage.room.claim(upload.upload_id, (upload.total_bytes or 0) - upload.offset_bytes)


async def _finish(request: Request, storage: LocalStorage, upload: OpenUpload) -> Response:
    wanted = _announced_crc32c(request)
    if wanted is not None and wanted != upload.crc32c:
        await storage.threads.run(storage.uploads.remove, upload.upload_id)
        raise InvalidRequestError(
            "The bytes that arrived are not the bytes that were sent.",
            code="checksum_mismatch",
            remedy="Start the upload again.",
        )
    return whole(await storage.threads.run(storage.uploads.finish, upload))


def _announced_crc32c(request: Request) -> int | None:
    for part in request.headers.get("x-goog-hash", "").split(","):
        name, _, value = part.strip().partition("=")
        if name == "crc32c":
            try:
                return int.from_bytes(base64.b64decode(value, validate=True), "big")
            except ValueError:
                raise InvalidRequestError(
                    "The x-goog-hash header is malformed.",
                    code="invalid_checksum",
                    remedy="Send crc32c=<base64 of 4 bytes>, or leave the header out.",
                ) from None
    return None


def _incomplete(upload: OpenUpload) -> Response:
    return Response(status_code=308, headers=_range_header(upload) | {"cache-control": "no-store"})


def _range_header(upload: OpenUpload) -> dict[str, str]:
    return {"range": f"bytes=0-{upload.offset_bytes - 1}"} if upload.offset_bytes else {}


def whole(info: ObjectInfo) -> Response:
    """200 with the object as GCS describes one (JSON API, "Objects"); clients check ``crc32c`` and ``size``."""
    crc32c = base64.b64encode(crc32c_of(info).to_bytes(4, "big")).decode()
    return JSONResponse(
        {
            "kind": "storage#object",
            "name": info.key,
            "size": str(info.size_bytes),
            "contentType": info.content_type,
            "generation": info.generation,
            "crc32c": crc32c,
            "timeCreated": info.created_at.isoformat(),
        },
        headers={"etag": f'"{info.generation}"', "cache-control": "no-store"},
    )


def _size_mismatch() -> ProviderError:
    return InvalidRequestError("The size is not the one that was agreed on.", code="size_mismatch", remedy=_SIZE_REMEDY)


def _too_large() -> ProviderError:
    return InvalidRequestError(
        "The upload is larger than it may be.", code="upload_too_large", remedy="Choose a smaller file."
    )
