"""An object's bytes as an answer, for both APIs."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING

from tests.fakes.gcs.call import Answer
from tests.fakes.gcs.content import FileSlice, byte_range
from tests.fakes.gcs.errors import Refusal
from tests.fakes.gcs.sessions import stored_headers

if TYPE_CHECKING:
    from tests.fakes.gcs.call import Call
    from tests.fakes.gcs.objects import StoredObject


def _tags(header: str) -> list[str]:
    return [tag.strip().removeprefix("W/") for tag in header.split(",")]


def media(call: Call, stored: StoredObject, *, xml: bool) -> Answer:
    """200, 206, 304, 412 or 416, as preconditions and Range have it; for HEAD without the bytes."""
    etag = stored.xml_etag if xml else stored.etag
    modified = format_datetime(datetime.fromisoformat(stored.updated).astimezone(UTC), usegmt=True)
    if (wanted := call.headers.get("if-match")) and wanted.strip() != "*" and etag not in _tags(wanted):
        raise Refusal(412, "At least one of the pre-conditions you specified did not hold.")
    headers = [*stored_headers(stored)[:-1], ("ETag", etag), ("Last-Modified", modified), ("Accept-Ranges", "bytes")]
    if (known := call.headers.get("if-none-match")) and (known.strip() == "*" or etag in _tags(known)):
        return Answer(304, headers)
    kind = call.query.get("response-content-type") or stored.content_type
    disposition = call.query.get("response-content-disposition") or stored.fields.get("contentDisposition")
    headers.append(("Content-Type", kind))
    headers += [("Content-Disposition", str(disposition))] if disposition else []
    for name, header in (
        ("cacheControl", "Cache-Control"),
        ("contentEncoding", "Content-Encoding"),
        ("contentLanguage", "Content-Language"),
    ):
        if stored.fields.get(name):
            headers.append((header, str(stored.fields[name])))
    asked = call.headers.get("range")
    condition = call.headers.get("if-range")
    if condition is not None and condition not in {etag, modified}:
        asked = None
    try:
        part = byte_range(asked, stored.size)
    except ValueError:
        raise Refusal(
            416,
            "The requested range cannot be satisfied.",
            headers={"Content-Range": f"bytes */{stored.size}"},
        ) from None
    first, length = part or (0, stored.size)
    status = 206 if part else 200
    if part:
        headers.append(("Content-Range", f"bytes {first}-{first + length - 1}/{stored.size}"))
    headers.append(("Content-Length", str(length)))
    if call.method == "HEAD":
        return Answer(status, headers)
    body = FileSlice.of(stored.path, first, length)
    if call.fault:
        body.corrupt, body.truncate = call.fault.corrupt, call.fault.truncate
    return Answer(status, headers, file=body)
