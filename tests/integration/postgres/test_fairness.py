"""The order of claims among owners, and what the queue foretells of it."""

from __future__ import annotations

import json
from copy import copy
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
import sqlalchemy as sa

from echo_core.adapters.postgres.leases import _CLAIM
from echo_core.adapters.postgres.transaction import BEGIN_AS_SERVICE, transaction
from echo_core.domain.ids import UserId
from echo_core.domain.users import User
from echo_core.plugin_api.steps import Resource

pytestmark = pytest.mark.integration

BACKLOG = 10_000


async def claim(worker, resource=Resource.LIGHT):
    async with worker.for_worker() as uow:
        candidate = await uow.jobs.claim_candidate(resource)
        if candidate is None:
            return None
        before, step_id = candidate
        after = before.claimed(step_id, worker="w1", now=await uow.jobs.now(), lease_s=60)
        await uow.jobs.save(before, after)
    return after, after.step(step_id)


async def finish(worker, claimed):
    job, step = claimed
    async with worker.for_worker() as uow:
        await uow.jobs.save(job, job.failed(step.id, step.lease_token, now=await uow.jobs.now(), **HOPELESS))


HOPELESS = {"error": None, "retry_in_s": None}
"""A failure ends a step and makes nothing else ready."""


async def drain(worker, slots: int) -> list[UserId]:
    """The owners in the order of claims, with so many slots that finish what they began first."""
    order, running = [], []
    while True:
        while len(running) < slots and (claimed := await claim(worker)) is not None:
            order.append(claimed[0].owner_id)
            running.append(claimed)
        if not running:
            return order
        await finish(worker, running.pop(0))


def names(order, **users: User) -> str:
    known = {user.id: name for name, user in users.items()}
    return "".join(known[owner] for owner in order)


@pytest.mark.parametrize("slots", [1, 2, 3])
async def test_one_owners_hundred_uploads_do_not_starve_anothers_one(worker, alice, bob, stored, slots):
    for _ in range(30):
        await stored(alice)
    running = [await claim(worker) for _ in range(slots)]
    await stored(bob)
    for claimed in running:
        await finish(worker, claimed)
    order = names(await drain(worker, slots), a=alice, b=bob)
    assert order.index("b") < slots


async def test_a_single_slot_goes_round_among_owners(worker, alice, bob, stored):
    carol = User(id=UserId(uuid4()))
    for owner, videos in ((alice, 4), (bob, 2), (carol, 3)):
        for _ in range(videos):
            await stored(owner)
    assert names(await drain(worker, 1), a=alice, b=bob, c=carol) == "abcabcaca"


async def test_two_workers_that_claim_at_once_serve_two_owners(worker, alice, bob, stored):
    for owner in (alice, alice, bob):
        await stored(owner)
    async with worker.for_worker() as one, worker.for_worker() as two:
        first, _ = await one.jobs.claim_candidate(Resource.LIGHT)
        second, _ = await two.jobs.claim_candidate(Resource.LIGHT)
    # The first claim is not committed yet, so the second cannot know of it; it still finds a step of its own.
    assert first.id != second.id


@pytest.mark.parametrize("slots", [1, 2])
async def test_the_place_in_the_queue_is_the_order_of_claims(api, worker, alice, bob, stored, slots):
    carol = User(id=UserId(uuid4()))
    owners = {"a": alice, "b": bob, "c": carol}
    jobs = {}
    for name, videos in (("a", 5), ("b", 2), ("c", 3)):
        for _ in range(videos):
            _, job = await stored(owners[name])
            jobs[job.id] = owners[name]
    running = [await claim(worker) for _ in range(slots)]
    foretold = {}
    for job_id, owner in jobs.items():
        async with api.for_user(owner) as uow:
            job = await uow.jobs.get(job_id)
            foretold[job_id] = (await uow.jobs.outlook([job_id]))[job.steps[0].id].steps_before
    assert [job_id for job_id, before in foretold.items() if before is None] == [job.id for job, _ in running]
    claimed = []
    while running:
        await finish(worker, running.pop(0))
        if (next_claim := await claim(worker)) is not None:
            running.append(next_claim)
            claimed.append(next_claim[0].id)
    told = [foretold[job_id] for job_id in claimed]
    assert sorted(told) == list(range(len(jobs) - slots))
    # With one slot the order is foretold to the place; with more, whose slot becomes free first cannot be known.
    assert all(abs(place - before) < slots for place, before in enumerate(told))


async def test_outlook_counts_everybodys_steps_and_tells_only_of_ones_own(api, worker, alice, bob, stored):
    _, first = await stored(alice)
    _, second = await stored(bob)
    async with api.for_user(bob) as uow:
        places = await uow.jobs.outlook([first.id, second.id])
        assert places.keys() == {step.id for step in second.steps}
        assert places[second.steps[0].id].steps_before == 1
        assert places[second.steps[1].id].steps_before is None  # pending
        assert await uow.jobs.outlook([]) == {}
    async with worker.for_worker() as uow:
        places = await uow.jobs.outlook([first.id, second.id])
        assert places[first.steps[0].id].steps_before == 0
        assert places[second.steps[0].id].steps_before == 1


async def test_a_step_that_waits_for_a_later_moment_is_in_nobodys_way(worker, alice, bob, stored):
    _, delayed = await stored(alice)
    _, ready = await stored(bob)
    async with worker.for_worker() as uow:
        before = await uow.jobs.get(delayed.id, for_update=True)
        later = replace(before.steps[0], run_at=await uow.jobs.now() + timedelta(hours=1))
        await uow.jobs.save(before, replace(before, steps=(later, *before.steps[1:])))
        places = await uow.jobs.outlook([delayed.id, ready.id])
    assert places[ready.steps[0].id].steps_before == 0
    assert places[later.id].steps_before is None


