"""Steps that start only where there is room for them, and disks that become full all the same."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from echo_transcode_ffmpeg.config import FfmpegConfig
from echo_transcode_ffmpeg.transcoder import FfmpegTranscoder

from echo_core.adapters.memory import Memory
from echo_core.adapters.reservations import FileReservations
from echo_core.adapters.scratch import worker_scratch
from echo_core.application import admission, engine
from echo_core.application.ending import end_tasks
from echo_core.application.pipeline import Pipeline
from echo_core.domain.jobs import Job, JobState, StepState
from echo_core.plugin_api.errors import UnavailableError
from echo_core.plugin_api.needs import Needs
from echo_core.plugin_api.steps import RetryPolicy, StepContext, StepOutlook, StepResult
from echo_core.plugin_api.transcoder import LadderRequest, LadderResult
from tests.integration.engine.conftest import Farm, TroubledUnitsOfWork, single

pytestmark = pytest.mark.integration

MIB = 1 << 20
MACHINE = Memory(total_bytes=1000 * MIB, available_bytes=1000 * MIB)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (admission, engine):
        monkeypatch.setattr(module, "ASK_AGAIN_S", 0.05)


@pytest.fixture
def reservations(tmp_path: Path) -> Iterator[FileReservations]:
    with worker_scratch(tmp_path / "reservations") as (_, directory):
        yield FileReservations(
            directory, scratch_reserve_bytes=0, memory_reserve_bytes=0, memory=lambda: MACHINE, resident=lambda pid: 0
        )


class Held:
    """A step's work that goes on until it is let go; ``needs`` by the size that tests give each video's title."""

    def __init__(self) -> None:
        self.running = 0
        self.most = 0
        self.go_on = asyncio.Event()

    async def __call__(self, context: StepContext) -> StepResult:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.go_on.wait()
        finally:
            self.running -= 1
        return StepResult()


def needs(mib: int) -> object:
    def tell(outlook: StepOutlook) -> Needs:
        return Needs(memory_bytes=mib * MIB)

    return tell


def waits(job: Job) -> bool:
    step = job.step_named("work")
    return step.state is StepState.QUEUED and step.error is not None


async def test_two_steps_that_each_fit_alone_do_not_run_at_once(farm: Farm, reservations: FileReservations) -> None:
    work = Held()
    farm.use(single(work, needs=needs(600)))
    async with farm.worker(cpu=2, reservations=reservations) as worker:
        first = await farm.submit()
        await farm.running(first.id)
        second = await farm.submit()
        step = (await farm.until(second.id, waits)).step_named("work")
        assert step.error is not None
        assert step.error.code == "waiting_for_memory"
        assert "600 MiB" in step.error.message
        assert "400 MiB" in step.error.message
        assert step.error.remedy
        asked = step.run_at
        await farm.until(second.id, lambda job: job.step_named("work").run_at != asked)
        assert (await farm.job(second.id)).step_named("work").attempt == 0
        work.go_on.set()
        done = await farm.finished(second.id)
    assert work.most == 1
    assert done.state is JobState.SUCCEEDED
    assert done.step_named("work").attempt == 1
    told = [event for event in farm.events if event.job_id == second.id and event.facts.get("error")]
    assert [event.type for event in told] == ["step.queued"]
    assert ("work", "waiting", "waiting_for_memory") in worker.counts.outcomes


@pytest.mark.complaint(13)
async def test_step_that_can_never_fit_fails_at_once_and_is_not_tried_again(
    farm: Farm, reservations: FileReservations
) -> None:
    spec, handler = single(Held(), needs=needs(1001))
    farm.use((spec, handler))
    async with farm.worker(reservations=reservations):
        step = (await farm.finished((await farm.submit()).id)).step_named("work")
    assert step.state is StepState.FAILED
    assert step.attempt == 1
    assert step.error is not None
    assert step.error.code == "memory_too_small"
    assert "1001 MiB" in step.error.message
    assert step.error.remedy
    assert handler.runs == []


async def test_one_that_waits_keeps_nobody_behind_it_waiting(farm: Farm, reservations: FileReservations) -> None:
    sizes = iter((600, 900, 100))
    known: dict[object, int] = {}

    def tell(outlook: StepOutlook) -> Needs:
        if outlook.video.id not in known:
            known[outlook.video.id] = next(sizes)
        return Needs(memory_bytes=known[outlook.video.id] * MIB)

    work = Held()
    farm.use(single(work, needs=tell))
    async with farm.worker(cpu=2, reservations=reservations):
        first = await farm.submit()
        await farm.running(first.id)
        large = await farm.submit()
        await farm.until(large.id, waits)
        small = await farm.submit()
        await farm.running(small.id)
        cancelled = await farm.change(large.id, lambda job: job.cancel(job.created_at))
        assert cancelled.state is JobState.CANCELLED
        work.go_on.set()
        await farm.finished(small.id)


async def test_claim_that_could_not_be_committed_keeps_nothing_reserved(
    farm: Farm, reservations: FileReservations
) -> None:
    troubled = TroubledUnitsOfWork(farm.units_of_work)
    failures = [UnavailableError("the answer was lost")]

    async def after_commit(called: frozenset[str]) -> None:
        if "jobs.claim_candidate" in called and failures:
            raise failures.pop()

    farm.use(single(Held(), needs=needs(900)))
    job = await farm.submit()
    farm.units_of_work = troubled
    async with farm.worker(reservations=reservations, reconciles=False) as worker:
        troubled.after_commit = after_commit
        resource = job.step_named("work").resource
        assert not await worker.engine.claim_next(resource)
        assert not failures
        assert await reservations.reserve("other", Needs(memory_bytes=900 * MIB), claimant="other") is None


async def test_reservation_that_cannot_be_given_back_costs_neither_the_slot_nor_the_worker(
    farm: Farm, reservations: FileReservations, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(directory: str) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(reservations, "release", broken)
    work = Held()
    work.go_on.set()
    farm.use(single(work, needs=needs(100)))
    async with farm.worker(cpu=1, reservations=reservations):
        for _ in range(2):
            assert (await farm.finished((await farm.submit()).id)).state is JobState.SUCCEEDED


async def test_needs_that_cannot_be_told_do_not_keep_a_step_from_running(
    farm: Farm, reservations: FileReservations
) -> None:
    def broken(outlook: StepOutlook) -> Needs:
        raise KeyError("media")

    work = Held()
    work.go_on.set()
    farm.use(single(work, needs=broken))
    async with farm.worker(reservations=reservations):
        assert (await farm.finished((await farm.submit()).id)).state is JobState.SUCCEEDED


# --- a disk that becomes full in the midst of it -----------------------------------------------------------------


class FillsTheDisk(FfmpegTranscoder):
    """Real encodes, the first of them on a disk that somebody else fills up."""

    def __init__(self, ballast: Path) -> None:
        super().__init__(FfmpegConfig(preset="ultrafast", threads=1, nice=0))
        self.ballast = ballast
        self.left_bytes = 48 * 1024
        self.filled = False

    async def encode_ladder(self, request: LadderRequest) -> LadderResult:
        if self.filled:
            return await super().encode_ladder(request)
        self.filled = True
        await asyncio.to_thread(self._fill)
        filling = asyncio.create_task(self._keep_full())
        try:
            return await super().encode_ladder(request)
        finally:
            await end_tasks([filling])

    async def _keep_full(self) -> None:
        """What the step before still holds of its files is given back at any time."""
        while True:
            await asyncio.to_thread(self._fill)
            await asyncio.sleep(0.01)

    def _fill(self) -> None:
        facts = os.statvfs(self.ballast.parent)
        with self.ballast.open("ab") as file, suppress(OSError):  # steps beside it write as well
            file.write(bytes(max(0, facts.f_bavail * facts.f_frsize - self.left_bytes)))


@asynccontextmanager
async def small_disk(path: Path, size_mib: int) -> AsyncIterator[Path]:
    """A disk of its own, which has to be mounted."""
    await asyncio.to_thread(path.mkdir, parents=True)

    def run(*argv: str) -> int:
        return subprocess.run(argv, capture_output=True, check=False).returncode

    if await asyncio.to_thread(run, "mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", str(path)) != 0:
        pytest.skip("mounting a small disk needs root")
    try:
        yield path
    finally:
        await asyncio.to_thread(run, "umount", "--lazy", str(path))


def make_clip(path: Path) -> Path:
    picture = "-f lavfi -i testsrc2=size=320x180:rate=25:duration=4 -c:v mpeg4 -q:v 3"
    subprocess.run(["ffmpeg", "-v", "error", "-nostdin", "-y", *picture.split(), path], check=True)
    return path


def failures(farm: Farm, job: Job) -> list[dict[str, str]]:
    """What the owner was told of attempts at the ladder that failed."""
    told = [e.facts.get("error") for e in farm.events if e.job_id == job.id and e.step == "ladder"]
    return [dict(error) for error in told if isinstance(error, dict)]


@pytest.mark.complaint(13)
async def test_disk_that_becomes_full_during_an_encode_costs_a_retry_and_nothing_else(farm: Farm) -> None:
    clip = await asyncio.to_thread(make_clip, farm.tmp_path / "clip.mp4")
    async with small_disk(farm.tmp_path / "scratch", 32) as disk:
        transcoder = FillsTheDisk(disk / "ballast")
        farm.transcoder = transcoder
        quick = RetryPolicy(max_attempts=100, first_delay_s=0.1, max_delay_s=0.2)
        process = tuple(
            replace(e, spec=replace(e.spec, retry=quick))
            for e in farm.pipeline.process
            if e.spec.name in {"verify", "inspect", "ladder"}  # no other step gives room back meanwhile
        )
        farm.pipeline = Pipeline(process=process, purge=farm.pipeline.purge)
        async with farm.worker():
            job = await farm.submit(media=clip)
            await farm.until(job.id, lambda job: bool(failures(farm, job)))
            assert {failure["code"] for failure in failures(farm, job)} == {"insufficient_storage"}
            assert failures(farm, job)[0]["remedy"]
            # The service goes on, and what needs no disk gets done.
            other = await farm.submit(media=clip)
            await farm.until(other.id, lambda job: job.step_named("verify").state is StepState.SUCCEEDED)
            await asyncio.to_thread(transcoder.ballast.unlink)
            done = await farm.finished(job.id)
            assert done.state is JobState.SUCCEEDED
            assert done.step_named("ladder").attempt > 1
            assert (await farm.finished(other.id)).state is JobState.SUCCEEDED
        left = [path for path in disk.rglob("*") if path.is_file()]
        assert left == []
