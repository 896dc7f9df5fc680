"""How much memory there is for this process and its children: the machine's, or less where a cgroup bounds it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """Bytes. ``available_bytes``: what can be had now, caches that can be dropped included."""

    total_bytes: int
    available_bytes: int


def read_memory(cgroups: Path = CGROUPS, own: Path = OWN_CGROUP) -> Memory:
    """The tightest of the machine and all cgroups (version 2) that this process is in."""
    machine = psutil.virtual_memory()
    total, available = machine.total, machine.available
    for group in _groups(cgroups, own):
        limit = _number(group / "memory.max")
        used = _number(group / "memory.current")
        if limit is None or used is None:
            continue  # no limit here, or the root, which has none
        total = min(total, limit)
        # Files that nobody reads any more are the first to go when memory is asked for.
        available = min(available, max(0, limit - used + _inactive_files(group)))
    return Memory(total_bytes=total, available_bytes=available)


def _groups(cgroups: Path, own: Path) -> list[Path]:
    """Our own group and those around it; none without cgroups of version 2."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return []
    name = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), None)
    if name is None or ".." in name.split("/"):  # a process outside of its namespace's root
        return []
    group = cgroups / name
    return [group, *(parent for parent in group.parents if parent.is_relative_to(cgroups))]


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None


def _inactive_files(group: Path) -> int:
    try:
        lines = (group / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    found = (line.split()[1] for line in lines if line.startswith("inactive_file "))
    return int(next(found, "0"))
