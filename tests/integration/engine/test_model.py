"""The engine against a model of it, on a real PostgreSQL, with crashes between any two statements.

Owners, workers and the reconciler do whatever hypothesis thinks of, through the real use cases and repositories. After
each thing the database must hold exactly what ``model.Model`` says, events included. A use case may be cut off at any
of its statements: then all of it is stored or nothing, and doing it again leads to the same end.

For a long run: ``pytest tests/integration/engine/test_model.py --hypothesis-profile=soak`` (``SOAK_HISTORIES`` of
conftest.py, and every statement of each use case); ``--hypothesis-seed=N`` takes another course.

Longer than a module should be: one machine, whose rules are read together.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from echo_core.adapters.clock import SystemClock
from echo_core.adapters.postgres.engine import open_engine
from echo_core.adapters.postgres.units_of_work import PostgresUserUnitsOfWork, PostgresWorkerUnitsOfWork
from echo_core.application.completing import CompleteUploadCommand, complete_upload
from echo_core.application.engine import Engine
from echo_core.application.jobs import cancel_job, retry_job
from echo_core.application.lease_watch import EngineTiming, Running
from echo_core.application.pipeline import NO_PIPELINE, Pipeline, RegisteredStep, ordered
from echo_core.application.ports import Claim, LeaseRef, UnsweptStep
from echo_core.application.processing import opened
from echo_core.application.purging import PurgeStep, purge_steps
from echo_core.application.reconciling import Reconciler, ReconcilerTiming
from echo_core.application.running import StepRun
from echo_core.application.services import ApiServices
from echo_core.application.settling import Cancelled, Failed, Outcome, Released, Settler, Succeeded, Waiting
from echo_core.application.sweeping import Sweeper
from echo_core.application.uploads import BeginUploadCommand, begin_upload
from echo_core.application.videos import delete_video
from echo_core.domain.errors import IllegalChangeError, LeaseLostError, UnknownEntityError
from echo_core.domain.ids import JobId, StepId, UserId, VideoId
from echo_core.domain.jobs import StepError
from echo_core.domain.users import User
from echo_core.plugin_api.errors import UnavailableError
from echo_core.plugin_api.specs import StepSpec
from echo_core.plugin_api.steps import ArtefactFile, Resource, RetryPolicy, StepResult
from echo_core.testing.fake_storage import FakeStorage
from echo_core.testing.fake_transcoder import FakeTranscoder
from tests.fakes.api import LIMITS, SEAL, FakeTokens
from tests.integration.conftest import Database, Server
from tests.integration.engine.conftest import SOAK, Counts, DeadDoorbell, SilentBus
from tests.integration.engine.model import PROCESS, Job, Model, Plan, Video
from tests.integration.engine.sabotage import Crash, Saboteur

pytestmark = pytest.mark.integration

HISTORIES = 12
"""Of ``STEPS`` each, in the bounded run."""
STEPS = 30
MAX_VIDEOS = 4
OWNERS = 2
FILE = b"the bytes of a video"
LEASE_S = 3600.0
BROKEN = StepError(code="broken", message="It broke.")
ARTEFACTS = ("one", "two")
FORGET = ("delete from echo.videos", "delete from echo.events", "delete from echo.event_counters")
"""Everything: what hangs on videos goes with them."""

HOWS = ("succeed", "succeed", "succeed", "skip", "fail", "retry", "retry later", "wait", "release", "cancelled")
"""How runs end; mostly well."""

Key = tuple[int, str, str]
"""Number of the video, kind of the job, name of the step."""


def spec_of(plan: Plan) -> StepSpec:
    return StepSpec(
        name=plan.name,
        open=opened(None),  # type: ignore[arg-type] - the machine itself does the work
        consumes=("source", *plan.needs) if not plan.needs else plan.needs,
        produces=plan.makes,
        after=plan.after,
        resource=Resource(plan.resource),
        optional=not plan.required,
        retry=RetryPolicy(max_attempts=plan.attempts, first_delay_s=0.0, max_delay_s=0.0),
    )


class SweepsNothing(Sweeper):
    """Sweeping has tests of its own, and would add statements to some outcomes only."""

    def __init__(self) -> None:
        return

    async def sweep(self, left: UnsweptStep) -> None:
        return


@dataclass
class World:
    """Everything real, shared by all histories."""

    runner: asyncio.Runner
    control: asyncpg.Connection
    saboteur: Saboteur
    services: ApiServices
    storage: FakeStorage
    engine: Engine
    settler: Settler
    reconciler: Reconciler
    worker: PostgresWorkerUnitsOfWork
    scratch: Path
    rings: set[StepId] = field(default_factory=set)
    struck: int = 0
    """How many use cases were cut off."""
    ends: Counter[str] = field(default_factory=Counter)
    """How runs that held their lease ended."""

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)


@pytest.fixture(scope="module")
def world(postgres: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with postgres.database("echo_template") as database, asyncio.Runner() as runner:
        stack = AsyncExitStack()
        try:
            yield runner.run(open_world(database, runner, stack, tmp_path_factory.mktemp("model")))
        finally:
            runner.run(stack.aclose())


async def open_world(database: Database, runner: asyncio.Runner, stack: AsyncExitStack, scratch: Path) -> World:
    rings: set[StepId] = set()

    async def committed(events: object, rung: Any) -> None:
        rings.update(step_id for step_id, _ in rung)

    api = await stack.enter_async_context(open_engine(database.api_url, pool_size=2))
    engine = await stack.enter_async_context(open_engine(database.worker_url, pool_size=2))
    control = await asyncpg.connect(database.owner_url)
    stack.push_async_callback(control.close)
    saboteur = Saboteur(control)
    stack.enter_context(saboteur.at_work())
    worker = PostgresWorkerUnitsOfWork(engine, committed)
    storage = FakeStorage(clock=SystemClock())
    pipeline = Pipeline(
        process=ordered(tuple(RegisteredStep(plugin="test", spec=spec_of(plan)) for plan in PROCESS)),
        purge=tuple(RegisteredStep(plugin="kernel", spec=spec) for spec in purge_steps(worker)),
    )
    names = [entry.spec.name for entry in (*pipeline.process, *pipeline.purge)]
    running_engine = Engine(
        units_of_work=worker,
        storage=storage,
        storage_name="fake",
        transcoder=FakeTranscoder(),
        handlers=dict.fromkeys(names, PurgeStep(worker)),
        slots={},
        scratch=scratch / "scratch",
        worker="w",
        bus=SilentBus(),
        metrics=Counts(),
        timing=EngineTiming(lease_s=LEASE_S),
    )
    return World(
        runner=runner,
        control=control,
        saboteur=saboteur,
        services=ApiServices(
            units_of_work=PostgresUserUnitsOfWork(api, committed, SEAL),
            storage=storage,
            storage_name="fake",
            tokens=FakeTokens(),
            pipeline=pipeline,
            limits=LIMITS,
            clock=SystemClock(),
        ),
        storage=storage,
        engine=running_engine,
        settler=Settler(
            units_of_work=worker, storage=storage, metrics=Counts(), sweeper=SweepsNothing(), pipeline=NO_PIPELINE
        ),
        reconciler=Reconciler(
            engine=running_engine,
            units_of_work=worker,
            doorbell=DeadDoorbell(),
            pipeline=pipeline,
            timing=ReconcilerTiming(),
        ),
        worker=worker,
        scratch=scratch,
        rings=rings,
    )


@dataclass
class Run:
    """A claim that some worker has, held or long lost."""

    key: Key
    token: int
    claim: Claim
    step_run: StepRun


CRASHES = st.none() | st.builds(
    Crash, at=st.integers(1, 24), how=st.sampled_from(["kill", "refuse", "unanswered", "unanswered"])
)


class EngineMachine(RuleBasedStateMachine):
    """See the module. ``model`` says what must be stored; ``ids`` are the real ids of its videos."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.model = Model()
        self.users = [User(id=UserId(uuid4())) for _ in range(OWNERS)]
        self.ids: dict[int, VideoId] = {}
        self.paths: dict[int, str] = {}
        self.runs: list[Run] = []
        self.half_purged: set[int] = set()
        self.numbers = 0
        self.counted: tuple[int, list[int]] = (0, [])
        """Statements of the longest use case since this was reset, and which of them were commits."""
        world.saboteur.arm(None)
        world.do(world.control.execute("; ".join(FORGET)))
        world.storage.objects.clear()

    # --- doing, and looking --------------------------------------------------------------------------------------

    def attempt(self, name: str, work: Callable[[], Coroutine[Any, Any, Any]], crash: Crash | None) -> tuple[bool, Any]:
        """(whether it was cut off, what it returned or raised)."""
        saboteur = self.world.saboteur
        self.world.rings.clear()
        saboteur.arm(crash)
        try:
            return False, self.world.do(work())
        except UnavailableError as error:
            if not saboteur.struck:
                raise
            return True, error
        except (IllegalChangeError, UnknownEntityError, LeaseLostError) as error:
            return False, error
        finally:
            self.world.struck += saboteur.struck
            self.counted = max(self.counted, (saboteur.statements, saboteur.commits))
            saboteur.arm(None)

    def change(
        self, name: str, work: Callable[[], Coroutine[Any, Any, Any]], crash: Crash | None, *outcomes: Model
    ) -> Any:
        """Do it. It leads to one of ``outcomes``; cut off, to one of them or to nothing, and then it is done again."""
        cut_off, result = self.attempt(name, work, crash)
        if cut_off:
            before = self.model
            self.adopt(before, *outcomes)
            if self.model is before:
                return self.change(name, work, None, *outcomes)
            if name != "claim":  # which would be another one
                self.attempt(name, work, None)
                self.adopt(self.model)
            return result
        waited = self.model.claimable()
        self.adopt(*outcomes)
        # Nobody has to wait for the reconciler unless something went wrong.
        assert {self.step_id(key) for key in self.model.claimable() - waited} <= self.world.rings
        return result

    def adopt(self, *models: Model) -> None:
        """One of these must be what is stored, to the last row; it is the model from now on."""
        found = self.world.do(self.look())
        self.model = next((model for model in models if model.facts() == found), models[-1])
        assert found == self.model.facts()
        self.world.do(self.check_events())
        self.check_objects()

    async def look(self) -> dict[str, object]:
        control = self.world.control
        numbers = {video_id: number for number, video_id in self.ids.items()}
        videos = await control.fetch("select id, status, deleted_at from echo.videos")
        jobs = await control.fetch("select video_id, kind, state, cancel_requested from echo.jobs")
        steps = await control.fetch(
            """
            select j.video_id, j.kind, s.name, s.state, s.attempt, s.lease_token, s.cancel_requested,
                s.lease_expires_at is not null as leased, s.error ->> 'code' as code
            from echo.steps s join echo.jobs j on j.id = s.job_id
            """
        )
        artefacts = await control.fetch("select video_id, kind, name, step, lease_token from echo.artefacts")
        return {
            "videos": {numbers[r["id"]]: (r["status"], r["deleted_at"] is not None) for r in videos},
            "jobs": {(numbers[r["video_id"]], r["kind"]): (r["state"], r["cancel_requested"]) for r in jobs},
            "steps": {
                (numbers[r["video_id"]], r["kind"], r["name"]): (
                    r["state"],
                    r["attempt"],
                    r["lease_token"],
                    r["cancel_requested"],
                    r["leased"],
                    r["code"],
                )
                for r in steps
            },
            "artefacts": {
                (numbers[r["video_id"]], r["kind"], r["name"]): (r["step"], r["lease_token"]) for r in artefacts
            },
        }

    async def check_events(self) -> None:
        """Gapless for each owner; the last that was told of anything is how it stands; nothing was told twice."""
        numbers = {video_id: number for number, video_id in self.ids.items()}
        rows = await self.world.control.fetch(
            "select owner_id, sequence, type, video_id, step, state from echo.events order by owner_id, sequence"
        )
        heads = dict(await self.world.control.fetch("select owner_id, newest from echo.event_counters"))
        told: dict[tuple[int, str | None], str] = {}
        successes: Counter[tuple[int, str]] = Counter()
        count: Counter[UUID] = Counter()
        for row in rows:
            count[row["owner_id"]] += 1
            assert row["sequence"] == count[row["owner_id"]]
            number, kind = numbers[row["video_id"]], row["type"].partition(".")[0]
            subject = row["step"] if kind == "step" else f"the {kind}"
            if row["type"] == "video.deleted":
                told[(number, "gone")] = "gone"
                continue
            assert told.get((number, subject)) != row["state"], "the same was told twice"
            told[(number, subject)] = row["state"]
            if row["type"] == "step.succeeded":
                successes[(number, row["step"])] += 1
        assert heads == count
        for number, video in self.model.videos.items():
            assert (told.get((number, "gone")) is not None) == video.deleted
            if video.process is not None:
                self.check_told(number, video.process, told, successes)
                if not video.deleted:
                    assert told[(number, "the video")] == video.status

    def check_told(
        self, number: int, job: Job, told: dict[tuple[int, str | None], str], successes: Counter[tuple[int, str]]
    ) -> None:
        assert told[(number, "the job")] == job.state
        for name, step in job.steps.items():
            assert told.get((number, name), "pending") == step.state
            assert successes[(number, name)] == step.successes

    def check_objects(self) -> None:
        """No row without its object; but a purge removes objects first, so that what is left has a name."""
        for number, video in self.model.videos.items():
            if number in self.half_purged:
                continue
            for (_, name), (step, token) in video.artefacts.items():
                assert f"videos/{self.ids[number]}/{step}/{token}/{name}" in self.world.storage.objects

    # --- finding things ------------------------------------------------------------------------------------------

    def pick(self, data: st.DataObject, things: Any) -> Any:
        ordered_things = sorted(things, key=str)
        return data.draw(st.sampled_from(ordered_things)) if ordered_things else None

    def job_id(self, number: int, kind: str) -> JobId:
        query = "select id from echo.jobs where video_id = $1 and kind = $2"
        return JobId(self.world.do(self.world.control.fetchval(query, self.ids[number], kind)))

    def step_id(self, key: Key) -> StepId:
        query = """
            select s.id from echo.steps s join echo.jobs j on j.id = s.job_id
            where j.video_id = $1 and j.kind = $2 and s.name = $3
        """
        return StepId(self.world.do(self.world.control.fetchval(query, self.ids[key[0]], *key[1:])))

    def user(self, number: int) -> User:
        return self.users[number % OWNERS]

    @initialize()
    def begin(self) -> None:
        for _ in range(2):
            self.submit_video(None)

    # --- what owners do ------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.model.videos) < MAX_VIDEOS)
    @rule(crash=CRASHES)
    def submit(self, crash: Crash | None) -> None:
        self.submit_video(crash)

    def submit_video(self, crash: Crash | None) -> None:
        number = self.numbers
        self.numbers += 1
        command = BeginUploadCommand(filename="clip.mp4", content_type="video/mp4", size_bytes=len(FILE))
        begun = self.world.do(begin_upload(self.world.services, self.user(number), command))
        self.world.storage.store(begun.storage_key, FILE, "video/mp4")
        self.ids[number], self.paths[number] = begun.video.id, begun.storage_key
        self.model.videos[number] = Video(owner=number % OWNERS)
        self.complete(number, crash)

    @precondition(lambda self: self.model.videos)
    @rule(data=st.data(), crash=CRASHES)
    def say_complete_again(self, data: st.DataObject, crash: Crash | None) -> None:
        self.complete(self.pick(data, self.model.videos), crash)

    def complete(self, number: int, crash: Crash | None) -> None:
        command = CompleteUploadCommand(
            video_id=self.ids[number],
            original_filename="clip.mp4",
            storage_key=self.paths[number],
            content_type="video/mp4",
            size_bytes=len(FILE),
        )
        after = self.model.copy()
        video = after.videos[number]
        if video.process is None:
            video.process = Job.of(PROCESS)
        work = partial(complete_upload, self.world.services, self.user(number), command)
        result = self.change("complete_upload", work, crash, after)
        if video.deleted and not isinstance(result, UnavailableError):
            assert isinstance(result, UnknownEntityError)

    @precondition(lambda self: any(v.process for v in self.model.videos.values()))
    @rule(data=st.data(), crash=CRASHES)
    def cancel(self, data: st.DataObject, crash: Crash | None) -> None:
        self.cancel_number(self.pick(data, [n for n, v in self.model.videos.items() if v.process]), crash)

    def cancel_number(self, number: int, crash: Crash | None) -> None:
        job_id = self.job_id(number, "process")
        after = self.model.copy()
        video = after.videos[number]
        assert video.process is not None
        refused = video.deleted or video.process.ended
        if not refused:
            video.process.stop()
        work = partial(cancel_job, self.world.services, self.user(number), job_id)
        result = self.change("cancel_job", work, crash, after)
        if not isinstance(result, UnavailableError):
            assert isinstance(result, UnknownEntityError | IllegalChangeError) == refused

    @precondition(lambda self: any(v.process for v in self.model.videos.values()))
    @rule(data=st.data(), crash=CRASHES, name=st.none() | st.sampled_from([plan.name for plan in PROCESS]))
    def retry(self, data: st.DataObject, crash: Crash | None, name: str | None) -> None:
        jobs = {n: v.process for n, v in self.model.videos.items() if v.process}
        self.retry_number(self.pick(data, [n for n, job in jobs.items() if job.ended] or jobs), name, crash)

    def retry_number(self, number: int, name: str | None, crash: Crash | None) -> None:
        job_id = self.job_id(number, "process")
        after = self.model.copy()
        video = after.videos[number]
        assert video.process is not None
        refused = video.deleted or not video.process.ended
        if not refused:
            video.process.again(name)
        work = partial(retry_job, self.world.services, self.user(number), job_id, step_name=name)
        result = self.change("retry_job", work, crash, after)
        if not isinstance(result, UnavailableError):
            assert isinstance(result, UnknownEntityError | IllegalChangeError) == refused

    @precondition(lambda self: len(self.model.videos) == MAX_VIDEOS)
    @rule(data=st.data(), crash=CRASHES)
    def delete(self, data: st.DataObject, crash: Crash | None) -> None:
        self.delete_number(self.pick(data, self.model.videos), crash)

    def delete_number(self, number: int, crash: Crash | None) -> None:
        after = self.model.copy()
        if not after.videos[number].deleted:
            after.videos[number].bury()
        self.change(
            "delete_video",
            partial(delete_video, self.world.services, self.user(number), self.ids[number]),
            crash,
            after,
        )

    # --- what workers do -----------------------------------------------------------------------------------------

    @rule(data=st.data(), crash=CRASHES)
    def claim(self, data: st.DataObject, crash: Crash | None) -> None:
        """Whether a doorbell told of the step, told twice, or nobody did: the claim is the same."""
        ready = {s.plan.resource for _, s in self.model.steps() if s.claimable}
        self.claim_next(Resource(data.draw(st.sampled_from(sorted(ready) or list(Resource)))), crash)

    def claim_next(self, resource: Resource, crash: Crash | None) -> Run | None:
        claimable = sorted(self.model.claimable(resource.value))
        outcomes = {key: self.model.copy() for key in claimable}
        for key, after in outcomes.items():
            after.job(key).claim(key[2])
        before = self.model
        claim = self.change(
            "claim", partial(self.claim_once, resource), crash, *(outcomes.values() if claimable else [before])
        )
        if not isinstance(claim, Claim):  # nothing to claim, or a claim that nobody will ever hear of
            assert isinstance(claim, UnavailableError) or not claimable
            return None
        step = claim.job.step(claim.step_id)
        key = next(k for k in claimable if self.ids[k[0]] == claim.job.video_id and k[2] == step.name)
        assert self.model is outcomes[key]
        assert claim.lease_token == self.model.job(key).steps[key[2]].token
        self.check_turn(before, key, resource)
        run = Run(key, claim.lease_token, claim, self.world.do(self.open_run(claim)))
        self.runs.append(run)
        return run

    async def claim_once(self, resource: Resource) -> Claim | None:
        claimed = await self.world.engine._claim(resource)
        return claimed[0] if claimed is not None else None

    def check_turn(self, before: Model, key: Key, resource: Resource) -> None:
        """Nobody with fewer running steps of the class was passed over."""
        running = Counter(
            before.videos[k[0]].owner
            for k, s in before.steps()
            if s.state == "running" and s.plan.resource == resource.value
        )
        waiting = {before.videos[k[0]].owner for k in before.claimable(resource.value)}
        assert running[before.videos[key[0]].owner] == min(running[owner] for owner in waiting)

    async def open_run(self, claim: Claim) -> StepRun:
        running = Running(claim=claim, step=claim.job.step(claim.step_id), claimed_at=0.0, renewed_at=0.0)
        run = await self.world.engine._open_run(running)
        await run.open_scratch()
        return run

    def files(self, run: Run, names: list[str]) -> list[ArtefactFile]:
        kind = "rendition" if run.key[2] == "ladder" else "picture"
        path = self.world.scratch / "artefact"
        path.write_bytes(b"made")
        facts = {"type": "video"}
        return [ArtefactFile(kind=kind, name=n, path=path, content_type="video/mp4", facts=facts) for n in names]

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), crash=CRASHES, names=st.lists(st.sampled_from(ARTEFACTS), unique=True, min_size=1))
    def publish(self, data: st.DataObject, crash: Crash | None, names: list[str]) -> None:
        run = self.pick_run(data)
        if run.key[1] != "purge":
            self.publish_run(run, names, crash)

    def pick_run(self, data: st.DataObject) -> Run:
        """As often one that is late as one that holds its lease."""
        held = [run for run in self.runs if self.model.holds(run.key, run.token)]
        late = [run for run in self.runs if run not in held]
        chosen = late if late and (not held or data.draw(st.booleans())) else held
        return chosen[data.draw(st.integers(0, len(chosen) - 1))]

    def publish_run(self, run: Run, names: list[str], crash: Crash | None) -> None:
        after = self.model.copy()
        held = after.holds(run.key, run.token)
        if held:
            after.put(run.key, run.token, names)
        files = self.files(run, names)
        result = self.change("publish", partial(run.step_run.publish, files), crash, after)
        if not isinstance(result, UnavailableError):
            assert (result is None) == held
            assert held or isinstance(result, LeaseLostError | UnknownEntityError)

    @precondition(lambda self: self.runs)
    @rule(
        data=st.data(),
        crash=CRASHES,
        how=st.sampled_from(HOWS),
        names=st.lists(st.sampled_from(ARTEFACTS), unique=True),
        again=st.booleans(),
    )
    def end(self, data: st.DataObject, crash: Crash | None, how: str, names: list[str], again: bool) -> None:
        """A run ends, in whatever way; one whose lease is long lost changes nothing. Now and then it ends twice."""
        self.end_run(self.pick_run(data), how, names, crash, again=again)

    @precondition(lambda self: self.model.claimable())
    @rule(
        data=st.data(),
        crash=CRASHES,
        how=st.sampled_from(HOWS),
        names=st.lists(st.sampled_from(ARTEFACTS), unique=True),
    )
    def work(self, data: st.DataObject, crash: Crash | None, how: str, names: list[str]) -> None:
        """The usual case, so that histories get somewhere: a step is claimed and ends."""
        ready = {s.plan.resource for _, s in self.model.steps() if s.claimable}
        if (run := self.claim_next(Resource(data.draw(st.sampled_from(sorted(ready)))), None)) is not None:
            self.end_run(run, how, names, crash)

    def end_run(self, run: Run, how: str, names: list[str], crash: Crash | None, *, again: bool = False) -> None:
        if not again:
            self.runs.remove(run)
        if run.key[1] == "purge":
            self.purge(run, crash)
            return
        names = names if how == "succeed" else []
        after = self.model.copy()
        if after.holds(run.key, run.token):
            if how in {"succeed", "skip"}:
                after.put(run.key, run.token, names)
                after.leave_only(run.key, run.token)
            after.job(run.key).finish(run.key[2], how)
            self.world.ends[how] += 1
        rows = self.world.do(run.step_run.store(self.files(run, names)))
        outcome = self.outcome(how, rows)
        if crash is not None and crash.how != "refuse":
            # Settling tries again by itself; a process that dies at that moment does not.
            cut_off, _ = self.attempt(
                "record", partial(self.world.settler._record_once, run.claim, outcome, False), crash
            )
            self.adopt(*((self.model, after) if cut_off else (after,)))
        settle = partial(self.world.settler.settle, run.claim, outcome, run.step_run, seconds=0.0)
        cut_off, _ = self.attempt("settle", settle, crash if crash is not None and crash.how == "refuse" else None)
        assert not cut_off
        self.adopt(after)
        if not again:
            self.attempt("close", run.step_run.close, crash)
            self.adopt(after)

    def outcome(self, how: str, rows: Any) -> Outcome:
        match how:
            case "succeed":
                return Succeeded(StepResult(output={"duration_s": 10.0}), rows)
            case "skip":
                return Succeeded(StepResult(skipped_reason="Nothing to do."), [])
            case "release":
                return Released()
            case "cancelled":
                return Cancelled()
            case "wait":
                return Waiting(replace(BROKEN, code="waiting"), BROKEN, 3600.0)
            case _:
                return Failed(BROKEN, {"fail": None, "retry": 0.0, "retry later": 3600.0}[how])

    def purge(self, run: Run, crash: Crash | None) -> None:
        """What is left of a deleted video goes, once nothing works on it any more, and only then."""
        video = self.model.videos.get(run.key[0])
        after = self.model.copy()
        if video is None or video.process is None or video.process.ended:
            after.videos.pop(run.key[0], None)
        handler = PurgeStep(self.world.worker)
        cut_off, _ = self.attempt("purge", lambda: self.run_purge(handler, run), crash)
        if cut_off:
            self.half_purged.add(run.key[0])
        self.adopt(*((self.model, after) if cut_off else (after,)))
        if run.key[0] not in self.model.videos:
            assert not [key for key in self.world.storage.objects if str(self.ids[run.key[0]]) in key]
        again = self.model.copy()
        if again.holds(run.key, run.token):
            again.job(run.key).finish(run.key[2], "retry")
        settle = partial(self.world.settler.settle, run.claim, self.outcome("retry", []), run.step_run, seconds=0.0)
        self.attempt("settle", settle, None)
        self.adopt(again)

    async def run_purge(self, handler: PurgeStep, run: Run) -> object:
        try:
            return await handler.run(run.step_run)
        except UnavailableError as error:
            if error.code == "steps_still_running":
                return error
            raise

    @precondition(lambda self: self.runs)
    @rule(crash=CRASHES, extend=st.booleans())
    def beat(self, crash: Crash | None, extend: bool) -> None:
        """Each run learns whether it still holds its lease, and whether it is wanted."""
        leases = {run.claim.step_id: run for run in self.runs}
        refs = [
            LeaseRef(step_id=step_id, lease_token=run.token, progress=0.5) for step_id, run in sorted(leases.items())
        ]

        async def renew() -> object:
            async with self.world.worker.for_worker() as uow:
                return await uow.jobs.renew(refs, lease_s=LEASE_S, extend=extend)

        cut_off, beats = self.attempt("renew", renew, crash)
        self.adopt(self.model)
        if not cut_off:
            for beat in beats:
                run = leases[beat.step_id]
                step = self.model.step(run.key)
                assert beat.owned == self.model.holds(run.key, run.token)
                assert beat.cancel_requested == (beat.owned and step is not None and step.cancel)

    # --- what time and the reconciler do -------------------------------------------------------------------------

    @precondition(lambda self: any(s.state == "running" for _, s in self.model.steps()))
    @rule(data=st.data(), crash=CRASHES)
    def expire(self, data: st.DataObject, crash: Crash | None) -> None:
        """A worker is not heard of for a whole lease (it died, or sleeps and will be late)."""
        self.expire_step(self.pick(data, [k for k, step in self.model.steps() if step.state == "running"]), crash)

    def expire_step(self, key: Key, crash: Crash | None) -> None:
        past = "update echo.steps set lease_expires_at = clock_timestamp() - interval '1 second' where id = $1"
        self.world.do(self.world.control.execute(past, self.step_id(key)))
        after = self.model.copy()
        after.job(key).finish(key[2], "expire")
        self.change("take_back", self.world.reconciler._take_back, crash, after)

    @precondition(lambda self: any(s.state == "running" for _, s in self.model.steps()))
    @rule(data=st.data(), claims=st.integers(1, 2))
    def take_over(self, data: st.DataObject, claims: int) -> None:
        """Another worker gets the step while the one that was silent still works on it."""
        key = self.pick(data, [k for k, step in self.model.steps() if step.state == "running"])
        self.expire_step(key, None)
        for _ in range(claims):
            self.claim_next(Resource(next(s.plan.resource for k, s in self.model.steps() if k == key)), None)

    @precondition(lambda self: any(s.later for _, s in self.model.steps()))
    @rule(data=st.data())
    def wait(self, data: st.DataObject) -> None:
        key = self.pick(data, [key for key, step in self.model.steps() if step.later])
        now = "update echo.steps set run_at = clock_timestamp() where id = $1"
        self.world.do(self.world.control.execute(now, self.step_id(key)))
        step = self.model.step(key)
        assert step is not None
        step.later = False

    @rule(crash=CRASHES)
    def ring_again(self, crash: Crash | None) -> None:
        """Every doorbell was lost: the reconciler finds all that is ready, and nothing else."""

        async def unrung() -> set[StepId]:
            async with self.world.worker.for_worker() as uow:
                return {step_id for step_id, _ in await uow.jobs.list_unrung(timedelta(0), 100)}

        cut_off, found = self.attempt("ring_again", unrung, crash)
        if not cut_off:
            assert found == {self.step_id(key) for key in self.model.claimable()}


