"""The few boxes of fragmented MP4 (ISO/IEC 14496-12, -15) that tell codec strings, times and keyframes.

Reads what our own ffmpeg wrote, never an upload. Raises ``ValueError`` for anything that is not that.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

VISUAL_ENTRY_BYTES = 78  # of a VisualSampleEntry before its own boxes
AUDIO_ENTRY_BYTES = 28  # of an AudioSampleEntry
EIGHT_CHANNELS = 8  # written as 7 (ISO/IEC 14496-3, table 1.19)
MAX_MOOF_BYTES = 8 * 1024 * 1024
NON_SYNC_SAMPLE = 0x10000
NEVER = 1 << 63
"""A decode time from here on is a negative one that wrapped: no player starts there."""


@dataclass(frozen=True, kw_only=True)
class Track:
    """The one track of a rendition: RFC 6381 codec string, ticks per second, and sound channels (0 for a picture)."""

    codecs: str
    timescale: int
    channels: int = 0


@dataclass(frozen=True, kw_only=True)
class FirstSample:
    """The first sample of a segment: presentation time in seconds, and whether it is a keyframe."""

    at_s: float
    keyframe: bool


def read_track(init: bytes) -> Track:
    """The track that an initialisation segment describes."""
    path = ("moov", "trak", "mdia")
    media = _descend(init, path)
    header = _child(media, "mdhd")
    timescale = _u32(header, 20 if header[0] == 1 else 12)
    sample_table = _descend(media, ("minf", "stbl"))
    entries = _child(sample_table, "stsd")[8:]
    name, entry = next(_boxes(entries))
    if name in ("avc1", "avc3"):
        configuration = _child(entry[VISUAL_ENTRY_BYTES:], "avcC")
        return Track(codecs=f"{name}.{configuration[1:4].hex().upper()}", timescale=timescale)
    if name == "hvc1":
        return Track(codecs=_hevc(_child(entry[VISUAL_ENTRY_BYTES:], "hvcC")), timescale=timescale)
    if name == "av01":
        return Track(codecs=_av1(_child(entry[VISUAL_ENTRY_BYTES:], "av1C")), timescale=timescale)
    if name == "mp4a":
        object_type, specific = _aac(_child(entry[AUDIO_ENTRY_BYTES:], "esds")[4:])
        # The entry's own count is always 2.
        channels = specific[1] >> 3 & 0xF
        return Track(
            codecs=f"mp4a.{object_type:x}.{specific[0] >> 3}",
            timescale=timescale,
            channels=EIGHT_CHANNELS if channels == EIGHT_CHANNELS - 1 else channels,
        )
    raise ValueError(f"unexpected sample entry {name!r}")


def first_sample(path: Path, offset: int, timescale: int) -> FirstSample:
    """Look into the segment that begins at ``offset``."""
    fragment = _descend(_read_moof(path, offset), ("traf",))
    decode = _child(fragment, "tfdt")
    (ticks,) = struct.unpack_from(">Q" if decode[0] == 1 else ">I", decode, 4)
    run = _child(fragment, "trun")
    run_flags = _u32(run, 0) & 0xFFFFFF
    at = 8 + (4 if run_flags & 0x1 else 0)
    sample_flags = _default_flags(_child(fragment, "tfhd"))
    if run_flags & 0x4:
        sample_flags = _u32(run, at)
        at += 4
    at += (4 if run_flags & 0x100 else 0) + (4 if run_flags & 0x200 else 0)
    if run_flags & 0x400:
        sample_flags = _u32(run, at)
        at += 4
    shift = struct.unpack_from(">i", run, at)[0] if run_flags & 0x800 else 0
    if ticks >= NEVER:
        ticks -= 1 << 64
    return FirstSample(at_s=(ticks + shift) / timescale, keyframe=not sample_flags & NON_SYNC_SAMPLE)


def _hevc(configuration: bytes) -> str:
    """Profile, compatibility, tier, level and constraints (ISO/IEC 14496-15, annex E.3)."""
    profile = ("", "A", "B", "C")[configuration[1] >> 6] + str(configuration[1] & 0x1F)
    compatible = int(f"{_u32(configuration, 2):032b}"[::-1], 2)
    tier = "H" if configuration[1] & 0x20 else "L"
    constraints = configuration[6:12].rstrip(b"\0")
    known = (f"hvc1.{profile}.{compatible:X}.{tier}{configuration[12]}", *(f"{byte:X}" for byte in constraints))
    return ".".join(known)


def _av1(configuration: bytes) -> str:
    """Profile, level, tier and bit depth (AV1 Codec ISO Media File Format Binding, 2.3 and 5)."""
    profile, level = configuration[1] >> 5, configuration[1] & 0x1F
    tier = "H" if configuration[2] & 0x80 else "M"
    deep, twelve = configuration[2] & 0x40, configuration[2] & 0x20
    return f"av01.{profile}.{level:02d}{tier}.{12 if twelve else 10 if deep else 8:02d}"


def _default_flags(header: bytes) -> int:
    flags = _u32(header, 0) & 0xFFFFFF
    if not flags & 0x20:
        return 0
    skipped = sum(size for bit, size in ((0x1, 8), (0x2, 4), (0x8, 4), (0x10, 4)) if flags & bit)
    return _u32(header, 8 + skipped)


def _read_moof(path: Path, offset: int) -> bytes:
    with path.open("rb") as file:
        while True:
            file.seek(offset)
            head = file.read(8)
            if len(head) < 8:
                raise ValueError("no moof in the segment")
            size, name = struct.unpack(">I4s", head)
            if name == b"moof":
                if not 8 < size <= MAX_MOOF_BYTES:
                    raise ValueError("implausible moof")
                return file.read(size - 8)
            if size < 8 or name == b"mdat":
                raise ValueError("no moof before the mdat")
            offset += size


def _aac(descriptor: bytes) -> tuple[int, bytes]:
    """Object type and AudioSpecificConfig of an ES descriptor (ISO/IEC 14496-1, 7.2.6.5; 14496-3, 1.6.2.1)."""
    elementary = _descriptor(descriptor, 0x03)
    decoder = _descriptor(elementary[3:], 0x04)
    return decoder[0], _descriptor(decoder[13:], 0x05)


def _descriptor(data: bytes, tag: int) -> bytes:
    at, size = 1, 0
    if not data or data[0] != tag:
        raise ValueError(f"descriptor {tag} expected")
    while True:
        size = size << 7 | data[at] & 0x7F
        at += 1
        if not data[at - 1] & 0x80:
            return data[at : at + size]


def _boxes(data: bytes) -> Iterator[tuple[str, bytes]]:
    at = 0
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        if size < 8:
            raise ValueError("implausible box")
        yield name.decode("latin-1"), data[at + 8 : at + size]
        at += size


def _child(data: bytes, name: str) -> bytes:
    for found, body in _boxes(data):
        if found == name:
            return body
    raise ValueError(f"no {name} box")


def _descend(data: bytes, path: tuple[str, ...]) -> bytes:
    for name in path:
        data = _child(data, name)
    return data


def _u32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big")
