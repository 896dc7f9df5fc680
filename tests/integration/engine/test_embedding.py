"""The step that makes vectors of what videos say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import cast

import pytest

from echo_core.application.ai import AIProviders
from echo_core.application.embedding import embed_steps
from echo_core.application.enriching import Enrichment
from echo_core.application.pipeline import Pipeline, RegisteredStep
from echo_core.application.processing import process_steps
from echo_core.domain.ai_calls import Budgets
from echo_core.domain.caption_tracks import CaptionSource, CaptionTrack
from echo_core.domain.captions import Cue
from echo_core.domain.jobs import Job, StepState
from echo_core.plugin_api.ai import Capability, Embeddings
from echo_core.plugin_api.context import PluginContext
from echo_core.testing.fake_ai import FakeAIProvider
from tests.integration.engine.conftest import Farm

pytestmark = pytest.mark.integration


@pytest.fixture
async def provider(farm: Farm) -> AsyncIterator[FakeAIProvider]:
    fake = FakeAIProvider()
    enrichment = Enrichment(
        units_of_work=farm.units_of_work,
        providers=AIProviders(opened={"fake": fake}, serving={Capability.EMBED: ("fake",)}),
        budgets=Budgets(per_video_usd=100.0, per_day_usd=100.0),
        languages=(),
        accept=True,
        public_url="http://127.0.0.1:1",
    )
    own = [replace(s, retry=replace(s.retry, max_attempts=1)) for s in embed_steps(embeds=True, enrichment=enrichment)]
    specs = [*process_steps(max_duration_s=3600, segment_s=4.0, short_sides=(720, 360)), *own]
    async with AsyncExitStack() as stack:
        context = cast("PluginContext", None)  # nothing of the kernel's needs one
        handlers = {spec.name: await stack.enter_async_context(spec.open(context)) for spec in specs}
        farm.pipeline = Pipeline.of(
            [RegisteredStep(plugin="kernel", spec=spec) for spec in specs], purge=farm.pipeline.purge
        )
        farm.handlers = {**farm.handlers, **handlers}
        yield fake


async def spoken(farm: Farm) -> Job:
    """An uploaded video with captions, that nobody has processed yet."""
    job = await farm.submit()
    video = await farm.video(job.video_id)
    track = CaptionTrack(
        video_id=video.id,
        owner_id=video.owner_id,
        name="en",
        language="en",
        source=CaptionSource.UPLOADED,
        cues=tuple(Cue(start_s=20.0 * n, end_s=20.0 * n + 5, text=f"Sentence {n} of a talk") for n in range(5)),
        created_at=video.created_at,
        updated_at=video.created_at,
    )
    async with farm.units_of_work.for_worker() as uow:
        await uow.caption_tracks.put(track)
    return job


async def processed(farm: Farm, job: Job) -> Job:
    async with farm.worker():
        await farm.finished(job.id)
    return await farm.job(job.id)


async def left(farm: Farm, job: Job, space: str) -> int:
    async with farm.units_of_work.for_worker() as uow:
        return len(await uow.passages.list_unembedded(job.video_id, space, 1000))


async def test_every_passage_gets_a_vector(farm: Farm, provider: FakeAIProvider) -> None:
    job = await processed(farm, await spoken(farm))
    step = job.step_named("embed")
    assert step.state is StepState.SUCCEEDED, step.error
    assert await left(farm, job, str(step.output["space"])) == 0
    assert int(str(step.output["passages"])) >= 5
    async with farm.units_of_work.for_worker() as uow:
        (call,) = await uow.ai_calls.list_for_video(job.video_id)
    assert (call.step, call.capability, call.settled) == ("embed", "embed", True)


async def test_a_second_run_asks_only_whether_the_space_is_still_the_same(farm: Farm, provider: FakeAIProvider) -> None:
    job = await processed(farm, await spoken(farm))
    await farm.change(job.id, lambda j: j.rerun(["embed"], j.created_at))
    job = await processed(farm, job)
    assert job.step_named("embed").output["passages"] == 1
    provider.model = "fake-2"
    await farm.change(job.id, lambda j: j.rerun(["embed"], j.created_at))
    job = await processed(farm, job)
    assert int(str(job.step_named("embed").output["passages"])) > 5
    assert await left(farm, job, str(job.step_named("embed").output["space"])) == 0


async def test_vectors_that_are_none_are_refused_and_none_is_kept(farm: Farm, provider: FakeAIProvider) -> None:
    provider.results["embed"] = Embeddings(space="fake-1/32", vectors=((0.0,) * 32,))
    job = await processed(farm, await spoken(farm))
    step = job.step_named("embed")
    assert (step.state, step.error and step.error.code) == (StepState.FAILED, "ai_embedding_invalid")
    assert await left(farm, job, "fake-1/32") >= 5
