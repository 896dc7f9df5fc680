"""POST /upload/storage/v1/b/{bucket}/o: an object in one request, or the start of a resumable upload."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from email.message import Message
from typing import TYPE_CHECKING, Any

from tests.fakes.gcs import sessions
from tests.fakes.gcs.call import Answer, json_answer
from tests.fakes.gcs.errors import Disconnected, Refusal
from tests.fakes.gcs.objects import Draft, StoredObject, preconditions

if TYPE_CHECKING:
    from tests.fakes.gcs.call import Call

HEAD_BYTES = 1024 * 1024


async def upload(call: Call) -> Answer:
    """By uploadType."""
    bucket = call.segments[4]
    call.require("storage.objects.create", bucket, "")
    call.world.bucket(bucket)
    kind = call.query.get("uploadType")
    if kind == "resumable":
        return await _start(call, bucket)
    if kind == "media":
        fields: dict[str, Any] = {"contentType": call.headers.get("content-type")}
        data: AsyncIterator[bytes] = aiter(call.body)
    elif kind == "multipart":
        fields, data = await _multipart(call)
    else:
        raise Refusal(400, f"Invalid upload request: uploadType {kind}.")
    draft = _draft(call, bucket, fields)
    stored = await receive_whole(call, draft, data)
    return json_answer(stored.resource(call.base), headers=[("ETag", stored.etag)])


async def receive_whole(call: Call, draft: Draft, data: AsyncIterator[bytes]) -> StoredObject:
    """An object that comes in one request: all of it or nothing."""
    sink, fault = call.world.new_sink(), call.fault
    received = 0
    try:
        async for chunk in data:
            received += len(chunk)
            draft.check_size(received, final=False)
            if fault and fault.fail_after is not None and received >= fault.fail_after:
                raise Refusal(503, "Backend Error")
            sink.feed(chunk)
    except (Refusal, Disconnected):
        sink.discard()
        raise
    return call.world.place(draft, sink, corrupt=bool(fault and fault.corrupt))


def _draft(call: Call, bucket: str, fields: dict[str, Any]) -> Draft:
    name = call.query.get("name") or fields.get("name")
    if not name or len(str(name).encode()) > 1024:
        raise Refusal(400, "Required parameter: name", reason="required")
    draft = Draft(bucket, str(name), call.email, fields, preconditions(call.query))
    draft.crc32c, draft.md5 = fields.get("crc32c"), fields.get("md5Hash")
    draft.expect_hashes(call.headers)
    return draft


async def _start(call: Call, bucket: str) -> Answer:
    fields = await call.body.json()
    fields.setdefault("contentType", call.headers.get("x-upload-content-type"))
    session = sessions.open_session(call, _draft(call, bucket, fields))
    uri = f"{call.base}/upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={session.id}"
    return Answer(200, [("Location", uri), ("X-GUploader-UploadID", session.id)])


async def _multipart(call: Call) -> tuple[dict[str, Any], AsyncIterator[bytes]]:
    """The metadata and the media of multipart/related; the media is passed on as it comes."""
    message = Message()
    message["content-type"] = call.headers.get("content-type", "")
    boundary = message.get_param("boundary")
    if message.get_content_type() != "multipart/related" or not isinstance(boundary, str):
        raise Refusal(400, "Failed to parse Content-Type: multipart/related with a boundary is needed.")
    mark = b"--" + boundary.encode()
    chunks = aiter(call.body)
    head = bytearray()
    parts: list[bytes] = []
    while len(parts) < 4:  # before the first mark, its headers, the JSON, the headers of the media
        end = (mark + b"\r\n", b"\r\n\r\n", b"\r\n" + mark + b"\r\n", b"\r\n\r\n")[len(parts)]
        at = head.find(end)
        if at >= 0:
            parts.append(bytes(head[:at]))
            del head[: at + len(end)]
            continue
        chunk = await anext(chunks, None)
        if chunk is None or len(head) > HEAD_BYTES:
            raise Refusal(400, "The multipart body cannot be read.")
        head += chunk
    try:
        fields = json.loads(parts[2])
    except ValueError:
        raise Refusal(400, "Parse Error", reason="parseError") from None
    for line in parts[3].decode("latin-1").split("\r\n"):
        name, _, value = line.partition(":")
        if name.strip().lower() == "content-type":
            fields.setdefault("contentType", value.strip())
    return fields, _media(bytes(head), chunks, b"\r\n" + mark + b"--")


async def _media(first: bytes, chunks: AsyncIterator[bytes], end: bytes) -> AsyncIterator[bytes]:
    held = bytearray(first)
    while True:
        at = held.find(end)
        if at >= 0:
            yield bytes(held[:at])
            async for _ in chunks:
                pass
            return
        safe = max(0, len(held) - len(end) + 1)
        if safe:
            yield bytes(held[:safe])
            del held[:safe]
        chunk = await anext(chunks, None)
        if chunk is None:
            raise Refusal(400, "The multipart body ends too early.")
        held += chunk
