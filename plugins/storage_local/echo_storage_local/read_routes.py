"""Reads over HTTP (rule S8): RFC 9110 for ranges and conditions, RFC 6266 for file names."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from echo_core.plugin_api import ObjectInfo
from echo_storage_local.backend import LocalStorage
from echo_storage_local.keys import object_path
from echo_storage_local.objects import DATA
from echo_storage_local.problems import problem
from echo_storage_local.ranges import RangeNotSatisfiableError, read_range
from echo_storage_local.sending import ObjectResponse

_MAX_CACHE_S = 3600
_ATTR_CHARS = "!#$&+-.^_`|~"
"""Characters that RFC 8187 lets stand unescaped, beside letters and digits."""


async def send_object(request: Request, storage: LocalStorage, key: str, fields: Mapping[str, str]) -> Response:
    """GET and HEAD of an object whose signed ``fields`` are verified."""
    opened = await storage.reading.open(key, fields.get("generation"))
    handed_over = False
    try:
        info = opened.info
        headers = _object_headers(info, fields, storage.signer.remaining_s(fields))
        etag = headers["etag"]
        if _matches(request.headers.get("if-none-match"), etag):
            return Response(status_code=304, headers={name: headers[name] for name in ("etag", "cache-control")})
        if not _matches(request.headers.get("if-match", "*"), etag):
            return problem(
                412,
                "precondition_failed",
                "The object is not the one that was asked for.",
                remedy="Read it again from the start, without If-Match.",
            )
        if storage.config.accel_prefix is not None:
            return _accelerated(storage.config.accel_prefix, key, headers)
        start, end, status = 0, info.size_bytes, 200
        try:
            wanted = read_range(_applicable_range(request, etag), info.size_bytes)
        except RangeNotSatisfiableError:
            return problem(
                416,
                "range_not_satisfiable",
                "This range lies outside the object.",
                remedy="Ask for a range within the length that Content-Range tells.",
                headers={"content-range": f"bytes */{info.size_bytes}", "accept-ranges": "bytes"},
            )
        if wanted is not None:
            (start, end), status = wanted, 206
            headers["content-range"] = f"bytes {start}-{end - 1}/{info.size_bytes}"
        headers["content-length"] = str(end - start)
        response = ObjectResponse(opened, storage.threads, start=start, end=end, status_code=status, headers=headers)
        handed_over = True
        return response
    finally:
        if not handed_over:
            opened.close()


def _applicable_range(request: Request, etag: str) -> str | None:
    """The Range header, if it counts: on GET only, and only if If-Range names what is there (strong comparison)."""
    if request.method != "GET" or request.headers.get("if-range", etag) != etag:
        return None
    return request.headers.get("range")


def _matches(condition: str | None, etag: str) -> bool:
    if condition is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in condition.split(",")]
    return "*" in tags or etag in tags


def _object_headers(info: ObjectInfo, fields: Mapping[str, str], remaining_s: int) -> dict[str, str]:
    headers = {
        "content-type": fields.get("type", info.content_type),
        "etag": f'"{info.generation}"',
        "accept-ranges": "bytes",
        "cache-control": f"private, max-age={min(remaining_s, _MAX_CACHE_S)}",
        "x-content-type-options": "nosniff",
        # What users upload must not run as a page of our origin.
        "content-security-policy": "sandbox",
        "cross-origin-resource-policy": "cross-origin",
    }
    if "filename" in fields:
        headers["content-disposition"] = content_disposition(fields["filename"])
    return headers


def content_disposition(filename: str) -> str:
    """``attachment`` with the name twice: plain for old clients, and as RFC 6266 section 4.3 wants it."""
    plain = "".join(char if char.isascii() and (char.isalnum() or char in " ._-") else "_" for char in filename)
    encoded = quote(filename, safe=_ATTR_CHARS, errors="replace")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}"


def _accelerated(prefix: str, key: str, headers: dict[str, str]) -> Response:
    """Let nginx send the file. It handles Range itself; which headers it keeps is in the README."""
    path = "/".join([prefix.rstrip("/"), "objects", *object_path(key), DATA])
    return Response(headers=headers | {"x-accel-redirect": quote(path)})
