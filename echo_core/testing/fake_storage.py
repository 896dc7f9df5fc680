"""A storage backend in memory, for tests: it passes the conformance kit, HTTP rules included."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import ClassVar, Literal

import google_crc32c

from echo_core.plugin_api import (
    BeginUpload,
    Clock,
    FetchFile,
    InsufficientStorageError,
    InvalidRequestError,
    ListObjects,
    NotFoundError,
    ObjectInfo,
    ObjectPage,
    PreconditionFailedError,
    PutFile,
    ReadMethod,
    ReadObject,
    ReadUrl,
    ResumeUpload,
    SignedUrl,
    StorageBackend,
    StorageUsage,
    UploadOffset,
    UploadRef,
    UploadTicket,
    validate_key,
)
from echo_core.testing.manual_clock import ManualClock

_PIECE_BYTES = 1 << 20
_CHUNK_SIZE_BYTES = 256 * 1024


@dataclass(frozen=True, kw_only=True)
class FakeObject:
    """One stored object."""

    info: ObjectInfo
    data: bytes


@dataclass(kw_only=True)
class FakeUpload:
    """One upload; ``done`` once its object was stored."""

    key: str
    content_type: str
    size_bytes: int | None
    max_size_bytes: int | None
    data: bytearray = field(default_factory=bytearray)
    done: bool = False


@dataclass(frozen=True, kw_only=True)
class Grant:
    """What one URL that was handed out allows. ``subject`` is a key or an upload's id."""

    access: Literal["read", "upload"]
    subject: str
    expires_at_s: float
    generation: str | None = None
    content_type: str | None = None
    filename: str | None = None
    method: ReadMethod = "GET"


