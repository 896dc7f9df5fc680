"""Suggestions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import msgspec
from sqlalchemy import Integer, Uuid, bindparam, func, insert, select, update

from echo_core.adapters.postgres.queries import Query
from echo_core.adapters.postgres.tables import SuggestionRow
from echo_core.adapters.postgres.transaction import Transaction
from echo_core.adapters.postgres.values import json_text, storable_text
from echo_core.domain.errors import UnknownEntityError
from echo_core.domain.ids import SuggestionId, UserId, VideoId
from echo_core.domain.suggestions import Suggestion, SuggestionState
from echo_core.plugin_api.ai import TimeSpan

_table = SuggestionRow.__table__
_of_video = SuggestionRow.video_id == bindparam("video_id", type_=Uuid)
_LIST = Query(
    select(_table).where(_of_video).order_by(SuggestionRow.id.desc()).limit(bindparam("limit", type_=Integer))
)


@cache
def _get(for_update: bool) -> Query:
    statement = select(_table).where(_of_video, SuggestionRow.id == bindparam("id", type_=Uuid))
    return Query(statement.with_for_update() if for_update else statement)


class PostgresSuggestionRepository:
    """``SuggestionRepository``."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def list_for_video(self, video_id: VideoId, limit: int) -> Sequence[Suggestion]:
        """Newest first."""
        return [_suggestion(row) for row in await self._tx.fetch(_LIST, video_id=video_id, limit=limit)]

    async def get(self, video_id: VideoId, suggestion_id: SuggestionId, *, for_update: bool = False) -> Suggestion:
        """Raises ``UnknownEntityError``."""
        row = await self._tx.find(_get(for_update), video_id=video_id, id=suggestion_id)
        if row is None:
            raise UnknownEntityError("This video has no such suggestion.")
        return _suggestion(row)

    async def add(self, suggestion: Suggestion) -> None:
        """Store a new one; a pending one of the same field is superseded."""
        await self._tx.execute(
            update(_table)
            .where(
                SuggestionRow.video_id == suggestion.video_id,
                SuggestionRow.field == suggestion.field,
                SuggestionRow.state == SuggestionState.PENDING.value,
            )
            .values(state=SuggestionState.SUPERSEDED.value, decided_at=func.clock_timestamp())
        )
        await self._tx.execute(
            insert(_table).values(
                id=suggestion.id,
                video_id=suggestion.video_id,
                owner_id=suggestion.owner_id,
                field=suggestion.field,
                value=msgspec.json.decode(json_text(suggestion.value)),
                state=suggestion.state.value,
                provider=storable_text(suggestion.provider),
                model=storable_text(suggestion.model),
                prompt_version=storable_text(suggestion.prompt_version),
                evidence=msgspec.to_builtins(suggestion.evidence),
                cost_usd=suggestion.cost_usd,
                auto=suggestion.auto,
                created_at=suggestion.created_at,
                decided_at=suggestion.decided_at,
            )
        )

    async def save(self, suggestion: Suggestion) -> None:
        """Store what was decided."""
        await self._tx.execute(
            update(_table)
            .where(SuggestionRow.id == suggestion.id)
            .values(
                state=suggestion.state.value,
                value=msgspec.json.decode(json_text(suggestion.value)),
                auto=suggestion.auto,
                decided_at=suggestion.decided_at,
            )
        )


def _suggestion(row: Any) -> Suggestion:
    return Suggestion(
        id=SuggestionId(row["id"]),
        video_id=VideoId(row["video_id"]),
        owner_id=UserId(row["owner_id"]),
        field=row["field"],
        value=row["value"],
        state=SuggestionState(row["state"]),
        provider=row["provider"],
        model=row["model"],
        prompt_version=row["prompt_version"],
        evidence=msgspec.convert(row["evidence"], tuple[TimeSpan, ...]),
        cost_usd=row["cost_usd"],
        auto=row["auto"],
        created_at=row["created_at"],
        decided_at=row["decided_at"],
    )
