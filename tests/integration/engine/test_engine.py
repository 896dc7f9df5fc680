"""The job engine over a real PostgreSQL. Long, because what a worker must survive is looked up in one place."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from echo_core.application.lease_watch import EngineTiming
from echo_core.domain.ids import UserId, new_video_id
from echo_core.domain.jobs import JobKind, JobState, StepState
from echo_core.domain.uploads import video_prefix
from echo_core.domain.videos import VideoStatus
from echo_core.plugin_api.errors import InvalidRequestError, UnavailableError
from echo_core.plugin_api.steps import ArtefactFile, Resource, RetryPolicy, StepContext, StepResult
from echo_core.plugin_api.storage import ListObjects
from tests.integration.engine.conftest import DEADLINE_S, TIMING, Farm, single

pytestmark = pytest.mark.integration


async def for_ever(context: StepContext) -> StepResult:
    context.report_progress(0.5)
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


def artefact(context: StepContext, name: str = "made.bin", text: str = "made") -> ArtefactFile:
    path = context.scratch / name
    path.write_text(text)
    return ArtefactFile(kind="poster", name=name, path=path, content_type="application/octet-stream")


async def objects_of(farm: Farm, prefix: str) -> list[str]:
    return [o.key for o in (await farm.storage.list(ListObjects(prefix=prefix))).objects]


async def test_whole_pipeline_makes_a_video_ready(farm: Farm) -> None:
    async with farm.worker() as worker:
        job = await farm.submit()
        job = await farm.finished(job.id)
    assert job.state is JobState.SUCCEEDED, [(s.name, s.state, s.error, s.skipped_reason) for s in job.steps]
    video = await farm.video(job.video_id)
    assert video.status is VideoStatus.READY
    assert video.duration_s
    async with farm.units_of_work.for_worker() as uow:
        artefacts = await uow.artefacts.list_for_video(job.video_id, segments=True)
    assert {a.kind for a in artefacts} >= {"rendition", "poster", "storyboard", "storyboard_sheet"}
    stored = set(await objects_of(farm, video_prefix(job.video_id)))
    assert {a.storage_key for a in artefacts} | {k for k in stored if "/source/" in k} == stored
    assert not list((farm.tmp_path / "scratch").rglob("*source*")), "scratch is left"
    assert {outcome for _, outcome, _ in worker.counts.outcomes} <= {"succeeded", "skipped"}


async def test_events_of_a_job_are_gapless_and_playable_comes_before_ready(farm: Farm) -> None:
    async with farm.worker():
        job = await farm.finished((await farm.submit()).id)
    sequences = [e.sequence for e in farm.events]
    assert sorted(sequences) == list(range(1, len(sequences) + 1))
    statuses = [e.state for e in sorted(farm.events, key=lambda e: e.sequence) if e.type.startswith("video.")]
    assert statuses[-1] == "ready"
    assert "playable" in statuses
    assert job.finished_at is not None


@pytest.mark.complaint(22)
async def test_two_workers_run_each_step_once(farm: Farm) -> None:
    async def quick(context: StepContext) -> StepResult:
        await asyncio.sleep(0)
        return StepResult()

    spec, handler = single(quick)
    farm.use((spec, handler))
    jobs = [await farm.submit() for _ in range(12)]
    async with farm.worker("a", cpu=3), farm.worker("b", cpu=3):
        for job in jobs:
            assert (await farm.finished(job.id)).state is JobState.SUCCEEDED
    assert handler.runs == [1] * 12


@pytest.mark.complaint(20)
async def test_owners_share_the_slots(farm: Farm) -> None:
    order: list[str] = []
    release = asyncio.Event()

    async def noted(context: StepContext) -> StepResult:
        order.append(str(context.video.owner_id))
        await release.wait()
        return StepResult()

    farm.use(single(noted))
    greedy, modest = UserId(new_video_id()), UserId(new_video_id())
    jobs = [await farm.submit(owner=greedy) for _ in range(4)]
    jobs.append(await farm.submit(owner=modest))
    async with farm.worker(cpu=2):
        async with asyncio.timeout(20):
            while len(order) < 2:
                await asyncio.sleep(0.02)
        assert order == [str(greedy), str(modest)]
        release.set()
        for job in jobs:
            await farm.finished(job.id)


@pytest.mark.complaint(7)
async def test_cancel_reaches_a_running_step_and_leaves_nothing(farm: Farm) -> None:
    published, cleaned = asyncio.Event(), asyncio.Event()

    async def stubborn(context: StepContext) -> StepResult:
        await context.publish([artefact(context)])
        published.set()
        try:
            return await for_ever(context)
        finally:
            cleaned.set()

    farm.use(single(stubborn))
    async with farm.worker() as worker:
        job = await farm.submit()
        await asyncio.wait_for(published.wait(), DEADLINE_S)
        async with farm.units_of_work.for_worker() as uow:
            now = await uow.jobs.now()
        await farm.change(job.id, lambda j: j.cancel(now))
        job = await farm.finished(job.id)
    assert cleaned.is_set()
    assert job.state is JobState.CANCELLED
    assert ("work", "cancelled", "") in worker.counts.outcomes
    assert (await farm.video(job.video_id)).status is VideoStatus.CANCELLED


@pytest.mark.complaint(1)
async def test_cancelled_job_can_be_retried(farm: Farm) -> None:
    block = asyncio.Event()

    async def until_told(context: StepContext) -> StepResult:
        await block.wait()
        return StepResult()

    farm.use(single(until_told))
    async with farm.worker():
        job = await farm.submit()
        await farm.running(job.id)
        async with farm.units_of_work.for_worker() as uow:
            now = await uow.jobs.now()
        await farm.change(job.id, lambda j: j.cancel(now))
        await farm.finished(job.id)
        block.set()
        await farm.change(job.id, lambda j: j.retried(now))
        assert (await farm.finished(job.id)).state is JobState.SUCCEEDED


async def test_retryable_error_is_tried_again_and_its_reason_kept(farm: Farm) -> None:
    async def third_time(context: StepContext) -> StepResult:
        if context.attempt < 3:
            raise UnavailableError("The disk is asleep.", code="asleep", log_tail=["line one"])
        return StepResult()

    spec, handler = single(third_time)
    farm.use((spec, handler))
    async with farm.worker() as worker:
        job = await farm.finished((await farm.submit()).id)
    assert job.state is JobState.SUCCEEDED
    assert handler.runs == [1, 2, 3]
    assert worker.counts.outcomes.count(("work", "retried", "asleep")) == 2


async def test_hopeless_error_is_not_tried_again(farm: Farm) -> None:
    async def hopeless(context: StepContext) -> StepResult:
        raise InvalidRequestError("This is no video.", code="media_unreadable", remedy="Choose another.")

    spec, handler = single(hopeless)
    farm.use((spec, handler))
    async with farm.worker():
        job = await farm.finished((await farm.submit()).id)
    assert handler.runs == [1]
    assert job.first_error is not None
    assert (job.first_error.code, job.first_error.remedy) == ("media_unreadable", "Choose another.")
    assert (await farm.video(job.video_id)).status is VideoStatus.FAILED


async def test_defect_of_a_plugin_names_it_and_the_worker_goes_on(farm: Farm) -> None:
    async def broken(context: StepContext) -> StepResult:
        raise ZeroDivisionError("oops")

    farm.use(single(broken))
    async with farm.worker():
        first = await farm.finished((await farm.submit()).id)
        second = await farm.finished((await farm.submit()).id)
    for job in (first, second):
        assert job.first_error is not None
        assert job.first_error.code == "internal_error"
        assert "test" in job.first_error.message
        assert "oops" not in job.first_error.message


async def test_step_over_its_time_limit_is_ended(farm: Farm) -> None:
    farm.use(single(for_ever, timeout_s=0.2))
    async with farm.worker():
        job = await farm.finished((await farm.submit()).id)
    assert job.first_error is not None
    assert job.first_error.code == "step_timeout"


@pytest.mark.complaint(3)
async def test_shutdown_releases_the_step_without_counting_the_attempt(farm: Farm) -> None:
    calls = 0

    async def second_time(context: StepContext) -> StepResult:
        nonlocal calls
        calls += 1
        return await for_ever(context) if calls == 1 else StepResult()

    farm.use(single(second_time))
    job = await farm.submit()
    async with farm.worker("first"):
        await farm.running(job.id)
    step = (await farm.job(job.id)).step_named("work")
    assert (step.state, step.attempt) == (StepState.QUEUED, 0)
    async with farm.worker("second"):
        job = await farm.finished(job.id)
    assert job.step_named("work").attempt == 1


async def test_running_step_gets_its_grace_at_shutdown(farm: Farm) -> None:
    proceed = asyncio.Event()

    async def short(context: StepContext) -> StepResult:
        await proceed.wait()
        return StepResult()

    farm.use(single(short))
    job = await farm.submit()
    patient = EngineTiming(lease_s=5, heartbeat_s=1, watch_s=0.1, shutdown_grace_s=20)
    async with farm.worker(timing=patient) as worker:
        await farm.running(job.id)
        worker.stop.set()
        proceed.set()
    assert (await farm.job(job.id)).state is JobState.SUCCEEDED


@pytest.mark.complaint(22)
async def test_expired_lease_is_taken_over_and_the_late_run_is_fenced(farm: Farm) -> None:
    gate = asyncio.Event()
    published: list[str] = []

    async def paused_then_writes(context: StepContext) -> StepResult:
        if context.attempt == 1:
            # A worker that was stopped: it does not even notice that it is being cancelled.
            while not gate.is_set():
                try:
                    await gate.wait()
                except asyncio.CancelledError:
                    published.append("late")
            await context.publish([artefact(context, text="late")])
        return StepResult(artefacts=[artefact(context, text="right")])

    # Never renews within the test, as a stopped process would not.
    silent = EngineTiming(lease_s=2, heartbeat_s=3600, watch_s=0.1, shutdown_grace_s=0.1)
    farm.use(single(paused_then_writes))
    job = await farm.submit()
    async with farm.worker("stopped", timing=silent):
        step = await farm.running(job.id)
        await farm.expire(step)
        async with farm.worker("second"):
            job = await farm.finished(job.id)
            assert job.state is JobState.SUCCEEDED
            gate.set()
    async with farm.units_of_work.for_worker() as uow:
        (row,) = await uow.artefacts.list_for_video(job.video_id)
    assert farm.storage.get(row.storage_key).data == b"right"
    assert await objects_of(farm, f"{video_prefix(job.video_id)}work/") == [row.storage_key]
    assert job.step_named("work").attempt == 2


async def test_poison_step_ends_failed_after_its_attempts(farm: Farm) -> None:
    farm.use(single(for_ever, retry=RetryPolicy(max_attempts=2, first_delay_s=0.01)))
    job = await farm.submit()
    silent = EngineTiming(lease_s=2, heartbeat_s=3600, watch_s=3600, shutdown_grace_s=0.1)
    for number in range(2):
        async with farm.worker(f"victim-{number}", timing=silent):
            step = await farm.running(job.id)
            await farm.expire(step)
            await farm.until(job.id, lambda j: j.step_named("work").state is not StepState.RUNNING)
    job = await farm.finished(job.id)
    assert job.first_error is not None
    assert job.first_error.code == "worker_lost"


@pytest.mark.complaint(2)
async def test_lost_bus_and_doorbell_do_not_stop_the_work(farm: Farm) -> None:
    async with farm.worker() as worker:

        async def refuse(progress: object) -> None:
            raise UnavailableError("no bus")

        worker.bus.publish_progress = refuse  # type: ignore[method-assign, assignment]
        job = await farm.finished((await farm.submit()).id)
    assert job.state is JobState.SUCCEEDED


@pytest.mark.complaint(4)
async def test_progress_is_told_with_percent_and_remaining_time(farm: Farm) -> None:
    farm.use(single(for_ever))
    async with farm.worker() as worker:
        job = await farm.submit()
        async with asyncio.timeout(20):
            while not worker.bus.progress:
                await asyncio.sleep(0.02)
        told = worker.bus.progress[-1]
        assert told.job_id == job.id
        assert told.step_percent == 50.0
        assert 0 < told.percent < 100
        assert told.eta_s is not None


async def test_full_scratch_disk_is_retryable(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    spec, handler = single(_fetches)
    farm.use((spec, handler))
    real = shutil.disk_usage
    free = iter([0])

    def usage(path: Path) -> object:
        return real(path)._replace(free=next(free, 1 << 40))

    monkeypatch.setattr(shutil, "disk_usage", usage)
    async with farm.worker() as worker:
        job = await farm.finished((await farm.submit()).id)
    assert job.state is JobState.SUCCEEDED
    assert ("work", "retried", "insufficient_storage") in worker.counts.outcomes


async def _fetches(context: StepContext) -> StepResult:
    path = await context.fetch_source()
    assert path == await context.fetch_source()
    assert [p.name for p in path.parent.iterdir()] == ["source"]
    return StepResult()


@pytest.mark.complaint(7)
async def test_purge_waits_for_running_steps_and_removes_everything(farm: Farm) -> None:
    from echo_core.application.videos import bury_video

    farm.use(single(for_ever))
    async with farm.worker():
        job = await farm.submit()
        await farm.running(job.id)
        async with farm.units_of_work.for_worker() as uow:
            await bury_video(uow, farm.pipeline, job.video_id)
        async with asyncio.timeout(20):
            while await objects_of(farm, video_prefix(job.video_id)):
                await asyncio.sleep(0.02)
            while await _exists(farm, job.video_id):
                await asyncio.sleep(0.02)


async def _exists(farm: Farm, video_id: object) -> bool:
    async with farm.units_of_work.for_worker() as uow:
        return await uow.jobs.find_for_video(video_id, JobKind.PURGE) is not None  # type: ignore[arg-type]


@pytest.mark.complaint(20)
async def test_classes_do_not_wait_for_each_other(farm: Farm) -> None:
    async def quick(context: StepContext) -> StepResult:
        return StepResult()

    farm.use(
        single(for_ever, name="encode", produces=("encoded",), optional=True),
        single(quick, name="caption", produces=("captions",), resource=Resource.LIGHT),
    )
    async with farm.worker(timing=TIMING):
        jobs = [await farm.submit() for _ in range(3)]
        for job in jobs:
            await farm.until(job.id, lambda j: j.step_named("caption").state is StepState.SUCCEEDED)


async def test_a_job_is_read_as_it_was_at_one_moment(farm: Farm) -> None:
    """Told between a job's row and its steps' rows, it went on with nothing left to do: an owner who asked while a job
    failed got an internal error."""

    async def succeed(context: StepContext) -> StepResult:
        return StepResult()

    farm.use(single(succeed))
    async with farm.worker():
        job = await farm.finished((await farm.submit()).id)
    ended = asyncio.Event()

    async def end_and_retry() -> None:
        for _ in range(40):
            await farm.change(job.id, lambda before: before.retried(before.created_at))
            await farm.change(job.id, lambda before: before.cancel(before.created_at))
        ended.set()

    async def read() -> int:
        torn = 0
        while not ended.is_set():
            seen = await farm.job(job.id)
            torn += seen.state.finished != all(step.state.finished for step in seen.steps)
        return torn

    _, *torn = await asyncio.gather(end_and_retry(), *(read() for _ in range(4)))
    assert torn == [0, 0, 0, 0]
