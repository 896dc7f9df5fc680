"""Storage: where the bytes of videos live.

The contract, numbered so that the conformance kit (``echo_core.testing.StorageTests``) can cite it:

S1.  A key is what ``validate_key`` accepts: 1 to 512 characters of ``[A-Za-z0-9._-]`` in segments separated by ``/``;
     no empty, ``.`` or ``..`` segment, no leading slash. Anything else raises ``InvalidRequestError``
     (code ``invalid_key``) and touches nothing.
S2.  An object appears under its key only when it is whole and durable; a reader never sees a part of it.
S3.  An object is never overwritten: ``put_file`` to an existing key raises ``PreconditionFailedError`` (code
     ``object_exists``), and the request that would finish an upload to one is answered 412; except when the bytes are
     the same (size and checksum): then ``put_file`` succeeds, the upload may, and nothing changes.
S4.  ``stat``, ``open_read``, ``fetch_file`` of a missing key raise ``NotFoundError`` (code ``object_not_found``).
S5.  ``open_read`` takes a half-open byte range ``[start, end)``; ``end=None`` is the end of the object. A range that
     starts at or beyond the end raises ``InvalidRequestError`` (code ``range_not_satisfiable``); an ``end`` beyond the
     object is clipped.
S6.  ``delete`` is idempotent; ``delete`` of a missing key is no error.
S7.  ``list`` is ordered by key, complete and gapless over its pages; a prefix matches by string, unfinished uploads
     are not listed.
S8.  ``read_url`` gives a URL that any HTTP client can GET (or HEAD, if it was asked for with that method) without
     credentials until it expires, with Range (206, 416) and a strong ETag. ``generation`` pins what is read: if the
     object was replaced, the read fails.
S9.  The resumable protocol of an upload is Google's: PUT with ``Content-Range: bytes a-b/total`` (or one PUT without
     it); 308 with ``Range: bytes=0-n`` while unfinished (no Range header: nothing stored yet); ``bytes */total`` with
     an empty body asks; 200 or 201 when whole. Bytes beyond the announced size are refused and not stored.
     ``signed-put``, for clients that ask for it: one PUT with the ticket's headers takes the whole object and no other.
S10. ``upload_offset`` tells how many bytes are durable. ``begin_upload`` refuses up front, with
     ``InsufficientStorageError``, what cannot fit. ``abort_upload`` is idempotent and frees what was stored.
S11. ``generation`` is an opaque string that changes whenever the bytes under a key change; ``checksum`` is
     ``algorithm:hex`` (for example ``crc32c:0a1b2c3d``).
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import ClassVar, Literal, Protocol

from echo_core.plugin_api.errors import InvalidRequestError, NotSupportedError

MAX_KEY_LENGTH = 512
_KEY = re.compile(r"[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)*")


def validate_key(key: str) -> str:
    """Return ``key`` if rule S1 holds, else raise ``InvalidRequestError`` (code ``invalid_key``)."""
    if (
        len(key) > MAX_KEY_LENGTH
        or _KEY.fullmatch(key) is None
        or any(segment in {".", ".."} for segment in key.split("/"))
    ):
        raise InvalidRequestError("This is not a valid storage key.", code="invalid_key")
    return key


UploadProtocol = Literal["google-resumable", "signed-put"]
"""How bytes are sent. ``google-resumable``: rule S9. ``signed-put``: the whole object in one PUT, with the headers of
the ticket and no others; for small objects, where opening a session costs more than sending them again."""


@dataclass(frozen=True, kw_only=True)
class BeginUpload:
    """Start an upload to ``key``. ``size_bytes=None``: the client announces it with its first bytes.

    ``max_size_bytes`` bounds the upload when the size is not known. ``origin`` is the browser's origin, for backends
    that bind an upload to it. ``protocols``: those that the client speaks; all speak ``google-resumable``.
    """

    key: str
    content_type: str
    size_bytes: int | None = None
    max_size_bytes: int | None = None
    expires_in_s: int = 24 * 3600
    origin: str | None = None
    protocols: tuple[UploadProtocol, ...] = ("google-resumable",)


@dataclass(frozen=True, kw_only=True)
class UploadTicket:
    """Where and how a client sends bytes. ``url`` is a bearer secret. ``state`` is opaque and kept by the kernel.
    Another one from ``resume_upload`` than before means another upload to the same key; the one before is aborted."""

    url: str
    expires_at: datetime
    state: str
    protocol: UploadProtocol = "google-resumable"
    method: Literal["PUT"] = "PUT"
    headers: Mapping[str, str] = field(default_factory=dict)
    chunk_size_bytes: int | None = None
    """A good chunk size; always a multiple of 256 KiB. None: send it in one piece."""


@dataclass(frozen=True, kw_only=True)
class ResumeUpload:
    """Ask for a fresh URL for an unfinished upload; ``state`` is what ``begin_upload`` gave."""

    key: str
    state: str
    content_type: str
    size_bytes: int | None = None
    max_size_bytes: int | None = None
    expires_in_s: int = 24 * 3600
    origin: str | None = None


@dataclass(frozen=True, kw_only=True)
class UploadRef:
    """An upload that was begun."""

    key: str
    state: str


@dataclass(frozen=True, kw_only=True)
class UploadOffset:
    """How much of an upload is durable. ``complete`` means that the object exists under its key."""

    offset_bytes: int
    complete: bool


@dataclass(frozen=True, kw_only=True)
class ObjectInfo:
    """Facts of one stored object (S11)."""

    key: str
    size_bytes: int
    content_type: str
    generation: str
    checksum: str
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class ReadObject:
    """Read ``[start, end)`` of an object; ``generation`` (when given) must still be the object's."""

    key: str
    start: int = 0
    end: int | None = None
    generation: str | None = None


