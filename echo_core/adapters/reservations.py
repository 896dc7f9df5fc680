"""Reservations of scratch disk and memory, shared by all workers that have one scratch root.

Each worker writes what it has promised into a file beside its scratch directory, ``<worker>.held``. One lock, held for
the moments of a decision, puts all workers in a line. A worker that was killed has lost the lock of its directory
(``scratch.py``): what its file says does not count any more.

What a run has used already is seen in the free bytes; only the rest of its promise is subtracted from them.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import structlog

from echo_core.adapters.memory import Memory, read_memory
from echo_core.application.admission import ASK_AGAIN_S, Prospect, Room, Shortage
from echo_core.plugin_api.needs import Needs

log = structlog.get_logger("echo.admission")

HELD_SUFFIX = ".held"
LEDGER = "ledger"
LOCK_PATIENCE_S = 2.0
LOCK_RETRY_S = 0.01
"""A decision takes milliseconds. Whoever holds the lock for longer is stopped, or its disk hangs."""
PATIENCE_S = 60.0
"""A step that has waited for so long is kept room for: others may not take what it needs."""
FORGET_WAITING_S = 30.0
"""A step that has not asked again for so long waits no more: it was cancelled, or runs elsewhere."""
SILENCE_S = 2 * ASK_AGAIN_S
"""A worker that lets nobody ask for longer has no slot free; that time does not count against those who wait."""


@dataclass(slots=True)
class _Promise:
    scratch_bytes: int
    memory_bytes: int


@dataclass(slots=True)
class _Waiting:
    scratch_bytes: int
    memory_bytes: int
    since: float
    asked: float
    """Both by the machine's clock, seconds since the epoch; a step of it only moves patience."""


@dataclass(slots=True)
class _Held:
    """One worker's file."""

    host: str
    pid: int
    promises: dict[str, _Promise] = field(default_factory=dict)
    waiting: dict[str, _Waiting] = field(default_factory=dict)


