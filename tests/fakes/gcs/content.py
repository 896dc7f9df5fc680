"""Bytes on their way in and out: constant memory, hashes as they pass, ranges."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c

UNIT_BYTES = 256 * 1024  # resumable uploads are stored in multiples of this
READ_BYTES = 256 * 1024
_ZEROS = bytes(UNIT_BYTES)
_RANGE = re.compile(r"^bytes=(\d*)-(\d*)$")


@dataclass(frozen=True)
class Mark:
    """A moment of a sink to which it can go back."""

    size: int
    crc32c: Any
    md5: Any


class Sink:
    """A file that grows in whole units; blocks of zeros become holes.

    ``size`` counts what is stored; what came after the last whole unit waits in memory for ``flush`` or ``drop_tail``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._crc32c = google_crc32c.Checksum()
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._tail = bytearray()
        self._file: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)

    @property
    def crc32c(self) -> str:
        """Base64 of the four bytes, big-endian."""
        return base64.b64encode(self._crc32c.digest()).decode()

    @property
    def md5(self) -> str:
        """Base64 of the digest."""
        return base64.b64encode(self._md5.digest()).decode()

    def mark(self) -> Mark:
        """Where the sink stands."""
        return Mark(self.size, self._crc32c.copy(), self._md5.copy())

    def back_to(self, mark: Mark) -> None:
        """Forget all that came after the mark."""
        self._tail.clear()
        self.size, self._crc32c, self._md5 = mark.size, mark.crc32c.copy(), mark.md5.copy()
        if self._file is not None:
            os.ftruncate(self._file, mark.size)

    def feed(self, data: bytes) -> None:
        """Store the whole units, keep the rest waiting."""
        self._tail += data
        while self.size % UNIT_BYTES + len(self._tail) >= UNIT_BYTES:
            self._store(UNIT_BYTES - self.size % UNIT_BYTES)

    def flush(self) -> None:
        """Store what waits."""
        self._store(len(self._tail))

    def drop_tail(self) -> None:
        """Forget what waits."""
        self._tail.clear()

    def finish(self) -> None:
        """Store what waits and close the file, of its whole length also where it ends in a hole."""
        self.flush()
        if self._file is not None:
            os.ftruncate(self._file, self.size)
        self.close()

    def close(self) -> None:
        """Close the file, which stays."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def discard(self) -> None:
        """Close the file and remove it."""
        self.close()
        self.path.unlink(missing_ok=True)

    def _store(self, length: int) -> None:
        if not length or self._file is None:
            return
        block = bytes(self._tail[:length])
        del self._tail[:length]
        if block != (_ZEROS if length == UNIT_BYTES else _ZEROS[:length]):
            os.pwrite(self._file, block, self.size)
        self._crc32c.update(block)
        self._md5.update(block)
        self.size += length


def file_into(sink: Sink, path: Path) -> None:
    """Append a file's bytes."""
    with path.open("rb", buffering=0) as file:
        while block := file.read(READ_BYTES):
            sink.feed(block)


@dataclass
class FileSlice:
    """Part of a file to send; the file is open, so that it can be deleted meanwhile."""

    file: int
    start: int
    length: int
    corrupt: bool = False
    truncate: int | None = None

    @classmethod
    def of(cls, path: Path, start: int, length: int) -> FileSlice:
        """Open it."""
        return cls(os.open(path, os.O_RDONLY), start, length)

    def read(self, at: int) -> bytes:
        """The bytes from ``at``, counted from the slice's start; empty at its end."""
        block = os.pread(self.file, min(READ_BYTES, self.length - at), self.start + at) if at < self.length else b""
        wrong = self.length // 2 - at
        if self.corrupt and 0 <= wrong < len(block):
            block = block[:wrong] + bytes([block[wrong] ^ 0xFF]) + block[wrong + 1 :]
        return block

    def close(self) -> None:
        """Close the file."""
        os.close(self.file)


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """(first, length) that a Range header asks for; None for the whole. An unsatisfiable one is a ValueError.

    Several ranges at once and what cannot be read are ignored, as RFC 9110 allows.
    """
    found = _RANGE.match(header.strip()) if header else None
    if not found or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:
        length = min(int(last), size)
        if not length:
            raise ValueError(header)
        return size - length, length
    if last and int(last) < int(first):
        return None
    if int(first) >= size:
        raise ValueError(header)
    return int(first), (min(int(last), size - 1) if last else size - 1) - int(first) + 1