ReadMethod = Literal["GET", "HEAD"]


@dataclass(frozen=True, kw_only=True)
class ReadUrl:
    """Ask for a signed URL. ``filename`` (when given) makes browsers download under that name. ``method``: what it is
    for; signatures of some storages cover that."""

    key: str
    expires_in_s: int
    generation: str | None = None
    content_type: str | None = None
    filename: str | None = None
    method: ReadMethod = "GET"


@dataclass(frozen=True, kw_only=True)
class SignedUrl:
    """An absolute URL that works without credentials until ``expires_at``."""

    url: str
    expires_at: datetime


@dataclass(frozen=True, kw_only=True)
class PutFile:
    """Store the file at ``path`` (which may be consumed: moved or linked) under ``key``."""

    key: str
    path: Path
    content_type: str


@dataclass(frozen=True, kw_only=True)
class FetchFile:
    """Make the object's bytes available at ``path`` (must not exist). The file is to be treated as read-only: a
    backend may hard-link it."""

    key: str
    path: Path
    generation: str | None = None


@dataclass(frozen=True, kw_only=True)
class ListObjects:
    """List keys that start with ``prefix``. ``cursor`` is the previous page's ``next_cursor``."""

    prefix: str
    cursor: str | None = None
    limit: int = 1000


@dataclass(frozen=True, kw_only=True)
class ObjectPage:
    """One page of a listing, ordered by key. ``next_cursor=None``: that was all."""

    objects: tuple[ObjectInfo, ...]
    next_cursor: str | None = None


@dataclass(frozen=True, kw_only=True)
class StorageUsage:
    """Room in the backend, in bytes; None where it is not bounded or not known."""

    free_bytes: int | None = None
    total_bytes: int | None = None


class UploadHints(Protocol):
    """Where a storage that hears of arrived objects passes that on (``RoutesSpec``). A hint makes Echo look; what it
    finds then is all that counts, so hints may be late, doubled or wrong."""

    async def object_stored(self, key: str) -> None:
        """There may be an object of this key now. Any string will do. Raises ``UnavailableError``: say it again."""


@dataclass(frozen=True, kw_only=True)
class StorageFinding:
    """One thing that ``examine`` has looked at: a permission, a setting. ``remedy`` says what to do if it is not ok.
    Not ``known``: it could not be found out, for the reason in ``detail``, and ``ok`` says nothing."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    known: bool = True


class StorageBackend(ABC):
    """Stored objects. Safe for concurrent use by many tasks; the rules are at the top of this module."""

    supports_upload_abort: ClassVar[bool] = False
    supports_fetch: ClassVar[bool] = True

    @abstractmethod
    async def begin_upload(self, request: BeginUpload) -> UploadTicket:
        """Open an upload. Raises ``InsufficientStorageError``, ``PreconditionFailedError`` (key taken), S1."""

    @abstractmethod
    async def resume_upload(self, request: ResumeUpload) -> UploadTicket:
        """A fresh URL for the same unfinished upload. Raises ``NotFoundError`` (code ``upload_gone``) if it is gone."""

    @abstractmethod
    async def upload_offset(self, request: UploadRef) -> UploadOffset:
        """The durable bytes of an upload; offset 0 for one that never began to send."""

    @abstractmethod
    async def stat(self, key: str) -> ObjectInfo:
        """Facts of a whole object (S4)."""

    @abstractmethod
    def open_read(self, request: ReadObject) -> AsyncGenerator[bytes]:
        """Stream bytes in chunks of at most 1 MiB (S4, S5). Errors are raised at the first iteration; close it
        (``contextlib.aclosing``) when leaving early."""

    @abstractmethod
    async def read_url(self, request: ReadUrl) -> SignedUrl:
        """A signed URL (S8). Does not check that the object exists."""

    @abstractmethod
    async def put_file(self, request: PutFile) -> ObjectInfo:
        """Store a local file (S2, S3). Raises ``InsufficientStorageError``; the source is intact after an error."""

    @abstractmethod
    async def list(self, request: ListObjects) -> ObjectPage:
        """One page of keys (S7)."""

    @abstractmethod
    async def delete(self, key: str) -> None:
        """Remove an object (S6)."""

    async def fetch_file(self, request: FetchFile) -> None:
        """Copy or link an object to a local path (S4). The default streams it."""
        raise NotSupportedError("This storage cannot fetch objects to a file.")

    def fetch_takes_bytes(self, size_bytes: int, directory: Path) -> int:
        """What ``fetch_file`` of so large an object takes of the disk of ``directory``: nothing where it can link."""
        return size_bytes

    def object_uri(self, key: str) -> str:
        """The storage's own address of an object, for other services of the same vendor (``gs://bucket/key``); empty:
        there is none."""
        return ""

    async def abort_upload(self, request: UploadRef) -> None:
        """Drop an unfinished upload (S10)."""
        raise NotSupportedError("This storage cannot abort an upload.")

    async def usage(self) -> StorageUsage:
        """Room left; the default says that it is not known."""
        return StorageUsage()

    async def check(self) -> None:
        """Raise a ``ProviderError`` if the backend cannot work now. Cheap: it runs on every readiness probe."""
        await self.list(ListObjects(prefix="readiness/", limit=1))

    async def examine(self) -> Sequence[StorageFinding]:
        """What an operator may have set up wrongly, for ``echoctl doctor``. May take seconds; the default has nothing
        to tell. Raises a ``ProviderError`` only if nothing can be looked at."""
        return ()
