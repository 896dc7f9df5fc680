"""Jobs: storing differences, claiming, leases."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from echo_core.application.ports import LeaseRef
from echo_core.domain.errors import ConflictError, LeaseLostError, UnknownEntityError
from echo_core.domain.ids import new_job_id, new_step_id
from echo_core.domain.jobs import JobKind, JobState, StepError, StepState
from echo_core.plugin_api.steps import Resource

pytestmark = pytest.mark.integration


async def claim(worker, resource=Resource.LIGHT, *, lease_s=15.0):
    async with worker.for_worker() as uow:
        candidate = await uow.jobs.claim_candidate(resource)
        if candidate is None:
            return None
        before, step_id = candidate
        after = before.claimed(step_id, worker="w1", now=await uow.jobs.now(), lease_s=lease_s)
        await uow.jobs.save(before, after)
    return after, after.step(step_id)


async def test_a_job_comes_back_as_it_was_stored(api, alice, stored):
    _, job = await stored(alice)
    async with api.for_user(alice) as uow:
        assert await uow.jobs.get(job.id) == job
        assert await uow.jobs.get_of_step(job.steps[1].id) == job
        assert await uow.jobs.find_for_video(job.video_id, JobKind.PROCESS, for_update=True) == job
        assert await uow.jobs.find_for_video(job.video_id, JobKind.PURGE) is None
        assert await uow.jobs.list_unfinished(10) == [job]


async def test_unknown_and_foreign_jobs_are_unknown(api, alice, bob, stored):
    _, job = await stored(alice)
    async with api.for_user(bob) as uow:
        for wanted in (job.id, new_job_id()):
            with pytest.raises(UnknownEntityError):
                await uow.jobs.get(wanted, for_update=True)
        for step_id in (job.steps[0].id, new_step_id()):
            with pytest.raises(UnknownEntityError):
                await uow.jobs.get_of_step(step_id)
        assert await uow.jobs.list_unfinished(10) == []


async def test_a_second_job_of_a_kind_conflicts_and_leaves_the_unit_of_work_usable(api, alice, stored, new_job):
    video, job = await stored(alice)
    async with api.for_user(alice) as uow:
        with pytest.raises(ConflictError):
            await uow.jobs.add(new_job(video))
        await uow.jobs.add(new_job(video, kind=JobKind.PURGE))
        assert await uow.jobs.get(job.id) == job


async def test_save_stores_every_field_of_steps_and_job(worker, alice, stored):
    _, job = await stored(alice)
    async with worker.for_worker() as uow:
        before = await uow.jobs.get(job.id, for_update=True)
        now = await uow.jobs.now()
        changed = replace(
            before.steps[0],
            state=StepState.FAILED,
            attempt=2,
            lease_token=7,
            lease_expires_at=now,
            worker='w"1',
            run_at=now + timedelta(microseconds=1),
            cancel_requested=True,
            progress=0.25,
            expected_s=3.5,
            started_at=now,
            finished_at=now,
            error=StepError(code="c", message="m\x00", remedy="r", log_tail=("a", "\\u0000")),
            output={"media": {"duration_s": 1.5, "tracks": [1, None, "ü\x00"]}},
            skipped_reason="none",
            warnings=("one", "two, {three}"),
        )
        others = tuple(replace(step, expected_s=2.0) for step in before.steps[1:])
        after = replace(before, steps=(changed, *others), state=JobState.FAILED, cancel_requested=True, finished_at=now)
        await uow.jobs.save(before, after)
    async with worker.for_worker() as uow:
        loaded = await uow.jobs.get(job.id)
        error = StepError(code="c", message="m\ufffd", remedy="r", log_tail=("a", "\\u0000"))
        output = {"media": {"duration_s": 1.5, "tracks": [1, None, "ü\ufffd"]}}
        assert loaded == replace(after, steps=(replace(changed, error=error, output=output), *others))
        await uow.jobs.save(loaded, replace(loaded, steps=(replace(loaded.steps[0], error=None), *others)))
        assert (await uow.jobs.get(job.id)).steps[0].error is None


async def test_save_under_a_stale_lease_token_is_refused_and_rolled_back(worker, alice, stored):
    _, job = await stored(alice)
    claimed, step = await claim(worker)
    async with worker.for_worker() as uow:
        now = await uow.jobs.now()
        released = claimed.released(step.id, step.lease_token, now=now)
        await uow.jobs.save(claimed, released)
    again, _ = await claim(worker)
    stale = claimed.succeeded(step.id, step.lease_token, now=now, output={"stale": True})
    with pytest.raises(LeaseLostError):
        async with worker.for_worker() as uow:
            await uow.jobs.save(claimed, stale)
    async with worker.for_worker() as uow:
        assert await uow.jobs.get(job.id) == again


async def test_save_leaves_alone_what_it_does_not_change(worker, alice, stored):
    """A cancel that was decided before a heartbeat must not take the heartbeat back."""
    _, job = await stored(alice)
    claimed, step = await claim(worker)
    async with worker.for_worker() as uow:
        await uow.jobs.renew([LeaseRef(step_id=step.id, lease_token=1, progress=0.5)], lease_s=60, extend=True)
    async with worker.for_worker() as uow:
        renewed = (await uow.jobs.get(job.id)).step(step.id)
        await uow.jobs.save(claimed, claimed.cancel(await uow.jobs.now()))
        after = (await uow.jobs.get(job.id)).step(step.id)
    assert after.cancel_requested
    assert after.progress == 0.5
    assert after.lease_expires_at == renewed.lease_expires_at > step.lease_expires_at


async def test_two_claimers_at_once_get_different_jobs(worker, alice, stored):
    for _ in range(2):
        await stored(alice)
    async with worker.for_worker() as one, worker.for_worker() as two, worker.for_worker() as three:
        first, _ = await one.jobs.claim_candidate(Resource.LIGHT)
        second, _ = await two.jobs.claim_candidate(Resource.LIGHT)
        assert first.id != second.id
        assert await three.jobs.claim_candidate(Resource.LIGHT) is None
        assert await three.jobs.has_ready(Resource.LIGHT)


async def test_a_step_of_a_locked_job_is_passed_over(worker, alice, stored):
    _, job = await stored(alice)
    async with worker.for_worker() as one, worker.for_worker() as two:
        await one.jobs.get(job.id, for_update=True)
        assert await two.jobs.claim_candidate(Resource.LIGHT) is None


async def test_owners_with_fewer_running_steps_come_first(worker, alice, bob, stored):
    """Alice's second video came before Bob's only one, and still has to let him pass."""
    for owner in (alice, alice, bob):
        await stored(owner)
    order = [(await claim(worker))[0].owner_id for _ in range(3)]
    assert order == [alice.id, bob.id, alice.id]


async def test_only_due_steps_of_the_asked_class_are_claimed(worker, alice, stored):
    _, job = await stored(alice)
    assert await claim(worker, Resource.CPU) is None
    async with worker.for_worker() as uow:
        before = await uow.jobs.get(job.id, for_update=True)
        later = replace(before.steps[0], run_at=await uow.jobs.now() + timedelta(hours=1))
        await uow.jobs.save(before, replace(before, steps=(later, *before.steps[1:])))
    async with worker.for_worker() as uow:
        assert await uow.jobs.claim_candidate(Resource.LIGHT) is None
        assert not await uow.jobs.has_ready(Resource.LIGHT)


async def test_renew_tells_kept_lost_and_cancelled_leases(worker, alice, stored):
    for _ in range(2):
        await stored(alice)
    kept_job, kept = await claim(worker)
    _, stale = await claim(worker)
    leases = [
        LeaseRef(step_id=stale.id, lease_token=stale.lease_token + 1, progress=0.9),
        LeaseRef(step_id=kept.id, lease_token=kept.lease_token, progress=0.4),
        LeaseRef(step_id=new_step_id(), lease_token=1, progress=0.0),
    ]
    async with worker.for_worker() as uow:
        await uow.jobs.save(kept_job, kept_job.cancel(await uow.jobs.now()))
        for extend in (False, True):
            beats = await uow.jobs.renew(leases, lease_s=3600, extend=extend)
            assert [(b.step_id, b.owned, b.cancel_requested) for b in beats] == [
                (stale.id, False, False),
                (kept.id, True, True),
                (leases[2].step_id, False, False),
            ]
            step = (await uow.jobs.get(kept_job.id)).step(kept.id)
            assert step.progress == 0.4
            assert (step.lease_expires_at > kept.lease_expires_at) is extend
        assert await uow.jobs.renew([], lease_s=1, extend=True) == []


async def test_expired_leases_are_listed_once_at_a_time(worker, alice, stored):
    await stored(alice)
    await stored(alice)
    expired_job, expired = await claim(worker, lease_s=-1.0)
    await claim(worker)
    async with worker.for_worker() as one, worker.for_worker() as two:
        assert await one.jobs.list_expired(10) == [(expired_job, expired.id)]
        assert await two.jobs.list_expired(10) == []


async def test_a_waiting_step_is_rung_for_once_until_long_ago_and_anew_when_queued_again(worker, alice, stored):
    _, job = await stored(alice)
    ring = [(job.steps[0].id, Resource.LIGHT)]
    long_ago = timedelta(hours=1)
    async with worker.for_worker() as uow:
        assert await uow.jobs.list_unrung(long_ago, 10) == ring
        assert await uow.jobs.list_unrung(long_ago, 10) == []
        assert await uow.jobs.list_unrung(timedelta(0), 10) == ring
    claimed, step = await claim(worker)
    async with worker.for_worker() as uow:
        await uow.jobs.save(claimed, claimed.released(step.id, step.lease_token, now=await uow.jobs.now()))
        assert await uow.jobs.list_unrung(long_ago, 10) == ring


async def test_learned_rates_are_medians_of_seconds_of_work_per_second_of_media(worker, alice, stored):
    for seconds in (1, 2, 90):
        await stored(alice, duration_s=10.0, size_bytes=1000 * seconds)
        claimed, step = await claim(worker)
        async with worker.for_worker() as uow:
            done = claimed.succeeded(
                step.id, step.lease_token, now=step.started_at + timedelta(seconds=seconds), output={}
            )
            await uow.jobs.save(claimed, done)
    async with worker.for_worker() as uow:
        rates = await uow.jobs.learned_rates()
    assert rates.work_per_media_s == {"inspect": pytest.approx(0.2)}
    assert rates.bytes_per_media_s == pytest.approx(200.0)


async def test_one_reconciler_at_a_time(worker):
    async with worker.for_worker() as one, worker.for_worker() as two:
        assert await one.jobs.try_lock_reconciler()
        assert not await two.jobs.try_lock_reconciler()
    async with worker.for_worker() as uow:
        assert await uow.jobs.try_lock_reconciler()
