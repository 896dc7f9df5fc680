"""Bytes between the bucket and local files. Everything here blocks; memory is constant."""

from __future__ import annotations

import base64
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import google_crc32c
from google.api_core.exceptions import NotFound, PreconditionFailed
from google.cloud.storage import Blob, Bucket

from echo_core.plugin_api import InvalidRequestError, NotFoundError, ObjectInfo, PutFile
from echo_storage_gcs.calls import Calls, Stop, StoppableFile
from echo_storage_gcs.config import MIB, GcsConfig
from echo_storage_gcs.errors import checksum_mismatch, from_google, object_exists
from echo_storage_gcs.sessions import NOTHING_BEFORE

PART_BYTES = 32 * MIB
"""Of a big object that is fetched in parts: large enough that a part's request is nothing beside it."""
CHECKSUM_PREFIX = "crc32c:"
CACHE_CONTROL = "private, max-age=86400, immutable"
"""What is stored under a key never changes: a browser may keep what it has played, and nobody between it and us."""


def info_of(blob: Blob) -> ObjectInfo:
    """The facts of an object whose metadata were loaded."""
    return ObjectInfo(
        key=str(blob.name),
        size_bytes=int(blob.size),
        content_type=str(blob.content_type or "application/octet-stream"),
        generation=str(blob.generation),
        checksum=CHECKSUM_PREFIX + base64.b64decode(blob.crc32c or "").hex(),
        created_at=blob.time_created,
    )


class Transfers:
    """Uploads and downloads. Raises Google's errors or Echo's."""

    def __init__(self, bucket: Bucket, config: GcsConfig, calls: Calls) -> None:
        self._bucket = bucket
        self._config = config
        self._calls = calls

    def stat(self, key: str) -> ObjectInfo:
        """Facts of an object."""
        blob = self._bucket.blob(key)
        blob.reload(timeout=self._calls.timeout, retry=self._calls.retry)
        return info_of(blob)

    def read(self, info: ObjectInfo, start: int, end: int) -> bytes:
        """``[start, end)`` of exactly this generation of an object."""
        return bytes(
            self._bucket.blob(info.key).download_as_bytes(
                start=start,
                end=end - 1,
                raw_download=True,
                checksum=None,  # the storage knows only that of the whole
                if_generation_match=int(info.generation),
                timeout=self._calls.transfer_timeout,
                retry=self._calls.transfer_retry,
            )
        )

    def fetch_part(self, info: ObjectInfo, path: Path, start: int, end: int, stop: Stop) -> None:
        """``[start, end)`` of an object into the same place of the file at ``path``."""
        with path.open("r+b") as file:
            file.seek(start)
            self._bucket.blob(info.key).download_to_file(
                StoppableFile(file, stop),
                start=start,
                end=end - 1,
                raw_download=True,
                checksum=None,
                if_generation_match=int(info.generation),
                timeout=self._calls.transfer_timeout,
                retry=self._calls.transfer_retry,
            )
            if file.tell() != end:
                raise ConnectionError("the object ended early")

    def put(self, request: PutFile, stop: Stop) -> ObjectInfo:
        """Store a local file (S2, S3): the storage gets its checksum first and refuses other bytes."""
        with _open_source(request.path) as source:
            size_bytes = os.fstat(source.fileno()).st_size
            checksum = checksum_of(source, size_bytes, stop)
            source.seek(0)
            blob = self._bucket.blob(request.key, chunk_size=self._config.chunk_size_bytes)
            blob.cache_control = CACHE_CONTROL
            try:
                blob.upload_from_file(
                    StoppableFile(source, stop),
                    size=size_bytes,
                    content_type=request.content_type,
                    checksum="crc32c",
                    crc32c_checksum_value=base64.b64encode(checksum.to_bytes(4, "big")).decode(),
                    if_generation_match=NOTHING_BEFORE,
                    timeout=self._calls.transfer_timeout,
                    retry=self._calls.transfer_retry,
                )
            except PreconditionFailed:
                # Also after an answer that was lost: the first try has stored it.
                return self._same_or_refused(request.key, size_bytes, f"{CHECKSUM_PREFIX}{checksum:08x}")
        stored = info_of(blob)
        if (stored.size_bytes, stored.checksum) != (size_bytes, f"{CHECKSUM_PREFIX}{checksum:08x}"):
            blob.delete(if_generation_match=int(stored.generation), timeout=self._calls.timeout)
            raise checksum_mismatch()
        return stored

    def _same_or_refused(self, key: str, size_bytes: int, checksum: str) -> ObjectInfo:
        stored = self.stat(key)
        if (stored.size_bytes, stored.checksum) != (size_bytes, checksum):
            raise object_exists()
        return stored

    def delete(self, key: str) -> None:
        """Remove an object; none is fine. Keys are never used again, so it may be said twice."""
        try:
            self._bucket.blob(key).delete(timeout=self._calls.timeout, retry=self._calls.retry)
        except NotFound as error:
            if not isinstance(mapped := from_google(error), NotFoundError):
                raise mapped from error  # it is the bucket that is not there


def create_target(path: Path, size_bytes: int) -> None:
    """A new file of that size, a hole so far. Raises ``InvalidRequestError`` (``path_exists``), ``OSError``."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise InvalidRequestError("There is a file at this path already.", code="path_exists") from None
    try:
        os.ftruncate(fd, size_bytes)
    finally:
        os.close(fd)


def check_file(path: Path, checksum: str, stop: Stop) -> None:
    """Raises ``ProviderError`` (``checksum_mismatch``) if the file is not the object."""
    with path.open("rb") as file:
        found = checksum_of(file, None, stop)
    if f"{CHECKSUM_PREFIX}{found:08x}" != checksum:
        raise checksum_mismatch()


def checksum_of(file: BinaryIO, size_bytes: int | None, stop: Stop) -> int:
    """CRC32C of an open file from where it stands. Raises ``InvalidRequestError`` if it is not so long (any more)."""
    crc32c, left = 0, size_bytes
    while left is None or left > 0:
        stop.check()
        piece = file.read(MIB if left is None else min(MIB, left))
        if not piece:
            if left:
                raise InvalidRequestError("The file shrank while it was read.", code="file_changed")
            break
        crc32c = google_crc32c.extend(crc32c, piece)
        left = None if left is None else left - len(piece)
    return int(crc32c)


@contextmanager
def _open_source(path: Path) -> Iterator[BinaryIO]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not hang us
    except FileNotFoundError:
        raise NotFoundError("There is no file at this path.", code="file_not_found") from None
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise InvalidRequestError("Only regular files can be stored.", code="not_a_file")
        yield cast("BinaryIO", file)
