"""Folders, opened step by step below a folder that is already open.

Every step is ``openat`` with ``O_NOFOLLOW``: no name, and no symbolic link that somebody plants, leads out of the
root. All of it blocks and belongs in a thread.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from echo_storage_local.keys import CUT_MARK, OBJECT_MARK

FOLDER_MODE = 0o750
FILE_MODE = 0o640
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_COMMIT_ATTEMPTS = 100


@contextmanager
def folder(root_fd: int, path: Sequence[str], *, create: bool = False) -> Iterator[int]:
    """Open the folder ``path`` below ``root_fd``; ``create`` makes what is missing, durably."""
    fd = os.dup(root_fd)
    try:
        for name in path:
            if name in {"", ".", ".."} or "/" in name:  # the second lock: no caller makes such a name
                raise ValueError("not the name of one folder")
            if create:
                with suppress(FileExistsError):
                    os.mkdir(name, FOLDER_MODE, dir_fd=fd)
                    os.fsync(fd)
            inner = os.open(name, _FOLDER_FLAGS, dir_fd=fd)
            os.close(fd)
            fd = inner
        yield fd
    finally:
        os.close(fd)


def open_file(folder_fd: int, name: str, flags: int = os.O_RDONLY) -> int:
    """Open a file of an open folder, never through a symbolic link."""
    return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE, dir_fd=folder_fd)


def write_file(folder_fd: int, name: str, content: bytes) -> None:
    """Create a file with ``content`` and make it durable; the folder is synced by the caller."""
    fd = open_file(folder_fd, name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    finally:
        os.close(fd)


def read_file(folder_fd: int, name: str, limit_bytes: int) -> bytes:
    """Read a small file, at most ``limit_bytes`` of it."""
    fd = open_file(folder_fd, name)
    try:
        return os.read(fd, limit_bytes)
    finally:
        os.close(fd)


def names(folder_fd: int) -> list[str]:
    """Names in an open folder, in no order."""
    with os.scandir(folder_fd) as entries:
        return [entry.name for entry in entries]


def commit_folder(source_fd: int, name: str, root_fd: int, path: Sequence[str]) -> bool:
    """Move the folder ``name`` of ``source_fd`` to ``path``: durable and atomic. False if something is there already.

    ``rename`` never replaces a folder that is not empty, so this is also the test for existence.
    """
    for _ in range(_COMMIT_ATTEMPTS):
        try:
            with folder(root_fd, path[:-1], create=True) as parent:
                os.rename(name, path[-1], src_dir_fd=source_fd, dst_dir_fd=parent)
                os.fsync(parent)
                os.fsync(source_fd)
                return True
        except FileNotFoundError:
            # A delete next door removed a folder that it found empty between our two calls: make it again.
            os.stat(name, dir_fd=source_fd, follow_symlinks=False)
        except OSError as error:
            if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
                return False
            raise
    raise OSError(errno.EBUSY, "folders vanish as fast as they are made")


def discard_folder(source_fd: int, name: str, trash_fd: int) -> bool:
    """Take a folder out of sight in one step, then remove it. False if there is none."""
    ticket = secrets.token_hex(16)
    try:
        os.rename(name, ticket, src_dir_fd=source_fd, dst_dir_fd=trash_fd)
    except FileNotFoundError:
        return False
    os.fsync(source_fd)
    remove_folder(trash_fd, ticket)
    return True


def remove_folder(parent_fd: int, name: str) -> None:
    """Remove a folder and all below it; what somebody else removes meanwhile is fine.

    A link in its place is removed itself, and not followed.
    """
    try:
        with folder(parent_fd, [name]) as fd:
            for entry in names(fd):
                try:
                    os.unlink(entry, dir_fd=fd)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    if error.errno not in {errno.EISDIR, errno.EPERM}:
                        raise
                    remove_folder(fd, entry)
        os.rmdir(name, dir_fd=parent_fd)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        os.unlink(name, dir_fd=parent_fd)


def prune_folders(root_fd: int, path: Sequence[str]) -> None:
    """Remove ``path`` and its parents while they are empty. ``rmdir`` itself decides, so no write is ever lost."""
    for depth in range(len(path), 0, -1):
        try:
            with folder(root_fd, path[: depth - 1]) as parent:
                os.rmdir(path[depth - 1], dir_fd=parent)
        except OSError:
            return


def walk_keys(folder_fd: int, *, prefix: str, after: str, base: str = "") -> Iterator[str]:
    """Keys below an open folder that start with ``prefix`` and sort behind ``after``, in order of their characters."""
    for name, path in sorted(_entries(folder_fd)):
        key = base + name
        if not name.endswith("/"):
            if key > after and key.startswith(prefix):
                yield key
            continue
        wanted = key.startswith(prefix) or prefix.startswith(key)
        passed = key < after and not after.startswith(key)
        if wanted and not passed:
            try:
                with folder(folder_fd, path) as inner:
                    yield from walk_keys(inner, prefix=prefix, after=after, base=key)
            except FileNotFoundError:
                continue


def _entries(folder_fd: int) -> list[tuple[str, tuple[str, ...]]]:
    """Names as in keys, folders with their ``/`` (so that they sort as in keys), and the path to each."""
    found: list[tuple[str, tuple[str, ...]]] = []
    for name in names(folder_fd):
        if name.endswith(OBJECT_MARK):
            found.append((name.removesuffix(OBJECT_MARK), (name,)))
        elif name.endswith(CUT_MARK):
            with suppress(FileNotFoundError), folder(folder_fd, [name]) as inner:
                stem = name.removesuffix(CUT_MARK)
                found += [(stem + rest.removeprefix(CUT_MARK), (name, *path)) for rest, path in _entries(inner)]
        else:
            found.append((f"{name}/", (name,)))
    return found
