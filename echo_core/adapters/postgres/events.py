"""Events: committed state changes, numbered without gaps for each owner."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import BigInteger, Integer, Uuid, bindparam, delete, func, select, text
from sqlalchemy.dialects.postgresql import JSONB

from echo_core.adapters.postgres.queries import Query
from echo_core.adapters.postgres.tables import EventCounterRow, EventRow, IdempotencyKeyRow
from echo_core.adapters.postgres.transaction import Transaction
from echo_core.adapters.postgres.values import json_text
from echo_core.application.ports import NewEvent
from echo_core.domain.ids import UserId
from echo_core.plugin_api.events import Event

KEY_LIFETIME = timedelta(days=1)
PRUNE_BATCH = 20_000
"""Rows deleted by one statement, so that none runs into the statement timeout."""


_owner_id = bindparam("owner_id", type_=Uuid)
_LIST_AFTER = Query(
    select(EventRow.__table__)
    .where(EventRow.owner_id == _owner_id, EventRow.sequence > bindparam("sequence", type_=BigInteger))
    .order_by(EventRow.sequence)
    .limit(bindparam("limit", type_=Integer))
)
_BOUNDS = Query(
    select(
        select(func.min(EventRow.sequence)).where(EventRow.owner_id == _owner_id).scalar_subquery(),
        EventCounterRow.newest,
    ).where(EventCounterRow.owner_id == _owner_id)
)
# Takes the numbers, which locks the owner's counter, and writes the events under them.
_ADD = Query(
    text(
        """
        with counter as (
            insert into echo.event_counters as c (owner_id, newest) values (:owner_id, :count)
            on conflict (owner_id) do update set newest = c.newest + excluded.newest
            returning newest, clock_timestamp() as at
        ), written as (
            insert into echo.events (owner_id, sequence, type, video_id, at, job_id, step, state, facts)
            select :owner_id, counter.newest - :count + event.number, event.type, event.video_id, counter.at,
                event.job_id, event.step, event.state, event.facts
            from counter, rows from (
                jsonb_to_recordset(:events)
                    as (type text, video_id uuid, job_id uuid, step text, state text, facts jsonb)
            ) with ordinality as event (type, video_id, job_id, step, state, facts, number)
        )
        select newest, at from counter
        """
    ).bindparams(
        bindparam("owner_id", type_=Uuid), bindparam("count", type_=BigInteger), bindparam("events", type_=JSONB)
    )
)


class PostgresEventRepository:
    """``EventRepository``. What was added is appended to ``added``, for after the commit."""

    def __init__(self, tx: Transaction, added: list[Event]) -> None:
        self._tx = tx
        self._added = added

    async def add(self, events: Sequence[NewEvent]) -> Sequence[Event]:
        """Write them, numbered in this order. Locks the counters of their owners until the end of the transaction."""
        by_owner: dict[UserId, list[int]] = {}
        for index, event in enumerate(events):
            by_owner.setdefault(event.owner_id, []).append(index)
        numbered: dict[int, Event] = {}
        for owner_id in sorted(by_owner):  # one order for everybody: two writers never wait for each other
            indices = by_owner[owner_id]
            rows = json_text([_values(events[index]) for index in indices])
            newest, at = await self._tx.find(_ADD, owner_id=owner_id, count=len(indices), events=rows)
            for sequence, index in enumerate(indices, start=newest - len(indices) + 1):
                numbered[index] = _numbered(events[index], sequence, at)
        written = [numbered[index] for index in range(len(events))]
        self._added.extend(written)
        return written

    async def list_after(self, owner_id: UserId, sequence: int, limit: int) -> Sequence[Event]:
        """Those with a greater number, in order."""
        rows = await self._tx.fetch(_LIST_AFTER, owner_id=owner_id, sequence=sequence, limit=limit)
        return [Event(**row) for row in rows]

    async def bounds(self, owner_id: UserId) -> tuple[int, int]:
        """(oldest number still held, newest number); ``(1, 0)`` when there was never any. When all were pruned, the
        oldest is the one that will come next."""
        row = await self._tx.find(_BOUNDS, owner_id=owner_id)
        if row is None:
            return (1, 0)
        oldest, newest = row
        return (oldest if oldest is not None else newest + 1, newest)

    async def prune(self, older_than: timedelta) -> int:
        """Forget events of that age, and idempotency keys past their day, at most ``PRUNE_BATCH`` of each (worker
        only). Returns how many rows went."""
        events = await _prune(self._tx, EventRow, "sequence", "at", older_than)
        return events + await _prune(self._tx, IdempotencyKeyRow, "key", "created_at", KEY_LIFETIME)


async def _prune(
    tx: Transaction, row: type[EventRow] | type[IdempotencyKeyRow], key: str, at: str, age: timedelta
) -> int:
    columns = row.__table__.c
    limit = select(func.clock_timestamp() - age).scalar_subquery()
    oldest = select(columns.owner_id, columns[key]).where(columns[at] < limit).order_by(columns[at])
    batch = oldest.limit(PRUNE_BATCH).cte("batch")
    statement = delete(row.__table__).where(columns.owner_id == batch.c.owner_id, columns[key] == batch.c[key])
    return (await tx.execute(statement)).rowcount


def _numbered(event: NewEvent, sequence: int, at: Any) -> Event:
    return Event(
        sequence=sequence,
        type=event.type,
        owner_id=event.owner_id,
        video_id=event.video_id,
        at=at,
        job_id=event.job_id,
        step=event.step,
        state=event.state,
        facts=event.facts,
    )


def _values(event: NewEvent) -> dict[str, Any]:
    return {name: getattr(event, name) for name in ("type", "video_id", "job_id", "step", "state", "facts")}
