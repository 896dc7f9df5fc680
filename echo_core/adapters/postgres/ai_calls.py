"""What AI took, and the parts of its work that are remembered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Double, Integer, Text, Uuid, bindparam, delete, literal_column, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from echo_core.adapters.postgres.queries import Query
from echo_core.adapters.postgres.tables import AICallRow, AICheckpointRow
from echo_core.adapters.postgres.transaction import Transaction, fetch_alone
from echo_core.adapters.postgres.values import storable_text
from echo_core.domain.ai_calls import AICallRecord, AIDay, AITotals, Budgets, NewAICall, RememberedPart
from echo_core.domain.ids import AICallId, UserId, VideoId
from echo_core.plugin_api.ai import Usage
from echo_core.plugin_api.json import JsonObject

MAX_CALLS = 1000
"""Of one video, as listed: the newest."""

RESERVE = text(
    "select echo.reserve_ai_call(:id, :owner_id, :video_id, :step, :capability, :provider, :model, :prompt_version, "
    ":input_tokens, :output_tokens, :media_s, :cost_usd, :per_video_usd, :per_day_usd)"
).bindparams(
    bindparam("id", type_=Uuid),
    bindparam("owner_id", type_=Uuid),
    bindparam("video_id", type_=Uuid),
    *(bindparam(name, type_=Text) for name in ("step", "capability", "provider", "model", "prompt_version")),
    *(bindparam(name, type_=Double) for name in ("media_s", "cost_usd", "per_video_usd", "per_day_usd")),
)
SETTLE = text(
    "select echo.settle_ai_call(:id, :model, :prompt_version, :input_tokens, :output_tokens, :media_s, :cost_usd)"
).bindparams(
    bindparam("id", type_=Uuid),
    *(bindparam(name, type_=Text) for name in ("model", "prompt_version")),
    *(bindparam(name, type_=Double) for name in ("media_s", "cost_usd")),
)
RELEASE = text("select echo.release_ai_call(:id)").bindparams(bindparam("id", type_=Uuid))

_LIST = Query(
    select(AICallRow.__table__)
    .where(AICallRow.video_id == bindparam("video_id", type_=Uuid))
    .order_by(AICallRow.id.desc())
    .limit(literal_column(str(MAX_CALLS)))
)
_TOTALS = Query(
    text(
        """
        select count(*) as calls, coalesce(sum(input_tokens), 0)::bigint as input_tokens,
            coalesce(sum(output_tokens), 0)::bigint as output_tokens, coalesce(sum(media_s), 0) as media_s,
            coalesce(sum(cost_usd), 0) as cost_usd
        from echo.ai_calls where video_id = :video_id
        """
    ).bindparams(bindparam("video_id", type_=Uuid))
)
_DAYS = Query(
    text(
        """
        select (at at time zone 'UTC')::date as day, provider, model, count(*) as calls,
            sum(input_tokens)::bigint as input_tokens, sum(output_tokens)::bigint as output_tokens,
            sum(media_s) as media_s, sum(cost_usd) as cost_usd
        from echo.ai_calls
        where owner_id = :owner_id
            and at >= date_trunc('day', clock_timestamp(), 'UTC') - make_interval(days => :days - 1)
        group by 1, 2, 3
        order by 1 desc, 8 desc, 2, 3
        limit 10000
        """
    ).bindparams(bindparam("owner_id", type_=Uuid), bindparam("days", type_=Integer))
)
_RECALL = Query(
    select(AICheckpointRow.__table__).where(
        AICheckpointRow.video_id == bindparam("video_id", type_=Uuid),
        AICheckpointRow.capability == bindparam("capability", type_=Text),
        AICheckpointRow.provider == bindparam("provider", type_=Text),
        AICheckpointRow.key == bindparam("key", type_=Text),
        AICheckpointRow.source == bindparam("source", type_=Text),
    )
)


class PostgresAICallRepository:
    """``AICallRepository``."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def reserve(self, call: NewAICall, budgets: Budgets) -> str:
        """Empty: it is reserved; else the budget that is too small, ``video`` or ``day``."""
        return str((await self._tx.execute(RESERVE, reserve_parameters(call, budgets))).scalar_one())

    async def settle(self, call_id: AICallId, usage: Usage) -> None:
        """This is what it took."""
        await self._tx.execute(SETTLE, settle_parameters(call_id, usage))

    async def release(self, call_id: AICallId) -> None:
        """It was not billed: forget it."""
        await self._tx.execute(RELEASE, {"id": call_id})

    async def list_for_video(self, video_id: VideoId) -> Sequence[AICallRecord]:
        """Newest first."""
        return [_record(row) for row in await self._tx.fetch(_LIST, video_id=video_id)]

    async def totals(self, video_id: VideoId) -> AITotals:
        """Over all of a video's."""
        (row,) = await self._tx.fetch(_TOTALS, video_id=video_id)
        return _totals(row)

    async def days(self, owner_id: UserId, days: int) -> Sequence[AIDay]:
        """An owner's by day and model, newest day first; today is the first of so many days."""
        rows = await self._tx.fetch(_DAYS, owner_id=owner_id, days=days)
        return [AIDay(day=r["day"], provider=r["provider"], model=r["model"], totals=_totals(r)) for r in rows]

    async def recall(self, part: RememberedPart) -> JsonObject | None:
        """What was remembered of this source."""
        row = await self._tx.find(_RECALL, **_keys(part), source=storable_text(part.source))
        return row["value"] if row is not None else None

    async def remember(self, part: RememberedPart, owner_id: UserId, value: JsonObject) -> None:
        """Keep; what was there of the same key is replaced."""
        statement = insert(AICheckpointRow.__table__).values(
            **_keys(part), owner_id=owner_id, source=storable_text(part.source), value=value
        )
        await self._tx.execute(
            statement.on_conflict_do_update(
                index_elements=["video_id", "capability", "provider", "key"],
                set_={"source": statement.excluded.source, "value": statement.excluded.value},
            )
        )

    async def forget(self, video_id: VideoId, capability: str) -> None:
        """The whole has been done: its parts are needed no more."""
        await self._tx.execute(
            delete(AICheckpointRow.__table__).where(
                AICheckpointRow.video_id == video_id, AICheckpointRow.capability == capability
            )
        )


