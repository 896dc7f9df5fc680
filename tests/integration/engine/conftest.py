"""Workers over a real PostgreSQL, with a storage and a transcoder that need no files of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import settings

from echo_core.adapters.clock import SystemClock
from echo_core.adapters.postgres.engine import open_engine
from echo_core.adapters.postgres.units_of_work import PostgresWorkerUnitsOfWork
from echo_core.application.admission import Admission, Reservations
from echo_core.application.ending import end_tasks
from echo_core.application.engine import Engine
from echo_core.application.finding import UploadFinder
from echo_core.application.job_changes import store_change
from echo_core.application.lease_watch import EngineTiming
from echo_core.application.pipeline import Pipeline, RegisteredStep
from echo_core.application.ports import Progress, UnitOfWork, WorkerUnitsOfWork
from echo_core.application.processing import opened, process_steps
from echo_core.application.purging import purge_steps
from echo_core.application.reconciling import UNPROVIDED_AFTER, Reconciler, ReconcilerTiming
from echo_core.application.services import Limits, UploadServices
from echo_core.domain.errors import UnknownEntityError
from echo_core.domain.ids import JobId, StepId, UserId, VideoId, new_video_id
from echo_core.domain.jobs import Job, JobKind, Step, StepState
from echo_core.domain.uploads import Upload, UploadState, source_key
from echo_core.domain.videos import Video, VideoStatus
from echo_core.plugin_api.errors import UnavailableError
from echo_core.plugin_api.events import Event
from echo_core.plugin_api.specs import StepSpec
from echo_core.plugin_api.steps import Resource, RetryPolicy, StepContext, StepHandler, StepResult
from echo_core.plugin_api.transcoder import Transcoder
from echo_core.testing.fake_storage import FakeStorage
from echo_core.testing.fake_transcoder import FakeTranscoder, write_fake_media
from tests.fakes.api import LIMITS
from tests.integration.conftest import Database

OWNER = UserId(new_video_id())
DEADLINE_S = 30.0
SOAK = "soak"
"""The hypothesis profile of long runs: ``--hypothesis-profile=soak``."""
SOAK_HISTORIES = 1000
settings.register_profile(SOAK, max_examples=SOAK_HISTORIES)
TIMING = EngineTiming(lease_s=2.0, heartbeat_s=0.5, watch_s=0.1, shutdown_grace_s=0.2)


class SilentBus:
    """Keeps what it was told."""

    def __init__(self) -> None:
        self.progress: list[Progress] = []

    async def publish_events(self, events: Sequence[Event]) -> None:
        return

    async def publish_progress(self, progress: Progress) -> None:
        self.progress.append(progress)


class Counts:
    """Keeps what became of runs."""

    def __init__(self) -> None:
        self.outcomes: list[tuple[str, str, str]] = []

    async def step_ended(self, *, step: str, resource: Resource, outcome: str, code: str, seconds: float) -> None:
        self.outcomes.append((step, outcome, code))


class TroubledUnitsOfWork:
    """Awaits ``before`` each unit of work, and ``after_commit`` with the names of what it called (those that gave
    something), before its caller hears of the commit: tests wait there, or fail as a database whose answer is lost."""

    def __init__(self, inner: WorkerUnitsOfWork) -> None:
        self._inner = inner
        self.before: Callable[[], Awaitable[None]] = _nothing
        self.after_commit: Callable[[frozenset[str]], Awaitable[None]] = _nothing

    @asynccontextmanager
    async def for_worker(self) -> AsyncIterator[UnitOfWork]:
        await self.before()
        called: set[str] = set()
        async with self._inner.for_worker() as uow:
            for name in ("jobs", "artefacts", "uploads"):
                _note_calls(name, getattr(uow, name), called)
            yield uow
        await self.after_commit(frozenset(called))


async def _nothing(called: frozenset[str] = frozenset()) -> None:
    return


def _note_calls(noun: str, repository: object, called: set[str]) -> None:
    def noting(verb: str, method: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
        async def call(*args: object, **kwargs: object) -> object:
            result = await method(*args, **kwargs)
            if result is not None:
                called.add(f"{noun}.{verb}")
            return result

        return call

    for verb in ("claim_candidate", "list_expired", "put", "remove_of_step"):
        if (method := getattr(repository, verb, None)) is not None:
            setattr(repository, verb, noting(verb, method))


class DeadDoorbell:
    """Redis is away: only the reconciler finds work."""

    async def ring(self, rings: Sequence[tuple[StepId, Resource]]) -> None:
        raise UnavailableError("nobody hears")


@dataclass
class Handler:
    """A step's work as a function; counts its runs."""

    work: Callable[[StepContext], Awaitable[StepResult]]
    runs: list[int] = field(default_factory=list)

    async def run(self, context: StepContext) -> StepResult:
        self.runs.append(context.attempt)
        return await self.work(context)


