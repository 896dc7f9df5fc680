"""The Files API: resumable uploads, looks, deletes, objects of Cloud Storage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.fakes.gemini.content import get
from tests.fakes.gemini.errors import Refusal
from tests.fakes.gemini.world import StoredFile, Upload, World

MAX_FILE_BYTES = 2 * 1024**3
UPLOAD_UNIT = 8 * 1024 * 1024


def begin(world: World, version: str, headers: Mapping[str, str], body: Mapping[str, Any]) -> str:
    """The address of a new upload, on the fake's own host."""
    if headers.get("x-goog-upload-protocol") != "resumable" or headers.get("x-goog-upload-command") != "start":
        raise Refusal(400, "An upload starts with X-Goog-Upload-Protocol: resumable and X-Goog-Upload-Command: start.")
    size = int(headers.get("x-goog-upload-header-content-length", "-1"))
    if not 0 < size <= MAX_FILE_BYTES:
        raise Refusal(400, "X-Goog-Upload-Header-Content-Length is missing, or too large.")
    kind = headers.get("x-goog-upload-header-content-type", "")
    upload_id = world.next_id()
    world.uploads[upload_id] = Upload(body.get("file") or {}, kind, size)
    return f"{world.url}/upload/{version}/files?upload_id={upload_id}&upload_protocol=resumable"


def go_on(
    world: World, upload_id: str, headers: Mapping[str, str], data: bytes, mode: str
) -> tuple[str, StoredFile | None]:
    """(status of the upload, the file once it is complete)."""
    upload = world.uploads.get(upload_id)
    if upload is None:
        raise Refusal(404, "There is no such upload.")
    if int(headers.get("x-goog-upload-offset", "-1")) != len(upload.data):
        raise Refusal(400, f"The upload stands at {len(upload.data)} bytes.")
    commands = {word.strip() for word in headers.get("x-goog-upload-command", "").split(",")}
    if "finalize" not in commands and len(data) % UPLOAD_UNIT:
        raise Refusal(400, "Parts of an upload are multiples of 8 MiB.")
    upload.data += data
    if "finalize" not in commands:
        return "active", None
    if len(upload.data) != upload.size_bytes:
        raise Refusal(400, "The upload is not as long as it was said to be.")
    del world.uploads[upload_id]
    name = upload.fields.get("name") or f"files/{world.next_id()}"
    if name in world.files:
        raise Refusal(409, f"{name} exists already.", status="ALREADY_EXISTS")
    stored = StoredFile(
        name=name,
        mime_type=get(upload.fields, "mime_type") or upload.mime_type,
        display_name=get(upload.fields, "display_name", ""),
        data=bytes(upload.data),
        created_at=world.now(),
        uri=f"{world.url}/v1beta/{name}",
        waits=1_000_000 if mode == "file_processing" else 1,
    )
    if mode == "file_failed":
        stored.state = "FAILED"
    world.files[name] = stored
    return "final", stored


def look(world: World, name: str) -> dict[str, Any]:
    """The file; each look brings it nearer to being usable."""
    stored = world.file(name)
    if stored.state == "PROCESSING":
        stored.waits -= 1
        if stored.waits < 0:
            stored.state = "ACTIVE"
    return stored.resource()


def listing(world: World, query: Mapping[str, str]) -> dict[str, Any]:
    """A page of the files."""
    size, start = int(query.get("pageSize", "10")), int(query.get("pageToken", "0") or 0)
    stored = list(world.files.values())
    page: dict[str, Any] = {"files": [file.resource() for file in stored[start : start + size]]}
    if start + size < len(stored):
        page["nextPageToken"] = str(start + size)
    return page


def register(world: World, headers: Mapping[str, str], body: Mapping[str, Any]) -> dict[str, Any]:
    """Objects of Cloud Storage as files; asks for a bearer."""
    if not headers.get("authorization", "").startswith("Bearer "):
        raise Refusal(401, "Request is missing required authentication credential.")
    files = []
    for uri in body.get("uris", []):
        if not uri.startswith("gs://"):
            raise Refusal(400, f"Not an object of Cloud Storage: {uri}")
        name = f"files/{world.next_id()}"
        stored = StoredFile(name, "video/mp4", uri, b"", world.now(), f"{world.url}/v1beta/{name}", state="ACTIVE")
        world.files[name] = stored
        files.append(stored.resource())
    return {"files": files}
