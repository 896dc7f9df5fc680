"""Scratch directories of workers: one each, locked while its worker lives, swept when it does not."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


@contextmanager
def worker_scratch(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield (worker name, its directory), and remove it afterwards; first remove those whose workers are gone."""
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    sweep(root)
    name = f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}"
    directory = root / name
    # Locked before the directory exists, so that nobody can take a living worker's for a dead one's.
    lock = _locked(_lock_path(directory))
    try:
        directory.mkdir(mode=0o700)
        yield name, directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        _held_path(directory).unlink(missing_ok=True)
        _lock_path(directory).unlink(missing_ok=True)
        os.close(lock)


def sweep(root: Path) -> None:
    """Remove directories whose lock nobody holds: their workers were killed."""
    for lock_path in root.glob("*.lock"):
        directory = lock_path.with_suffix("")
        try:
            lock = os.open(lock_path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # another worker that starts at this moment has swept it
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(directory, ignore_errors=True)
            _held_path(directory).unlink(missing_ok=True)
            lock_path.unlink(missing_ok=True)
        finally:
            os.close(lock)


def _locked(path: Path) -> int:
    """A new file's descriptor, locked. Between the two somebody may sweep the file: a lock on what has no name any more
    would tell nobody that its worker lives."""
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.fstat(lock).st_nlink:
            return lock
        os.close(lock)


def _lock_path(directory: Path) -> Path:
    return directory.with_name(f"{directory.name}.lock")


def _held_path(directory: Path) -> Path:
    """What the worker had reserved (``reservations.py``)."""
    return directory.with_name(f"{directory.name}.held")
