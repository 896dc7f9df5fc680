from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from echo_core.adapters import redis_events
from echo_core.adapters.redis_events import STREAM, RedisEventBus, RedisEventSource
from echo_core.adapters.redis_tickets import RedisTicketStore
from echo_core.application.ports import Progress
from echo_core.application.realtime import Discontinuity
from echo_core.application.realtime_access import issue_ticket
from echo_core.domain.users import User
from echo_core.plugin_api.errors import UnavailableError
from echo_core.plugin_api.events import Event
from tests.fakes.realtime import JOB, VIDEO, ManualClock, progress, user

from .conftest import BLOCK_S, Valkey

pytestmark = pytest.mark.integration

OWNER = user(1)
FULL = Event(
    sequence=7,
    type="step.failed",
    owner_id=OWNER.id,
    video_id=VIDEO,
    job_id=JOB,
    step="ladder",
    state="failed",
    at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    facts={"error": {"code": "x", "message": "Ünïcode 🎬", "remedy": ""}, "attempt": 2, "list": [1, 2.5, None, True]},
)
BARE = Event(sequence=8, type="video.created", owner_id=OWNER.id, video_id=VIDEO, at=FULL.at)


class Reader:
    def __init__(self, messages: Any) -> None:
        self._messages = messages

    async def next(self) -> Event | Progress | Discontinuity:
        async with asyncio.timeout(20):
            message: Event | Progress | Discontinuity = await anext(self._messages)
            return message

    async def next_event(self) -> tuple[Event, int]:
        """The next event, and how many discontinuities stood before it."""
        for discontinuities in itertools.count():
            message = await self.next()
            if isinstance(message, Event):
                return message, discontinuities
            assert message == Discontinuity()
        raise AssertionError("unreachable")


@asynccontextmanager
async def reading(valkey: Valkey) -> AsyncIterator[Reader]:
    async with aclosing(RedisEventSource(valkey.url, block_s=BLOCK_S).messages()) as messages:
        reader = Reader(messages)
        assert await reader.next() == Discontinuity()
        yield reader


@pytest.fixture
async def bus(valkey: Valkey) -> AsyncIterator[RedisEventBus]:
    bus = RedisEventBus(valkey.url)
    yield bus
    await bus.aclose()


async def publish_when_it_answers(bus: RedisEventBus, *events: Event) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                return await bus.publish_events(events)
            except UnavailableError:
                await asyncio.sleep(0.05)


async def test_events_and_progress_arrive_as_they_were_published(valkey: Valkey, bus: RedisEventBus) -> None:
    async with reading(valkey) as reader:
        await bus.publish_events([FULL, BARE])
        await bus.publish_progress(progress(OWNER, 12.5))
        await bus.publish_events([])
        assert [await reader.next() for _ in range(3)] == [FULL, BARE, progress(OWNER, 12.5)]


async def test_every_source_reads_everything_from_its_opening_on(valkey: Valkey, bus: RedisEventBus) -> None:
    await bus.publish_events([FULL])
    async with reading(valkey) as one, reading(valkey) as two:
        await bus.publish_events([BARE])
        assert (await one.next(), await two.next()) == (BARE, BARE)


async def test_emptied_redis_goes_on(valkey: Valkey, bus: RedisEventBus) -> None:
    async with reading(valkey) as reader:
        await bus.publish_events([FULL])
        assert await reader.next() == FULL
        await valkey.empty()
        await bus.publish_events([BARE])
        assert (await reader.next_event())[0] == BARE


async def test_stream_that_began_anew_with_smaller_ids_is_noticed(valkey: Valkey, bus: RedisEventBus) -> None:
    async with reading(valkey) as reader:
        await bus.publish_events([FULL])
        assert await reader.next() == FULL
        payload = (await valkey.run("XREVRANGE", STREAM, "+", "-"))[0][1][b"m"]
        await valkey.empty()
        await valkey.run("XADD", STREAM, "1-1", "m", payload)
        event, discontinuities = await reader.next_event()
        assert event == FULL
        assert discontinuities == 1


async def test_stream_that_began_anew_with_the_same_id_is_noticed(valkey: Valkey, bus: RedisEventBus) -> None:
    async with reading(valkey) as reader:
        await bus.publish_events([BARE])
        payload = (await valkey.run("XREVRANGE", STREAM, "+", "-"))[0][1][b"m"]
        assert await reader.next() == BARE
        await bus.publish_events([FULL])
        assert await reader.next() == FULL
        entry_id = (await valkey.run("XREVRANGE", STREAM, "+", "-"))[0][0]
        await valkey.empty()
        await valkey.run("XADD", STREAM, entry_id, "m", payload)
        assert await reader.next_event() == (BARE, 1)