class FileReservations:
    """``Reservations`` of the worker that has ``directory`` (``scratch.worker_scratch``)."""

    def __init__(
        self,
        directory: Path,
        *,
        scratch_reserve_bytes: int,
        memory_reserve_bytes: int,
        memory: Callable[[], Memory] = read_memory,
        resident: Callable[[int], int] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._root = directory.parent
        self._name = directory.name
        self._scratch_reserve_bytes = scratch_reserve_bytes
        self._memory_reserve_bytes = memory_reserve_bytes
        self._memory = memory
        self._resident = resident or resident_below
        self._clock = clock
        self._own = _Held(socket.gethostname(), os.getpid())
        self._heard_at = clock()
        self._mutex = threading.Lock()

    async def reserve(self, directory: str, needs: Needs, *, claimant: str) -> Shortage | None:
        """See the port."""
        return await asyncio.to_thread(self._reserve, directory, needs, claimant)

    async def release(self, directory: str) -> None:
        """See the port."""
        if directory in self._own.promises:
            await asyncio.to_thread(self._release, directory)

    def _reserve(self, directory: str, needs: Needs, claimant: str) -> Shortage | None:
        with self._mutex, self._alone():
            now = self._heard()
            everybody = {self._name: self._own, **dict(self._others())}
            for held in everybody.values():
                held.waiting = {who: w for who, w in held.waiting.items() if now - w.asked < FORGET_WAITING_S}
            since = min((h.waiting[claimant].since for h in everybody.values() if claimant in h.waiting), default=now)
            favoured = [
                waiting
                for held in everybody.values()
                for who, waiting in held.waiting.items()
                if who != claimant and waiting.since < since and now - waiting.since >= PATIENCE_S
            ]
            shortage = self._scratch(needs.scratch_bytes, everybody, favoured) or self._memory_short(
                needs.memory_bytes, everybody, favoured
            )
            if shortage is None:
                self._own.promises[directory] = _Promise(needs.scratch_bytes, needs.memory_bytes)
            if shortage is not None and shortage.prospect is Prospect.WAIT:
                self._own.waiting[claimant] = _Waiting(needs.scratch_bytes, needs.memory_bytes, since, now)
            else:
                self._own.waiting.pop(claimant, None)
            self._write()
            return shortage

    def _release(self, directory: str) -> None:
        with self._mutex:
            self._heard()
            self._own.promises.pop(directory, None)
            with self._alone():
                self._write()

    def _heard(self) -> float:
        """Now; what was silent while our steps ran was no time to ask in, so nobody is forgotten for it."""
        now = self._clock()
        silence_s, self._heard_at = now - self._heard_at, now
        if silence_s > SILENCE_S and self._own.promises:
            for waiting in self._own.waiting.values():
                waiting.asked += silence_s
        return now

    # --- deciding ----------------------------------------------------------------------------------------------

    def _scratch(self, needed: int, everybody: Mapping[str, _Held], favoured: list[_Waiting]) -> Shortage | None:
        if needed <= 0:
            return None
        facts = os.statvfs(self._root)
        total = (facts.f_blocks - facts.f_bfree + facts.f_bavail) * facts.f_frsize - self._scratch_reserve_bytes
        free = facts.f_bavail * facts.f_frsize - self._scratch_reserve_bytes
        others = 0
        for worker, held in everybody.items():
            for directory, promise in held.promises.items():
                if promise.scratch_bytes:
                    others += 1
                    free -= max(0, promise.scratch_bytes - _used(self._root / worker / directory))
        ahead = sum(waiting.scratch_bytes for waiting in favoured)
        return _shortage(Room.SCRATCH, needed, free - ahead, total, waits=bool(others or ahead))

    def _memory_short(self, needed: int, everybody: Mapping[str, _Held], favoured: list[_Waiting]) -> Shortage | None:
        if needed <= 0:
            return None
        memory = self._memory()
        free = memory.available_bytes - self._memory_reserve_bytes
        others = 0
        for held in everybody.values():
            promised = sum(promise.memory_bytes for promise in held.promises.values())
            if promised and held.host == self._own.host:
                others += 1
                free -= max(0, promised - self._resident(held.pid))
        ahead = sum(waiting.memory_bytes for waiting in favoured)
        total = memory.total_bytes - self._memory_reserve_bytes
        return _shortage(Room.MEMORY, needed, free - ahead, total, waits=bool(others or ahead))

    # --- files -------------------------------------------------------------------------------------------------

    @contextmanager
    def _alone(self) -> Iterator[None]:
        fd = os.open(self._root / LEDGER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not _locked(fd):
                # Its holder is frozen and decides nothing; a machine whose workers all wait for it would do nothing.
                log.warning("reservations.lock_held", seconds=LOCK_PATIENCE_S)
            yield
        finally:
            os.close(fd)

    def _others(self) -> Iterator[tuple[str, _Held]]:
        for path in self._root.glob(f"*{HELD_SUFFIX}"):
            if path.stem != self._name and _lives(path.with_suffix(".lock")) and (held := _read(path)) is not None:
                yield path.stem, held

    def _write(self) -> None:
        path = self._root / f"{self._name}{HELD_SUFFIX}"
        try:
            path.write_text(json.dumps(asdict(self._own)))
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            # On a full disk nobody is let in anyway, and what we hold ourselves we know without the file.
            log.warning("reservations.unwritten", error=str(error))


def _locked(fd: int) -> bool:
    """Lock a file for this process alone; False: somebody else had it all the time."""
    give_up_at = time.monotonic() + LOCK_PATIENCE_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > give_up_at:
                return False
            time.sleep(LOCK_RETRY_S)
        else:
            return True


def _shortage(room: Room, needed: int, free: int, total: int, *, waits: bool) -> Shortage | None:
    if needed > total:
        prospect = Prospect.NEVER
    elif needed <= free:
        return None
    else:
        prospect = Prospect.WAIT if waits else Prospect.SHORT
    return Shortage(
        room=room, prospect=prospect, needed_bytes=needed, free_bytes=max(0, free), total_bytes=max(0, total)
    )


def _read(path: Path) -> _Held | None:
    with suppress(OSError, ValueError, TypeError, KeyError):
        found = json.loads(path.read_text())
        return _Held(
            host=found["host"],
            pid=found["pid"],
            promises={name: _Promise(**promise) for name, promise in found["promises"].items()},
            waiting={name: _Waiting(**waiting) for name, waiting in found["waiting"].items()},
        )
    return None


def _lives(lock_path: Path) -> bool:
    """Whether somebody holds the lock of a worker's directory."""
    try:
        fd = os.open(lock_path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(fd)


def _used(directory: Path) -> int:
    """Bytes on disk below a run's directory; what is linked from elsewhere takes none."""
    used = 0
    with suppress(OSError):  # it has not begun, or is being removed
        for parent, _, names in os.walk(directory):
            for name in names:
                with suppress(OSError):
                    facts = os.lstat(os.path.join(parent, name))  # noqa: PTH118 - called for every file
                    used += facts.st_blocks * 512 if facts.st_nlink == 1 else 0
    return used


def resident_below(pid: int) -> int:
    """Memory of everything that a process has started, in bytes."""
    resident = 0
    with suppress(psutil.Error):
        for child in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.Error):
                resident += child.memory_info().rss
    return resident
