"""One seeded schedule: people upload, things break, everything heals, and every promise is looked at."""

from __future__ import annotations

import heapq
import random
import struct
import subprocess
import time
import zlib
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from tests.faults.cluster import Cluster, make_clip
from tests.faults.invariants import leftovers_of, violations, wait_until_quiet
from tests.faults.people import Person
from tests.faults.trouble import KINDS, End, Fault, Kind, draw

GAP_S = (0.1, 1.2)
"""Between two blows; most last longer than that, so that they overlap."""
PEOPLE = 2
AT_ONCE = 3
"""Unfinished videos that one person has at most."""


@dataclass
class Outcome:
    """What came of a schedule. ``violations`` empty: every promise was kept."""

    seed: int
    faults: list[Fault]
    violations: list[str] = field(default_factory=list)
    endings: Counter[str] = field(default_factory=Counter)
    """Accepted videos by how they ended."""
    seconds: float = 0.0


class Media:
    """What people upload: real clips, and files that are none."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        whole = make_clip(directory / "clip.mp4", seconds=2)
        self.clips = [whole, make_clip(directory / "longer.mp4", seconds=6, size="320x240")]
        self.long = make_clip(directory / "long.mp4", seconds=90, size="640x360")
        """Encoding it takes a few seconds."""
        self.poison = [_garbage(directory), _cut_off(directory, whole), _gigantic(directory)]


def _garbage(directory: Path) -> Path:
    path = directory / "garbage.mp4"
    path.write_bytes(random.Random(1).randbytes(40_000))  # noqa: S311
    return path


def _cut_off(directory: Path, clip: Path) -> Path:
    """Its index is at the end and was never sent."""
    whole = directory / "index-last.mp4"
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-y", "-i", clip, "-c", "copy", whole], check=True)
    path = directory / "cut-off.mp4"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    return path


def _gigantic(directory: Path) -> Path:
    """A small file whose one picture needs more memory than any step may have."""
    side = 16_000
    rows = zlib.compress(bytes(side // 8 + 1) * side, 1)
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)  # one bit for each pixel, grey
    picture = directory / "gigantic.png"
    chunks = [_chunk(b"IHDR", header), _chunk(b"IDAT", rows), _chunk(b"IEND", b"")]
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    path = directory / "gigantic.mov"
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-y", "-i", picture, "-c", "copy", path], check=True)
    return path


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def usable_kinds(cluster: Cluster) -> dict[str, Kind]:
    """A disk can be filled only where it is nobody else's."""
    return {name: kind for name, kind in KINDS.items() if cluster.has_disk or name != "fill disk"}


def run_schedule(cluster: Cluster, media: Media, seed: int, *, faults: int, kinds: dict[str, Kind]) -> Outcome:
    """Run one schedule on a healthy cluster and leave it healthy and empty."""
    began = time.monotonic()
    rng = random.Random(seed)  # noqa: S311
    outcome = Outcome(seed, draw(rng, kinds=kinds, count=faults, gap_s=GAP_S))
    people = [
        Person(
            cluster.user(f"{seed}-{number}"),
            media.clips,
            media.poison,
            random.Random(f"{seed}-{number}"),  # noqa: S311
            at_once=AT_ONCE,
        )
        for number in range(PEOPLE)
    ]
    for person in people:
        person.start()
    try:
        _strike_all(cluster, outcome.faults)
        cluster.heal()
        for person in people:
            person.stop_uploading()
        wait_until_quiet(cluster)
        outcome.violations += violations(cluster, people)
        for person in people:
            outcome.endings += person.endings()
            person.delete_all()
        wait_until_quiet(cluster)
        outcome.violations += leftovers_of(cluster, people)
    except AssertionError as error:
        outcome.violations.append(str(error))
    finally:
        for person in people:
            person.stop_uploading()
            person.stop_watching()
    outcome.seconds = time.monotonic() - began
    return outcome


def _strike_all(cluster: Cluster, faults: list[Fault]) -> None:
    order = count()
    pending: list[tuple[float, int, End]] = []
    for fault in faults:
        _end_until(pending, time.monotonic() + fault.wait_s)
        end = KINDS[fault.kind].strike(cluster, fault)
        heapq.heappush(pending, (time.monotonic() + fault.hold_s, next(order), end))
    while pending:
        _end_until(pending, pending[0][0])


def _end_until(pending: list[tuple[float, int, End]], until: float) -> None:
    """End what is due, and let the time pass."""
    while pending and pending[0][0] <= until:
        due, _, end = heapq.heappop(pending)
        time.sleep(max(0.0, due - time.monotonic()))
        end()
    time.sleep(max(0.0, until - time.monotonic()))
