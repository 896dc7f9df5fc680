"""The whole way of an event: committed in PostgreSQL, announced over Valkey, heard over a WebSocket."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack

import pytest

from echo_core.adapters.postgres.engine import open_engine
from echo_core.adapters.postgres.units_of_work import PostgresUserUnitsOfWork, PostgresWorkerUnitsOfWork
from echo_core.adapters.redis_events import RedisEventBus
from echo_core.application.ports import NewEvent
from echo_core.domain.users import User
from echo_core.plugin_api.events import Event
from tests.fakes.api import SEAL
from tests.fakes.realtime import JOB, VIDEO, user

from .conftest import Valkey, echo

pytestmark = pytest.mark.integration

COMMITS = 40


@pytest.mark.matrix(22)
async def test_concurrent_commits_reach_every_connection_whatever_becomes_of_valkey(database, valkey: Valkey) -> None:
    owners = [user(n) for n in (100, 101, 102)]
    bus = RedisEventBus(valkey.url)

    async def announce(events: Sequence[Event], _rings: Sequence[object]) -> None:
        if random.random() < 0.8:  # noqa: S311 - a fifth of all announcements gets lost
            await bus.publish_events(events)

    async with AsyncExitStack() as stack:
        stack.push_async_callback(bus.aclose)
        api_engine = await stack.enter_async_context(open_engine(database.api_url, pool_size=5))
        worker_engine = await stack.enter_async_context(open_engine(database.worker_url, pool_size=5))
        worker = PostgresWorkerUnitsOfWork(worker_engine, announce)
        api = await stack.enter_async_context(echo(valkey, PostgresUserUnitsOfWork(api_engine, announce, SEAL)))
        sessions = [
            await stack.enter_async_context(api.session(sign_in_as=f"user {100 + n % 3}", owner=owners[n % 3]))
            for n in range(6)
        ]

        async def commit(owner: User) -> None:
            for number in range(COMMITS):
                async with worker.for_worker() as uow:
                    await uow.events.add([_event(owner)] * (1 + number % 3))
                if number == COMMITS // 2:
                    await valkey.empty()

        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            for owner in owners:
                group.create_task(commit(owner))
                group.create_task(commit(owner))  # two workers at once
            for session in sessions:
                group.create_task(session.until_id(_total()))
        late = [
            await stack.enter_async_context(api.session(sign_in_as="user 100", owner=owners[0], last_event_id=n))
            for n in (0, 50)
        ]
        for session in late:
            await session.until_id(_total())
    assert [session.ids for session in sessions] == [list(range(1, _total() + 1))] * 6
    assert [session.ids for session in late] == [list(range(n + 1, _total() + 1)) for n in (0, 50)]


def _event(owner: User) -> NewEvent:
    return NewEvent(type="job.running", owner_id=owner.id, video_id=VIDEO, job_id=JOB, state="running")


def _total() -> int:
    """Events of one owner in the end."""
    return 2 * sum(1 + number % 3 for number in range(COMMITS))
