"""Numbers over everybody, from functions that only the API's login role may call: no role, no claims, no rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import ARRAY, Uuid, bindparam, text
from sqlalchemy.ext.asyncio import AsyncEngine

from echo_core.adapters.postgres.transaction import BEGIN, transaction
from echo_core.application.ports import QueueStatistics
from echo_core.domain.ids import UserId
from echo_core.plugin_api.steps import Resource

_HEADS = text("select owner_id, newest from echo.event_heads(:owner_ids)").bindparams(
    bindparam("owner_ids", type_=ARRAY(Uuid))
)
_QUEUES = text("select resource, queued, oldest_age_s, running from echo.queue_statistics()")


async def event_heads(engine: AsyncEngine, owner_ids: Sequence[UserId]) -> Mapping[UserId, int]:
    """The newest event number of each of these owners; 0 when there was never any."""
    heads = dict.fromkeys(owner_ids, 0)
    if heads:
        async with transaction(engine, BEGIN) as tx:
            for row in await tx.execute(_HEADS, {"owner_ids": list(heads)}):
                heads[UserId(row.owner_id)] = row.newest
    return heads


async def queue_statistics(engine: AsyncEngine) -> Sequence[QueueStatistics]:
    """Counts by resource class, in the order of ``Resource``; a class without steps has zeros."""
    async with transaction(engine, BEGIN) as tx:
        found = {row.resource: row for row in await tx.execute(_QUEUES)}
    return [
        QueueStatistics(
            resource=resource,
            queued=found[resource].queued if resource in found else 0,
            oldest_age_s=found[resource].oldest_age_s if resource in found else 0.0,
            running=found[resource].running if resource in found else 0,
        )
        for resource in Resource
    ]