def soaking() -> bool:
    return settings.get_current_profile_name() == SOAK


def test_whatever_happens_the_database_holds_what_the_model_says(world: World) -> None:
    run_state_machine_as_test(
        partial(EngineMachine, world),
        settings=settings(
            max_examples=settings.default.max_examples if soaking() else HISTORIES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    # A machine that never gets anywhere would agree with every model.
    assert world.ends.total() >= HISTORIES // 3
    assert world.struck >= HISTORIES // 3


def claimed(machine: EngineMachine, *names: str) -> Run:
    """A run of the last of these steps of the first video; the others have succeeded."""
    for number, name in enumerate(names, 1):
        resource = next(plan.resource for plan in PROCESS if plan.name == name)
        while (run := machine.claim_next(Resource(resource), None)) is not None and run.key != (0, "process", name):
            machine.runs.remove(run)
        assert run is not None
        if number < len(names):
            machine.end_run(run, "succeed", ["one"], None)
    return run


def complete(machine: EngineMachine) -> Callable[[Crash | None], None]:
    return machine.submit_video


def claim(machine: EngineMachine) -> Callable[[Crash | None], None]:
    machine.submit_video(None)
    return lambda crash: machine.claim_next(Resource.LIGHT, crash)


def publish(machine: EngineMachine) -> Callable[[Crash | None], None]:
    machine.submit_video(None)
    run = claimed(machine, "probe", "pack", "ladder")
    return partial(machine.publish_run, run, ["one"])


def succeed(machine: EngineMachine) -> Callable[[Crash | None], None]:
    machine.submit_video(None)
    run = claimed(machine, "probe")
    return lambda crash: machine.end_run(run, "succeed", ["one"], crash)


def fail(machine: EngineMachine) -> Callable[[Crash | None], None]:
    machine.submit_video(None)
    run = claimed(machine, "probe")
    return lambda crash: machine.end_run(run, "fail", [], crash)


def cancel(machine: EngineMachine) -> Callable[[Crash | None], None]:
    machine.submit_video(None)
    claimed(machine, "probe")
    return partial(machine.cancel_number, 0)


def retry(machine: EngineMachine) -> Callable[[Crash | None], None]:
    fail(machine)(None)
    return partial(machine.retry_number, 0, None)


def take_back(machine: EngineMachine) -> Callable[[Crash | None], None]:
    machine.submit_video(None)
    return partial(machine.expire_step, claimed(machine, "probe").key)


def delete(machine: EngineMachine) -> Callable[[Crash | None], None]:
    machine.submit_video(None)
    return partial(machine.delete_number, 0)


def purge(machine: EngineMachine) -> Callable[[Crash | None], None]:
    machine.submit_video(None)
    machine.delete_number(0, None)
    run = machine.claim_next(Resource.LIGHT, None)
    assert run is not None
    return partial(machine.purge, run)


@pytest.mark.parametrize(
    "use_case",
    [complete, claim, publish, succeed, fail, cancel, retry, take_back, delete, purge],
    ids=lambda f: f.__name__,
)
def test_a_crash_at_any_statement_leaves_all_or_nothing_and_the_use_case_can_be_repeated(
    world: World, use_case: Callable[[EngineMachine], Callable[[Crash | None], None]]
) -> None:
    """Before each statement, and between each commit and its answer; in the bounded run before every third one and
    around each commit."""
    machine = EngineMachine(world)
    act = use_case(machine)
    machine.counted = (0, [])
    act(None)
    statements, commits = machine.counted
    assert commits
    step = 1 if soaking() else 3
    crashes = [Crash(at, "kill") for at in sorted({*range(1, statements, step), *commits})]
    crashes += [Crash(at, "unanswered") for at in commits]
    for crash in crashes:
        before = world.struck
        use_case(EngineMachine(world))(crash)
        assert world.struck == before + 1
