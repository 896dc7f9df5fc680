"""People who speak, with what they say: clips of Debian's ``pocketsphinx-testdata``."""

from __future__ import annotations

import wave
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path("/usr/share/pocketsphinx/test/data/librivox")
RATE = 16_000


@dataclass(frozen=True)
class Clip:
    """A recording (16 kHz mono WAV) and its words."""

    path: Path
    text: str
    licence: str = "public domain (LibriVox, Sense and Sensibility by Jane Austen)"


def clips() -> tuple[Clip, ...]:
    """All clips; empty where the package is not installed (``make system-packages``)."""
    if not FOLDER.is_dir():
        return ()
    found = []
    for line in (FOLDER / "transcription").read_text().splitlines():
        text, _, name = line.rpartition("(")
        # Its own slip: the reader says "a more amiable woman".
        said = text.replace("<s>", "").replace("</s>", "").replace("a more a amiable", "a more amiable")
        found.append(Clip(FOLDER / f"{name.rstrip(')')}.wav", " ".join(said.split())))
    return tuple(found)


def samples(path: Path) -> bytes:
    """The samples of a 16 kHz mono WAV, 16 bits each."""
    with wave.open(str(path), "rb") as file:
        return file.readframes(file.getnframes())


def joined(parts: tuple[Clip, ...], pause_s: float = 1.0) -> bytes:
    """The clips one after the other, with silence after each."""
    pause = b"\0\0" * int(pause_s * RATE)
    return b"".join(samples(part.path) + pause for part in parts)
