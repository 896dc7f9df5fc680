"""Unfinished uploads on disk. Everything here blocks; the backend runs it in threads.

``uploads/<id>/`` holds ``begin.json`` (what was agreed), ``mark`` (how much is durable, and its checksum) and
``object/data`` (the bytes). Bytes count only once the mark says so: it is written after they are synced. A process
that is killed so loses at most ``CHECKPOINT_BYTES`` of one request, never agrees to more than it has, and goes on with
the right checksum. An upload whose ``object`` folder is gone has become its object.

The lock is ``flock`` on the mark, so several processes may serve one root.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace

import google_crc32c

from echo_core.plugin_api import (
    Clock,
    InvalidRequestError,
    NotFoundError,
    ObjectInfo,
    PreconditionFailedError,
    UnavailableError,
    UploadOffset,
)
from echo_storage_local import tree
from echo_storage_local.config import MIB
from echo_storage_local.errors import upload_gone
from echo_storage_local.objects import DATA, Folders, ObjectStore
from echo_storage_local.room import Room

CHECKPOINT_BYTES = 64 * MIB
_sync_data = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync
_BEGIN = "begin.json"
_MARK = "mark"
_OBJECT = "object"
_BEGIN_LIMIT_BYTES = 16 * 1024
_ID = re.compile(r"[0-9a-f]{32}")
_MARK_FORMAT = re.compile(rb"(\d{20}) ([0-9a-f]{8}) (-|\d{20}) (\d{20})\n")
_MARK_LENGTH = 128


@dataclass(frozen=True, kw_only=True)
class UploadTerms:
    """What ``begin_upload`` agreed to."""

    key: str
    content_type: str
    size_bytes: int | None
    max_size_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What is durable: so many bytes with this checksum, of ``total_bytes`` if the client has said."""

    offset_bytes: int = 0
    crc32c: int = 0
    total_bytes: int | None = None
    touched_at: int = 0
    """Seconds since the epoch."""

    def encode(self) -> bytes:
        """One short record: a disk writes it whole or not at all."""
        total = "-" if self.total_bytes is None else f"{self.total_bytes:020d}"
        return f"{self.offset_bytes:020d} {self.crc32c:08x} {total} {self.touched_at:020d}\n".encode().ljust(
            _MARK_LENGTH
        )

    @classmethod
    def decode(cls, record: bytes) -> Mark:
        """Read a record; one that makes no sense vouches for no byte."""
        found = _MARK_FORMAT.match(record)
        if found is None:
            return cls()
        offset, crc32c, total, touched = found.groups()
        return cls(
            offset_bytes=int(offset),
            crc32c=int(crc32c, 16),
            total_bytes=None if total == b"-" else int(total),
            touched_at=int(touched),
        )


