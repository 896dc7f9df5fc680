"""The storage backend: Echo's contract on top of Google's client, which blocks, and of threads, which do not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

import requests
from google.auth.credentials import Credentials
from google.cloud.storage import Bucket

from echo_core.plugin_api import (
    BeginUpload,
    FetchFile,
    InvalidRequestError,
    ListObjects,
    NotFoundError,
    ObjectInfo,
    ObjectPage,
    PluginContext,
    PutFile,
    ReadObject,
    ReadUrl,
    ResumeUpload,
    SignedUrl,
    StorageBackend,
    StorageFinding,
    UploadOffset,
    UploadRef,
    UploadTicket,
    validate_key,
)
from echo_storage_gcs import transfers
from echo_storage_gcs.calls import Calls, Stop
from echo_storage_gcs.client import load_credentials, open_client, open_session
from echo_storage_gcs.config import MIB, GcsConfig
from echo_storage_gcs.errors import (
    ChecksumMismatchError,
    object_changed,
    object_exists,
    range_not_satisfiable,
    upload_gone,
)
from echo_storage_gcs.notifications import PushReceiver
from echo_storage_gcs.sessions import LIFETIME_S, NOTHING_BEFORE, Seal, Sessions, UploadState
from echo_storage_gcs.signing import UrlSigner, Wanted, signing_credentials
from echo_storage_gcs.transfers import PART_BYTES, Transfers, info_of

FIRST_READ_BYTES = MIB
READ_BYTES = 4 * MIB
"""What is asked for at once of a stream; the next is on the way meanwhile."""
PIECE_BYTES = MIB
LISTED = "items(name,size,contentType,generation,crc32c,timeCreated),nextPageToken"
_READY_KEY = "readiness/check"
_log = logging.getLogger(__name__)


class GcsStorage(StorageBackend):
    """Objects in one bucket; ``open_gcs_storage`` makes one."""

    supports_upload_abort: ClassVar[bool] = True
    supports_fetch: ClassVar[bool] = True

    def __init__(
        self, context: PluginContext, bucket: Bucket, signer: UrlSigner, calls: Calls, http: requests.Session
    ) -> None:
        self.config = context.config_as(GcsConfig)
        self.bucket = bucket
        self.calls = calls
        self.signer = signer
        self.push = PushReceiver.of(self.config, calls)
        self._clock = context.clock
        self._page_origins = context.page_origins
        self._seal = Seal(context.derive_key("upload-states"))
        self._sessions = Sessions(bucket, self.config, calls, http)
        self._transfers = Transfers(bucket, self.config, calls)

    # --- uploads -----------------------------------------------------------------------------------------------

    async def begin_upload(self, request: BeginUpload) -> UploadTicket:
        """See the contract."""
        validate_key(request.key)
        _check_size(request)
        with suppress(NotFoundError):
            await self.stat(request.key)
            raise object_exists()
        size = request.size_bytes
        if size is not None and size <= self.config.single_put_bytes and "signed-put" in request.protocols:
            return await self._put_ticket(request, size)
        if size is None:
            uri = await self._bounded_session(request)
        else:
            uri = await self.calls.run(self._sessions.open, request)
        state = UploadState(kind="session", uri=uri, content_type=request.content_type, size_bytes=size)
        return self._session_ticket(request.key, state, request.expires_in_s)

    async def _bounded_session(self, request: BeginUpload) -> str:
        # Only a signed request can say how large an object may become whose size is not known.
        headers = {
            "content-type": request.content_type,
            "x-goog-resumable": "start",
            "x-goog-if-generation-match": str(NOTHING_BEFORE),
        }
        if request.max_size_bytes is not None:
            headers["x-goog-content-length-range"] = f"0,{request.max_size_bytes}"
        wanted = Wanted(method="POST", key=request.key, headers=tuple(headers.items()), endpoint=self.config.endpoint)
        signed = await self.signer.sign(wanted, int(self.calls.deadline_s) + 60)
        return await self.calls.run(self._sessions.open_signed, signed.url, headers, request.origin)

    async def _put_ticket(self, request: BeginUpload, size_bytes: int) -> UploadTicket:
        headers = {
            "content-type": request.content_type,
            "x-goog-content-length-range": f"{size_bytes},{size_bytes}",
            "x-goog-if-generation-match": str(NOTHING_BEFORE),
        }
        wanted = Wanted(method="PUT", key=request.key, headers=tuple(headers.items()))
        signed = await self.signer.sign(wanted, request.expires_in_s)
        state = UploadState(kind="put", content_type=request.content_type, size_bytes=size_bytes)
        return UploadTicket(
            url=signed.url,
            expires_at=signed.expires_at,
            state=self._seal.close(request.key, state),
            protocol="signed-put",
            headers=headers,
        )

    def _session_ticket(self, key: str, state: UploadState, expires_in_s: int) -> UploadTicket:
        return UploadTicket(
            url=self._sessions.public(state.uri),
            expires_at=self._clock.now() + timedelta(seconds=min(expires_in_s, LIFETIME_S)),
            state=self._seal.close(key, state),
            chunk_size_bytes=self.config.chunk_size_bytes,
        )

    async def resume_upload(self, request: ResumeUpload) -> UploadTicket:
        """See the contract. What was announced for a single PUT goes on as a session: that can be resumed."""
        state = self._state(UploadRef(key=request.key, state=request.state))
        if state.kind == "session":
            await self.calls.run(self._sessions.offset, state)
            return self._session_ticket(request.key, state, request.expires_in_s)
        begun = BeginUpload(
            key=request.key,
            content_type=state.content_type,
            size_bytes=state.size_bytes,
            expires_in_s=request.expires_in_s,
            origin=request.origin,
        )
        return await self.begin_upload(begun)

    async def upload_offset(self, request: UploadRef) -> UploadOffset:
        """See the contract. Asking a session that has every byte makes it the object."""
        state = self._state(request)
        found: UploadOffset | None = UploadOffset(offset_bytes=0, complete=False)
        if state.kind == "session":
            try:
                found = await self.calls.run(self._sessions.offset, state)
            except NotFoundError:
                found = None  # a finished session is forgotten after a while; what it made is not
        elif await self._find(request.key) is not None:
            found = None
        if found is not None:
            return found
        info = await self._find(request.key)
        if info is None:
            raise upload_gone()
        return UploadOffset(offset_bytes=info.size_bytes, complete=True)

    async def abort_upload(self, request: UploadRef) -> None:
        """See the contract. Nothing can be taken back of a signed PUT; its object, if it comes, is an orphan."""
        validate_key(request.key)
        with suppress(NotFoundError):
            state = self._state(request)
            if state.kind == "session":
                await self.calls.run(self._sessions.cancel, state)

    def _state(self, request: UploadRef) -> UploadState:
        return self._seal.open(validate_key(request.key), request.state)

    # --- objects -----------------------------------------------------------------------------------------------

    async def stat(self, key: str) -> ObjectInfo:
        """See the contract."""
        return await self.calls.run(self._transfers.stat, validate_key(key))

    async def _find(self, key: str) -> ObjectInfo | None:
        try:
            return await self.stat(key)
        except NotFoundError:
            return None

    async def _pinned(self, key: str, generation: str | None) -> ObjectInfo:
        info = await self.stat(key)
        if generation is not None and generation != info.generation:
            raise object_changed()
        return info

    async def open_read(self, request: ReadObject) -> AsyncGenerator[bytes]:
        """See the contract. Two requests' worth of bytes are in memory at once."""
        info = await self._pinned(request.key, request.generation)
        size = info.size_bytes
        at, end = request.start, size if request.end is None else min(request.end, size)
        if at < 0 or end < at or (at >= size and (at, size) != (0, 0)):
            raise range_not_satisfiable()
        length = FIRST_READ_BYTES
        reading = self._read_ahead(info, at, min(end, at + length))
        try:
            while reading is not None:
                block = await reading
                at += len(block)
                length = READ_BYTES
                reading = self._read_ahead(info, at, min(end, at + length))
                for piece in range(0, len(block), PIECE_BYTES):
                    yield block[piece : piece + PIECE_BYTES]
        finally:
            if reading is not None:
                reading.cancel()

    def _read_ahead(self, info: ObjectInfo, start: int, end: int) -> asyncio.Task[bytes] | None:
        if start >= end:
            return None

        def read(stop: Stop) -> bytes:
            data = self._transfers.read(info, start, end)
            if len(data) != end - start:
                raise ConnectionError("the object ended early")
            return data

        return asyncio.create_task(self.calls.transfer(read), name="read ahead")

    async def read_url(self, request: ReadUrl) -> SignedUrl:
        """See the contract."""
        wanted = Wanted(
            method=request.method,
            key=validate_key(request.key),
            generation=None if request.generation is None else _generation(request.generation),
            content_type=request.content_type,
            disposition=None if request.filename is None else _disposition(request.filename),
        )
        return await self.signer.read(wanted, request.expires_in_s)

    async def put_file(self, request: PutFile) -> ObjectInfo:
        """See the contract."""
        validate_key(request.key)
        return await self.calls.transfer(lambda stop: self._transfers.put(request, stop))

    async def fetch_file(self, request: FetchFile) -> None:
        """See the contract. A big object comes in parts, several at once; the whole is checked at the end."""
        info = await self._pinned(request.key, request.generation)
        await asyncio.to_thread(transfers.create_target, request.path, info.size_bytes)
        try:
            try:
                await self._fetch_checked(info, request.path)
            except ChecksumMismatchError:
                _log.warning("storage.fetched_damaged", extra={"key": info.key})
                await self._fetch_checked(info, request.path)  # on the way, most likely: not a second time
        except BaseException:
            request.path.unlink(missing_ok=True)
            raise

    async def _fetch_checked(self, info: ObjectInfo, path: Path) -> None:
        await self._fetch_parts(info, path)
        await self.calls.transfer(lambda stop: transfers.check_file(path, info.checksum, stop))

    async def _fetch_parts(self, info: ObjectInfo, path: Path) -> None:
        starts = iter(range(0, info.size_bytes, PART_BYTES))

        async def fetch() -> None:
            for start in starts:
                end = min(start + PART_BYTES, info.size_bytes)
                await self.calls.transfer(partial(self._transfers.fetch_part, info, path, start, end))

        fetching = [asyncio.create_task(fetch(), name="fetch parts") for _ in range(self.config.parallel_downloads)]
        try:
            await asyncio.gather(*fetching)
        finally:
            for task in fetching:
                task.cancel()
            await asyncio.wait(fetching)

    async def list(self, request: ListObjects) -> ObjectPage:
        """See the contract."""
        return await self.calls.run(self._list, request)

    def _list(self, request: ListObjects) -> ObjectPage:
        found = self.bucket.client.list_blobs(
            self.bucket,
            prefix=request.prefix or None,
            page_token=request.cursor,
            page_size=request.limit,
            fields=LISTED,
            timeout=self.calls.timeout,
            retry=self.calls.retry,
        )
        objects = tuple(info_of(blob) for blob in next(found.pages, ()))
        return ObjectPage(objects=objects, next_cursor=found.next_page_token or None)

    async def delete(self, key: str) -> None:
        """See the contract."""
        await self.calls.run(self._transfers.delete, validate_key(key))

    async def check(self) -> None:
        """Raise unless the bucket answers and lets Echo read: by one request of the cheap class."""
        with suppress(NotFoundError):
            await self.stat(_READY_KEY)

    async def examine(self) -> Sequence[StorageFinding]:
        """See the contract: permissions, signing, CORS, and an object that is written, read and deleted."""
        from echo_storage_gcs.examining import examine

        return await examine(self, self._page_origins)


