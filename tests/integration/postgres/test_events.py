"""Events: numbers without gaps, replay, pruning."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import uuid4

import asyncpg
import pytest
import sqlalchemy as sa

from echo_core.adapters.postgres.transaction import BEGIN_AS_SERVICE, transaction
from echo_core.application.ports import NewEvent
from echo_core.domain.ids import new_job_id, new_video_id

pytestmark = pytest.mark.integration


def event(owner, **more) -> NewEvent:
    return NewEvent(**{"type": "video.updated", "owner_id": owner.id, "video_id": new_video_id(), **more})


async def test_an_event_comes_back_as_it_was_told(api, alice, announced):
    new = event(alice, job_id=new_job_id(), step="poster", state="failed", facts={"error": {"code": "x", "n": [1]}})
    async with api.for_user(alice) as uow:
        (told,) = await uow.events.add([new])
        assert (told.sequence, told.type, told.facts) == (1, new.type, new.facts)
        assert await uow.events.list_after(alice.id, 0, 10) == [told]
        assert await uow.events.add([]) == []


async def test_numbers_go_on_in_the_order_given_for_each_owner(worker, alice, bob):
    mixed = [event(alice), event(bob), event(alice)]
    async with worker.for_worker() as uow:
        assert [e.sequence for e in await uow.events.add(mixed)] == [1, 1, 2]
    async with worker.for_worker() as uow:
        told = await uow.events.add(mixed[::-1])
        assert [(e.owner_id, e.sequence) for e in told] == [(alice.id, 3), (bob.id, 2), (alice.id, 4)]
        assert [e.sequence for e in await uow.events.list_after(alice.id, 1, 2)] == [2, 3]
        assert await uow.events.bounds(alice.id) == (1, 4)


async def test_concurrent_writers_and_rollbacks_leave_no_gap(api, worker, alice):
    async def write(number):
        try:
            async with worker.for_worker() as uow:
                await uow.events.add([event(alice), event(alice), event(alice)])
                if number % 4 == 0:
                    raise ZeroDivisionError
        except ZeroDivisionError:
            return []
        return [number]

    written = await asyncio.gather(*(write(number) for number in range(20)))
    async with api.for_user(alice) as uow:
        sequences = [e.sequence for e in await uow.events.list_after(alice.id, 0, 1000)]
    assert sequences == list(range(1, 3 * sum(map(len, written)) + 1))
    assert len(sequences) == 45


async def test_nobody_reads_or_writes_anothers_events(api, alice, bob):
    async with api.for_user(alice) as uow:
        await uow.events.add([event(alice)])
    async with api.for_user(bob) as uow:
        assert await uow.events.list_after(alice.id, 0, 10) == []
        assert await uow.events.bounds(alice.id) == (1, 0)
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        async with api.for_user(bob) as uow:
            await uow.events.add([event(alice)])


async def test_heads_are_told_for_the_owners_asked_for(api, alice, bob):
    async with api.for_user(alice) as uow:
        await uow.events.add([event(alice), event(alice)])
    assert await api.event_heads([alice.id, bob.id]) == {alice.id: 2, bob.id: 0}
    assert await api.event_heads([]) == {}


async def test_prune_forgets_old_events_and_answers_and_bounds_tell(api, worker, worker_engine, alice):
    async with api.for_user(alice) as uow:
        await uow.events.add([event(alice) for _ in range(3)])
        await uow.idempotency.reserve("old", "hash", uuid4())
        await uow.idempotency.reserve("new", "hash", uuid4())
    async with transaction(worker_engine, BEGIN_AS_SERVICE) as tx:
        await tx.execute(sa.text("update echo.events set at = at - interval '31 days' where sequence <= 2"))
        await tx.execute(
            sa.text("update echo.idempotency_keys set created_at = created_at - interval '25 hours' where key = 'old'")
        )
    async with worker.for_worker() as uow:
        assert await uow.events.prune(timedelta(days=30)) == 3
        assert await uow.events.prune(timedelta(days=30)) == 0
        assert await uow.events.bounds(alice.id) == (3, 3)
        assert await uow.events.prune(timedelta(0)) == 1
        assert await uow.events.bounds(alice.id) == (4, 3)
    async with api.for_user(alice) as uow:
        assert (await uow.events.add([event(alice)]))[0].sequence == 4
        assert await uow.idempotency.reserve("new", "hash", uuid4()) is not None
