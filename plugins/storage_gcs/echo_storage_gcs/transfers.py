"""Bytes between the bucket and local files. Everything here blocks; memory is constant."""

from __future__ import annotations

import base64
import io
import os
import random
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import google_crc32c
import requests
from google.api_core.exceptions import BadRequest, NotFound, PreconditionFailed, from_http_response
from google.cloud.storage import Blob, Bucket

from echo_core.plugin_api import InvalidRequestError, NotFoundError, ObjectInfo, PutFile, UnavailableError
from echo_storage_gcs.calls import (
    LONGEST_PAUSE_S,
    TRANSFER_RETRY_S,
    Calls,
    Stop,
    StoppableFile,
    let_go,
    passes_by_itself,
)
from echo_storage_gcs.config import MIB, GcsConfig
from echo_storage_gcs.errors import ChecksumMismatchError, checksum_mismatch, from_google, object_exists
from echo_storage_gcs.sessions import NOTHING_BEFORE, RESUME_INCOMPLETE, Sessions, UploadState, kept_bytes

PART_BYTES = 32 * MIB
"""Of a big object that is fetched in parts: large enough that a part's request is nothing beside it."""
AT_ONCE_BYTES = 8 * MIB
"""Files up to this size are sent in one request; if it breaks off, they are sent again."""
CHECKSUM_PREFIX = "crc32c:"
MOST_SESSIONS = 3
"""The storage may forget a session of ours; one that forgets so many is away."""


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

    def __init__(
        self, bucket: Bucket, config: GcsConfig, calls: Calls, sessions: Sessions, http: requests.Session
    ) -> None:
        self._bucket = bucket
        self._config = config
        self._calls = calls
        self._sessions = sessions
        self._http = http

    def stat(self, key: str) -> ObjectInfo:
        """Facts of an object."""
        blob = self._bucket.blob(key)
        blob.reload(timeout=self._calls.timeout, retry=self._calls.retry)
        return info_of(blob)

    def read_at_once(self, info: ObjectInfo, start: int, end: int) -> bytes:
        """``[start, end)`` of exactly this generation of an object, soon or not at all."""
        data = self._bucket.blob(info.key).download_as_bytes(
            start=start,
            end=end - 1,
            raw_download=True,
            checksum=None,  # the storage knows only that of the whole
            if_generation_match=int(info.generation),
            timeout=self._calls.timeout,
            retry=self._calls.retry,
        )
        return _whole(bytes(data), end - start)

    def read(self, info: ObjectInfo, start: int, end: int, stop: Stop) -> bytes:
        """The same, with patience."""
        block = io.BytesIO()
        self._download(info, block, start, end, stop)
        return _whole(block.getvalue(), end - start)

    def fetch_part(self, info: ObjectInfo, path: Path, start: int, end: int, stop: Stop) -> None:
        """``[start, end)`` of an object into the same place of the file at ``path``."""
        with path.open("r+b") as file:
            file.seek(start)
            self._download(info, file, start, end, stop)
            if file.tell() != end:
                raise ConnectionError("the object ended early")

    def _download(self, info: ObjectInfo, file: BinaryIO, start: int, end: int, stop: Stop) -> None:
        # The client's own retries end some time after the first try, however much has come since.
        begin, patience = file.tell(), Patience(stop)
        while True:
            at = start + file.tell() - begin
            try:
                self._bucket.blob(info.key).download_to_file(
                    StoppableFile(file, stop),
                    start=at,
                    end=end - 1,
                    raw_download=True,
                    checksum=None,
                    if_generation_match=int(info.generation),
                    timeout=self._calls.transfer_timeout,
                    retry=None,
                )
            except Exception as error:
                let_go(error)
                at = start + file.tell() - begin
                if at < end and (not passes_by_itself(error) or not (patience.has_come_to(at) or patience.is_left)):
                    raise
                if at < end:
                    patience.pause()
                    continue
            return

    def put(self, request: PutFile, stop: Stop) -> ObjectInfo:
        """Store a local file (S2, S3). It is compared by its checksum on arrival, and sent twice at most."""
        with _open_source(request.path) as source:
            size_bytes = os.fstat(source.fileno()).st_size
            crc32c = checksum_of(source, size_bytes, stop)
            wanted = (size_bytes, f"{CHECKSUM_PREFIX}{crc32c:08x}")
            send = self._send_at_once if size_bytes <= AT_ONCE_BYTES else self._send_in_chunks
            try:
                try:
                    return self._checked(send(request, source, size_bytes, crc32c, stop), wanted)
                except ChecksumMismatchError:
                    return self._checked(send(request, source, size_bytes, crc32c, stop), wanted)
            except PreconditionFailed:
                # Also after an answer that was lost: the first try has stored it.
                stored = self.stat(request.key)
                if (stored.size_bytes, stored.checksum) != wanted:
                    raise object_exists() from None
                return stored

    def _checked(self, stored: ObjectInfo, wanted: tuple[int, str]) -> ObjectInfo:
        if (stored.size_bytes, stored.checksum) != wanted:
            self._bucket.blob(stored.key).delete(
                if_generation_match=int(stored.generation), timeout=self._calls.timeout, retry=self._calls.retry
            )
            raise checksum_mismatch()
        return stored

    def _send_at_once(self, request: PutFile, source: BinaryIO, size_bytes: int, crc32c: int, stop: Stop) -> ObjectInfo:
        source.seek(0)
        blob = self._sessions.new_blob(request.key)
        with _damage_told():
            blob.upload_from_file(
                StoppableFile(source, stop),
                size=size_bytes,
                content_type=request.content_type,
                checksum="crc32c",
                crc32c_checksum_value=_base64(crc32c),
                if_generation_match=NOTHING_BEFORE,
                timeout=self._calls.transfer_timeout,
                retry=self._calls.transfer_retry(stop),
            )
        return info_of(blob)

    def _send_in_chunks(
        self, request: PutFile, source: BinaryIO, size_bytes: int, crc32c: int, stop: Stop
    ) -> ObjectInfo:
        """By a session of our own, so that a short 308 costs nothing but the bytes that were not kept."""
        uri, sessions = self._sessions.open(request.key, request.content_type, size_bytes), 1
        at, patience = 0, Patience(stop)
        while True:
            stop.check()
            answer = self._send_chunk(uri, source, at, size_bytes, crc32c)
            status = None if answer is None else answer.status_code
            if status in {200, 201}:
                return self.stat(request.key)
            gone = status in {404, 410}
            if answer is not None and status == RESUME_INCOMPLETE:
                at = kept_bytes(answer)
            elif answer is not None and not gone and not passes_by_itself(from_http_response(answer)):
                with _damage_told():
                    raise from_http_response(answer)
            elif not gone:
                patience.pause()
                try:
                    found = self._sessions.offset(UploadState(kind="session", uri=uri, size_bytes=size_bytes))
                except NotFoundError:
                    gone = True
                else:
                    if found is None:
                        return self.stat(request.key)
                    at = found.offset_bytes
            if gone:
                if sessions == MOST_SESSIONS:
                    raise UnavailableError("The bucket forgets what it is sent.", code="storage_unavailable")
                uri, sessions = self._sessions.open(request.key, request.content_type, size_bytes), sessions + 1
                at, patience = 0, Patience(stop)
            elif not patience.has_come_to(at):
                patience.pause()

    def _send_chunk(
        self, uri: str, source: BinaryIO, at: int, size_bytes: int, crc32c: int
    ) -> requests.Response | None:
        end = min(size_bytes, at + self._config.chunk_size_bytes)
        source.seek(at)
        chunk = source.read(end - at)
        if len(chunk) != end - at:
            raise _file_changed()
        headers = {"Content-Range": f"bytes {at}-{end - 1}/{size_bytes}" if chunk else f"bytes */{size_bytes}"}
        if end == size_bytes:
            headers["X-Goog-Hash"] = f"crc32c={_base64(crc32c)}"
        try:
            return self._http.put(
                uri, data=chunk, headers=headers, timeout=self._calls.transfer_timeout, allow_redirects=False
            )
        except requests.RequestException as error:
            if not passes_by_itself(error):
                raise
            return None

    def delete(self, key: str) -> None:
        """Remove an object; none is fine. Keys are never used again, so it may be said twice."""
        try:
            self._bucket.blob(key).delete(timeout=self._calls.timeout, retry=self._calls.retry)
        except NotFound as error:
            if not isinstance(mapped := from_google(error), NotFoundError):
                raise mapped from error  # it is the bucket that is not there