def single(work: Callable[[StepContext], Awaitable[StepResult]], **spec: object) -> tuple[StepSpec, Handler]:
    """A pipeline of one required step."""
    handler = Handler(work)
    fields: dict[str, object] = {
        "name": "work",
        "produces": ("made",),
        "resource": Resource.CPU,
        "optional": False,
        "retry": RetryPolicy(max_attempts=3, first_delay_s=0.01, max_delay_s=0.05),
        "timeout_s": 20.0,
        **spec,
    }
    return StepSpec(open=opened(handler), **fields), handler  # type: ignore[arg-type]


@dataclass
class Worker:
    """One engine with its reconciler."""

    engine: Engine
    reconciler: Reconciler
    bus: SilentBus
    counts: Counts
    stop: asyncio.Event


@dataclass
class Farm:
    """A database, a storage and a pipeline that any number of workers share."""

    units_of_work: WorkerUnitsOfWork
    storage: FakeStorage
    transcoder: Transcoder
    tmp_path: Path
    events: list[Event]
    pipeline: Pipeline
    handlers: Mapping[str, StepHandler]
    storage_name: str = "fake"
    limits: Limits = LIMITS

    def use(self, *specs: tuple[StepSpec, StepHandler]) -> None:
        registered = tuple(RegisteredStep(plugin="test", spec=spec) for spec, _ in specs)
        self.pipeline = Pipeline.of(registered, purge=self.pipeline.purge)
        self.handlers = {**self.handlers, **{spec.name: handler for spec, handler in specs}}

    def admission(self, reservations: Reservations) -> Admission:
        return Admission(
            reservations=reservations,
            needs={e.spec.name: e.spec.needs for e in self.pipeline.process if e.spec.needs is not None},
            storage=self.storage,
            storage_name=self.storage_name,
            transcoder=self.transcoder,
            scratch=self.tmp_path,
        )

    def upload_finder(self) -> UploadFinder:
        services = UploadServices(
            storage=self.storage,
            storage_name="fake",
            pipeline=self.pipeline,
            limits=self.limits,
            clock=SystemClock(),
        )
        return UploadFinder(services=services, units_of_work=self.units_of_work)

    @asynccontextmanager
    async def worker(
        self,
        name: str = "w",
        *,
        cpu: int = 1,
        timing: EngineTiming = TIMING,
        reconciles: bool = True,
        unprovided_after: timedelta = UNPROVIDED_AFTER,
        reservations: Reservations | None = None,
        scratch_reserve_bytes: int = 0,
    ) -> AsyncIterator[Worker]:
        bus, counts, stop, ready = SilentBus(), Counts(), asyncio.Event(), asyncio.Event()
        engine = Engine(
            units_of_work=self.units_of_work,
            storage=self.storage,
            storage_name=self.storage_name,
            transcoder=self.transcoder,
            handlers=self.handlers,
            slots={Resource.LIGHT: 2, Resource.CPU: cpu, Resource.NET: 1, Resource.AI: 1},
            scratch=self.tmp_path / "scratch" / name,
            worker=name,
            bus=bus,
            metrics=counts,
            timing=timing,
            admission=self.admission(reservations) if reservations is not None else None,
            scratch_reserve_bytes=scratch_reserve_bytes,
            pipeline=self.pipeline,
        )
        reconciler = Reconciler(
            engine=engine,
            units_of_work=self.units_of_work,
            doorbell=DeadDoorbell(),
            pipeline=self.pipeline,
            upload_finder=self.upload_finder(),
            timing=ReconcilerTiming(
                every_s=0.05,
                ring_again_s=0.1,
                event_retention=timedelta(days=30),
                unprovided_after=unprovided_after,
            ),
        )
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(engine.run(ready=ready, stop=stop))
            await ready.wait()
            helpers = [tasks.create_task(reconciler.run())] if reconciles else []
            try:
                yield Worker(engine, reconciler, bus, counts, stop)
            finally:
                stop.set()
                await running
                await end_tasks(helpers)

    async def begin(self, *, owner: UserId = OWNER, expires_in: timedelta = timedelta(days=1)) -> Upload:
        """A video that awaits its bytes."""
        video_id = new_video_id()
        async with self.units_of_work.for_worker() as uow:
            now = await uow.jobs.now()
            await uow.videos.add(
                Video(
                    id=video_id,
                    owner_id=owner,
                    status=VideoStatus.AWAITING_UPLOAD,
                    title="clip",
                    filename="clip.mp4",
                    content_type="video/mp4",
                    created_at=now,
                    updated_at=now,
                )
            )
            upload = Upload(
                video_id=video_id,
                owner_id=owner,
                state=UploadState.OPEN,
                storage_key=source_key(video_id, "clip.mp4"),
                filename="clip.mp4",
                content_type="video/mp4",
                size_bytes=None,
                backend=self.storage_name,
                backend_state="",
                expires_at=now + expires_in,
                created_at=now,
            )
            await uow.uploads.add(upload)
        return upload

    async def submit(self, *, owner: UserId = OWNER, media: Path | None = None) -> Job:
        """An uploaded video with a fresh job."""
        upload = await self.begin(owner=owner)
        video_id = upload.video_id
        source = media or write_fake_media(self.tmp_path / f"{video_id}.mp4", size_bytes=4096)
        stored = self.storage.store(upload.storage_key, source.read_bytes(), "video/mp4")
        async with self.units_of_work.for_worker() as uow:
            now = await uow.jobs.now()
            video = await uow.videos.get(video_id)
            await uow.videos.save(replace(video, size_bytes=stored.size_bytes))
            await uow.uploads.save(
                replace(
                    upload,
                    state=UploadState.COMPLETED,
                    size_bytes=stored.size_bytes,
                    completed_at=now,
                    generation=stored.generation,
                    checksum=stored.checksum,
                )
            )
            job = self.pipeline.new_job(JobKind.PROCESS, video_id=video_id, owner_id=owner, now=now)
            job = (await uow.jobs.learned_rates()).likely(job, stored.size_bytes)
            return await store_change(uow, None, job)

    async def job(self, job_id: JobId) -> Job:
        async with self.units_of_work.for_worker() as uow:
            return await uow.jobs.get(job_id)

    async def video(self, video_id: VideoId) -> Video:
        async with self.units_of_work.for_worker() as uow:
            return await uow.videos.get(video_id, deleted=True)

    async def exists(self, video_id: VideoId) -> bool:
        async with self.units_of_work.for_worker() as uow:
            try:
                await uow.videos.get(video_id, deleted=True)
            except UnknownEntityError:
                return False
            return True

    async def change(self, job_id: JobId, change: Callable[[Job], Job]) -> Job:
        """What the owner does to a job."""
        async with self.units_of_work.for_worker() as uow:
            before = await uow.jobs.get(job_id, for_update=True)
            return await store_change(uow, before, change(before))

    async def until(self, job_id: JobId, reached: Callable[[Job], bool]) -> Job:
        async with asyncio.timeout(DEADLINE_S):
            while not reached(job := await self.job(job_id)):
                await asyncio.sleep(0.02)
            return job

    async def finished(self, job_id: JobId) -> Job:
        return await self.until(job_id, lambda job: job.state.finished)

    async def running(self, job_id: JobId, name: str = "work") -> Step:
        job = await self.until(job_id, lambda job: job.step_named(name).state is StepState.RUNNING)
        return job.step_named(name)

    async def expire(self, step: Step) -> None:
        """Let the lease of a running step run out, as if its worker had been silent."""
        async with self.units_of_work.for_worker() as uow:
            before = await uow.jobs.get_of_step(step.id, for_update=True)
            now = await uow.jobs.now()
            steps = tuple(
                replace(s, lease_expires_at=now - timedelta(seconds=1)) if s.id == step.id else s for s in before.steps
            )
            await uow.jobs.save(before, replace(before, steps=steps))

    async def lose(self, job_id: JobId, name: str) -> None:
        """Let the lease of a running step run out for good, however often its worker renews it meanwhile."""
        lost = (await self.job(job_id)).step_named(name)
        async with asyncio.timeout(DEADLINE_S):
            while (step := (await self.job(job_id)).step_named(name)).attempt == lost.attempt:
                if step.state is StepState.RUNNING:
                    await self.expire(step)
                await asyncio.sleep(0.05)


@pytest.fixture
async def farm(database: Database, tmp_path: Path) -> AsyncIterator[Farm]:
    events: list[Event] = []

    async def committed(new: Sequence[Event], rings: Sequence[tuple[StepId, Resource]]) -> None:
        events.extend(new)

    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(open_engine(database.worker_url))
        units_of_work = PostgresWorkerUnitsOfWork(engine, committed)
        specs = process_steps(max_duration_s=3600, segment_s=4, short_sides=(720, 360))
        purge = purge_steps(units_of_work)
        handlers: dict[str, StepHandler] = {}
        for spec in (*specs, *purge):
            handlers[spec.name] = await stack.enter_async_context(spec.open(None))  # type: ignore[arg-type]
        yield Farm(
            units_of_work=units_of_work,
            storage=FakeStorage(),
            transcoder=FakeTranscoder(),
            tmp_path=tmp_path,
            events=events,
            pipeline=Pipeline.of(
                tuple(RegisteredStep(plugin="kernel", spec=s) for s in specs),
                purge=tuple(RegisteredStep(plugin="kernel", spec=s) for s in purge),
            ),
            handlers=handlers,
        )
