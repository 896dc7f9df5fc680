"""The engine when the database, the storage or the worker itself fails at the worst moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from echo_core.application.lease_watch import EngineTiming
from echo_core.domain.jobs import Job, JobState, StepState
from echo_core.domain.uploads import video_prefix
from echo_core.plugin_api.errors import InvalidRequestError, UnavailableError
from echo_core.plugin_api.steps import ArtefactFile, Resource, RetryPolicy, StepContext, StepResult
from echo_core.plugin_api.storage import ListObjects, ObjectInfo, PutFile
from tests.integration.engine.conftest import Farm, TroubledUnitsOfWork, single

pytestmark = pytest.mark.integration


async def for_ever(context: StepContext) -> StepResult:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


async def quick(context: StepContext) -> StepResult:
    return StepResult()


def artefact(context: StepContext, name: str = "made.bin") -> ArtefactFile:
    path = context.scratch / name
    path.write_text(f"{name} of attempt {context.attempt}")
    return ArtefactFile(kind="poster", name=name, path=path, content_type="application/octet-stream")


async def objects_of(farm: Farm, prefix: str) -> list[str]:
    return [o.key for o in (await farm.storage.list(ListObjects(prefix=prefix))).objects]


def trouble(farm: Farm) -> TroubledUnitsOfWork:
    farm.units_of_work = TroubledUnitsOfWork(farm.units_of_work)
    return farm.units_of_work


def lose_the_answer(units_of_work: TroubledUnitsOfWork, wanted: Callable[[frozenset[str]], bool]) -> None:
    """Of the first commit that is wanted."""
    lost = False

    async def after_commit(called: frozenset[str]) -> None:
        nonlocal lost
        if wanted(called) and not lost:
            lost = True
            raise UnavailableError("The connection was lost.")

    units_of_work.after_commit = after_commit


async def test_success_whose_commit_was_not_answered_keeps_its_objects(farm: Farm) -> None:
    async def works(context: StepContext) -> StepResult:
        return StepResult(artefacts=[artefact(context)])

    spec, handler = single(works)
    farm.use((spec, handler))
    lose_the_answer(trouble(farm), lambda called: "artefacts.remove_of_step" in called)
    async with farm.worker() as worker:
        job = await farm.finished((await farm.submit()).id)
    assert job.state is JobState.SUCCEEDED
    assert handler.runs == [1]
    async with farm.units_of_work.for_worker() as uow:
        (row,) = await uow.artefacts.list_for_video(job.video_id)
    assert await objects_of(farm, f"{video_prefix(job.video_id)}work/") == [row.storage_key]
    assert worker.counts.outcomes == [("work", "succeeded", "")]


async def test_published_object_whose_commit_was_not_answered_is_kept(farm: Farm) -> None:
    async def publishes(context: StepContext) -> StepResult:
        try:
            await context.publish([artefact(context)])
        except UnavailableError:
            raise InvalidRequestError("gives up") from None
        raise AssertionError("the answer should have been lost")

    farm.use(single(publishes))
    lose_the_answer(trouble(farm), lambda called: "artefacts.put" in called)
    async with farm.worker():
        job = await farm.finished((await farm.submit()).id)
    async with farm.units_of_work.for_worker() as uow:
        (row,) = await uow.artefacts.list_for_video(job.video_id)
    assert await objects_of(farm, f"{video_prefix(job.video_id)}work/") == [row.storage_key]


async def test_run_cancelled_between_storing_and_recording_removes_what_it_stored(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def works(context: StepContext) -> StepResult:
        return StepResult(artefacts=[artefact(context)])

    stored = asyncio.Event()
    put_file = farm.storage.put_file

    async def stores_and_hangs(request: PutFile) -> ObjectInfo:
        await put_file(request)
        stored.set()
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    monkeypatch.setattr(farm.storage, "put_file", stores_and_hangs)
    farm.use(single(works))
    async with farm.worker():
        job = await farm.submit()
        await stored.wait()
        async with farm.units_of_work.for_worker() as uow:
            now = await uow.jobs.now()
        await farm.change(job.id, lambda j: j.cancel(now))
        job = await farm.finished(job.id)
    assert job.state is JobState.CANCELLED
    assert await objects_of(farm, f"{video_prefix(job.video_id)}work/") == []


async def test_storing_that_hangs_is_ended_by_the_time_limit(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    async def works(context: StepContext) -> StepResult:
        return StepResult(artefacts=[artefact(context)])

    async def hangs(request: PutFile) -> ObjectInfo:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    monkeypatch.setattr(farm.storage, "put_file", hangs)
    farm.use(single(works, timeout_s=0.2))
    async with farm.worker():
        job = await farm.finished((await farm.submit()).id)
    assert job.first_error is not None
    assert job.first_error.code == "step_timeout"


def hold_claims(units_of_work: TroubledUnitsOfWork) -> tuple[asyncio.Event, asyncio.Event]:
    """(set when a claim is committed, to be set when its caller shall hear of it)."""
    committed, proceed = asyncio.Event(), asyncio.Event()

    async def after_commit(called: frozenset[str]) -> None:
        if "jobs.claim_candidate" in called:
            committed.set()
            await proceed.wait()

    units_of_work.after_commit = after_commit
    return committed, proceed


async def test_claim_that_ends_during_shutdown_is_given_back(farm: Farm) -> None:
    spec, handler = single(quick)
    farm.use((spec, handler))
    job = await farm.submit()
    committed, proceed = hold_claims(trouble(farm))
    async with farm.worker() as worker:
        await committed.wait()
        worker.stop.set()
        while worker.engine.free_slots(Resource.LIGHT):
            await asyncio.sleep(0)
        proceed.set()
    step = (await farm.job(job.id)).step_named("work")
    assert (step.state, step.attempt, handler.runs) == (StepState.QUEUED, 0, [])


async def test_claim_is_run_although_its_caller_was_cancelled(farm: Farm) -> None:
    farm.use(single(quick))
    committed, proceed = hold_claims(trouble(farm))
    async with farm.worker(reconciles=False) as worker:
        job = await farm.submit()
        asking = asyncio.create_task(worker.engine.claim_next(Resource.CPU))
        await committed.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        proceed.set()
        assert (await farm.finished(job.id)).state is JobState.SUCCEEDED


async def test_error_of_a_tool_that_shutdown_killed_does_not_fail_the_step(farm: Farm) -> None:
    async def reports_the_kill(context: StepContext) -> StepResult:
        try:
            return await for_ever(context)
        except asyncio.CancelledError:
            raise InvalidRequestError("The tool was killed.") from None

    farm.use(single(reports_the_kill))
    job = await farm.submit()
    async with farm.worker():
        await farm.running(job.id)
    step = (await farm.job(job.id)).step_named("work")
    assert (step.state, step.attempt, step.error) == (StepState.QUEUED, 0, None)


async def test_shutdown_ends_although_the_database_is_away(farm: Farm) -> None:
    units_of_work = trouble(farm)
    farm.use(single(for_ever))
    job = await farm.submit()

    async def away() -> None:
        raise UnavailableError("The database cannot be reached.")

    async with asyncio.timeout(20):
        async with farm.worker():
            await farm.running(job.id)
            units_of_work.before = away


async def test_output_that_cannot_be_stored_fails_the_step_at_once(farm: Farm) -> None:
    async def unstorable(context: StepContext) -> StepResult:
        return StepResult(output={"made": object()}, artefacts=[artefact(context)])  # type: ignore[dict-item]

    spec, handler = single(unstorable)
    farm.use((spec, handler))
    async with farm.worker():
        job = await farm.finished((await farm.submit()).id)
    assert handler.runs == [1]
    assert job.first_error is not None
    assert job.first_error.code == "internal_error"
    assert await objects_of(farm, f"{video_prefix(job.video_id)}work/") == []


async def test_retry_starts_when_it_is_due_without_the_reconciler(farm: Farm) -> None:
    async def second_time(context: StepContext) -> StepResult:
        if context.attempt == 1:
            raise UnavailableError("Not yet.")
        return StepResult()

    # Long enough for the claim that follows every run to find nothing yet.
    farm.use(single(second_time, retry=RetryPolicy(max_attempts=2, first_delay_s=0.5)))
    async with farm.worker(reconciles=False) as worker:
        job = await farm.submit()
        await worker.engine.claim_next(Resource.CPU)
        assert (await farm.finished(job.id)).state is JobState.SUCCEEDED


async def test_five_thousandth_attempt_still_has_a_delay(farm: Farm) -> None:
    async def never(context: StepContext) -> StepResult:
        raise UnavailableError("Not yet.")

    farm.use(single(never, retry=RetryPolicy(max_attempts=10_000, first_delay_s=0.01, max_delay_s=3600.0)))
    job = await farm.submit()
    async with farm.units_of_work.for_worker() as uow:
        before = await uow.jobs.get(job.id, for_update=True)
        steps = tuple(replace(step, attempt=5000) for step in before.steps)
        await uow.jobs.save(before, replace(before, steps=steps))
    async with farm.worker():
        job = await farm.until(job.id, lambda j: j.step_named("work").error is not None)
    (step,) = job.steps
    assert step.error is not None
    assert (step.attempt, step.error.message) == (5001, "Not yet.")


async def test_run_of_a_purged_job_does_not_cost_the_others_their_leases(farm: Farm) -> None:
    release = asyncio.Event()

    async def does_not_listen(context: StepContext) -> StepResult:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        return StepResult()

    farm.use(single(does_not_listen))
    async with farm.worker(cpu=2):
        purged, other = await farm.submit(), await farm.submit()
        await farm.running(purged.id)
        await farm.running(other.id)
        async with farm.units_of_work.for_worker() as uow:
            await uow.videos.remove(purged.video_id)
        try:
            for _ in range(2):  # the first renewal may have been on its way already
                known = (await farm.job(other.id)).step_named("work").lease_expires_at
                assert known is not None
                await farm.until(other.id, lambda j, k=known: j.step_named("work").lease_expires_at > k)  # type: ignore[misc]
        finally:
            release.set()


async def test_worker_may_take_up_a_step_that_its_own_late_run_has_not_left_yet(farm: Farm) -> None:
    release = asyncio.Event()

    async def late_at_first(context: StepContext) -> StepResult:
        while context.attempt == 1 and not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        return StepResult()

    def taken_back(job: Job) -> Job:
        step = job.step_named("work")
        assert step.lease_expires_at is not None
        return job.lease_expired(step.id, now=step.lease_expires_at)

    farm.use(single(late_at_first))
    async with farm.worker(cpu=2):
        job = await farm.submit()
        await farm.running(job.id)
        await farm.change(job.id, taken_back)
        try:
            job = await farm.finished(job.id)
        finally:
            release.set()
        other = await farm.finished((await farm.submit()).id)
    assert (job.step_named("work").attempt, job.state, other.state) == (2, JobState.SUCCEEDED, JobState.SUCCEEDED)


async def test_percent_does_not_fall_when_a_step_ends(farm: Farm) -> None:
    first_may_end, second_may_go_on = asyncio.Event(), asyncio.Event()

    async def first(context: StepContext) -> StepResult:
        context.report_progress(0.9)
        await first_may_end.wait()
        return StepResult()

    async def second(context: StepContext) -> StepResult:
        context.report_progress(0.5)
        await second_may_go_on.wait()
        context.report_progress(0.6)
        return await for_ever(context)

    farm.use(
        single(first, name="first", produces=("one",)),
        single(second, name="second", produces=("two",), resource=Resource.LIGHT),
    )
    # It never looks at the job again: what it tells rests on what it did itself.
    async with farm.worker(timing=EngineTiming(lease_s=7200, heartbeat_s=3600, shutdown_grace_s=0.1)) as worker:
        told = worker.bus.progress
        job = await farm.submit()
        async with asyncio.timeout(20):
            while {p.step for p in told} != {"first", "second"}:
                await asyncio.sleep(0.02)
            first_may_end.set()
            await farm.until(job.id, lambda j: j.step_named("first").state is StepState.SUCCEEDED)
            second_may_go_on.set()
            while told[-1].step_percent != 60.0:
                await asyncio.sleep(0.02)
    percents = [p.percent for p in told]
    assert percents == sorted(percents)
    assert percents[-1] == 80.0
