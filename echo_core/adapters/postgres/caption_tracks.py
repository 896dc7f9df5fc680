"""Caption tracks. A cue is ``{"start_s": …, "end_s": …, "text": …, "word_starts_s": […]}``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import msgspec
from sqlalchemy import ColumnClause, Text, Uuid, bindparam, delete, func, literal_column, select
from sqlalchemy.dialects.postgresql import insert

from echo_core.adapters.postgres.queries import Query
from echo_core.adapters.postgres.tables import CaptionTrackRow
from echo_core.adapters.postgres.transaction import Transaction
from echo_core.adapters.postgres.values import storable_text
from echo_core.domain.caption_tracks import CaptionSource, CaptionTrack
from echo_core.domain.captions import Cue
from echo_core.domain.errors import UnknownEntityError
from echo_core.domain.ids import UserId, VideoId

MAX_TRACKS = 200
"""Of one video; more cannot be added."""

_table = CaptionTrackRow.__table__
_BARE = tuple(column for column in _table.columns if column.name != "cues")
_of_video = CaptionTrackRow.video_id == bindparam("video_id", type_=Uuid)
_MOST: ColumnClause[int] = literal_column(str(MAX_TRACKS))
_LIST = Query(select(*_BARE).where(_of_video).order_by(CaptionTrackRow.name).limit(_MOST))
_LIST_WITH_CUES = Query(select(_table).where(_of_video).order_by(CaptionTrackRow.name).limit(_MOST))


@cache
def _find(for_update: bool) -> Query:
    statement = select(_table).where(_of_video, CaptionTrackRow.name == bindparam("name", type_=Text))
    return Query(statement.with_for_update() if for_update else statement)


class PostgresCaptionTrackRepository:
    """``CaptionTrackRepository``."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def list_for_video(self, video_id: VideoId, *, cues: bool = False) -> Sequence[CaptionTrack]:
        """All, ordered by name; their cues only on request."""
        rows = await self._tx.fetch(_LIST_WITH_CUES if cues else _LIST, video_id=video_id)
        return [_track(row, with_cues=cues) for row in rows]

    async def find(self, video_id: VideoId, name: str, *, for_update: bool = False) -> CaptionTrack | None:
        """One, with its cues."""
        row = await self._tx.find(_find(for_update), video_id=video_id, name=storable_text(name))
        return _track(row, with_cues=True) if row is not None else None

    async def put(self, track: CaptionTrack) -> None:
        """Store; the one of the same (video, name) is replaced. ``updated_at`` becomes the database's now."""
        values = _values(track)
        statement = insert(_table).values(**values)
        kept = {"video_id", "owner_id", "name", "created_at"}
        changes = {name: value for name, value in values.items() if name not in kept}
        await self._tx.execute(
            statement.on_conflict_do_update(
                index_elements=["video_id", "name"], set_={**changes, "updated_at": func.clock_timestamp()}
            )
        )

    async def remove(self, video_id: VideoId, name: str) -> None:
        """Raises ``UnknownEntityError``."""
        result = await self._tx.execute(
            delete(_table).where(CaptionTrackRow.video_id == video_id, CaptionTrackRow.name == storable_text(name))
        )
        if result.rowcount == 0:
            raise UnknownEntityError("This video has no such captions.")


def _values(track: CaptionTrack) -> dict[str, Any]:
    return {
        "video_id": track.video_id,
        "owner_id": track.owner_id,
        "name": storable_text(track.name),
        "language": storable_text(track.language),
        "title": storable_text(track.title),
        "source": track.source.value,
        "edited": track.edited,
        "forced": track.forced,
        "provider": storable_text(track.provider),
        "model": storable_text(track.model),
        "cues": [
            {
                "start_s": cue.start_s,
                "end_s": cue.end_s,
                "text": storable_text(cue.text),
                "word_starts_s": list(cue.word_starts_s),
            }
            for cue in track.cues
        ],
        "version": track.version,
    }


def _track(row: Any, *, with_cues: bool) -> CaptionTrack:
    return CaptionTrack(
        video_id=VideoId(row["video_id"]),
        owner_id=UserId(row["owner_id"]),
        name=row["name"],
        language=row["language"],
        title=row["title"],
        source=CaptionSource(row["source"]),
        edited=row["edited"],
        forced=row["forced"],
        provider=row["provider"],
        model=row["model"],
        cues=msgspec.convert(row["cues"], tuple[Cue, ...]) if with_cues else (),
        version=row["version"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
