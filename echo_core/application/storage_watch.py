"""The storage as steps see it: the instance's own, and what it raised while it was away is known again later."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import TypeVar
from weakref import WeakSet

from echo_core.plugin_api.errors import RateLimitedError, UnavailableError
from echo_core.plugin_api.storage import (
    BeginUpload,
    FetchFile,
    ListObjects,
    ObjectInfo,
    ObjectPage,
    PutFile,
    ReadObject,
    ReadUrl,
    ResumeUpload,
    SignedUrl,
    StorageBackend,
    StorageFinding,
    StorageUsage,
    UploadOffset,
    UploadRef,
    UploadTicket,
)

T = TypeVar("T")

OBJECT_DAMAGED = "object_damaged"
"""What storages say of an object whose bytes or facts cannot be read whole: waiting does not mend it."""


class WatchedStorage(StorageBackend):
    """Forwards everything. One for each run of a step."""

    def __init__(self, storage: StorageBackend) -> None:
        self._storage = storage
        self._raised: WeakSet[BaseException] = WeakSet()

    def was_away(self, error: BaseException) -> UnavailableError | RateLimitedError | None:
        """What the storage raised while it was away or wanted to be left alone, if this error is that, or was raised
        because of it (``raise … from``)."""
        cause: BaseException | None = error
        seen: set[int] = set()
        while cause is not None and id(cause) not in seen:  # an error can be its own cause
            if isinstance(cause, UnavailableError | RateLimitedError) and cause in self._raised:
                return cause
            seen.add(id(cause))
            cause = cause.__cause__
        return None

    @contextmanager
    def _watching(self) -> Iterator[None]:
        try:
            yield
        except (UnavailableError, RateLimitedError) as error:
            if error.code != OBJECT_DAMAGED:
                self._raised.add(error)
            raise

    async def _watched(self, answer: Awaitable[T]) -> T:
        with self._watching():
            return await answer

    @property
    def supports_upload_abort(self) -> bool:  # type: ignore[override] # of each instance: whatever the storage can
        """See the contract."""
        return self._storage.supports_upload_abort

    @property
    def supports_fetch(self) -> bool:  # type: ignore[override] # as above
        """See the contract."""
        return self._storage.supports_fetch

    async def begin_upload(self, request: BeginUpload) -> UploadTicket:
        """See the contract."""
        return await self._watched(self._storage.begin_upload(request))

    async def resume_upload(self, request: ResumeUpload) -> UploadTicket:
        """See the contract."""
        return await self._watched(self._storage.resume_upload(request))

    async def upload_offset(self, request: UploadRef) -> UploadOffset:
        """See the contract."""
        return await self._watched(self._storage.upload_offset(request))

    async def abort_upload(self, request: UploadRef) -> None:
        """See the contract."""
        await self._watched(self._storage.abort_upload(request))

    async def stat(self, key: str) -> ObjectInfo:
        """See the contract."""
        return await self._watched(self._storage.stat(key))

    async def open_read(self, request: ReadObject) -> AsyncGenerator[bytes]:
        """See the contract."""
        with self._watching():
            async with aclosing(self._storage.open_read(request)) as chunks:
                async for chunk in chunks:
                    yield chunk

    async def read_url(self, request: ReadUrl) -> SignedUrl:
        """See the contract."""
        return await self._watched(self._storage.read_url(request))

    async def put_file(self, request: PutFile) -> ObjectInfo:
        """See the contract."""
        return await self._watched(self._storage.put_file(request))

    async def fetch_file(self, request: FetchFile) -> None:
        """See the contract."""
        await self._watched(self._storage.fetch_file(request))

    def fetch_takes_bytes(self, size_bytes: int, directory: Path) -> int:
        """See the contract."""
        return self._storage.fetch_takes_bytes(size_bytes, directory)

    def object_uri(self, key: str) -> str:
        """See the contract."""
        return self._storage.object_uri(key)

    async def list(self, request: ListObjects) -> ObjectPage:
        """See the contract."""
        return await self._watched(self._storage.list(request))

    async def delete(self, key: str) -> None:
        """See the contract."""
        await self._watched(self._storage.delete(key))

    async def usage(self) -> StorageUsage:
        """See the contract."""
        return await self._watched(self._storage.usage())

    async def check(self) -> None:
        """See the contract."""
        await self._watched(self._storage.check())

    async def examine(self) -> Sequence[StorageFinding]:
        """See the contract."""
        return await self._watched(self._storage.examine())