async def test_work_before_a_step_is_that_of_everybody_who_comes_earlier(api, worker, alice, bob, stored):
    _, first = await stored(alice)
    _, second = await stored(alice)
    _, third = await stored(bob)
    expected_s = {first.id: 10.0, second.id: 10.0, third.id: 40.0}
    async with worker.for_worker() as uow:
        for job_id, seconds in expected_s.items():
            job = await uow.jobs.get(job_id, for_update=True)
            await uow.jobs.save(job, replace(job, steps=tuple(replace(step, expected_s=seconds) for step in job.steps)))
        for name, cpu, lives_s in (("w1", 1, 60), ("w2", 0, 60), ("dead", 9, -1)):
            slots = {Resource.LIGHT: 2, Resource.CPU: cpu}
            await uow.workers.check_in(name, steps=[], slots=slots, version="1", lives_s=lives_s)
        places = await uow.jobs.outlook(list(expected_s))
    light = {job.id: places[job.steps[0].id] for job in (first, second, third)}
    assert {job_id: place.work_before_s for job_id, place in light.items()} == {
        first.id: 0.0,
        third.id: 10.0,
        second.id: 50.0,
    }
    assert {place.slots for place in light.values()} == {4}
    encode = places[second.steps[1].id]  # pending, and so are all others of its class
    assert (encode.steps_before, encode.slots) == (None, 1)
    # Her own encode, and his; whether his poster comes before too is open while nobody has been served.
    assert encode.work_before_s in {10.0 + 40.0, 10.0 + 2 * 40.0}


@pytest.fixture
async def backlog(worker_engine, alice, bob):
    """Ten thousand videos that have waited for two days: nearly all Alice's, every hundredth of a stranger, and a last
    one, an hour old, Bob's."""
    async with transaction(worker_engine, BEGIN_AS_SERVICE) as tx:
        for statement in FILL:
            await tx.execute(sa.text(statement), {"backlog": BACKLOG, "alice": str(alice.id), "bob": str(bob.id)})


_WAITING = """
create temporary table waiting on commit drop as
    select gen_random_uuid() as video_id, gen_random_uuid() as job_id, n,
        case when n = :backlog then cast(:bob as uuid) when n % 100 = 0 then gen_random_uuid()
            else cast(:alice as uuid) end as owner_id,
        clock_timestamp() - case when n = :backlog then interval '1 hour' else interval '2 days' end
            + n * interval '1 millisecond' as at
    from generate_series(1, cast(:backlog as integer)) n
    where cast(:alice as text) <> cast(:bob as text)
"""
FILL = (
    _WAITING,
    """
    insert into echo.videos (id, owner_id, status, title, filename, content_type, size_bytes)
    select video_id, owner_id, 'processing', 't', 't.mp4', 'video/mp4', 1 from waiting
    """,
    """
    insert into echo.jobs (id, video_id, owner_id, kind, state, created_at)
    select job_id, video_id, owner_id, 'process', 'queued', at from waiting
    """,
    """
    insert into echo.steps (id, job_id, owner_id, name, position, resource, optional, max_attempts, first_delay_s,
        max_delay_s, timeout_s, timeout_per_media_s, weight, consumes, produces, state, run_at)
    select gen_random_uuid(), job_id, owner_id, step.name, step.position, step.resource, false, 3, 1, 1, 60, 0, 1,
        step.consumes, step.produces, step.state, case when step.state = 'queued' then at end
    from waiting, (values
        ('inspect', 0, 'light', array['source'], array['media'], 'queued'),
        ('ladder', 1, 'cpu', array['media'], array['ladder'], 'pending'),
        ('poster', 2, 'light', array['media'], array['poster'], 'pending'),
        ('storyboard', 3, 'light', array['media'], array['storyboard'], 'pending')
    ) as step (name, position, resource, consumes, produces, state)
    """,
    "analyze echo.steps",
)


@pytest.mark.matrix(24)
async def test_a_backlog_of_ten_thousand_is_shared_fairly_and_none_of_it_expires(worker, backlog, alice, bob):
    """Every waiting owner has one before anybody has two, whatever came first, and even the oldest is still there."""
    claimed = [await claim(worker) for _ in range(102)]
    owners = [job.owner_id for job, _ in claimed]
    assert owners[0] == alice.id
    assert len(set(owners[:101])) == 101
    assert owners[100] == bob.id  # the last to come, and the last that had not had any
    assert owners[101] == alice.id
    async with worker.for_worker() as uow:
        rings = await uow.jobs.list_unrung(timedelta(seconds=30), BACKLOG)
    assert len(rings) == BACKLOG - 102


async def test_a_claim_reads_a_few_rows_of_each_owner_and_not_the_backlog(worker, worker_engine, backlog):
    await claim(worker)
    async with transaction(worker_engine, BEGIN_AS_SERVICE) as tx:
        explained = copy(_CLAIM)
        explained.sql = f"explain (analyze, buffers, format json) {_CLAIM.sql}"
        (plan,) = await tx.find(explained, resource="light", names=["inspect"], per_owner=16, candidates=64)
    plan = plan if isinstance(plan, list) else json.loads(plan)
    nodes = list(_nodes(plan[0]["Plan"]))
    assert not [node for node in nodes if node["Node Type"] == "Seq Scan"]
    read = sum(node["Actual Rows"] * node["Actual Loops"] for node in nodes if "Index" in node["Node Type"])
    assert read < BACKLOG / 5


def _nodes(node):
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)
