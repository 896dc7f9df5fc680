"""What the realtime hub tells whom, in which order. Long, because one protocol's cases are looked up in one place."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from echo_core.application.realtime import Discontinuity
from echo_core.application.realtime_access import RefusedError
from echo_core.domain.ids import new_job_id, new_step_id
from echo_core.domain.jobs import Job, JobKind, JobState, Step, StepState
from echo_core.plugin_api.steps import Resource
from tests.fakes.realtime import (
    JOB,
    START,
    VIDEO,
    EventDatabase,
    ManualClock,
    QueueSource,
    RecordingSink,
    progress,
    running_hub,
    settle,
    user,
)

OWNER = user(1)


async def test_ready_then_snapshot_then_events_with_consecutive_ids() -> None:
    database = EventDatabase()
    database.commit_many(OWNER, 3)
    async with running_hub(database) as hub:
        sink = RecordingSink()
        hub.attach(OWNER, sink)
        await settle()
        hub.handle(database.commit(OWNER))
    assert [f["type"] for f in sink.frames] == ["ready", "snapshot", "job.running"]
    assert sink.frames[1]["id"] == 3
    assert sink.frames[1]["reason"] == "connected"
    assert sink.frames[2] == {
        "id": 4,
        "type": "job.running",
        "videoId": str(VIDEO),
        "jobId": str(JOB),
        "state": "running",
        "at": "2026-01-01T00:00:00Z",
    }


async def test_nobody_hears_of_another_owner() -> None:
    database, stranger = EventDatabase(), user(2)
    async with running_hub(database) as hub:
        sink = RecordingSink()
        hub.attach(OWNER, sink)
        await settle()
        hub.handle(database.commit(stranger))
        hub.handle(progress(stranger, 10.0))
        await hub.poll()
        await settle()
    assert [f["type"] for f in sink.frames] == ["ready", "snapshot"]


@pytest.mark.parametrize("order", [[2, 1, 3], [3, 2, 1], [1, 1, 2, 2, 3, 3], [3], [1, 3], [3, 1, 2, 3]])
async def test_hints_reordered_doubled_or_lost_are_delivered_once_and_in_order(order: list[int]) -> None:
    database = EventDatabase()
    async with running_hub(database) as hub:
        sinks = [RecordingSink() for _ in range(3)]
        for sink in sinks:
            hub.attach(OWNER, sink)
        await settle()
        events = {e.sequence: e for e in database.commit_many(OWNER, 3)}
        for number in order:
            hub.handle(events[number])
            if number % 2:
                await settle(3)
        await settle()
    assert [sink.ids for sink in sinks] == [[1, 2, 3]] * 3


async def test_poll_delivers_what_no_hint_told_with_one_query_for_everybody() -> None:
    database = EventDatabase()
    owners = [user(n) for n in range(1, 21)]
    async with running_hub(database) as hub:
        sinks = [RecordingSink() for _ in owners]
        for owner, sink in zip(owners, sinks, strict=True):
            hub.attach(owner, sink)
        await settle(300)
        for owner in owners:
            database.commit_many(owner, 2)
        database.head_queries.clear()
        await hub.poll()
        await settle(300)
    assert [sink.ids for sink in sinks] == [[1, 2]] * 20
    assert [sorted(owner_ids) for owner_ids in database.head_queries] == [[o.id for o in owners]]


async def test_discontinuity_asks_the_database_at_once() -> None:
    database, source = EventDatabase(), QueueSource()
    async with running_hub(database, source=source) as hub:
        sink = RecordingSink()
        hub.attach(OWNER, sink)
        await settle()
        database.commit_many(OWNER, 2)
        source.queue.put_nowait(Discontinuity())
        await settle()
    assert sink.ids == [1, 2]


async def test_hint_of_an_event_that_was_never_committed_is_not_believed() -> None:
    database = EventDatabase()
    async with running_hub(database) as hub:
        sink = RecordingSink()
        hub.attach(OWNER, sink)
        await settle()
        first = database.commit(OWNER)
        hub.handle(replace(first, sequence=40))
        await settle()
        hub.handle(database.commit(OWNER))
        await settle()
    assert sink.ids == [1, 2]


async def test_database_outage_delays_but_loses_nothing() -> None:
    database = EventDatabase()
    async with running_hub(database) as hub:
        sink = RecordingSink()
        hub.attach(OWNER, sink)
        await settle()
        _, second = database.commit_many(OWNER, 2)
        database.failing = True
        hub.handle(second)
        await settle()
        assert sink.ids == []
        database.failing = False
        await hub.poll()
        await settle()
    assert sink.ids == [1, 2]


async def test_connecting_during_an_outage_is_told_to_come_back() -> None:
    database = EventDatabase(failing=True)
    async with running_hub(database) as hub:
        sink = RecordingSink()
        hub.attach(OWNER, sink)
        await settle()
        assert sink.closed == (1013, "try again later")
        assert sink.abandoned


# --- resuming ---------------------------------------------------------------------------------------------------


async def test_resume_replays_exactly_what_was_missed() -> None:
    database = EventDatabase()
    database.commit_many(OWNER, 700)
    async with running_hub(database, ws_max_queue=64) as hub:
        sink = RecordingSink()
        hub.attach(OWNER, sink, last_event_id=120)
        await settle(300)
        hub.handle(database.commit(OWNER))
    assert sink.frames[0]["type"] == "ready"
    assert sink.ids == list(range(121, 702))


async def test_resume_at_the_head_sends_nothing_but_ready() -> None:
    database = EventDatabase()
    database.commit_many(OWNER, 5)
    async with running_hub(database) as hub:
        sink = RecordingSink()
        hub.attach(OWNER, sink, last_event_id=5)
        await settle()
    assert [f["type"] for f in sink.frames] == ["ready"]


@pytest.mark.parametrize(
    ("last_event_id", "held"),
    [pytest.param(3, range(10, 21), id="pruned"), pytest.param(99, range(1, 21), id="beyond the head")],
)
async def test_resume_from_an_id_that_is_not_held_gets_a_snapshot_that_says_so(last_event_id: int, held: range) -> None:
    database = EventDatabase()
    events = database.commit_many(OWNER, 20)
    database.events[OWNER.id] = [e for e in events if e.sequence in held]
    async with running_hub(database) as hub:
        sink = RecordingSink()
        hub.attach(OWNER, sink, last_event_id=last_event_id)
        await settle()
        hub.handle(database.commit(OWNER))
    assert [(f["type"], f.get("reason")) for f in sink.frames[:2]] == [("ready", None), ("snapshot", "gap")]
    assert sink.frames[1]["id"] == 20
    assert sink.ids == [21]


async def test_resume_after_more_than_can_be_replayed_gets_a_snapshot() -> None:
    database = EventDatabase()
    database.commit_many(OWNER, 1002)
    async with running_hub(database) as hub:
        late, in_time = RecordingSink(), RecordingSink()
        hub.attach(OWNER, late, last_event_id=1)
        hub.attach(OWNER, in_time, last_event_id=2)
        await settle(300)
    assert [f["reason"] for f in late.of_type("snapshot")] == ["gap"]
    assert in_time.ids == list(range(3, 1003))


async def test_restored_database_starts_everybody_over() -> None:
    database = EventDatabase()
    database.commit_many(OWNER, 9)
    async with running_hub(database) as hub:
        sink = RecordingSink()
        hub.attach(OWNER, sink)
        await settle()
        del database.events[OWNER.id][4:]
        await hub.poll()
        await settle()
        hub.handle(database.commit(OWNER))
    assert [(f["reason"], f["id"]) for f in sink.of_type("snapshot")] == [("connected", 9), ("gap", 4)]
    assert sink.ids == [5]


async def test_snapshot_shows_unfinished_jobs_with_steps() -> None:
    database = EventDatabase(jobs=[_job(running=0.5)])
    async with running_hub(database) as hub:
        sink = RecordingSink()
        hub.attach(OWNER, sink)
        await settle()
    (snapshot,) = sink.of_type("snapshot")
    (job,) = snapshot["jobs"]
    assert job["state"] == "running"
    assert job["percent"] == 50.0
    assert job["etaSeconds"] > 0
    assert job["steps"][0]["name"] == "ladder"
    assert job["steps"][0]["percent"] == 50.0
    assert snapshot["more"] is False


async def test_snapshot_is_bounded_and_says_that_there_is_more() -> None:
    database = EventDatabase(jobs=[_job(running=0.1) for _ in range(51)])
    async with running_hub(database) as hub:
        sink = RecordingSink()
        hub.attach(OWNER, sink)
        await settle()
    (snapshot,) = sink.of_type("snapshot")
    assert (len(snapshot["jobs"]), snapshot["more"]) == (50, True)


async def test_snapshot_carries_the_number_after_which_its_jobs_stood_so() -> None:
    database = EventDatabase()
    database.commit(OWNER)
    job = _job(running=0.5)

    async def job_begins_while_the_snapshot_is_read() -> None:
        if database.reads == 3:  # heads, bounds, and now the jobs
            database.jobs.append(job)
            database.commit(OWNER)

    database.before_read = job_begins_while_the_snapshot_is_read
    async with running_hub(database) as hub:
        sink = RecordingSink()
        hub.attach(OWNER, sink)
        await settle()
    (snapshot,) = sink.of_type("snapshot")
    assert (snapshot["id"], len(snapshot["jobs"])) == (2, 1)
    assert sink.ids == []


# --- slow clients -----------------------------------------------------------------------------------------------


async def test_client_that_never_reads_delays_none_of_fifty() -> None:
    database = EventDatabase()
    async with running_hub(database, ws_max_queue=8, ws_max_connections_per_user=60) as hub:
        stalled, healthy = RecordingSink(), [RecordingSink() for _ in range(50)]
        for sink in [stalled, *healthy]:
            hub.attach(OWNER, sink)
        await settle(400)
        stalled.stall()
        for event in database.commit_many(OWNER, 100):
            hub.handle(event)
        # Nothing was awaited since: a sweep that waits for anybody would not have delivered this.
        assert [sink.ids for sink in healthy] == [list(range(1, 101))] * 50
        await settle()
        assert stalled.closed == (4008, "too slow")
        assert stalled.abandoned
        assert stalled.ids == []


async def test_slow_client_gets_every_state_in_order_and_only_the_newest_progress() -> None:
    database, clock = EventDatabase(), ManualClock()
    async with running_hub(database, clock=clock) as hub:
        sink = RecordingSink()
        hub.attach(OWNER, sink)
        await settle()
        sink.stall()
        hub.handle(database.commit(OWNER, "video.updated", job_id=None))
        for percent in range(1, 50):
            clock.advance(1)
            hub.handle(progress(OWNER, percent))
        hub.handle(database.commit(OWNER, "video.updated", job_id=None))
        await settle()
        sink.resume()
        await settle()
    assert [f.get("id", f.get("progress")) for f in sink.frames[2:]] == [1, 2, 49.0]


async def test_progress_makes_room_for_states() -> None:
    database, clock = EventDatabase(), ManualClock()
    async with running_hub(database, clock=clock, ws_max_queue=3) as hub:
        sink = RecordingSink()
        hub.attach(OWNER, sink)
        await settle()
        sink.stall()
        hub.handle(database.commit(OWNER))  # is being written
        for step in ("poster", "ladder", "captions", "storyboard"):
            clock.advance(1)
            hub.handle(progress(OWNER, 1.0, step=step))
        for event in database.commit_many(OWNER, 3):
            hub.handle(event)
        await settle()
        assert sink.closed is None
        sink.resume()
        await settle()
    assert sink.ids == [1, 2, 3, 4]
    assert sink.of_type("job.progress") == []


async def test_overflow_in_bytes_closes_too() -> None:
    database = EventDatabase()
    async with running_hub(database) as hub:
        sink = RecordingSink()
        hub.attach(OWNER, sink)
        await settle()
        sink.stall()
        for _ in range(5):
            hub.handle(database.commit(OWNER, "video.updated", facts={"title": "ü" * 150_000}))
        await settle()
        assert sink.closed == (4008, "too slow")


async def test_socket_that_breaks_harms_nobody_else() -> None:
    database = EventDatabase()
    async with running_hub(database) as hub:
        broken, healthy = RecordingSink(), RecordingSink()
        for sink in (broken, healthy):
            hub.attach(OWNER, sink)
        await settle()
        broken.gone = True
        for event in database.commit_many(OWNER, 2):
            hub.handle(event)
    assert healthy.ids == [1, 2]


async def test_slow_client_during_replay_is_not_buried() -> None:
    database = EventDatabase()
    database.commit_many(OWNER, 500)
    async with running_hub(database, ws_max_queue=16) as hub:
        sink = RecordingSink()
        sink.stall()
        hub.attach(OWNER, sink, last_event_id=0)
        await settle()
        assert sink.texts == []
        sink.resume()
        await settle(1500)
        assert sink.closed is None
    assert sink.ids == list(range(1, 501))


# --- progress ---------------------------------------------------------------------------------------------------


async def test_progress_is_sent_four_times_a_second_in_its_newest_version() -> None:
    database, clock = EventDatabase(), ManualClock()
    async with running_hub(database, clock=clock) as hub:
        sink = RecordingSink()
        hub.attach(OWNER, sink)
        await settle()
        for tenth in range(100):  # ten seconds
            hub.handle(progress(OWNER, tenth))
            clock.advance(0.1)
        told = [f["progress"] for f in sink.of_type("job.progress")]
    assert told == sorted(told)
    assert 30 <= len(told) <= 41


async def test_last_progress_is_not_held_back_for_ever() -> None:
    database, clock = EventDatabase(), ManualClock()
    async with running_hub(database, clock=clock) as hub:
        sink = RecordingSink()
        hub.attach(OWNER, sink)
        await settle()
        hub.handle(progress(OWNER, 1.0))
        hub.handle(progress(OWNER, 2.0))
        clock.advance(0.3)
        hub.progress.flush()
    assert [f["progress"] for f in sink.of_type("job.progress")] == [1.0, 2.0]


async def test_steps_side_by_side_take_turns() -> None:
    database, clock = EventDatabase(), ManualClock()
    async with running_hub(database, clock=clock) as hub:
        sink = RecordingSink()
        hub.attach(OWNER, sink)
        await settle()
        for quarter in range(8):
            hub.handle(progress(OWNER, quarter, step="ladder"))
            hub.handle(progress(OWNER, quarter, step="poster"))
            clock.advance(0.25)
            hub.progress.flush()
    assert {f["step"] for f in sink.of_type("job.progress")} == {"ladder", "poster"}


async def test_progress_never_follows_the_end_of_its_step_or_job() -> None:
    database, clock = EventDatabase(), ManualClock()
    async with running_hub(database, clock=clock) as hub:
        sink = RecordingSink()
        hub.attach(OWNER, sink)
        await settle()
        hub.handle(progress(OWNER, 1.0))
        hub.handle(progress(OWNER, 2.0))  # waits for its time
        hub.handle(database.commit(OWNER, "step.succeeded", step="ladder"))
        clock.advance(1)
        hub.progress.flush()
        hub.handle(progress(OWNER, 3.0))  # was under way
        clock.advance(1)
        hub.handle(progress(OWNER, 4.0, step="poster"))
        hub.handle(database.commit(OWNER, "job.failed"))
        clock.advance(1)
        hub.handle(progress(OWNER, 5.0, step="poster"))
        hub.handle(database.commit(OWNER, "job.queued"))  # tried again
        clock.advance(1)
        hub.handle(progress(OWNER, 6.0, step="poster"))
    assert [f["progress"] for f in sink.of_type("job.progress")] == [1.0, 4.0, 6.0]


# --- time and limits --------------------------------------------------------------------------------------------


async def test_expiry_is_announced_and_then_closes_with_4401() -> None:
    clock = ManualClock()
    owner = user(1, expires_at_s=START.timestamp() + 3600)
    async with running_hub(EventDatabase(), clock=clock) as hub:
        sink = RecordingSink()
        hub.attach(owner, sink)
        await settle()
        clock.advance(3539)
        await hub.check_tokens()
        assert sink.of_type("token_expiring") == []
        clock.advance(2)
        await hub.check_tokens()
        await hub.check_tokens()
        assert [f["expiresAt"] for f in sink.of_type("token_expiring")] == ["2026-01-01T01:00:00Z"]
        clock.advance(59)
        await hub.check_tokens()
        await settle()
        assert sink.closed == (4401, "token_expired")


async def test_newer_token_prolongs_and_older_one_does_not_shorten() -> None:
    clock = ManualClock()
    now_s = START.timestamp()
    async with running_hub(EventDatabase(), clock=clock) as hub:
        sink = RecordingSink()
        connection = hub.attach(user(1, expires_at_s=now_s + 100), sink)
        await settle()
        hub.renew(connection, user(1, expires_at_s=now_s + 1000))
        hub.renew(connection, user(1, expires_at_s=now_s + 50))
        clock.advance(500)
        await hub.check_tokens()
        assert sink.closed is None
        clock.advance(500)
        await hub.check_tokens()
        await settle()
        assert sink.closed == (4401, "token_expired")
    expected = (START + timedelta(seconds=1000)).isoformat().replace("+00:00", "Z")
    assert [f["expiresAt"] for f in sink.of_type("renewed")] == [expected] * 2


async def test_token_of_somebody_else_closes_with_4403() -> None:
    async with running_hub(EventDatabase()) as hub:
        sink = RecordingSink()
        hub.renew(hub.attach(OWNER, sink), user(2))
        await settle()
        assert sink.closed is not None
        assert sink.closed[0] == 4403


async def test_connections_of_one_user_are_limited_until_one_has_gone() -> None:
    async with running_hub(EventDatabase(), ws_max_connections_per_user=2) as hub:
        first = hub.attach(OWNER, RecordingSink())
        hub.attach(OWNER, RecordingSink())
        hub.attach(user(2), RecordingSink())
        with pytest.raises(RefusedError) as refused:
            hub.attach(OWNER, RecordingSink())
        assert refused.value.close_code == 4429
        hub.detach(first)
        hub.attach(OWNER, RecordingSink())
        assert hub.connection_count == 3


async def test_connections_of_a_process_are_limited_until_one_has_gone() -> None:
    async with running_hub(EventDatabase(), ws_max_connections=2) as hub:
        first = hub.attach(OWNER, RecordingSink())
        hub.attach(user(2), RecordingSink())
        with pytest.raises(RefusedError) as refused:
            hub.attach(user(3), RecordingSink())
        assert refused.value.close_code == 1013
        assert set(hub.topics) == {OWNER.id, user(2).id}
        hub.detach(first)
        hub.attach(user(3), RecordingSink())


async def test_only_idle_connections_hear_heartbeats() -> None:
    database = EventDatabase()
    async with running_hub(database) as hub:
        sink = RecordingSink()
        hub.attach(OWNER, sink)
        await settle()
        await hub.send_heartbeats()
        hub.handle(database.commit(OWNER))
        await hub.send_heartbeats()
        assert sink.of_type("heartbeat") == []
        await hub.send_heartbeats()
        await hub.send_heartbeats()
        assert len(sink.of_type("heartbeat")) == 2


async def test_stopping_closes_with_1012_and_takes_nobody_in() -> None:
    sinks = [RecordingSink() for _ in range(3)]
    async with running_hub(EventDatabase()) as hub:
        for sink in sinks:
            hub.attach(OWNER, sink)
        await settle()
    assert [sink.closed for sink in sinks] == [(1012, "restarting")] * 3
    with pytest.raises(RefusedError) as refused:
        hub.attach(OWNER, RecordingSink())
    assert refused.value.close_code == 1013


async def test_nothing_is_remembered_of_owners_who_left() -> None:
    database = EventDatabase()
    async with running_hub(database) as hub:
        for number in range(1, 11):
            hub.detach(hub.attach(user(number), RecordingSink()))
        await settle()
        assert hub.connection_count == 0
        database.head_queries.clear()
        await hub.poll()
        assert database.head_queries == []


async def test_source_that_ends_or_raises_is_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("echo_core.application.realtime.SOURCE_RETRY_S", 0.0)
    database, opened = EventDatabase(), asyncio.Event()

    class Broken(QueueSource):
        failures = 0

        async def messages(self):  # type: ignore[no-untyped-def]  # a test's source
            if self.failures < 3:
                self.failures += 1
                raise ValueError("defect")
            opened.set()
            async for message in super().messages():
                yield message

    async with running_hub(database, source=Broken()):
        await asyncio.wait_for(opened.wait(), 5)


def _job(*, running: float) -> Job:
    step = Step(
        id=new_step_id(),
        name="ladder",
        position=0,
        consumes=(),
        produces=(),
        after=(),
        resource=Resource.CPU,
        optional=False,
        max_attempts=1,
        first_delay_s=1,
        max_delay_s=1,
        timeout_s=1,
        timeout_per_media_s=1,
        weight=10.0,
        state=StepState.RUNNING,
        progress=running,
        started_at=START - timedelta(seconds=5),
    )
    return Job(
        id=new_job_id(),
        video_id=VIDEO,
        owner_id=OWNER.id,
        kind=JobKind.PROCESS,
        state=JobState.RUNNING,
        created_at=START,
        steps=(step,),
    )