class FakeStorage(StorageBackend):
    """Objects in a dict. ``FakeStorage()`` alone answers all but URLs; ``serve_fake_storage`` makes those work too.

    ``capacity_bytes`` bounds what fits. ``objects``, ``uploads`` and ``grants`` are there for tests to look at.
    """

    supports_upload_abort: ClassVar[bool] = True
    supports_fetch: ClassVar[bool] = True

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        capacity_bytes: int = 1 << 40,
        base_url: str = "http://fake-storage.invalid",
    ) -> None:
        self.clock: Clock = clock if clock is not None else ManualClock()
        self.base_url = base_url
        self.objects: dict[str, FakeObject] = {}
        self.uploads: dict[str, FakeUpload] = {}
        self.grants: dict[str, Grant] = {}
        self._capacity_bytes = capacity_bytes

    async def begin_upload(self, request: BeginUpload) -> UploadTicket:
        """See the contract."""
        if validate_key(request.key) in self.objects:
            raise _object_exists()
        size, limit = request.size_bytes, request.max_size_bytes
        if size is not None and limit is not None and size > limit:
            raise InvalidRequestError("The upload is larger than it may be.", code="upload_too_large")
        self._require_room(size or 0)
        upload_id = secrets.token_hex(8)
        self.uploads[upload_id] = FakeUpload(
            key=request.key, content_type=request.content_type, size_bytes=size, max_size_bytes=limit
        )
        return self._ticket(upload_id, request.expires_in_s)

    async def resume_upload(self, request: ResumeUpload) -> UploadTicket:
        """See the contract."""
        self._upload(request.key, request.state)
        return self._ticket(request.state, request.expires_in_s)

    async def upload_offset(self, request: UploadRef) -> UploadOffset:
        """See the contract."""
        upload = self._upload(request.key, request.state)
        return UploadOffset(offset_bytes=len(upload.data), complete=upload.done)

    async def abort_upload(self, request: UploadRef) -> None:
        """See the contract."""
        validate_key(request.key)
        self.uploads.pop(request.state, None)

    async def stat(self, key: str) -> ObjectInfo:
        """See the contract."""
        return self.get(key).info

    async def open_read(self, request: ReadObject) -> AsyncGenerator[bytes]:
        """See the contract."""
        data = self.get(request.key, request.generation).data
        if request.start < 0 or (request.start >= len(data) and (request.start or data)):
            raise InvalidRequestError("This range lies outside the object.", code="range_not_satisfiable")
        wanted = data[request.start : request.end]
        for at in range(0, len(wanted), _PIECE_BYTES):
            yield wanted[at : at + _PIECE_BYTES]

    async def read_url(self, request: ReadUrl) -> SignedUrl:
        """See the contract."""
        return self._grant(
            Grant(
                access="read",
                subject=validate_key(request.key),
                expires_at_s=self._expiry_s(request.expires_in_s),
                generation=request.generation,
                content_type=request.content_type,
                filename=request.filename,
                method=request.method,
            ),
            request.expires_in_s,
        )

    async def put_file(self, request: PutFile) -> ObjectInfo:
        """See the contract; the source stays."""
        validate_key(request.key)
        try:
            data = await asyncio.to_thread(request.path.read_bytes)
        except FileNotFoundError:
            raise NotFoundError("There is no file at this path.", code="file_not_found") from None
        return self.store(request.key, data, request.content_type)

    async def fetch_file(self, request: FetchFile) -> None:
        """See the contract."""
        data = self.get(request.key, request.generation).data
        if await asyncio.to_thread(request.path.exists):
            raise InvalidRequestError("There is a file at this path already.", code="path_exists")
        await asyncio.to_thread(request.path.write_bytes, data)

    async def list(self, request: ListObjects) -> ObjectPage:
        """See the contract."""
        if request.limit < 1:
            raise InvalidRequestError("A page holds at least one object.", code="invalid_limit")
        after = request.cursor or ""
        keys = sorted(key for key in self.objects if key.startswith(request.prefix) and key > after)
        page = keys[: request.limit]
        return ObjectPage(
            objects=tuple(self.objects[key].info for key in page),
            next_cursor=page[-1] if len(keys) > len(page) else None,
        )

    async def delete(self, key: str) -> None:
        """See the contract."""
        self.objects.pop(validate_key(key), None)

    async def usage(self) -> StorageUsage:
        """See the contract."""
        return StorageUsage(free_bytes=self._capacity_bytes - self._used_bytes(), total_bytes=self._capacity_bytes)

    def get(self, key: str, generation: str | None = None) -> FakeObject:
        """The object with its bytes (S4)."""
        found = self.objects.get(validate_key(key))
        if found is None:
            raise NotFoundError("This object does not exist.", code="object_not_found")
        if generation not in (None, found.info.generation):
            raise PreconditionFailedError("The object was replaced since.", code="generation_changed")
        return found

    def store(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> ObjectInfo:
        """Store bytes under a key (S3); also a short way for tests to put an object there."""
        checksum = f"crc32c:{google_crc32c.value(data):08x}"
        existing = self.objects.get(validate_key(key))
        if existing is not None:
            if (existing.info.size_bytes, existing.info.checksum) != (len(data), checksum):
                raise _object_exists()
            return existing.info
        self._require_room(len(data))
        info = ObjectInfo(
            key=key,
            size_bytes=len(data),
            content_type=content_type,
            generation=secrets.token_hex(8),
            checksum=checksum,
            created_at=self.clock.now(),
        )
        self.objects[key] = FakeObject(info=info, data=bytes(data))
        return info

    def _upload(self, key: str, state: str) -> FakeUpload:
        upload = self.uploads.get(state)
        if upload is None or upload.key != validate_key(key):
            raise NotFoundError("This upload does not exist any more.", code="upload_gone")
        return upload

    def _ticket(self, upload_id: str, expires_in_s: int) -> UploadTicket:
        grant = Grant(access="upload", subject=upload_id, expires_at_s=self._expiry_s(expires_in_s))
        signed = self._grant(grant, expires_in_s)
        return UploadTicket(
            url=signed.url, expires_at=signed.expires_at, state=upload_id, chunk_size_bytes=_CHUNK_SIZE_BYTES
        )

    def _grant(self, grant: Grant, expires_in_s: int) -> SignedUrl:
        token = secrets.token_urlsafe(16)
        self.grants[token] = grant
        expires_at = self.clock.now() + timedelta(seconds=expires_in_s)
        return SignedUrl(url=f"{self.base_url}/{grant.access}?token={token}", expires_at=expires_at)

    def _expiry_s(self, expires_in_s: int) -> float:
        return self.clock.now().timestamp() + expires_in_s

    def _used_bytes(self) -> int:
        return sum(stored.info.size_bytes for stored in self.objects.values())

    def _require_room(self, size_bytes: int) -> None:
        if self._used_bytes() + size_bytes > self._capacity_bytes:
            raise InsufficientStorageError("The fake storage is full.")


def _object_exists() -> PreconditionFailedError:
    return PreconditionFailedError("Another object has this key already.", code="object_exists")


@asynccontextmanager
async def serve_fake_storage(
    *, clock: Clock | None = None, capacity_bytes: int = 1 << 40
) -> AsyncIterator[FakeStorage]:
    """A ``FakeStorage`` whose URLs work: a small server on a loopback port, in this event loop."""
    from echo_core.testing.fake_storage_http import answer_connection

    storage = FakeStorage(clock=clock, capacity_bytes=capacity_bytes)
    server = await asyncio.start_server(lambda r, w: answer_connection(storage, r, w), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    storage.base_url = f"http://127.0.0.1:{port}"
    async with server:
        yield storage
