"""Videos."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
from sqlalchemy import Uuid, bindparam, delete, func, insert, select, update

from echo_core.adapters.postgres.queries import Query
from echo_core.adapters.postgres.tables import VideoRow
from echo_core.adapters.postgres.transaction import Transaction
from echo_core.adapters.postgres.values import storable_text
from echo_core.domain.errors import UnknownEntityError
from echo_core.domain.ids import UserId, VideoId
from echo_core.domain.videos import Chapter, Video, VideoStatus, Visibility

UNCHANGEABLE = frozenset({"id", "owner_id", "created_at", "updated_at"})
"""Never written by ``save``; ``updated_at`` is the database's."""


class PostgresVideoRepository:
    """``VideoRepository``."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def add(self, video: Video) -> None:
        """Store a new video."""
        await self._tx.execute(insert(VideoRow.__table__), _values(video))

    async def get(self, video_id: VideoId, *, for_update: bool = False, deleted: bool = False) -> Video:
        """Raises ``UnknownEntityError``."""
        row = await self._tx.find(_get(for_update, deleted), video_id=video_id)
        if row is None:
            raise _unknown_video()
        return _video(row)

    async def save(self, video: Video) -> None:
        """Store what changed; ``updated_at`` becomes the database's now. Raises ``UnknownEntityError``."""
        values = {name: value for name, value in _values(video).items() if name not in UNCHANGEABLE}
        statement = update(VideoRow.__table__).where(VideoRow.id == video.id)
        result = await self._tx.execute(statement.values(**values, updated_at=func.clock_timestamp()))
        if result.rowcount == 0:
            raise _unknown_video()

    async def remove(self, video_id: VideoId) -> None:
        """Delete the row and, by cascade, everything that hangs on it. Events stay."""
        await self._tx.execute(delete(VideoRow.__table__).where(VideoRow.id == video_id))


@cache
def _get(for_update: bool, deleted: bool) -> Query:
    statement = select(VideoRow.__table__).where(VideoRow.id == bindparam("video_id", type_=Uuid))
    if not deleted:
        statement = statement.where(VideoRow.deleted_at.is_(None))
    return Query(statement.with_for_update(key_share=True) if for_update else statement)


def _unknown_video() -> UnknownEntityError:
    return UnknownEntityError("There is no such video.", remedy="Check the address; the video may have been deleted.")


def _values(video: Video) -> dict[str, Any]:
    return {
        "id": video.id,
        "owner_id": video.owner_id,
        "status": video.status,
        "title": storable_text(video.title),
        "filename": storable_text(video.filename),
        "content_type": video.content_type,
        "created_at": video.created_at,
        "updated_at": video.updated_at,
        "description": storable_text(video.description),
        "tags": [storable_text(tag) for tag in video.tags],
        "language": storable_text(video.language),
        "visibility": video.visibility,
        "chapters": msgspec.to_builtins(video.chapters),
        "poster": storable_text(video.poster),
        "edited_fields": sorted(video.edited_fields),
        "version": video.version,
        "size_bytes": video.size_bytes,
        "duration_s": video.duration_s,
        "width": video.width,
        "height": video.height,
        "deleted_at": video.deleted_at,
    }


def _video(row: Any) -> Video:
    return Video(
        id=VideoId(row["id"]),
        owner_id=UserId(row["owner_id"]),
        status=VideoStatus(row["status"]),
        title=row["title"],
        filename=row["filename"],
        content_type=row["content_type"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        description=row["description"],
        tags=tuple(row["tags"]),
        language=row["language"],
        visibility=Visibility(row["visibility"]),
        chapters=msgspec.convert(row["chapters"], tuple[Chapter, ...]),
        poster=row["poster"],
        edited_fields=frozenset(row["edited_fields"]),
        version=row["version"],
        size_bytes=row["size_bytes"],
        duration_s=row["duration_s"],
        width=row["width"],
        height=row["height"],
        deleted_at=row["deleted_at"],
    )
