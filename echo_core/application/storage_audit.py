"""Do storage and database agree? Objects that no row names, rows whose object is gone, and the mending of both.

Both sides are walked once (``storage_walk.py``). Nothing stands still meanwhile, so each finding is looked at again
before it counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial

import structlog

from echo_core.application.job_changes import store_change
from echo_core.application.ports import StoredRow, UnitOfWork, VideoInventory, WorkerUnitsOfWork
from echo_core.application.storage_walk import walk_objects, walk_videos
from echo_core.domain.errors import UnknownEntityError
from echo_core.domain.ids import VideoId
from echo_core.domain.jobs import JobKind
from echo_core.plugin_api.errors import NotFoundError
from echo_core.plugin_api.storage import ObjectInfo, StorageBackend

log = structlog.get_logger("echo.storage_audit")

YOUNGEST = timedelta(hours=24)
"""Younger objects are left alone: a run may be about to name them."""


NO_SOURCE = "It cannot be made anew without its source: restore that, or upload the video again."


class Disagreement(StrEnum):
    """What can be wrong."""

    ORPHAN = "orphan"
    """An object that no row names."""
    MISSING = "missing"
    """A row whose object is gone."""
    DAMAGED = "damaged"
    """A row and an object of different sizes or checksums."""
    REPLACED = "replaced"
    """The very bytes of a row, written anew, from a backup for example: reads are pinned to the object before it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One disagreement. ``mended`` tells what was done about it; empty: nothing, and ``remedy`` says what could be."""

    kind: Disagreement
    key: str
    video_id: VideoId
    size_bytes: int
    mended: str = ""
    remedy: str = ""


@dataclass(kw_only=True, slots=True)
class StorageAudit:
    """How an audit went. ``young`` and ``foreign`` objects were left alone: not old enough to judge, or not Echo's."""

    videos: int = 0
    objects: int = 0
    size_bytes: int = 0
    young: int = 0
    foreign: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def unmended(self) -> int:
        """How many findings are left."""
        return sum(not finding.mended for finding in self.findings)


