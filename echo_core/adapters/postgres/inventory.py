"""What should be in storage, video by video."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import ARRAY, Integer, Text, Uuid, bindparam, text

from echo_core.adapters.postgres.transaction import Transaction
from echo_core.application.ports import StoredRow, StoredTotals, VideoInventory
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
    select video_id, storage_key as key, size_bytes, step, content_type, checksum, backend, generation
    from echo.artefacts where video_id = any (:ids)
    union all
    select video_id, storage_key, size_bytes, null, content_type, checksum, backend, generation
    from echo.uploads where video_id = any (:ids) and state = :completed
    """
).bindparams(bindparam("ids", type_=ARRAY(Uuid)), bindparam("completed", value="completed", type_=Text))

_TOTALS = text(
    """
    with named as (
        select a.size_bytes from echo.artefacts a join echo.videos v on v.id = a.video_id where v.deleted_at is null
        union all
        select u.size_bytes from echo.uploads u join echo.videos v on v.id = u.video_id
        where v.deleted_at is null and u.state = 'completed'
    )
    select count(*) as objects, coalesce(sum(size_bytes), 0)::bigint as size_bytes,
        (select count(*) from echo.uploads where state not in ('completed', 'expired')) as unfinished
    from named
    """
)

# One statement, so that the row is locked before it is compared.
_REPIN = """
    update echo.{table} set backend = :backend, generation = :generation
    where video_id = :video_id and storage_key = :key and size_bytes = :size_bytes and checksum = :checksum
        and backend = :backend_before and generation = :generation_before
        and exists (select from echo.videos v where v.id = :video_id and v.deleted_at is null)
"""
_REPIN_SOURCE = text(_REPIN.format(table="uploads") + " and state = 'completed'").bindparams(
    bindparam("video_id", type_=Uuid)
)
_REPIN_ARTEFACT = text(_REPIN.format(table="artefacts")).bindparams(bindparam("video_id", type_=Uuid))


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

    async def totals(self) -> StoredTotals:
        """All that rows name, those of tombstoned videos left out."""
        row = (await self._tx.execute(_TOTALS)).one()
        return StoredTotals(objects=row.objects, size_bytes=row.size_bytes, unfinished=row.unfinished)

    async def repin(self, video_id: VideoId, row: StoredRow, *, backend: str, generation: str) -> bool:
        """Say that this storage keeps the object of a row now. False: the row is gone, or not the same any more."""
        values = {
            "video_id": video_id,
            "key": row.key,
            "size_bytes": row.size_bytes,
            "checksum": row.checksum,
            "backend_before": row.backend,
            "generation_before": row.generation,
            "backend": backend,
            "generation": generation,
        }
        statement = _REPIN_SOURCE if row.step is None else _REPIN_ARTEFACT
        return (await self._tx.execute(statement, values)).rowcount > 0

    async def _with_rows(self, videos: Sequence[tuple[UUID, bool, bool]]) -> Sequence[VideoInventory]:
        rows: dict[UUID, list[StoredRow]] = defaultdict(list)
        if videos:
            for row in await self._tx.execute(_ROWS, {"ids": [video_id for video_id, _, _ in videos]}):
                values = dict(row._mapping)
                rows[values.pop("video_id")].append(StoredRow(**values))
        return [
            VideoInventory(id=VideoId(video_id), deleted=deleted, running=running, rows=rows[video_id])
            for video_id, deleted, running in videos
        ]
