"""Whole objects on disk. Everything here blocks; the backend runs it in threads.

``objects/<folders of the key>/<name>@/`` holds ``data`` and ``meta.json``. Both are made durable in a folder of their
own, which one ``rename`` then puts in place: an object has its facts or does not exist, whatever dies in between (S2).
"""

from __future__ import annotations

import errno
import json
import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from echo_core.plugin_api import (
    Clock,
    InvalidRequestError,
    ListObjects,
    NotFoundError,
    ObjectInfo,
    ObjectPage,
    UnavailableError,
)
from echo_storage_local import tree
from echo_storage_local.errors import generation_changed, object_exists, object_not_found
from echo_storage_local.keys import object_path

DATA = "data"
META = "meta.json"
CHECKSUM_PREFIX = "crc32c:"
_META_LIMIT_BYTES = 16 * 1024
_META_VERSION = 1
_MAX_PAGE = 1000
_NO_SUCH_FOLDER = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Folders:
    """The open folders of one root, all on one filesystem so that ``rename`` and ``link`` work between them."""

    objects: int
    uploads: int
    staging: int
    trash: int

    def close(self) -> None:
        """Close them all."""
        for fd in (self.objects, self.uploads, self.staging, self.trash):
            os.close(fd)


@dataclass(frozen=True, kw_only=True)
class OpenObject:
    """An object's facts with an open file of its bytes; whoever holds it closes it."""

    info: ObjectInfo
    fd: int

    def close(self) -> None:
        """Close the file."""
        os.close(self.fd)


class ObjectStore:
    """Objects by key."""

    def __init__(self, folders: Folders, clock: Clock) -> None:
        self._folders = folders
        self._clock = clock

    def stat(self, key: str) -> ObjectInfo:
        """Facts of an object (S4)."""
        with self._folder_of(key) as fd:
            return _read_meta(fd, key)

    def find(self, key: str) -> ObjectInfo | None:
        """Facts of an object, or None."""
        try:
            return self.stat(key)
        except NotFoundError:
            return None

    def open(self, key: str, generation: str | None = None) -> OpenObject:
        """Open an object for reading (S4); the open file outlives a delete."""
        with self._folder_of(key) as fd:
            info = _read_meta(fd, key)
            if generation is not None and info.generation != generation:
                raise generation_changed()
            return OpenObject(info=info, fd=tree.open_file(fd, DATA))

    def commit(self, source_fd: int, name: str, info: ObjectInfo) -> ObjectInfo:
        """Turn the folder ``name`` of ``source_fd``, which holds durable ``data``, into the object ``info.key`` (S3).

        What is returned is the stored object: an older one if its bytes are the same.
        """
        with tree.folder(source_fd, [name]) as fd:
            with suppress(FileNotFoundError):
                os.unlink(META, dir_fd=fd)  # left by a commit that was killed
            tree.write_file(fd, META, _encode_meta(info))
            os.fsync(fd)
        if tree.commit_folder(source_fd, name, self._folders.objects, object_path(info.key)):
            with suppress(OSError), self._folder_of(info.key) as fd:
                # Objects are handed out as hard links: a stray write must fail rather than change the object.
                os.chmod(DATA, 0o440, dir_fd=fd, follow_symlinks=True)
            return info
        existing = self.stat(info.key)
        if not same_bytes(existing, info.size_bytes, info.checksum):
            raise object_exists()
        return existing

    def describe(self, key: str, size_bytes: int, crc32c: int, content_type: str) -> ObjectInfo:
        """Facts of an object that is about to be committed; its generation is fresh (S11)."""
        return ObjectInfo(
            key=key,
            size_bytes=size_bytes,
            content_type=content_type,
            generation=secrets.token_hex(12),
            checksum=f"{CHECKSUM_PREFIX}{crc32c:08x}",
            created_at=self._clock.now(),
        )

    def delete(self, key: str) -> None:
        """Remove an object and the folders that it leaves empty (S6)."""
        path = object_path(key)
        try:
            with tree.folder(self._folders.objects, path[:-1]) as parent:
                removed = tree.discard_folder(parent, path[-1], self._folders.trash)
        except FileNotFoundError:
            return
        if removed:
            tree.prune_folders(self._folders.objects, path[:-1])

    def list(self, request: ListObjects) -> ObjectPage:
        """One page of objects (S7). An object whose facts cannot be read is logged and left out."""
        limit = min(request.limit, _MAX_PAGE)
        if limit < 1:
            raise InvalidRequestError("A page holds at least one object.", code="invalid_limit")
        keys = tree.walk_keys(self._folders.objects, prefix=request.prefix, after=request.cursor or "")
        page = list(islice(keys, limit + 1))
        objects = []
        for key in page[:limit]:
            try:
                objects.append(self.stat(key))
            except NotFoundError:
                continue  # deleted since
            except UnavailableError:
                _log.exception("object.damaged", extra={"key": key})
        return ObjectPage(objects=tuple(objects), next_cursor=page[limit - 1] if len(page) > limit else None)

    @contextmanager
    def _folder_of(self, key: str) -> Iterator[int]:
        path = object_path(key)
        try:
            with tree.folder(self._folders.objects, path) as fd:
                yield fd
        except OSError as error:
            if error.errno in _NO_SUCH_FOLDER:
                raise object_not_found() from error
            raise


def same_bytes(info: ObjectInfo, size_bytes: int, checksum: str) -> bool:
    """Whether an object has this size and this checksum, as far as rule S3 asks."""
    return info.size_bytes == size_bytes and info.checksum == checksum


def crc32c_of(info: ObjectInfo) -> int:
    """The checksum as a number."""
    return int(info.checksum.removeprefix(CHECKSUM_PREFIX), 16)


def _encode_meta(info: ObjectInfo) -> bytes:
    meta = {
        "version": _META_VERSION,
        "key": info.key,
        "size_bytes": info.size_bytes,
        "content_type": info.content_type,
        "generation": info.generation,
        "checksum": info.checksum,
        "created_at": info.created_at.isoformat(),
    }
    return json.dumps(meta, indent=1).encode()


def _read_meta(folder_fd: int, key: str) -> ObjectInfo:
    try:
        meta = json.loads(tree.read_file(folder_fd, META, _META_LIMIT_BYTES))
        info = ObjectInfo(
            key=str(meta["key"]),
            size_bytes=int(meta["size_bytes"]),
            content_type=str(meta["content_type"]),
            generation=str(meta["generation"]),
            checksum=str(meta["checksum"]),
            created_at=datetime.fromisoformat(meta["created_at"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UnavailableError(
            "The facts of this object cannot be read.", code="object_damaged", remedy="Restore it from a backup."
        ) from error
    if info.key != key:  # a filesystem that does not tell upper from lower case
        raise object_not_found()
    return info
