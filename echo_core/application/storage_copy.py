"""Moving house: every object that rows name is copied from one storage to another, while the instance runs.

What is there already is not copied again: an interrupted copy goes on where it was, and a second one brings only what
came meanwhile. Nothing is ever overwritten, and nothing deleted but copies of this run that nobody wants any more.
Once the instance reads from the target, rows that name another storage are pinned to what the target has (ADR 0023).
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from uuid import uuid4

from echo_core.application.checksums import Measure, algorithm_of, measure_path
from echo_core.application.ports import StoredRow, StoredTotals, WorkerUnitsOfWork
from echo_core.application.storage_walk import walk_objects, walk_videos
from echo_core.domain.ids import VideoId
from echo_core.domain.stored_objects import checksums_agree
from echo_core.plugin_api.errors import EchoError, InsufficientStorageError, ProviderError
from echo_core.plugin_api.storage import FetchFile, ObjectInfo, PutFile, ReadObject, StorageBackend

OBJECT_EXISTS = "object_exists"
"""The code of rule S3."""


class Outcome(StrEnum):
    """What became of an object."""

    COPIED = "copied"
    PRESENT = "present"
    """The target has it already, with the same bytes."""
    MISSING = "missing"
    """It would be copied: this was a dry run."""
    GONE = "gone"
    """Its row went while it was copied."""
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True, slots=True)
class CopiedObject:
    """One object. ``repinned``: its row names the target from now on (in a dry run: it would)."""

    key: str
    video_id: VideoId
    size_bytes: int
    outcome: Outcome
    repinned: bool = False
    code: str = ""
    problem: str = ""
    remedy: str = ""


@dataclass(kw_only=True, slots=True)
class StorageCopy:
    """How a copy went. ``totals`` are those at its beginning."""

    totals: StoredTotals
    counts: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(Outcome, 0))
    sizes_bytes: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(Outcome, 0))
    repinned: int = 0
    failures: list[CopiedObject] = field(default_factory=list)

    @property
    def objects(self) -> int:
        """How many were looked at."""
        return sum(self.counts.values())

    @property
    def size_bytes(self) -> int:
        """How large they are, all together."""
        return sum(self.sizes_bytes.values())

    def add(self, copied: CopiedObject) -> None:
        """One more."""
        self.counts[copied.outcome] += 1
        self.sizes_bytes[copied.outcome] += copied.size_bytes
        self.repinned += copied.repinned
        if copied.outcome is Outcome.FAILED:
            self.failures.append(copied)


@dataclass(frozen=True, kw_only=True, slots=True)
class NamedStorage:
    """An opened storage and what it is called in rows."""

    name: str
    backend: StorageBackend


@dataclass(frozen=True, kw_only=True)
class StorageCopier:
    """See the module. ``selected``: the storage that the instance uses. ``begun`` is told what is to be done, ``told``
    of each object when it is done."""

    units_of_work: WorkerUnitsOfWork
    source: NamedStorage
    target: NamedStorage
    selected: str
    scratch: Path
    scratch_reserve_bytes: int = 0
    parallel: int = 4
    dry_run: bool = False
    begun: Callable[[StoredTotals], None] = lambda totals: None
    told: Callable[[CopiedObject], None] = lambda copied: None

    async def run(self) -> StorageCopy:
        """Copy everything. Single failures are told and do not end it.

        Raises ``EchoError`` when one of both storages, or the database, cannot be used at all. May be cancelled at any
        time, and run again.
        """
        await self.source.backend.check()
        await self.target.backend.check()
        async with self.units_of_work.for_worker() as uow:
            copy = StorageCopy(totals=await uow.inventory.totals())
        self.begun(copy.totals)
        room = ScratchRoom(self.scratch, self.scratch_reserve_bytes)
        waiting: asyncio.Queue[Candidate | None] = asyncio.Queue(maxsize=self.parallel)
        async with asyncio.TaskGroup() as tasks:
            for number in range(self.parallel):
                tasks.create_task(self._work(waiting, room, copy), name=f"copy {number}")
            async with aclosing(self._candidates()) as candidates:
                async for candidate in candidates:
                    await waiting.put(candidate)
            for _ in range(self.parallel):
                await waiting.put(None)
        return copy

    async def _candidates(self) -> AsyncGenerator[Candidate]:
        """Every object that a row names, with what the target has under its key."""
        async with (
            aclosing(walk_objects(self.target.backend)) as stored,
            aclosing(walk_videos(self.units_of_work)) as known,
        ):
            group = await anext(stored, None)
            async for video in known:
                while group is not None and group[0] < video.id:
                    group = await anext(stored, None)
                if video.deleted:
                    continue  # its purge is on the way
                there = {o.key: o for o in group[1]} if group is not None and group[0] == video.id else {}
                for row in video.rows:
                    yield Candidate(video_id=video.id, row=row, found=there.get(row.key))

    async def _work(self, waiting: asyncio.Queue[Candidate | None], room: ScratchRoom, copy: StorageCopy) -> None:
        while (candidate := await waiting.get()) is not None:
            copied = await self._copied(candidate, room)
            copy.add(copied)
            self.told(copied)

    async def _copied(self, candidate: Candidate, room: ScratchRoom) -> CopiedObject:
        try:
            outcome, repinned = await self._bring(candidate, room)
        except (EchoError, OSError) as error:
            if await self._is_gone(candidate):
                return candidate.ended(Outcome.GONE)
            return candidate.ended(
                Outcome.FAILED,
                code=error.code if isinstance(error, EchoError) else "file_error",
                problem=error.message if isinstance(error, EchoError) else str(error),
                remedy=error.remedy if isinstance(error, EchoError) else "",
            )
        return candidate.ended(outcome, repinned=repinned)

    async def _bring(self, candidate: Candidate, room: ScratchRoom) -> tuple[Outcome, bool]:
        """(what became of it, whether its row was re-pinned)"""
        row, found = candidate.row, candidate.found
        if found is not None and row.differs_from(found):
            raise self._conflict()
        if found is not None and self._is_same(row, found):
            return Outcome.PRESENT, await self._repinned(candidate, found)
        if self.dry_run:
            return Outcome.MISSING, self.target.name == self.selected
        async with room.taken(self.source.backend.fetch_takes_bytes(row.size_bytes, self.scratch)):
            stored = await self._transferred(candidate)
        outcome = Outcome.COPIED if found is None else Outcome.PRESENT
        if await self._repinned(candidate, stored):
            return outcome, True
        if found is None and await self._is_gone(candidate):
            # Keys are used once: nobody will ever name it again.
            await self.target.backend.delete(row.key)
            return Outcome.GONE, False
        return outcome, False

    # --- bytes -------------------------------------------------------------------------------------------------

    def _is_same(self, row: StoredRow, found: ObjectInfo) -> bool:
        return checksums_agree(row.checksum, found.checksum) or row.pin(self.target.name) == found.generation

    def _conflict(self) -> EchoError:
        return ProviderError(
            f"Another object has its key in the storage {self.target.name}: it is left as it is.",
            code=OBJECT_EXISTS,
            remedy=f"Find out how it came there; remove it from the storage {self.target.name} and copy again.",
        )

    async def _transferred(self, candidate: Candidate) -> ObjectInfo:
        row, found = candidate.row, candidate.found
        path = self.scratch / uuid4().hex
        try:
            await self.source.backend.fetch_file(
                FetchFile(key=row.key, path=path, generation=row.pin(self.source.name))
            )
            algorithms = {algorithm_of(row.checksum), algorithm_of(found.checksum if found is not None else "")}
            measure = await asyncio.to_thread(measure_path, path, algorithms)
            if measure.size_bytes != row.size_bytes or measure.agrees(row.checksum) is False:
                raise self._damaged(candidate)
            try:
                stored = await self.target.backend.put_file(
                    PutFile(key=row.key, path=path, content_type=row.content_type)
                )
            except EchoError as error:
                raise self._conflict() if error.code == OBJECT_EXISTS else error from error
        finally:
            await asyncio.to_thread(path.unlink, missing_ok=True)
        await self._check_arrived(stored, measure, made=found is None)
        return stored

    def _damaged(self, candidate: Candidate) -> EchoError:
        anew = (
            f"make it anew: 'echoctl jobs retry {candidate.video_id} --step {candidate.row.step}'"
            if candidate.row.step is not None
            else "upload the video again"
        )
        return ProviderError(
            f"The object in the storage {self.source.name} is damaged: its bytes are not those that were stored.",
            code="source_damaged",
            remedy=f"Restore it from a backup, or {anew}.",
        )

    async def _check_arrived(self, stored: ObjectInfo, measure: Measure, *, made: bool) -> None:
        arrived = measure.agrees(stored.checksum)
        if arrived is None:
            # A checksum that nobody here can make: what was stored is read again.
            again = Measure()
            read = self.target.backend.open_read(ReadObject(key=stored.key, generation=stored.generation))
            async with aclosing(read) as pieces:
                async for piece in pieces:
                    again.add(piece)
            arrived = again.agrees(measure.checksums["crc32c"])
        if not arrived or stored.size_bytes != measure.size_bytes:
            if not made:
                raise self._conflict()
            await self.target.backend.delete(stored.key)
            raise ProviderError(
                f"The copy in the storage {self.target.name} was damaged on its way, and removed.",
                code="copy_damaged",
                remedy="Run the same command again.",
            )

    # --- rows --------------------------------------------------------------------------------------------------

    async def _repinned(self, candidate: Candidate, stored: ObjectInfo) -> bool:
        """Pin the row to what the target has, if the instance reads from there and the row says otherwise: it names
        another storage, or an object of this one that was lost and has been copied again."""
        if self.target.name != self.selected or candidate.row.pin(self.target.name) == stored.generation:
            return False
        if self.dry_run:
            return True
        async with self.units_of_work.for_worker() as uow:
            return await uow.inventory.repin(
                candidate.video_id, candidate.row, backend=self.target.name, generation=stored.generation
            )

    async def _is_gone(self, candidate: Candidate) -> bool:
        """Whether nobody names the object any more."""
        try:
            async with self.units_of_work.for_worker() as uow:
                video = await uow.inventory.find(candidate.video_id)
        except EchoError:
            return False  # what is not known is no reason to throw a copy away
        return video is None or video.deleted or candidate.row.key not in {row.key for row in video.rows}


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """An object that a row names. ``found``: what the target had under its key when it was listed."""

    video_id: VideoId
    row: StoredRow
    found: ObjectInfo | None

    def ended(
        self, outcome: Outcome, *, repinned: bool = False, code: str = "", problem: str = "", remedy: str = ""
    ) -> CopiedObject:
        """What became of it."""
        return CopiedObject(
            key=self.row.key,
            video_id=self.video_id,
            size_bytes=self.row.size_bytes,
            outcome=outcome,
            repinned=repinned,
            code=code,
            problem=problem,
            remedy=remedy,
        )


class ScratchRoom:
    """Hands out the free room of a disk, less a reserve, to any number of tasks.

    What a task has written already counts twice, as taken and as not free any more: rather too little than too much.
    """

    def __init__(self, directory: Path, reserve_bytes: int, *, free_bytes: Callable[[Path], int] | None = None) -> None:
        self._directory = directory
        self._reserve_bytes = reserve_bytes
        self._free_bytes = free_bytes or (lambda path: shutil.disk_usage(path).free)
        self._taken: dict[object, int] = {}
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def taken(self, size_bytes: int) -> AsyncIterator[None]:
        """Wait for so much room, and hold it. Raises ``InsufficientStorageError`` if nobody's end could make it."""
        holder = object()
        async with self._changed:
            while size_bytes and (free_bytes := await self._free()) < size_bytes:
                if not self._taken:
                    raise InsufficientStorageError(
                        f"The scratch disk has {max(0, free_bytes) >> 20} MiB for it; the object takes "
                        f"{size_bytes >> 20} MiB.",
                        remedy="Free some room on the disk of data_dir, or move data_dir to a larger one.",
                    )
                await self._changed.wait()
            self._taken[holder] = size_bytes
        try:
            yield
        finally:
            del self._taken[holder]
            async with self._changed:
                self._changed.notify_all()

    async def _free(self) -> int:
        free_bytes = await asyncio.to_thread(self._free_bytes, self._directory)
        return free_bytes - self._reserve_bytes - sum(self._taken.values())