async def test_killed_and_restarted_redis_is_found_again(valkey: Valkey, bus: RedisEventBus) -> None:
    async with reading(valkey) as reader:
        await bus.publish_events([FULL])
        assert await reader.next() == FULL
        following = asyncio.create_task(reader.next_event())
        await asyncio.sleep(0)  # it waits for Redis now, as a source in use always does
        valkey.kill()
        with pytest.raises(UnavailableError):
            await bus.publish_events([FULL])
        with pytest.raises(UnavailableError):
            await bus.publish_progress(progress(OWNER, 1.0))
        await valkey.start()
        await publish_when_it_answers(bus, BARE)
        event, discontinuities = await following
        assert event == BARE
        assert discontinuities >= 1


async def test_source_opened_before_redis_waits_for_it(valkey: Valkey, bus: RedisEventBus) -> None:
    valkey.kill()
    async with aclosing(RedisEventSource(valkey.url, block_s=BLOCK_S).messages()) as messages:
        first = asyncio.create_task(anext(messages))
        with pytest.raises(UnavailableError):
            await bus.publish_events([FULL])
        await valkey.start()
        assert await asyncio.wait_for(first, 20) == Discontinuity()
        await publish_when_it_answers(bus, BARE)
        assert await asyncio.wait_for(anext(messages), 20) == BARE


async def test_redis_that_hangs_costs_one_timeout_and_then_nothing(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_events, "REFUSE_FOR_S", 60.0)
    bus = RedisEventBus(valkey.url, timeout_s=0.1)
    await bus.publish_events([FULL])
    await valkey.run("CLIENT", "PAUSE", 60_000, "ALL")
    with pytest.raises(UnavailableError, match="does not answer"):
        await bus.publish_events([FULL])
    with pytest.raises(UnavailableError, match="a moment ago"):
        await bus.publish_events([FULL])
    await bus.aclose()


async def test_reader_that_was_left_behind_says_so(
    valkey: Valkey, bus: RedisEventBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_events, "BATCH", 4)
    async with reading(valkey) as reader:
        await bus.publish_events([replace(FULL, sequence=n) for n in range(1, 6)])
        assert [(await reader.next_event())[0].sequence for _ in range(4)] == [1, 2, 3, 4]
        await bus.publish_events([replace(FULL, sequence=n) for n in range(6, 11)])
        await valkey.run("XTRIM", STREAM, "MAXLEN", 2)
        event, discontinuities = await reader.next_event()
        assert (event.sequence, discontinuities) == (9, 1)


async def test_entries_that_are_not_understood_are_passed_over(valkey: Valkey, bus: RedisEventBus) -> None:
    async with reading(valkey) as reader:
        await valkey.run("XADD", STREAM, "*", "m", b"\xc1")
        await valkey.run("XADD", STREAM, "*", "other", "x")
        await bus.publish_events([BARE])
        assert await reader.next() == BARE


async def test_stream_is_capped(valkey: Valkey) -> None:
    bus = RedisEventBus(valkey.url, max_entries=100)
    for _ in range(10):
        await bus.publish_events([FULL] * 100)
    assert await valkey.run("XLEN", STREAM) <= 300  # approximate: whole nodes of 100 are dropped
    await bus.aclose()


# --- tickets ----------------------------------------------------------------------------------------------------


@pytest.fixture
async def tickets(valkey: Valkey) -> AsyncIterator[RedisTicketStore]:
    store = RedisTicketStore(valkey.url)
    yield store
    await store.aclose()


async def test_ticket_is_taken_once_even_by_many_at_once(tickets: RedisTicketStore) -> None:
    owner = User(id=OWNER.id, email="a@b", claims={"sub": str(OWNER.id), "amr": [{"method": "x"}]}, expires_at_s=5.5)
    await tickets.put("key", owner, expires_in_s=30)
    taken = await asyncio.gather(*(tickets.take("key") for _ in range(10)))
    assert [t for t in taken if t is not None] == [owner]


async def test_ticket_vanishes_by_itself_and_its_secret_is_nowhere(valkey: Valkey, tickets: RedisTicketStore) -> None:
    ticket = await issue_ticket(tickets, OWNER, clock=ManualClock(), expires_in_s=30)
    (key,) = await valkey.run("KEYS", "*")
    assert 0 < await valkey.run("TTL", key) <= 30
    assert ticket.ticket not in key.decode()
    assert ticket.ticket.encode() not in await valkey.run("GET", key)


async def test_tickets_without_redis_are_unavailable(valkey: Valkey, tickets: RedisTicketStore) -> None:
    valkey.kill()
    with pytest.raises(UnavailableError):
        await tickets.put("key", OWNER, expires_in_s=30)
    with pytest.raises(UnavailableError):
        await tickets.take("key")
