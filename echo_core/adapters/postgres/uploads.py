"""Uploads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from typing import Any

from sqlalchemy import Integer, Uuid, bindparam, func, insert, literal_column, select, update

from echo_core.adapters.postgres.queries import Query
from echo_core.adapters.postgres.tables import UploadRow
from echo_core.adapters.postgres.transaction import Transaction
from echo_core.domain.errors import UnknownEntityError
from echo_core.domain.ids import VideoId
from echo_core.domain.uploads import Upload, UploadState

UNCHANGEABLE = frozenset({"video_id", "owner_id", "created_at"})


class PostgresUploadRepository:
    """``UploadRepository``."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def add(self, upload: Upload) -> None:
        """Store a new upload."""
        await self._tx.execute(insert(UploadRow.__table__), asdict(upload))

    async def get(self, video_id: VideoId, *, for_update: bool = False) -> Upload:
        """Raises ``UnknownEntityError``."""
        row = await self._tx.find(_get(for_update), video_id=video_id)
        if row is None:
            raise _unknown_upload()
        return _upload(row)

    async def save(self, upload: Upload) -> None:
        """Store what changed. Raises ``UnknownEntityError``."""
        values = {name: value for name, value in asdict(upload).items() if name not in UNCHANGEABLE}
        statement = update(UploadRow.__table__).where(UploadRow.video_id == upload.video_id).values(values)
        if (await self._tx.execute(statement)).rowcount == 0:
            raise _unknown_upload()

    async def list_expired(self, limit: int) -> Sequence[Upload]:
        """Open uploads past their expiry by the database's clock, oldest first (worker only)."""
        return [_upload(row) for row in await self._tx.fetch(_EXPIRED, limit=limit)]


@cache
def _get(for_update: bool) -> Query:
    statement = select(UploadRow.__table__).where(UploadRow.video_id == bindparam("video_id", type_=Uuid))
    return Query(statement.with_for_update(key_share=True) if for_update else statement)


_EXPIRED = Query(
    select(UploadRow.__table__)
    .where(
        UploadRow.state == literal_column(f"'{UploadState.OPEN.value}'"),
        # Read once, as a subquery: a bare clock_timestamp() could not use the index.
        UploadRow.expires_at < select(func.clock_timestamp()).scalar_subquery(),
    )
    .order_by(UploadRow.expires_at)
    .limit(bindparam("limit", type_=Integer))
)


def _unknown_upload() -> UnknownEntityError:
    return UnknownEntityError("There is no such upload.", remedy="Start the upload again.")


def _upload(row: Any) -> Upload:
    return Upload(**{**row, "state": UploadState(row["state"])})