@dataclass(frozen=True, kw_only=True)
class StorageAuditor:
    """See the module. ``found`` is told of each finding at once."""

    units_of_work: WorkerUnitsOfWork
    storage: StorageBackend
    storage_name: str
    fix: bool = False
    older_than: timedelta = YOUNGEST
    found: Callable[[Finding], None] = lambda finding: None

    async def run(self) -> StorageAudit:
        """Compare everything. With ``fix``: orphans are deleted, what was restored is accepted, and what is missing is
        made anew from its source; what another storage keeps is to be copied instead.

        Raises ``UnavailableError`` when storage or database is away.
        """
        audit = StorageAudit()
        async with self.units_of_work.for_worker() as uow:
            before = await uow.jobs.now() - self.older_than
        found = walk_objects(self.storage, saw=partial(self._saw, audit))
        async with aclosing(found) as stored, aclosing(walk_videos(self.units_of_work)) as known:
            group, video = await anext(stored, None), await anext(known, None)
            while group is not None or video is not None:
                if video is None or (group is not None and group[0] < video.id):
                    assert group is not None  # noqa: S101 - for the type checker: one of both is there
                    await self._orphans(audit, group[0], group[1], before)
                    group = await anext(stored, None)
                    continue
                objects = group[1] if group is not None and group[0] == video.id else []
                await self._compare(audit, video, objects, before)
                if group is not None and group[0] == video.id:
                    group = await anext(stored, None)
                video = await anext(known, None)
        return audit

    def _saw(self, audit: StorageAudit, stored: ObjectInfo, video_id: VideoId | None) -> None:
        audit.objects += 1
        audit.size_bytes += stored.size_bytes
        audit.foreign += video_id is None

    async def _compare(
        self, audit: StorageAudit, video: VideoInventory, objects: Sequence[ObjectInfo], before: datetime
    ) -> None:
        audit.videos += 1
        if video.deleted:
            return  # its purge is on the way
        stored = {o.key: o for o in objects}
        named = {row.key for row in video.rows}
        await self._orphans(audit, video.id, [o for o in objects if o.key not in named], before)
        suspects = [row for row in video.rows if self._kind(row, stored.get(row.key)) is not None]
        for row in suspects:
            kind, found = await self._verdict(video.id, row)
            if kind is Disagreement.REPLACED and found is not None:
                await self._replaced(audit, video.id, row, found)
            elif kind is not None:
                await self._broken(audit, video.id, row, kind)

    def _kind(self, row: StoredRow, stored: ObjectInfo | None) -> Disagreement | None:
        if stored is None:
            return Disagreement.MISSING
        if row.differs_from(stored):
            return Disagreement.DAMAGED
        pin = row.pin(self.storage_name)
        return Disagreement.REPLACED if pin is not None and pin != stored.generation else None

    # --- objects without a row ---------------------------------------------------------------------------------

    async def _orphans(
        self, audit: StorageAudit, video_id: VideoId, suspects: Sequence[ObjectInfo], before: datetime
    ) -> None:
        old = [o for o in suspects if o.created_at < before]
        audit.young += len(suspects) - len(old)
        if not old:
            return
        async with self.units_of_work.for_worker() as uow:
            video = await uow.inventory.find(video_id)
        if video is not None and (video.running or video.deleted):
            audit.young += len(old)  # whoever works on it may name them, or is removing them
            return
        named = {row.key for row in video.rows} if video is not None else set()
        for stored in old:
            if stored.key not in named:
                mended = ""
                if self.fix:
                    await self.storage.delete(stored.key)
                    mended = "deleted"
                self._report(
                    audit,
                    Finding(
                        kind=Disagreement.ORPHAN,
                        key=stored.key,
                        video_id=video_id,
                        size_bytes=stored.size_bytes,
                        mended=mended,
                        remedy="Delete it with --fix.",
                    ),
                )

    # --- rows without their object -----------------------------------------------------------------------------

    async def _verdict(self, video_id: VideoId, row: StoredRow) -> tuple[Disagreement | None, ObjectInfo | None]:
        """Look again at what seemed wrong: it may have been replaced, or recorded, since the listing."""
        async with self.units_of_work.for_worker() as uow:
            video = await uow.inventory.find(video_id)
        if video is None or video.deleted or row not in video.rows:
            return None, None
        try:
            stored = await self.storage.stat(row.key)
        except NotFoundError:
            return Disagreement.MISSING, None
        return self._kind(row, stored), stored

    async def _replaced(self, audit: StorageAudit, video_id: VideoId, row: StoredRow, stored: ObjectInfo) -> None:
        """Accept what has the same size and checksum, or say how."""
        mended, remedy = "", "It has the same size and checksum: accept it with --fix."
        if stored.checksum != row.checksum:
            remedy = "Nobody here can compare its checksum: restore the object itself, or upload the video again."
        elif self.fix:
            async with self.units_of_work.for_worker() as uow:
                accepted = await uow.inventory.repin(
                    video_id, row, backend=self.storage_name, generation=stored.generation
                )
            mended, remedy = ("accepted", "") if accepted else ("", "Its row has changed meanwhile: audit again.")
        kind = Disagreement.REPLACED
        self._report(
            audit,
            Finding(kind=kind, key=row.key, video_id=video_id, size_bytes=row.size_bytes, mended=mended, remedy=remedy),
        )

    async def _broken(self, audit: StorageAudit, video_id: VideoId, row: StoredRow, kind: Disagreement) -> None:
        if row.backend != self.storage_name:
            mended, remedy = "", self._copy_it(video_id, row, kind)
        elif row.step is None:
            mended, remedy = "", "The source is lost: restore it from a backup, or upload the video again."
        elif not self.fix:
            anew = f"Make it anew with --fix: the step {row.step} runs again."
            mended, remedy = "", anew if await self._has_source(video_id) else NO_SOURCE
        else:
            mended, remedy = await self._make_anew(video_id, row)
            if mended and kind is Disagreement.DAMAGED:
                await self.storage.delete(row.key)
        self._report(
            audit,
            Finding(kind=kind, key=row.key, video_id=video_id, size_bytes=row.size_bytes, mended=mended, remedy=remedy),
        )

    def _copy_it(self, video_id: VideoId, row: StoredRow, kind: Disagreement) -> str:
        """What to do about a row whose object another storage keeps: making it anew would be a waste, or impossible."""
        command = f"'echoctl storage copy --from {row.backend} --to {self.storage_name}'"
        if kind is Disagreement.MISSING:
            lost = f" If it is lost there: 'echoctl jobs retry {video_id} --step {row.step}'." if row.step else ""
            return f"Copy it from the storage {row.backend}: {command}.{lost}"
        return f"Remove this object from the storage {self.storage_name}, then copy the right one: {command}."

    async def _make_anew(self, video_id: VideoId, row: StoredRow) -> tuple[str, str]:
        """Forget the row, so that nothing offers a broken address, and run its step again. (done, or what to do)"""
        source = await self._has_source(video_id)
        async with self.units_of_work.for_worker() as uow:
            job = await uow.jobs.find_for_video(video_id, JobKind.PROCESS, for_update=True)
            if job is None or row.step not in {step.name for step in job.steps}:
                return "", "Nothing here knows how to make it; delete the video, or retry its job."
            if not job.state.finished:
                return "", "The video's job is at work: audit again when it has ended."
            if not source:
                return "", NO_SOURCE
            await uow.artefacts.remove(video_id, [row.key])
            await store_change(uow, job, job.retried(await uow.jobs.now(), step_name=row.step))
        log.info("artefact.made_anew", video_id=str(video_id), key=row.key, step=row.step)
        return f"step {row.step} runs again", ""

    async def _has_source(self, video_id: VideoId) -> bool:
        async with self.units_of_work.for_worker() as uow:
            key = await _source_key(uow, video_id)
        if key is None:
            return False
        try:
            await self.storage.stat(key)
        except NotFoundError:
            return False
        return True

    def _report(self, audit: StorageAudit, finding: Finding) -> None:
        audit.findings.append(finding)
        self.found(finding)


async def _source_key(uow: UnitOfWork, video_id: VideoId) -> str | None:
    try:
        return (await uow.uploads.get(video_id)).storage_key
    except UnknownEntityError:
        return None