def _check_size(request: BeginUpload) -> None:
    size, limit = request.size_bytes, request.max_size_bytes
    if (size is not None and size < 0) or (limit is not None and limit < 0):
        raise InvalidRequestError("A size is not negative.", code="invalid_size")
    if size is not None and limit is not None and size > limit:
        raise InvalidRequestError(
            "The upload is larger than it may be.", code="upload_too_large", remedy="Choose a smaller file."
        )


def _generation(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise object_changed() from None  # another storage's


def _disposition(filename: str) -> str:
    """``attachment`` with a name in any script (RFC 6266, RFC 8187)."""
    name = filename.encode(errors="replace").decode()
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\%' else "_" for c in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


@asynccontextmanager
async def open_gcs_storage(context: PluginContext, credentials: Credentials | None = None) -> AsyncIterator[GcsStorage]:
    """Open the bucket of the configuration. Nothing has to answer yet, except where the machine is asked who it is.

    Raises ``AuthError`` (``storage_credentials``, ``storage_signer``).
    """
    config = context.config_as(GcsConfig)
    calls = Calls(config)
    try:
        who = credentials if credentials is not None else await calls.run(load_credentials, config)
        with open_session(config, who) as session, requests.Session() as plain:
            signing = await calls.run(signing_credentials, config, who, session, calls)
            with open_client(config, who, session) as client:
                bucket = client.bucket(config.bucket)
                signer = UrlSigner(bucket, config, calls, context.clock, signing)
                yield GcsStorage(context, bucket, signer, calls, plain)
    finally:
        calls.close()
