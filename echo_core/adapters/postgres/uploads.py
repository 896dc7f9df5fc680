"""Uploads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import func, insert, select, update

from echo_core.adapters.postgres.tables import UploadRow
from echo_core.adapters.postgres.transaction import Transaction
from echo_core.domain.errors import UnknownEntityError
from echo_core.domain.ids import UserId, VideoId
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
        statement = select(UploadRow.__table__).where(UploadRow.video_id == video_id)
        if for_update:
            statement = statement.with_for_update(key_share=True)
        row = (await self._tx.execute(statement)).one_or_none()
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
        # One clock reading for the whole statement, as a subquery: a bare clock_timestamp() could not use the index.
        now = select(func.clock_timestamp()).scalar_subquery()
        statement = (
            select(UploadRow.__table__)
            .where(UploadRow.state == UploadState.OPEN.value, UploadRow.expires_at < now)
            .order_by(UploadRow.expires_at)
            .limit(limit)
        )
        return [_upload(row) for row in await self._tx.execute(statement)]


def _unknown_upload() -> UnknownEntityError:
    return UnknownEntityError("There is no such upload.", remedy="Start the upload again.")


def _upload(row: Any) -> Upload:
    values = dict(row._mapping)
    return Upload(
        **{
            **values,
            "video_id": VideoId(row.video_id),
            "owner_id": UserId(row.owner_id),
            "state": UploadState(row.state),
        }
    )
