"""The HTTP side of the fake storage: one request a connection, bodies in memory. Only for tests."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, urlsplit

from echo_core.plugin_api import NotFoundError, PreconditionFailedError

if TYPE_CHECKING:
    from echo_core.testing.fake_storage import FakeStorage, FakeUpload, Grant

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A response."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


async def answer_connection(storage: FakeStorage, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request and close."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        request_line, *lines = head.rstrip("\r\n").split("\r\n")
        method, target, _ = request_line.split(" ", 2)
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        answer = answer_request(storage, method, target, headers, body)
        writer.write(_encode(answer, with_body=method != "HEAD"))
        await writer.drain()
    except asyncio.IncompleteReadError:
        pass  # the client left: nothing to answer
    finally:
        writer.close()


def _encode(answer: Answer, *, with_body: bool) -> bytes:
    phrase = HTTPStatus(answer.status).phrase if answer.status in set(HTTPStatus) else "Other"
    headers = {"content-length": str(len(answer.body)), "connection": "close", **answer.headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {answer.status} {phrase}\r\n{head}\r\n".encode("latin-1") + (answer.body if with_body else b"")


def answer_request(storage: FakeStorage, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
    """Look the URL up, then do what it allows."""
    url = urlsplit(target)
    grant = storage.grants.get(parse_qs(url.query).get("token", [""])[0])
    if grant is None or url.path != f"/{grant.access}":
        return _problem(403, "signed_url_invalid")
    if storage.clock.now().timestamp() >= grant.expires_at_s:
        return _problem(403, "signed_url_expired")
    try:
        if grant.access == "read" and method == grant.method:  # as strict as the strictest
            return _read(storage, grant, headers if method == "GET" else {})
        if grant.access == "upload" and method == "DELETE":
            return Answer(status=499 if storage.uploads.pop(grant.subject, None) else 410)
        if grant.access == "upload" and method == "PUT":
            return _receive(storage, grant, headers, body)
    except NotFoundError as error:
        return _problem(404, error.code)
    except PreconditionFailedError as error:
        return _problem(412, error.code)
    return _problem(405, "method_not_allowed")


def _read(storage: FakeStorage, grant: Grant, headers: Mapping[str, str]) -> Answer:
    found = storage.get(grant.subject, grant.generation)
    etag = f'"{found.info.generation}"'
    answer = {
        "content-type": grant.content_type or found.info.content_type,
        "etag": etag,
        "accept-ranges": "bytes",
        "x-content-type-options": "nosniff",
    }
    if grant.filename is not None:
        answer["content-disposition"] = f"attachment; filename*=UTF-8''{quote(grant.filename, safe='')}"
    if headers.get("if-none-match") == etag:
        return Answer(status=304, headers={"etag": etag})
    size = len(found.data)
    wanted = _RANGE.fullmatch(headers.get("range", "")) if headers.get("if-range", etag) == etag else None
    if wanted is None or wanted.groups() == ("", ""):
        return Answer(status=200, headers=answer, body=found.data)
    first, last = wanted.groups()
    start = int(first) if first else max(0, size - int(last))
    end = min(size, int(last) + 1) if first and last else size
    if start >= end:
        return Answer(status=416, headers={"content-range": f"bytes */{size}"})
    answer["content-range"] = f"bytes {start}-{end - 1}/{size}"
    return Answer(status=206, headers=answer, body=found.data[start:end])


def _receive(storage: FakeStorage, grant: Grant, headers: Mapping[str, str], body: bytes) -> Answer:
    upload = storage.uploads.get(grant.subject)
    if upload is None:
        return _problem(410, "upload_gone")
    if upload.done:
        return _whole(storage, upload)
    wanted = _CONTENT_RANGE.fullmatch(headers.get("content-range", f"bytes 0-{len(body) - 1}/{len(body)}"))
    if headers.get("content-range") is None and not body:
        wanted = _CONTENT_RANGE.fullmatch("bytes */0")
    if wanted is None:
        return _problem(400, "invalid_content_range")
    total = upload.size_bytes if wanted[3] == "*" else int(wanted[3])
    start = len(upload.data) if wanted[1] is None else int(wanted[1])
    limit = total if total is not None else upload.max_size_bytes
    if upload.size_bytes not in (None, total) or (wanted[1] is not None and int(wanted[2]) - start + 1 != len(body)):
        return _problem(400, "size_mismatch")
    if (limit is not None and start + len(body) > limit) or (total or 0) > (upload.max_size_bytes or 1 << 60):
        return _problem(413, "upload_too_large")
    if start > len(upload.data):
        return _problem(503, "upload_gap")
    upload.size_bytes = total
    upload.data += body[len(upload.data) - start :]
    if total == len(upload.data):
        return _whole(storage, upload)
    done = len(upload.data)
    return Answer(status=308, headers={"range": f"bytes=0-{done - 1}"} if done else {})


def _whole(storage: FakeStorage, upload: FakeUpload) -> Answer:
    info = storage.store(upload.key, bytes(upload.data), upload.content_type)
    upload.done = True
    document = {"name": info.key, "size": str(info.size_bytes), "generation": info.generation}
    return Answer(status=200, headers={"content-type": "application/json"}, body=json.dumps(document).encode())


def _problem(status: int, code: str) -> Answer:
    document = {"type": "about:blank", "title": code, "status": status, "code": code}
    return Answer(
        status=status, headers={"content-type": "application/problem+json"}, body=json.dumps(document).encode()
    )
