"""What should be in storage, video by video."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import ARRAY, Integer, Text, Uuid, bindparam, text

from echo_core.adapters.postgres.transaction import Transaction
from echo_core.application.ports import StoredRow, VideoInventory
from echo_core.domain.ids import VideoId

_VIDEOS = """
    select v.id, v.deleted_at is not null as deleted, exists (
        select from echo.jobs j join echo.steps s on s.job_id = j.id and s.state = 'running' where j.video_id = v.id
    ) or exists (select from echo.uploads u where u.video_id = v.id and u.state in ('open', 'quarantined')) as running
    from echo.videos v
"""
_PAGE = text(f"{_VIDEOS} where :after is null or v.id > :after order by v.id limit :limit").bindparams(
    bindparam("after", type_=Uuid), bindparam("limit", type_=Integer)
)
_ONE = text(f"{_VIDEOS} where v.id = :id").bindparams(bindparam("id", type_=Uuid))

_ROWS = text(
    """
    select video_id, storage_key, size_bytes, step from echo.artefacts where video_id = any (:ids)
    union all
    select video_id, storage_key, size_bytes, null from echo.uploads where video_id = any (:ids) and state = :completed
    """
).bindparams(bindparam("ids", type_=ARRAY(Uuid)), bindparam("completed", value="completed", type_=Text))


class PostgresInventoryRepository:
    """``InventoryRepository``."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def list_page(self, after: VideoId | None, limit: int) -> Sequence[VideoInventory]:
        """The next videos in the order of their ids, tombstoned ones included."""
        found = (await self._tx.execute(_PAGE, {"after": after, "limit": limit})).all()
        return await self._with_rows([(row.id, row.deleted, row.running) for row in found])

    async def find(self, video_id: VideoId) -> VideoInventory | None:
        """One video."""
        found = (await self._tx.execute(_ONE, {"id": video_id})).all()
        videos = await self._with_rows([(row.id, row.deleted, row.running) for row in found])
        return videos[0] if videos else None

    async def _with_rows(self, videos: Sequence[tuple[UUID, bool, bool]]) -> Sequence[VideoInventory]:
        rows: dict[UUID, list[StoredRow]] = defaultdict(list)
        if videos:
            for row in await self._tx.execute(_ROWS, {"ids": [video_id for video_id, _, _ in videos]}):
                rows[row.video_id].append(StoredRow(key=row.storage_key, size_bytes=row.size_bytes, step=row.step))
        return [
            VideoInventory(id=VideoId(video_id), deleted=deleted, running=running, rows=rows[video_id])
            for video_id, deleted, running in videos
        ]