class OpenUpload:
    """An upload held by one request: locked, its bytes open. Not safe for concurrent use; ``close`` it."""

    def __init__(self, upload_id: str, terms: UploadTerms, mark: Mark, *, mark_fd: int, data_fd: int) -> None:
        self.upload_id = upload_id
        self.terms = terms
        self.mark = mark
        """What is durable; the state after the last ``sync``."""
        self.offset_bytes = mark.offset_bytes
        self.total_bytes = terms.size_bytes if terms.size_bytes is not None else mark.total_bytes
        self._crc32c = mark.crc32c
        self._mark_fd = mark_fd
        self._data_fd = data_fd
        self._write_failure: OSError | None = None
        self._sync_failure: OSError | None = None

    @property
    def crc32c(self) -> int:
        """Checksum of the first ``offset_bytes`` bytes."""
        return self._crc32c

    def write(self, pieces: Sequence[bytes]) -> None:
        """Append. After an error nothing more can be written: what comes next would land in the wrong place."""
        if self._write_failure is not None:
            raise self._write_failure
        try:
            self._append(pieces)
        except OSError as error:
            self._write_failure = error
            raise

    def _append(self, pieces: Sequence[bytes]) -> None:
        at, left = self.offset_bytes, list(pieces)
        while left:
            written = os.pwritev(self._data_fd, left, at)
            at += written
            while left and written >= len(left[0]):
                written -= len(left.pop(0))
            if left and written:
                left[0] = left[0][written:]
        for piece in pieces:
            self._crc32c = google_crc32c.extend(self._crc32c, piece)
        self.offset_bytes = at
        if at - self.mark.offset_bytes >= CHECKPOINT_BYTES:
            self.sync(self.mark.touched_at)

    def sync(self, now_s: int) -> None:
        """Make all that was written durable, then say so in the mark.

        After a failure it fails for ever: the system reports lost pages once, and a second try would succeed.
        """
        if self._sync_failure is not None:
            raise self._sync_failure
        try:
            _sync_data(self._data_fd)
        except OSError as error:
            self._sync_failure = error
            raise
        self.mark = Mark(
            offset_bytes=self.offset_bytes, crc32c=self._crc32c, total_bytes=self.total_bytes, touched_at=now_s
        )
        os.pwrite(self._mark_fd, self.mark.encode(), 0)
        _sync_data(self._mark_fd)

    def rewind(self, mark: Mark) -> None:
        """Go back to an earlier mark: what came after it is not stored."""
        self.offset_bytes, self._crc32c, self.total_bytes = mark.offset_bytes, mark.crc32c, mark.total_bytes
        os.ftruncate(self._data_fd, mark.offset_bytes)
        self.sync(mark.touched_at)

    def cut(self) -> None:
        """Drop what lies behind the offset (a request that was killed wrote it) and make the rest durable."""
        if os.fstat(self._data_fd).st_size != self.offset_bytes:
            os.ftruncate(self._data_fd, self.offset_bytes)
        os.fsync(self._data_fd)

    def close(self) -> None:
        """Let go of the upload."""
        os.close(self._data_fd)
        os.close(self._mark_fd)


