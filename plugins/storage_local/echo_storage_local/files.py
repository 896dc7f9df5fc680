"""Local files into and out of the store: linked when the filesystem is the same, copied when not. All of it blocks."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import google_crc32c

from echo_core.plugin_api import FetchFile, InvalidRequestError, NotFoundError, ObjectInfo, PutFile
from echo_storage_local import tree
from echo_storage_local.config import MIB
from echo_storage_local.content_types import validate_content_type
from echo_storage_local.errors import object_exists
from echo_storage_local.keys import object_path
from echo_storage_local.objects import CHECKSUM_PREFIX, DATA, Folders, ObjectStore, same_bytes
from echo_storage_local.room import Room

_CANNOT_LINK = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EACCES, errno.ENOTSUP, errno.ELOOP})


class FileStore:
    """``put_file`` and ``fetch_file``."""

    def __init__(self, folders: Folders, objects: ObjectStore, room: Room) -> None:
        self._folders = folders
        self._objects = objects
        self._room = room

    def put(self, request: PutFile) -> ObjectInfo:
        """Store a local file; it is consumed when it could be linked, and intact after any error (S2, S3)."""
        object_path(request.key)
        content_type = validate_content_type(request.content_type)
        with _open_source(request.path) as source_fd:
            size_bytes = os.fstat(source_fd).st_size
            crc32c = checksum_file(source_fd)
            existing = self._objects.find(request.key)
            if existing is not None:
                if not same_bytes(existing, size_bytes, f"{CHECKSUM_PREFIX}{crc32c:08x}"):
                    raise object_exists()
                return existing
            with self._staged() as name:
                linked = self._stage(name, request.path, source_fd, size_bytes)
                info = self._objects.describe(request.key, size_bytes, crc32c, content_type)
                stored = self._objects.commit(self._folders.staging, name, info)
        if linked:
            with suppress(OSError):
                request.path.unlink()
        return stored

    def fetch(self, request: FetchFile) -> None:
        """Link or copy an object to ``request.path``, which must not exist (S4)."""
        opened = self._objects.open(request.key, request.generation)
        try:
            try:
                # The open file, by its name in /proc: what is linked is what was checked, even if a delete comes now.
                # src_dir_fd changes nothing for an absolute path, but only with it does Python follow the link.
                os.link(f"/proc/self/fd/{opened.fd}", request.path, src_dir_fd=opened.fd, follow_symlinks=True)
            except FileExistsError:
                raise InvalidRequestError("There is a file at this path already.", code="path_exists") from None
            except OSError as error:
                if error.errno not in _CANNOT_LINK and error.errno != errno.ENOENT:
                    raise
                _copy_to_path(opened.fd, request.path, opened.info.size_bytes)
        finally:
            opened.close()

    def can_link_to(self, directory: Path) -> bool:
        """Whether the objects lie on the disk of ``directory``."""
        return os.fstat(self._folders.staging).st_dev == directory.stat().st_dev

    @contextmanager
    def _staged(self) -> Iterator[str]:
        name = secrets.token_hex(16)
        os.mkdir(name, tree.FOLDER_MODE, dir_fd=self._folders.staging)
        try:
            yield name
        finally:
            tree.remove_folder(self._folders.staging, name)

    def _stage(self, name: str, path: Path, source_fd: int, size_bytes: int) -> bool:
        """Bring the source into the staging folder, durably. True if it was linked."""
        with tree.folder(self._folders.staging, [name]) as fd:
            if _link(path, source_fd, fd):
                os.fsync(source_fd)
                return True
            self._room.require(size_bytes)
            target_fd = tree.open_file(fd, DATA, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            try:
                copy_bytes(source_fd, target_fd, size_bytes)
                os.fsync(target_fd)
            finally:
                os.close(target_fd)
            return False


@contextmanager
def _open_source(path: Path) -> Iterator[int]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not hang us
    except FileNotFoundError:
        raise NotFoundError("There is no file at this path.", code="file_not_found") from None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise InvalidRequestError("Only regular files can be stored.", code="not_a_file")
        yield fd
    finally:
        os.close(fd)


def _link(path: Path, source_fd: int, folder_fd: int) -> bool:
    try:
        os.link(path, DATA, dst_dir_fd=folder_fd, follow_symlinks=False)
    except OSError as error:
        if error.errno in _CANNOT_LINK:
            return False
        raise
    if os.path.samestat(os.stat(DATA, dir_fd=folder_fd, follow_symlinks=False), os.fstat(source_fd)):
        return True
    os.unlink(DATA, dir_fd=folder_fd)  # a symbolic link, or another file since we looked
    return False


def checksum_file(fd: int, size_bytes: int | None = None) -> int:
    """CRC32C of a file from its start, or of its first ``size_bytes``."""
    crc32c, at = 0, 0
    while size_bytes is None or at < size_bytes:
        piece = os.pread(fd, MIB if size_bytes is None else min(MIB, size_bytes - at), at)
        if not piece:
            break
        crc32c = google_crc32c.extend(crc32c, piece)
        at += len(piece)
    return crc32c


def copy_bytes(source_fd: int, target_fd: int, size_bytes: int) -> None:
    """Copy exactly ``size_bytes`` from the start of one open file to another."""
    at = 0
    while at < size_bytes:
        piece = os.pread(source_fd, min(size_bytes - at, MIB), at)
        if not piece:
            raise InvalidRequestError("The file shrank while it was read.", code="file_changed")
        view = memoryview(piece)
        while view:
            view = view[os.write(target_fd, view) :]
        at += len(piece)


def _copy_to_path(source_fd: int, path: Path, size_bytes: int) -> None:
    try:
        target_fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, tree.FILE_MODE)
    except FileExistsError:
        raise InvalidRequestError("There is a file at this path already.", code="path_exists") from None
    try:
        copy_bytes(source_fd, target_fd, size_bytes)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(target_fd)
