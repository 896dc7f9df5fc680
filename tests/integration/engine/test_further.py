"""Steps that add steps to their own job: as many as a video needs, on any worker."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from echo_core.domain.jobs import Job, JobState, StepState
from echo_core.plugin_api.errors import AuthError
from echo_core.plugin_api.specs import StepSpec
from echo_core.plugin_api.steps import ArtefactFile, FurtherStep, Resource, StepContext, StepResult
from echo_core.plugin_api.storage import ReadObject
from tests.integration.engine.conftest import DEADLINE_S, Farm, Handler, single

pytestmark = pytest.mark.integration


class Work:
    """A step that finds how many parts there are, the parts, and one that joins them."""

    def __init__(self, parts: int) -> None:
        self.parts = parts
        self.ran: list[str] = []
        self.joined: list[bytes] = []
        self.slots: list[int] = []
        self.hold: dict[str, asyncio.Event] = {}
        self.broken: set[str] = set()

    def specs(self) -> list[tuple[StepSpec, Handler]]:
        further = {"further": True, "consumes": (), "produces": ()}
        return [
            single(self.split, name="split", produces=("cut",), resource=Resource.LIGHT),
            single(self.part, name="part", **further),
            single(self.join, name="join", **further),
        ]

    async def split(self, context: StepContext) -> StepResult:
        self.slots.append(await context.slots(Resource.CPU))
        parts = [
            FurtherStep(spec="part", number=n, consumes=("cut",), produces=(f"part:{n}",), share=1 / self.parts)
            for n in range(self.parts)
        ]
        made = tuple(f"part:{n}" for n in range(self.parts))
        join = FurtherStep(spec="join", consumes=("cut", *made), produces=("whole",))
        return StepResult(output={"parts": self.parts}, further=[*parts, join])

    async def part(self, context: StepContext) -> StepResult:
        name = context.step.name  # type: ignore[attr-defined]
        self.ran.append(name)
        if name in self.hold:
            await self.hold[name].wait()
        if name in self.broken:
            raise AuthError("No.")
        path: Path = context.scratch / "part.bin"
        await asyncio.to_thread(path.write_bytes, name.encode())
        return StepResult(artefacts=[ArtefactFile(kind="part", name=f"{name}.bin", path=path, content_type="a/b")])

    async def join(self, context: StepContext) -> StepResult:
        parts = await context.stored("part")
        whole = b""
        for part in parts:
            async for chunk in context.storage.open_read(ReadObject(key=part.key)):
                whole += chunk
        self.joined.append(whole)
        path: Path = context.scratch / "whole.bin"
        await asyncio.to_thread(path.write_bytes, whole)
        return StepResult(
            artefacts=[ArtefactFile(kind="whole", name="whole.bin", path=path, content_type="a/b")],
            discards=["part"],
        )


def states(job: Job) -> dict[str, StepState]:
    return {s.name: s.state for s in job.steps}


async def until_stored(farm: Farm, job: Job, names: list[str]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while sorted(Path(key).name for key in farm.storage.objects if "/source/" not in key) != names:
            await asyncio.sleep(0.02)


async def test_parts_are_made_by_whoever_is_free_and_joined_once(farm: Farm) -> None:
    work = Work(3)
    farm.use(*work.specs())
    async with farm.worker("a", cpu=2), farm.worker("b"):
        async with farm.units_of_work.for_worker() as uow:
            while await uow.workers.count_slots(Resource.CPU) < 3:
                await asyncio.sleep(0.02)
        job = await farm.finished((await farm.submit()).id)
        assert job.state is JobState.SUCCEEDED
        assert states(job) == dict.fromkeys(
            ["split", "part.000", "part.001", "part.002", "join.000"], StepState.SUCCEEDED
        )
        assert sorted(work.ran) == ["part.000", "part.001", "part.002"]
        assert work.joined == [b"part.000part.001part.002"]
        assert work.slots == [3]
        await until_stored(farm, job, ["whole.bin"])  # what nobody needs any more is swept
    shares = [s.weight for s in job.steps if s.spec == "part"]
    assert sum(shares) == pytest.approx(0.05)


async def test_a_lost_part_is_made_again_and_the_others_are_not(farm: Farm) -> None:
    work = Work(3)
    farm.use(*work.specs())
    work.hold["part.001"] = asyncio.Event()
    async with farm.worker("a", cpu=3):
        job = await farm.submit()
        await farm.until(job.id, lambda j: sum(s is StepState.SUCCEEDED for s in states(j).values()) == 3)
        await farm.lose(job.id, "part.001")
        await farm.until(job.id, lambda j: j.step_named("part.001").attempt == 2)
        work.hold["part.001"].set()
        job = await farm.finished(job.id)
    assert job.state is JobState.SUCCEEDED
    assert sorted(work.ran) == ["part.000", "part.001", "part.001", "part.002"]
    assert work.joined == [b"part.000part.001part.002"]


async def test_a_part_that_fails_for_good_fails_the_job_and_a_retry_makes_only_that(farm: Farm) -> None:
    work = Work(2)
    farm.use(*work.specs())
    work.broken.add("part.001")
    async with farm.worker("a"):
        job = await farm.finished((await farm.submit()).id)
        assert job.state is JobState.FAILED
        assert states(job)["join.000"] is StepState.SKIPPED
        assert job.first_error is not None
        assert job.first_error.message == "No."
        work.broken.clear()
        now = await _now(farm)
        await farm.change(job.id, lambda j: j.retried(now))
        job = await farm.finished(job.id)
    assert job.state is JobState.SUCCEEDED
    assert sorted(work.ran) == ["part.000", "part.001", "part.001"]


async def test_run_again_with_another_number_of_parts(farm: Farm) -> None:
    """More parts are added; what is there is defined anew."""
    work = Work(2)
    farm.use(*work.specs())
    async with farm.worker("a"):
        job = await farm.finished((await farm.submit()).id)
        work.parts = 3
        now = await _now(farm)
        await farm.change(job.id, lambda j: j.retried(now))
        job = await farm.finished(job.id)
    assert job.state is JobState.SUCCEEDED
    assert work.joined[-1] == b"part.000part.001part.002"
    assert len({s.id for s in job.steps}) == len(job.steps) == 5


async def test_a_step_that_nobody_provides_cannot_be_added(farm: Farm) -> None:
    async def wants(context: StepContext) -> StepResult:
        return StepResult(further=[FurtherStep(spec="nowhere")])

    farm.use(single(wants))
    async with farm.worker("a"):
        job = await farm.finished((await farm.submit()).id)
    assert job.state is JobState.FAILED
    assert job.first_error is not None
    assert job.first_error.code == "unknown_step"


async def test_parts_teach_each_other_how_long_they_take(farm: Farm) -> None:
    work = Work(4)
    farm.use(*work.specs())
    work.hold["part.001"] = asyncio.Event()
    async with farm.worker("a"):
        job = await farm.submit()
        job = await farm.until(job.id, lambda j: "part.001" in work.ran)
        first, waiting = job.step_named("part.000"), job.step_named("part.003")
        assert first.finished_at is not None
        assert first.started_at is not None
        took_s = (first.finished_at - first.started_at).total_seconds()
        assert waiting.expected_s == pytest.approx(max(0.01, took_s), rel=0.01)
        work.hold["part.001"].set()
        await farm.finished(job.id)


async def _now(farm: Farm):
    async with farm.units_of_work.for_worker() as uow:
        return await uow.jobs.now()
