"""What rows name, in memory, for copies between storages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

from echo_core.application.ports import StoredRow, StoredTotals, UnitOfWork, VideoInventory
from echo_core.domain.ids import VideoId
from echo_core.plugin_api.storage import ObjectInfo


@dataclass
class FakeInventory:
    """``InventoryRepository`` and the units of work around it."""

    videos: dict[VideoId, VideoInventory] = field(default_factory=dict)
    unfinished: int = 0

    def add(self, video_id: VideoId, stored: ObjectInfo, *, backend: str, step: str | None = "ladder") -> StoredRow:
        row = StoredRow(
            key=stored.key,
            size_bytes=stored.size_bytes,
            step=step,
            content_type=stored.content_type,
            checksum=stored.checksum,
            backend=backend,
            generation=stored.generation,
        )
        video = self.videos.get(video_id) or VideoInventory(id=video_id, deleted=False, running=False, rows=())
        self.videos[video_id] = replace(video, rows=(*video.rows, row))
        return row

    def change(self, key: str, **changes: Any) -> None:
        for video in self.videos.values():
            rows = tuple(replace(row, **changes) if row.key == key else row for row in video.rows)
            self.videos[video.id] = replace(video, rows=rows)

    def forget(self, key: str) -> None:
        for video in self.videos.values():
            self.videos[video.id] = replace(video, rows=tuple(row for row in video.rows if row.key != key))

    def row(self, key: str) -> StoredRow:
        return next(row for video in self.videos.values() for row in video.rows if row.key == key)

    @asynccontextmanager
    async def for_worker(self) -> AsyncIterator[UnitOfWork]:
        yield cast("UnitOfWork", _Uow(self))

    async def list_page(self, after: VideoId | None, limit: int) -> Sequence[VideoInventory]:
        return [self.videos[i] for i in sorted(self.videos) if after is None or i > after][:limit]

    async def find(self, video_id: VideoId) -> VideoInventory | None:
        return self.videos.get(video_id)

    async def totals(self) -> StoredTotals:
        rows = [row for video in self.videos.values() if not video.deleted for row in video.rows]
        return StoredTotals(objects=len(rows), size_bytes=sum(r.size_bytes for r in rows), unfinished=self.unfinished)

    async def repin(self, video_id: VideoId, row: StoredRow, *, backend: str, generation: str) -> bool:
        video = self.videos.get(video_id)
        if video is None or video.deleted or row not in video.rows:
            return False
        self.change(row.key, backend=backend, generation=generation)
        return True


@dataclass(frozen=True)
class _Uow:
    inventory: FakeInventory
