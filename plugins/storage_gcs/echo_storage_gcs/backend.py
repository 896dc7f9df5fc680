"""The storage backend: Echo's contract on top of Google's client, which blocks, and of threads, which do not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
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
from echo_storage_gcs.calls import Calls
from echo_storage_gcs.client import load_credentials, open_client, open_plain_session, open_session
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

OPEN_DEADLINE_S = 30.0
PUT_GRACE_S = 5.0
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
        self.push = PushReceiver.of(self.config)
        self._clock = context.clock
        self._page_origins = context.page_origins
        self._seal = Seal(context.derive_key("upload-states"))
        self._sessions = Sessions(bucket, self.config, calls, http)
        self._transfers = Transfers(bucket, self.config, calls, self._sessions, http)

    # --- uploads -----------------------------------------------------------------------------------------------

    async def begin_upload(self, request: BeginUpload) -> UploadTicket:
        """See the contract."""
        validate_key(request.key)
        _check_size(request)
        async with self.calls.within():
            return await self._begin(request)

    async def _begin(self, request: BeginUpload) -> UploadTicket:
        if await self._find(request.key) is not None:
            raise object_exists()
        size = request.size_bytes
        is_small = size is not None and size <= self.config.single_put_bytes
        if size is not None and is_small and "signed-put" in request.protocols and self.signer.is_cheap:
            return await self._put_ticket(request, size)
        if size is None:
            uri = await self._bounded_session(request)
        else:
            uri = await self.calls.run(
                self._sessions.open, request.key, request.content_type, size, origin=request.origin
            )
        state = UploadState(
            kind="session", uri=uri, content_type=request.content_type, size_bytes=size, origin=request.origin
        )
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
        """See the contract. What was announced for a single PUT goes on as a session: that can be resumed.

        A session that was opened for pages of another origin would let this one send, and read nothing: it is ended.
        """
        state = self._state(UploadRef(key=request.key, state=request.state))
        if state.kind == "session":
            if request.origin and request.origin != state.origin:
                await self.calls.run(self._sessions.cancel, state)
                raise upload_gone()
            await self.calls.run(self._sessions.offset, state)
            return replace(
                self._session_ticket(request.key, state, request.expires_in_s),
                state=request.state,  # sealed anew it would look like another upload, and this one be aborted
            )
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
        async with self.calls.within():
            return await self._offset(request.key, state)

    async def _offset(self, key: str, state: UploadState) -> UploadOffset:
        found: UploadOffset | None = UploadOffset(offset_bytes=0, complete=False)
        if state.kind == "session":
            try:
                found = await self.calls.run(self._sessions.offset, state)
            except NotFoundError:
                found = None  # a finished session is forgotten after a while; what it made is not
        elif await self._find(key) is not None:
            found = None
        if found is not None:
            return found
        info = await self._find(key)
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
        """See the contract. The first piece comes within the deadline, or not at all; of what follows, two blocks are
        in memory at once."""
        async with self.calls.within():
            info = await self._pinned(request.key, request.generation)
            at, end = _range_of(request, info.size_bytes)
            first = min(end, at + PIECE_BYTES)
            block = await self.calls.run(self._transfers.read_at_once, info, at, first) if at < first else b""
        reading: asyncio.Task[bytes] | None = None
        try:
            while block:
                at += len(block)
                if at < end:
                    reading = self._read_ahead(info, at, min(end, at + READ_BYTES))
                for piece in range(0, len(block), PIECE_BYTES):
                    yield block[piece : piece + PIECE_BYTES]
                block, reading = (await reading if reading is not None else b""), None
        finally:
            if reading is not None:
                reading.cancel()
                await asyncio.wait([reading])

    def _read_ahead(self, info: ObjectInfo, start: int, end: int) -> asyncio.Task[bytes]:
        reading = self.calls.transfer(partial(self._transfers.read, info, start, end))
        return asyncio.create_task(reading, name="read ahead")

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
        # Waited for: an object that appears after it was given up would be an orphan.
        return await self.calls.transfer(lambda stop: self._transfers.put(request, stop), stop_grace_s=PUT_GRACE_S)

    async def fetch_file(self, request: FetchFile) -> None:
        """See the contract. A big object comes in parts, several at once; the whole is checked at the end."""
        info = await self._pinned(request.key, request.generation)
        try:
            await self.calls.transfer(lambda stop: transfers.create_target(request.path, info.size_bytes))
        except InvalidRequestError:
            raise  # what is there is not ours
        except BaseException:
            await asyncio.to_thread(request.path.unlink, missing_ok=True)
            raise
        try:
            try:
                await self._fetch_checked(info, request.path)
            except ChecksumMismatchError:
                _log.warning("storage.fetched_damaged", extra={"key": info.key})
                await self._fetch_checked(info, request.path)  # on the way, most likely: not a second time
        except BaseException:
            await asyncio.to_thread(request.path.unlink, missing_ok=True)
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

    def object_uri(self, key: str) -> str:
        """What Google's other services call the object."""
        return f"gs://{self.bucket.name}/{key}"

    async def check(self) -> None:
        """Raise unless the bucket answers and lets Echo read: by one request of the cheap class."""
        with suppress(NotFoundError):
            await self.stat(_READY_KEY)

    async def examine(self) -> Sequence[StorageFinding]:
        """See the contract: permissions, signing, CORS, and an object that is written, read and deleted."""
        from echo_storage_gcs.examining import examine

        return await examine(self, self._page_origins)


def _range_of(request: ReadObject, size_bytes: int) -> tuple[int, int]:
    """The half-open range within the object (S5)."""
    start, end = request.start, size_bytes if request.end is None else min(request.end, size_bytes)
    if start < 0 or end < start or (start >= size_bytes and (start, size_bytes) != (0, 0)):
        raise range_not_satisfiable()
    return start, end


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
    async with AsyncExitStack() as stack:
        # Each in threads of its own: an IAM that hangs keeps nobody from reading.
        calls, signing_calls = Calls(config), Calls(config, "storage-gcs-sign")
        # Looking for a metadata server alone may take ten seconds.
        who = (
            credentials if credentials is not None else await calls.run_long(OPEN_DEADLINE_S, load_credentials, config)
        )
        session = stack.enter_context(open_session(config, who))
        signing = await calls.run_long(OPEN_DEADLINE_S, signing_credentials, config, who, session, signing_calls)
        bucket = stack.enter_context(open_client(config, who, session)).bucket(config.bucket)
        signer = UrlSigner(bucket, config, signing_calls, context.clock, signing)
        plain = stack.enter_context(open_plain_session(config))
        # Last in, first out: threads end before what they use is closed.
        stack.push_async_callback(calls.aclose)
        stack.push_async_callback(signing_calls.aclose)
        storage = GcsStorage(context, bucket, signer, calls, plain)
        if storage.push is not None:
            stack.push_async_callback(storage.push.calls.aclose)
        yield storage
