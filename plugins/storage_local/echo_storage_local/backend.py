"""The storage backend: Echo's contract on top of the stores, which block, and of threads, which do not."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import ClassVar

from echo_core.plugin_api import (
    BeginUpload,
    EchoError,
    FetchFile,
    InvalidRequestError,
    ListObjects,
    ObjectInfo,
    ObjectPage,
    PluginContext,
    PutFile,
    ReadObject,
    ReadUrl,
    ResumeUpload,
    SignedUrl,
    StorageBackend,
    StorageUsage,
    UnavailableError,
    UploadOffset,
    UploadRef,
    UploadTicket,
    validate_key,
)
from echo_storage_local import tree
from echo_storage_local.config import MIB, LocalStorageConfig
from echo_storage_local.content_types import validate_content_type
from echo_storage_local.errors import object_exists, upload_gone
from echo_storage_local.files import FileStore
from echo_storage_local.holds import UploadHolds
from echo_storage_local.objects import Folders, ObjectStore
from echo_storage_local.open_objects import OpenObjects
from echo_storage_local.room import Room
from echo_storage_local.signing import UrlSigner
from echo_storage_local.threads import IoThreads
from echo_storage_local.uploads import UploadStore, UploadTerms

READ_PIECE_BYTES = MIB
_STAGING_TTL_S = 24 * 3600.0
_log = logging.getLogger(__name__)


class LocalStorage(StorageBackend):
    """Objects on a local disk; ``open_local_storage`` makes one."""

    supports_upload_abort: ClassVar[bool] = True
    supports_fetch: ClassVar[bool] = True

    def __init__(self, context: PluginContext, folders: Folders, threads: IoThreads) -> None:
        self.config = context.config_as(LocalStorageConfig)
        self.room = Room(folders.objects, self.config.min_free_bytes)
        self.threads = threads
        self.objects = ObjectStore(folders, context.clock)
        self.uploads = UploadStore(folders, self.objects, self.room, context.clock)
        self.signer = UrlSigner(context.derive_key("signed-urls"), context.routes_url, context.clock)
        self.holds = UploadHolds()
        self.reading = OpenObjects(folders.objects, self.objects, threads)
        self._files = FileStore(folders, self.objects, self.room)
        self._folders = folders

    async def begin_upload(self, request: BeginUpload) -> UploadTicket:
        """See the contract; nothing is reserved until bytes arrive."""
        terms = UploadTerms(
            key=validate_key(request.key),
            content_type=validate_content_type(request.content_type),
            size_bytes=request.size_bytes,
            max_size_bytes=request.max_size_bytes,
        )
        _check_size(terms)

        def begin() -> str:
            if self.objects.find(terms.key) is not None:
                raise object_exists()
            self.room.require(terms.size_bytes or 0)
            return self.uploads.begin(terms)

        upload_id = await self.threads.run(begin)
        return self._ticket(upload_id, terms, request.expires_in_s)

    async def resume_upload(self, request: ResumeUpload) -> UploadTicket:
        """See the contract. What was agreed at the beginning stays agreed."""
        await self._terms(UploadRef(key=request.key, state=request.state))
        await self.threads.run(self.uploads.touch, request.state)
        terms = await self._terms(UploadRef(key=request.key, state=request.state))
        return self._ticket(request.state, terms, request.expires_in_s)

    async def upload_offset(self, request: UploadRef) -> UploadOffset:
        """See the contract."""
        await self._terms(request)
        return await self.threads.run(self.uploads.offset, request.state)

    async def abort_upload(self, request: UploadRef) -> None:
        """See the contract. A request that is sending is ended first."""
        validate_key(request.key)
        async with self.holds.hold(request.state):
            await self.threads.run(self.uploads.remove, request.state)

    async def stat(self, key: str) -> ObjectInfo:
        """See the contract."""
        return await self.threads.run(self.objects.stat, key)

    async def open_read(self, request: ReadObject) -> AsyncGenerator[bytes]:
        """See the contract."""
        opened = await self.threads.run(self.objects.open, request.key, request.generation)
        try:
            size = opened.info.size_bytes
            at, end = request.start, size if request.end is None else min(request.end, size)
            if at < 0 or end < at or (at >= size and (at, size) != (0, 0)):
                raise InvalidRequestError("This range lies outside the object.", code="range_not_satisfiable")
            while at < end:
                piece = await self.threads.run(os.pread, opened.fd, min(READ_PIECE_BYTES, end - at), at)
                if not piece:
                    raise UnavailableError("The object is shorter than it should be.", code="object_damaged")
                at += len(piece)
                yield piece
        finally:
            opened.close()

    async def read_url(self, request: ReadUrl) -> SignedUrl:
        """See the contract."""
        fields = {
            "generation": request.generation,
            "type": None if request.content_type is None else validate_content_type(request.content_type),
            "filename": None if request.filename is None else request.filename.encode(errors="replace").decode(),
        }
        return self.signer.sign("read", f"/objects/{validate_key(request.key)}", fields, request.expires_in_s)

    async def put_file(self, request: PutFile) -> ObjectInfo:
        """See the contract."""
        return await self.threads.run(self._files.put, request)

    async def fetch_file(self, request: FetchFile) -> None:
        """See the contract."""
        await self.threads.run(self._files.fetch, request)

    def fetch_takes_bytes(self, size_bytes: int, directory: Path) -> int:
        """See the contract: on the storage's own disk objects are linked."""
        return 0 if self._files.can_link_to(directory) else size_bytes

    async def list(self, request: ListObjects) -> ObjectPage:
        """See the contract."""
        return await self.threads.run(self.objects.list, request)

    async def delete(self, key: str) -> None:
        """See the contract. Reads that have begun go on to their end."""
        await self.threads.run(self.objects.delete, key)

    async def usage(self) -> StorageUsage:
        """See the contract; ``min_free_bytes`` is not counted as free."""
        return await self.threads.run(self.room.usage)

    async def check(self) -> None:
        """Raise unless the folder can be read and written. A full disk is no failure: reads go on."""

        def probe() -> None:
            if os.fstat(self._folders.objects).st_nlink == 0:
                raise FileNotFoundError(errno.ENOENT, "the storage folder was removed")
            if not os.access(".", os.W_OK | os.X_OK, dir_fd=self._folders.objects, effective_ids=True):
                raise PermissionError(errno.EACCES, "the storage folder cannot be written")

        await self.threads.run(probe)

    def sweep(self) -> int:
        """Remove stale uploads and what killed processes left; return how many uploads. Blocks."""
        for name in tree.names(self._folders.trash):
            with suppress(OSError):
                tree.remove_folder(self._folders.trash, name)
        for name in tree.names(self._folders.staging):
            with suppress(FileNotFoundError):
                age_s = self.uploads.now_s() - os.stat(name, dir_fd=self._folders.staging).st_mtime
                if age_s > _STAGING_TTL_S:
                    tree.remove_folder(self._folders.staging, name)
        return self.uploads.sweep(self.config.upload_ttl_s)

    async def _terms(self, request: UploadRef) -> UploadTerms:
        terms = await self.threads.run(self.uploads.terms, request.state)
        if terms.key != validate_key(request.key):
            raise upload_gone()
        return terms

    def _ticket(self, upload_id: str, terms: UploadTerms, expires_in_s: int) -> UploadTicket:
        fields = {
            "type": terms.content_type,
            "size": None if terms.size_bytes is None else str(terms.size_bytes),
            "max": None if terms.max_size_bytes is None else str(terms.max_size_bytes),
        }
        signed = self.signer.sign("upload", f"/uploads/{upload_id}/{terms.key}", fields, expires_in_s)
        return UploadTicket(
            url=signed.url,
            expires_at=signed.expires_at,
            state=upload_id,
            chunk_size_bytes=self.config.chunk_size_bytes,
        )