def _keys(part: RememberedPart) -> dict[str, object]:
    return {
        "video_id": part.video_id,
        "capability": part.capability,
        "provider": part.provider,
        "key": storable_text(part.key),
    }


def reserve_parameters(call: NewAICall, budgets: Budgets) -> dict[str, object]:
    """Of ``RESERVE``."""
    return {
        "id": call.id,
        "owner_id": call.owner_id,
        "video_id": call.video_id,
        "step": call.step,
        "capability": call.capability,
        "provider": call.provider,
        **_usage(call.at_most),
        "per_video_usd": budgets.per_video_usd,
        "per_day_usd": budgets.per_day_usd,
    }


def settle_parameters(call_id: AICallId, usage: Usage) -> dict[str, object]:
    """Of ``SETTLE``."""
    return {"id": call_id, **_usage(usage)}


def _usage(usage: Usage) -> dict[str, object]:
    return {
        "model": storable_text(usage.model),
        "prompt_version": storable_text(usage.prompt_version),
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "media_s": usage.media_s,
        "cost_usd": usage.cost_usd,
    }


def _totals(row: Any) -> AITotals:
    return AITotals(
        calls=row["calls"],
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        media_s=row["media_s"],
        cost_usd=row["cost_usd"],
    )


def _record(row: Any) -> AICallRecord:
    return AICallRecord(
        id=AICallId(row["id"]),
        video_id=VideoId(row["video_id"]) if row["video_id"] is not None else None,
        step=row["step"],
        capability=row["capability"],
        provider=row["provider"],
        usage=Usage(
            model=row["model"],
            prompt_version=row["prompt_version"],
            input_tokens=row["input_tokens"],
            output_tokens=row["output_tokens"],
            media_s=row["media_s"],
            cost_usd=row["cost_usd"],
        ),
        settled=row["state"] == "settled",
        at=row["at"],
    )


_API_RESERVE = "select echo.reserve_ai_call($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"
_API_SETTLE = "select echo.settle_ai_call($1, $2, $3, $4, $5, $6, $7)"
_API_RELEASE = "select echo.release_ai_call($1)"


class PostgresApiLedger:
    """``Ledger`` of the API, which may reserve, and sees nothing of what others have."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def reserve(self, call: NewAICall, budgets: Budgets) -> str:
        """Empty: it is reserved; else the budget that is too small, ``video`` or ``day``."""
        most = call.at_most
        refused: str = await fetch_alone(
            self._engine,
            _API_RESERVE,
            call.id,
            call.owner_id,
            call.video_id,
            call.step,
            call.capability,
            call.provider,
            storable_text(most.model),
            storable_text(most.prompt_version),
            most.input_tokens,
            most.output_tokens,
            most.media_s,
            most.cost_usd,
            budgets.per_video_usd,
            budgets.per_day_usd,
        )
        return refused

    async def settle(self, call_id: AICallId, usage: Usage) -> None:
        """This is what it took."""
        await fetch_alone(
            self._engine,
            _API_SETTLE,
            call_id,
            storable_text(usage.model),
            storable_text(usage.prompt_version),
            usage.input_tokens,
            usage.output_tokens,
            usage.media_s,
            usage.cost_usd,
        )

    async def release(self, call_id: AICallId) -> None:
        """It was not billed."""
        await fetch_alone(self._engine, _API_RELEASE, call_id)
