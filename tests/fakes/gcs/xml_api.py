"""The XML API: /{bucket}/{object} by signed URL, or with a bearer token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.fakes.gcs import downloads, sessions, signing, uploads
from tests.fakes.gcs.call import Answer
from tests.fakes.gcs.errors import Refusal
from tests.fakes.gcs.objects import Draft, check_preconditions, xml_preconditions

if TYPE_CHECKING:
    from tests.fakes.gcs.call import Call

_FIELD_HEADERS = {
    "cache-control": "cacheControl",
    "content-disposition": "contentDisposition",
    "content-encoding": "contentEncoding",
    "content-language": "contentLanguage",
    "content-type": "contentType",
}


def target(call: Call) -> tuple[str, str]:
    """Bucket and object of the path."""
    return call.segments[0], "/".join(call.segments[1:])


async def handle(call: Call) -> Answer:
    """A request to an object."""
    if signing.is_signed(call):
        call.email = signing.verify(call)
    elif call.headers.get("authorization"):
        call.email = call.world.accounts.bearer(call.headers.get("authorization"))
    else:
        raise Refusal(403, "Anonymous caller does not have access to the Google Cloud Storage object.")
    bucket, key = target(call)
    if not key:
        raise Refusal(501, f"The fake knows no {call.method} of a bucket in the XML API.")
    if call.method in {"GET", "HEAD"}:
        call.require("storage.objects.get", bucket, key)
        stored = call.world.find(bucket, key, call.query.get("generation"))
        check_preconditions(xml_preconditions(call.headers), stored, reads=True)
        return downloads.media(call, stored, xml=True)
    if call.method == "PUT":
        call.require("storage.objects.create", bucket, key)
        draft = _draft(call, bucket, key)
        if (length := call.headers.get("content-length")) is not None:
            draft.check_size(int(length))
        stored = await uploads.receive_whole(call, draft, aiter(call.body))
        return Answer(200, sessions.stored_headers(stored))
    if call.method == "POST" and call.headers.get("x-goog-resumable") == "start":
        return await _start(call, bucket, key)
    if call.method == "DELETE":
        call.require("storage.objects.delete", bucket, key)
        stored = call.world.find(bucket, key, call.query.get("generation"))
        check_preconditions(xml_preconditions(call.headers), stored)
        call.world.delete(stored)
        return Answer(204)
    raise Refusal(501, f"The fake knows no {call.method} {call.raw_path} in the XML API.")


async def _start(call: Call, bucket: str, key: str) -> Answer:
    call.require("storage.objects.create", bucket, key)
    await call.body.drain()
    session = sessions.open_session(call, _draft(call, bucket, key), xml=True)
    uri = f"{call.base}{call.raw_path}?upload_id={session.id}"
    return Answer(201, [("Location", uri), ("X-GUploader-UploadID", session.id)])


def _draft(call: Call, bucket: str, key: str) -> Draft:
    call.world.bucket(bucket)
    fields: dict[str, Any] = {
        field: call.headers[header] for header, field in _FIELD_HEADERS.items() if header in call.headers
    }
    custom = {name: value for name, value in call.headers.items() if name.startswith("x-goog-meta-")}
    if custom:
        fields["metadata"] = {name.removeprefix("x-goog-meta-"): value for name, value in custom.items()}
    draft = Draft(bucket, key, call.email, fields, xml_preconditions(call.headers))
    draft.expect_hashes(call.headers)
    if span := call.headers.get("x-goog-content-length-range"):
        try:
            least, most = (int(number) for number in span.split(","))
        except ValueError:
            raise Refusal(400, "Invalid x-goog-content-length-range.") from None
        draft.size_range = (least, most)
    return draft