def _check_size(terms: UploadTerms) -> None:
    size, limit = terms.size_bytes, terms.max_size_bytes
    if (size is not None and size < 0) or (limit is not None and limit < 0):
        raise InvalidRequestError("A size is not negative.", code="invalid_size")
    if size is not None and limit is not None and size > limit:
        raise InvalidRequestError(
            "The upload is larger than it may be.", code="upload_too_large", remedy="Choose a smaller file."
        )


@asynccontextmanager
async def open_local_storage(context: PluginContext) -> AsyncIterator[LocalStorage]:
    """Open the store below ``data_dir``, sweep it, and keep sweeping it until it is closed."""
    config = context.config_as(LocalStorageConfig)
    threads = IoThreads(config.io_threads)
    try:
        folders = await threads.run(_open_folders, context, config)
        try:
            storage = LocalStorage(context, folders, threads)
            # No TaskGroup: it would wrap what the caller raises inside the block.
            sweeping = asyncio.create_task(_keep_sweeping(storage, config.sweep_interval_s))
            try:
                yield storage
            finally:
                sweeping.cancel()
                await asyncio.wait([sweeping])
                storage.reading.close()
        finally:
            folders.close()
    finally:
        threads.close()


async def _keep_sweeping(storage: LocalStorage, interval_s: float) -> None:
    while True:
        try:
            swept = await storage.threads.run(storage.sweep)
        except EchoError:
            _log.exception("uploads.sweep_failed")
        else:
            if swept:
                _log.info("uploads.swept", extra={"count": swept})
        await asyncio.sleep(interval_s)


def _open_folders(context: PluginContext, config: LocalStorageConfig) -> Folders:
    root = context.data_dir / config.root
    root.mkdir(mode=tree.FOLDER_MODE, parents=True, exist_ok=True)
    root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    fds: dict[str, int] = {}
    try:
        for name in ("objects", "uploads", "staging", "trash"):
            with tree.folder(root_fd, [name], create=True) as fd:
                fds[name] = os.dup(fd)
    except OSError:
        for fd in fds.values():
            os.close(fd)
        raise
    finally:
        os.close(root_fd)
    return Folders(**fds)