class UploadStore:
    """Uploads by id."""

    def __init__(self, folders: Folders, objects: ObjectStore, room: Room, clock: Clock) -> None:
        self._folders = folders
        self._objects = objects
        self._room = room
        self._clock = clock

    def now_s(self) -> int:
        """Seconds since the epoch, by the injected clock."""
        return int(self._clock.now().timestamp())

    def begin(self, terms: UploadTerms) -> str:
        """Start an upload, durably, and return its id."""
        upload_id = secrets.token_hex(16)
        with tree.folder(self._folders.uploads, [upload_id], create=True) as fd:
            with tree.folder(fd, [_OBJECT], create=True) as inner:
                tree.write_file(inner, DATA, b"")
                os.fsync(inner)
            tree.write_file(fd, _MARK, Mark(touched_at=self.now_s()).encode())
            tree.write_file(fd, _BEGIN, json.dumps(asdict(terms)).encode())
            os.fsync(fd)
        return upload_id

    def terms(self, upload_id: str) -> UploadTerms:
        """What was agreed. Raises ``NotFoundError`` (code ``upload_gone``)."""
        with _gone_if_missing(), tree.folder(self._folders.uploads, [_check_id(upload_id)]) as fd:
            return _read_terms(fd)

    def offset(self, upload_id: str) -> UploadOffset:
        """The durable bytes, without disturbing a request that is sending."""
        with _gone_if_missing(), tree.folder(self._folders.uploads, [_check_id(upload_id)]) as fd:
            terms = _read_terms(fd)
            if _is_whole(fd):
                info = self._finished(terms)
                return UploadOffset(offset_bytes=info.size_bytes, complete=True)
            mark = Mark.decode(tree.read_file(fd, _MARK, _MARK_LENGTH))
        return UploadOffset(offset_bytes=mark.offset_bytes, complete=False)

    def open(self, upload_id: str) -> OpenUpload | ObjectInfo:
        """Lock an upload for one request, or give the object that it has become."""
        with _gone_if_missing(), tree.folder(self._folders.uploads, [_check_id(upload_id)]) as fd:
            terms = _read_terms(fd)
            with ExitStack() as closing:
                mark_fd = tree.open_file(fd, _MARK, os.O_RDWR)
                closing.callback(os.close, mark_fd)
                _lock(mark_fd)
                if _is_whole(fd):
                    return self._finished(terms)
                mark = Mark.decode(os.pread(mark_fd, _MARK_LENGTH, 0))
                with tree.folder(fd, [_OBJECT]) as inner:
                    data_fd = tree.open_file(inner, DATA, os.O_RDWR)
                closing.pop_all()
        if os.fstat(data_fd).st_size < mark.offset_bytes:
            mark = replace(mark, offset_bytes=0, crc32c=0)  # the disk lost what it had promised: begin anew
        return OpenUpload(upload_id, terms, mark, mark_fd=mark_fd, data_fd=data_fd)

    def finish(self, upload: OpenUpload) -> ObjectInfo:
        """Turn a whole upload into its object (S2, S3). Can be repeated after a crash at any point."""
        upload.cut()
        key = upload.terms.key
        info = self._objects.describe(key, upload.offset_bytes, upload.crc32c, upload.terms.content_type)
        self._room.claim(upload.upload_id, 0)
        with _gone_if_missing(), tree.folder(self._folders.uploads, [upload.upload_id]) as fd:
            try:
                stored = self._objects.commit(fd, _OBJECT, info)
            except PreconditionFailedError:
                self.remove(upload.upload_id)
                raise
            if stored is not info:  # the same bytes were there already: ours are not needed
                tree.discard_folder(fd, _OBJECT, self._folders.trash)
            return stored

    def touch(self, upload_id: str) -> None:
        """Keep an upload from growing stale. Raises ``NotFoundError`` (code ``upload_gone``)."""
        try:
            opened = self.open(upload_id)
        except UnavailableError:
            return  # somebody is sending right now
        if isinstance(opened, OpenUpload):
            try:
                opened.sync(self.now_s())
            finally:
                opened.close()

    def remove(self, upload_id: str) -> None:
        """Drop an upload and its bytes; none is fine."""
        self._room.claim(upload_id, 0)
        if _ID.fullmatch(upload_id):
            tree.discard_folder(self._folders.uploads, upload_id, self._folders.trash)

    def sweep(self, older_than_s: float) -> int:
        """Remove uploads that nobody touched for so long, finished ones included; return how many."""
        swept = 0
        for upload_id in tree.names(self._folders.uploads):
            if self._is_stale(upload_id, older_than_s):
                self.remove(upload_id)
                swept += 1
        return swept

    def _is_stale(self, upload_id: str, older_than_s: float) -> bool:
        try:
            with tree.folder(self._folders.uploads, [upload_id]) as fd:
                try:
                    mark_fd = tree.open_file(fd, _MARK, os.O_RDWR)
                except FileNotFoundError:  # its beginning was killed
                    return self.now_s() - os.fstat(fd).st_mtime > older_than_s
                try:
                    _lock(mark_fd)
                    mark = Mark.decode(os.pread(mark_fd, _MARK_LENGTH, 0))
                    return self.now_s() - mark.touched_at > older_than_s
                finally:
                    os.close(mark_fd)
        except (OSError, UnavailableError):
            return False

    def _finished(self, terms: UploadTerms) -> ObjectInfo:
        try:
            return self._objects.stat(terms.key)
        except NotFoundError:
            raise upload_gone() from None


@contextmanager
def _gone_if_missing() -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise upload_gone() from error


def _check_id(upload_id: str) -> str:
    if _ID.fullmatch(upload_id) is None:
        raise upload_gone()
    return upload_id


def _lock(mark_fd: int) -> None:
    try:
        fcntl.flock(mark_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UnavailableError(
            "Another request is sending to this upload.", code="upload_busy", remedy="Try again in a moment."
        ) from None


def _is_whole(folder_fd: int) -> bool:
    try:
        os.stat(_OBJECT, dir_fd=folder_fd, follow_symlinks=False)
    except FileNotFoundError:
        return True
    return False


def _read_terms(folder_fd: int) -> UploadTerms:
    try:
        return UploadTerms(**json.loads(tree.read_file(folder_fd, _BEGIN, _BEGIN_LIMIT_BYTES)))
    except (ValueError, TypeError) as error:
        raise InvalidRequestError("This upload cannot be read.", code="upload_damaged") from error
