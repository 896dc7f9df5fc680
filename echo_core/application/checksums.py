"""Checksums of bytes that pass by, in the form in which storages tell them (S11)."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

import google_crc32c

PIECE_BYTES = 1 << 20
ALWAYS = ("crc32c", "crc32")
"""What the storages that there are tell; both take less time than reading the bytes."""
_HASHES = frozenset({"md5", "sha1", "sha256", "sha512"})


class Measure:
    """Counts bytes and sums them, by each algorithm that is wanted and known."""

    def __init__(self, wanted: Iterable[str] = ()) -> None:
        self.size_bytes = 0
        self._sums: dict[str, int] = dict.fromkeys(ALWAYS, 0)
        # Not for security: whoever could forge one could also change the row that it is compared with.
        self._hashes = {name: hashlib.new(name, usedforsecurity=False) for name in _HASHES.intersection(wanted)}

    def add(self, piece: bytes) -> None:
        """The next bytes."""
        self.size_bytes += len(piece)
        for name, extend in _EXTEND.items():
            self._sums[name] = extend(self._sums[name], piece)
        for digest in self._hashes.values():
            digest.update(piece)

    @property
    def checksums(self) -> Mapping[str, str]:
        """``algorithm:hex`` by algorithm."""
        sums = {name: f"{name}:{value:08x}" for name, value in self._sums.items()}
        return {**sums, **{name: f"{name}:{digest.hexdigest()}" for name, digest in self._hashes.items()}}

    def agrees(self, checksum: str) -> bool | None:
        """Whether the bytes have this checksum; None: nobody here can tell."""
        mine = self.checksums.get(algorithm_of(checksum))
        return None if mine is None else mine == checksum


def algorithm_of(checksum: str) -> str:
    """By which algorithm a checksum was made."""
    return checksum.partition(":")[0]


def measure_file(file: BinaryIO, wanted: Iterable[str] = ()) -> Measure:
    """Read to the end. Blocks."""
    measure = Measure(wanted)
    while piece := file.read(PIECE_BYTES):
        measure.add(piece)
    return measure


def measure_path(path: Path, wanted: Iterable[str] = ()) -> Measure:
    """Blocks."""
    with path.open("rb") as file:
        return measure_file(file, wanted)


_EXTEND: Mapping[str, Callable[[int, bytes], int]] = {
    "crc32c": google_crc32c.extend,
    "crc32": lambda value, piece: zlib.crc32(piece, value),
}
