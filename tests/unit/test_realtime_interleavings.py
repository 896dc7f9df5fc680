"""The promise of the hub under every order of things that hypothesis thinks of: each connection hears each state change
after its starting point once and in order."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from echo_core.application.realtime import Discontinuity
from tests.fakes.realtime import EventDatabase, RecordingSink, running_hub, settle, user

OWNER = user(1)

# A step of a scenario: what happens, a number that says to what, and how many turns of the loop pass afterwards. Reads
# of the database take a number of turns as well, so that every await in the hub can fall anywhere.
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["commit", "hint", "hint", "hint", "connect", "resume", "stall", "go on", "poll", "outage"]),
        st.integers(0, 30),
        st.integers(0, 6),
    ),
    max_size=40,
)


@dataclass
class World:
    database: EventDatabase = field(default_factory=EventDatabase)
    sinks: list[RecordingSink] = field(default_factory=list)
    started_at: list[int | None] = field(default_factory=list)


async def play(steps: list[tuple[str, int, int]], read_turns: list[int]) -> World:
    world = World()
    database = world.database
    database.commit_many(OWNER, 3)
    turns = iter(read_turns * 1000)

    async def wait_for_the_database() -> None:
        for _ in range(next(turns)):
            await asyncio.sleep(0)

    database.before_read = wait_for_the_database
    async with running_hub(database, ws_max_connections_per_user=100) as hub:
        for action, number, pause in steps:
            committed = database.events[OWNER.id]
            match action:
                case "commit":
                    database.commit_many(OWNER, 1 + number % 3)
                case "hint":
                    hub.handle(committed[-1 - number % len(committed)])
                case "connect" | "resume":
                    last = None if action == "connect" else max(0, len(committed) - number)
                    world.sinks.append(RecordingSink())
                    world.started_at.append(last)
                    hub.attach(OWNER, world.sinks[-1], last_event_id=last)
                case "stall" | "go on" if world.sinks:
                    sink = world.sinks[number % len(world.sinks)]
                    sink.stall() if action == "stall" else sink.resume()
                case "poll":
                    hub.handle(Discontinuity())
                case "outage":
                    database.failing = (
                        any(s.live for t in hub.topics.values() for s in t.connections) and number % 2 == 0
                    )
            await settle(pause)
        database.failing = False
        for sink in world.sinks:
            sink.resume()
        await settle()
        await hub.poll()
        await settle(200)
    return world


@settings(max_examples=100, deadline=None)
@given(steps=STEPS, read_turns=st.lists(st.integers(0, 8), min_size=1, max_size=12))
def test_every_connection_hears_everything_once_and_in_order(
    steps: list[tuple[str, int, int]], read_turns: list[int]
) -> None:
    world = asyncio.run(play(steps, read_turns))
    head = len(world.database.events[OWNER.id])
    for sink, last in zip(world.sinks, world.started_at, strict=True):
        if sink.closed == (1013, "try again later"):
            continue  # connected while the database was away
        snapshots = sink.of_type("snapshot")
        assert sink.frames[0]["type"] == "ready"
        assert [f["reason"] for f in snapshots] == (["connected"] if last is None else [])
        start = snapshots[0]["id"] if snapshots else last
        assert start is not None
        assert sink.ids == list(range(start + 1, head + 1))