class Patience:
    """With a transfer that comes to a halt now and then: waits longer each time, and ends when nothing has moved for
    ``TRANSFER_RETRY_S``."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop
        self._furthest = -1
        self._since = time.monotonic()
        self._tries = 0

    @property
    def is_left(self) -> bool:
        """Whether it is worth another try."""
        return time.monotonic() - self._since <= TRANSFER_RETRY_S

    def has_come_to(self, at: int) -> bool:
        """Whether that is further than ever before."""
        if at <= self._furthest:
            return False
        self._furthest, self._since, self._tries = at, time.monotonic(), 0
        return True

    def pause(self) -> None:
        """Wait a little. Raises ``StoppedError``, and ``UnavailableError`` when there is none left."""
        if not self.is_left:
            raise UnavailableError("The bucket does not come any further.", code="storage_unavailable")
        self._stop.pause(min(LONGEST_PAUSE_S, 0.5 * 2.0 ** min(self._tries, 10)) * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
        self._tries += 1


def _whole(data: bytes, size_bytes: int) -> bytes:
    if len(data) != size_bytes:
        raise ConnectionError("the object ended early")
    return data


def _base64(crc32c: int) -> str:
    return base64.b64encode(crc32c.to_bytes(4, "big")).decode()


@contextmanager
def _damage_told() -> Iterator[None]:
    """The storage refuses bytes that do not have the checksum that was announced."""
    try:
        yield
    except BadRequest as error:
        if any(word in str(error).lower() for word in ("crc32c", "checksum", "hash")):
            raise checksum_mismatch() from error
        raise


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
    """Raises ``ChecksumMismatchError`` if the file is not the object."""
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
                raise _file_changed()
            break
        crc32c = google_crc32c.extend(crc32c, piece)
        left = None if left is None else left - len(piece)
    return int(crc32c)


def _file_changed() -> InvalidRequestError:
    return InvalidRequestError("The file changed while it was read.", code="file_changed")


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
