"""Artefacts."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any

import msgspec
from sqlalchemy import (
    ColumnElement,
    Integer,
    Text,
    Uuid,
    bindparam,
    delete,
    exists,
    literal_column,
    or_,
    select,
    tuple_,
)
from sqlalchemy.dialects.postgresql import insert

from echo_core.adapters.postgres.queries import Query
from echo_core.adapters.postgres.tables import ArtefactRow, VideoRow
from echo_core.adapters.postgres.transaction import Transaction
from echo_core.adapters.postgres.values import storable_text
from echo_core.domain.artefacts import RENDITION_KIND, Artefact
from echo_core.domain.ids import VideoId
from echo_core.plugin_api.transcoder import Segment

MAX_ARTEFACTS = 1000
"""Of one video; the bundled steps make about twenty. More are an error of some step, and are not listed."""

_table = ArtefactRow.__table__
_BARE = tuple(column for column in _table.columns if column.name != "segments")


_of_video = ArtefactRow.video_id == bindparam("video_id", type_=Uuid)


def _list(*columns: ColumnElement[Any]) -> Query:
    statement = select(*columns).where(_of_video).order_by(ArtefactRow.kind, ArtefactRow.name)
    return Query(statement.limit(bindparam("limit", type_=Integer)))


_LIST = _list(*_BARE)
_LIST_WITH_SEGMENTS = _list(*_table.columns)
_FIND = Query(
    select(_table).where(
        _of_video,
        ArtefactRow.kind == bindparam("kind", type_=Text),
        ArtefactRow.name == bindparam("name", type_=Text),
    )
)
_HAS_RENDITION = Query(
    select(
        exists()
        .where(
            _of_video,
            ArtefactRow.kind == literal_column(f"'{RENDITION_KIND}'"),
            or_(
                ArtefactRow.facts.op("->>")(literal_column("'type'")) == literal_column("'video'"),
                exists().where(VideoRow.id == ArtefactRow.video_id, VideoRow.width.is_(None)),
            ),
        )
        .label("watchable")
    )
)


class PostgresArtefactRepository:
    """``ArtefactRepository``."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def list_for_video(self, video_id: VideoId, *, segments: bool = False) -> Sequence[Artefact]:
        """All, ordered by kind and name; segment tables only on request."""
        query = _LIST_WITH_SEGMENTS if segments else _LIST
        return [_artefact(row) for row in await self._tx.fetch(query, video_id=video_id, limit=MAX_ARTEFACTS)]

    async def find(self, video_id: VideoId, kind: str, name: str) -> Artefact | None:
        """One, with its segments."""
        row = await self._tx.find(_FIND, video_id=video_id, kind=kind, name=storable_text(name))
        return _artefact(row) if row is not None else None

    async def put(self, artefacts: Sequence[Artefact]) -> Sequence[str]:
        """Store; those of the same (video, kind, name) are replaced.

        Returns the storage keys that nothing refers to any more.
        """
        if not artefacts:
            return []
        identity = tuple_(ArtefactRow.video_id, ArtefactRow.kind, ArtefactRow.name)
        same = [(artefact.video_id, artefact.kind, artefact.name) for artefact in artefacts]
        found = await self._tx.execute(
            select(ArtefactRow.storage_key).where(identity.in_(same)).with_for_update(key_share=True)
        )
        kept = {artefact.storage_key for artefact in artefacts}
        replaced = sorted({row.storage_key for row in found} - kept)
        statement = insert(_table)
        names = [c.name for c in _table.columns if c.name not in {"video_id", "kind", "name"}]
        statement = statement.on_conflict_do_update(
            index_elements=["video_id", "kind", "name"], set_={name: statement.excluded[name] for name in names}
        )
        await self._tx.execute(statement, [_values(artefact) for artefact in artefacts])
        return replaced

    async def remove_of_step(self, video_id: VideoId, step: str, *, except_token: int) -> Sequence[str]:
        """Remove rows that other runs of the step left; returns their storage keys."""
        statement = (
            delete(_table)
            .where(ArtefactRow.video_id == video_id, ArtefactRow.step == step, ArtefactRow.lease_token != except_token)
            .returning(ArtefactRow.storage_key)
        )
        return sorted(row.storage_key for row in await self._tx.execute(statement))

    async def remove(self, video_id: VideoId, keys: Sequence[str]) -> None:
        """Forget the rows of these storage keys."""
        named = (ArtefactRow.video_id == video_id) & ArtefactRow.storage_key.in_(keys)
        await self._tx.execute(delete(_table).where(named))

    async def remove_kinds(self, video_id: VideoId, kinds: Sequence[str]) -> Set[str]:
        """Forget all of these kinds; returns the names of the steps that had made them."""
        named = (ArtefactRow.video_id == video_id) & ArtefactRow.kind.in_(kinds)
        statement = delete(_table).where(named).returning(ArtefactRow.step)
        return {row.step for row in await self._tx.execute(statement)}

    async def has_rendition(self, video_id: VideoId) -> bool:
        """Whether a video rendition (or, without any picture, a sound rendition) exists."""
        return bool((await self._tx.find(_HAS_RENDITION, video_id=video_id))["watchable"])


def _values(artefact: Artefact) -> dict[str, Any]:
    values = {column.name: getattr(artefact, column.name) for column in _BARE}
    values["segments"] = msgspec.json.encode(
        [(s.duration_s, s.offset_bytes, s.length_bytes) for s in artefact.segments]
    ).decode()
    return values


def _artefact(row: Any) -> Artefact:
    values = dict(row)
    packed = values.pop("segments", "")
    return Artefact(**values, segments=_segments(packed) if packed else ())


def _segments(packed: str) -> tuple[Segment, ...]:
    rows = msgspec.json.decode(packed, type=list[tuple[float, int, int]])
    return tuple(Segment(duration_s=d, offset_bytes=o, length_bytes=n) for d, o, n in rows)
